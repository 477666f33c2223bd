"""A small network that turns a blurry image into a sharp one without being told the blur."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from .naf import NAFNet

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Name of the kind of network among checkpoints.
ARCHITECTURE = "restorer"


class RestorerNetwork(NAFNet):
    """A U-Net of NAF blocks that predicts what to add to the blurry image.

    Chen et al., "Simple baselines for image restoration", 2022, Fig. 2; with the parameters given
    here it has 0.4 million weights and can be trained on a CPU. Names of parameters are as in
    published weights.

    Parameters
    ----------
    width, encoder, middle, decoder, window
        See `NAFNet`.
    """

    def __init__(
        self,
        width: int = 16,
        encoder: Sequence[int] = (0, 1, 2),
        middle: int = 2,
        decoder: Sequence[int] = (0, 1, 1),
        window: int = 128,
    ) -> None:
        super().__init__(width, encoder, middle, decoder, window)
        # A new network leaves images as they are.
        for values in self.ending.parameters():
            nn.init.zeros_(values)

    def forward(self, blurry: Tensor) -> Tensor:
        """Restore images.

        Parameters
        ----------
        blurry : Tensor
            (N, 3, H, W), encoded for display with white 1, H and W multiples of `multiple`.

        Returns
        -------
        Tensor
            Sharp images (N, 3, H, W), which may leave [0, 1].
        """
        return blurry + self.change(blurry)
