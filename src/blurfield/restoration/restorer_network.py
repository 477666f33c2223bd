"""A small network that turns a blurry image into a sharp one without being told the blur."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from .naf import NAFBlock

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Name of the kind of network among checkpoints.
ARCHITECTURE = "restorer"


class RestorerNetwork(nn.Module):
    """A U-Net of NAF blocks that predicts what to add to the blurry image.

    Chen et al., "Simple baselines for image restoration", 2022, Fig. 2; with the parameters given
    here it has 0.4 million weights and can be trained on a CPU. Names of parameters are as in
    published weights.

    Parameters
    ----------
    width : int
        Channels at full size; each halving of the size doubles them.
    encoder : sequence of int
        Blocks at full size and at each halving of it, on the way down.
    middle : int
        Blocks at the smallest size.
    decoder : sequence of int
        Blocks on the way up, from the last halving but one to full size; as many numbers as in
        `encoder`.
    window : int
        Side in pixels of the image within which features are averaged for channel attention. Those
        of larger images are averaged locally, so that the size of the image does not matter.

    Raises
    ------
    ValueError
        If the encoder and the decoder have different numbers of sizes.
    """

    def __init__(
        self,
        width: int = 16,
        encoder: Sequence[int] = (0, 1, 2),
        middle: int = 2,
        decoder: Sequence[int] = (0, 1, 1),
        window: int = 128,
    ) -> None:
        super().__init__()
        if len(encoder) != len(decoder):
            raise ValueError(
                f"encoder and decoder must have as many sizes, got {list(encoder)} and "
                f"{list(decoder)}"
            )
        self.config: dict[str, Any] = {
            "width": width,
            "encoder": list(encoder),
            "middle": middle,
            "decoder": list(decoder),
            "window": window,
        }
        self.width, self.window = width, window
        #: Sides of images must be multiples of this.
        self.multiple = 2 ** len(encoder)
        self.intro = nn.Conv2d(3, width, 3, padding=1)
        self.ending = nn.Conv2d(width, 3, 3, padding=1)
        self.encoders, self.downs = nn.ModuleList(), nn.ModuleList()
        self.ups, self.decoders = nn.ModuleList(), nn.ModuleList()
        channels, side = width, window
        for count in encoder:
            self.encoders.append(_blocks(count, channels, side))
            self.downs.append(nn.Conv2d(channels, 2 * channels, 2, stride=2))
            channels, side = 2 * channels, side // 2
        self.middle_blks = _blocks(middle, channels, side)
        for count in decoder:
            grown = nn.Conv2d(channels, 2 * channels, 1, bias=False)
            self.ups.append(nn.Sequential(grown, nn.PixelShuffle(2)))
            channels, side = channels // 2, side * 2
            self.decoders.append(_blocks(count, channels, side))
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
        x = self.intro(blurry)
        passed = []
        for blocks, down in zip(self.encoders, self.downs, strict=True):
            passed.append(blocks(x))
            x = down(passed[-1])
        x = self.middle_blks(x)
        for up, blocks in zip(self.ups, self.decoders, strict=True):
            x = blocks(up(x) + passed.pop())
        sharp: Tensor = blurry + self.ending(x)
        return sharp


def _blocks(count: int, width: int, window: int) -> nn.Sequential:
    return nn.Sequential(*(NAFBlock(width, window) for _ in range(count)))
