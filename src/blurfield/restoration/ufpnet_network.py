"""UFPNet: a network that estimates a kernel for each pixel, and one that restores, given them.

Fang et al., "Self-supervised non-uniform kernel estimation with flow-based motion prior for blind
image deblurring", CVPR 2023; the names of parameters are those of the published weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from blurfield.boundary import source_index
from blurfield.estimation.ufp_network import KernelEstimator

from .kernel_attention import kernel_block
from .naf import WHOLE, NAFNet, Whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: Name of the kind of network among checkpoints.
ARCHITECTURE = "ufpnet"
#: Sides of images are made multiples of this, as published, or more.
LEAST_MULTIPLE = 16


class UFPNet(NAFNet):
    """A U-Net of NAF blocks which is told the kernel of each pixel.

    Levels on the way down that have exactly one block are told the kernels, by
    `blurfield.restoration.kernel_attention.KernelBlock`; convolutions halve the maps of kernels
    from level to level. The published network has 80,343,663 parameters; each level has such a
    convolution, although only the first two are used.

    Parameters
    ----------
    width, encoder, middle, decoder, window
        See `NAFNet`; by default as published.
    estimator : mapping, optional
        Parameters of the network that estimates kernels, see
        `blurfield.estimation.ufp_network.KernelEstimator`; as published by default.
    """

    def __init__(
        self,
        width: int = 64,
        encoder: Sequence[int] = (1, 1, 1, 28),
        middle: int = 1,
        decoder: Sequence[int] = (1, 1, 1, 1),
        window: int = 384,
        estimator: Mapping[str, Any] | None = None,
    ) -> None:
        estimates = KernelEstimator(**(estimator or {}))
        taps = estimates.kernel_extra.kernel_size**2
        told = [level for level, count in enumerate(encoder) if count == 1]
        kind = kernel_block(taps)
        super().__init__(width, encoder, middle, decoder, window, dict.fromkeys(told, kind))
        self.config["estimator"] = estimates.config
        self.multiple = max(self.multiple, LEAST_MULTIPLE)
        self._told = told
        # Its parts are this network's own, as published; it is no module of it besides.
        self._estimator = (estimates,)
        for name, part in estimates.named_children():
            self.add_module(name, part)
        self.kernel_down = nn.ModuleList(nn.Conv2d(taps, taps, 2, stride=2) for _ in encoder)

    @property
    def estimator(self) -> KernelEstimator:
        """The part that estimates kernels; it shares its parameters with this network."""
        return self._estimator[0]

    def forward(self, blurry: Tensor, kernels: Tensor | None = None, run: Whole = WHOLE) -> Tensor:
        """Restore images.

        Parameters
        ----------
        blurry : Tensor
            (N, 3, H, W), values as they are stored (sRGB) with white 1, of any size. What is
            missing to multiples of `multiple` is made up by reflection at the right and below.
        kernels : Tensor, optional
            Raw kernels (N, K², H, W), see `KernelEstimator.forward`; by default those that the
            network estimates, of which no gradients are recorded.
        run : Whole
            How layers are run.

        Returns
        -------
        Tensor
            Sharp images (N, 3, H, W), which may leave [0, 1].
        """
        height, width = blurry.shape[-2:]
        padded = pad_to_multiple(blurry, self.multiple)
        if kernels is None:
            kernels = self.estimate(padded)
        else:
            kernels = pad_to_multiple(kernels, self.multiple)
        sharp = padded + self.change(padded, self._levels(kernels, run), run)
        return sharp[..., :height, :width]

    @torch.no_grad()
    def estimate(self, blurry: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Estimate raw kernels (N, K², H, W) of images whose sides are multiples of `multiple`."""
        kernels, _ = self.estimator(blurry, generator)
        return kernels_of_pixels(kernels, blurry.shape[-2:])

    def unused(self) -> list[nn.Module]:
        """Parts that have no effect; published weights have them nevertheless."""
        return list(self.kernel_down)[max(self._told, default=0) :]

    def _levels(self, kernels: Tensor, run: Whole) -> Iterator[tuple[Tensor, ...]]:
        """What the blocks of each level are told."""
        for level, halve in enumerate(self.kernel_down):
            yield (kernels,) if level in self._told else ()
            if level < max(self._told, default=0):
                kernels = run.halve(halve, kernels)


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Continue images (N, C, H, W) at the right and below by reflection, as far as is missing."""
    height, width = images.shape[-2:]
    for axis, length in ((-2, height), (-1, width)):
        missing = -length % multiple
        if missing:
            beyond = source_index(length, length + missing, length, "reflect")
            part = images.index_select(axis, beyond.to(images.device))
            images = torch.cat([images, part], axis)
    return images


def kernels_of_pixels(kernels: Tensor, shape: Sequence[int]) -> Tensor:
    """Kernels (N, K², H, W) of each pixel; those of a coarser grid are interpolated."""
    if tuple(kernels.shape[-2:]) == tuple(shape):
        return kernels
    return functional.interpolate(kernels, size=tuple(shape), mode="bilinear")
