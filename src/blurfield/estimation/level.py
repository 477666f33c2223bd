"""Images at one scale of the pyramid, and what does not change there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from .kernels import narrow_support, normal_equations, solve
from .latent import sharpen
from .spectral import gradient, laplacian_spectrum, pad_periodic

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


class Level:
    """Images at one scale, with all that stays the same there.

    Parameters
    ----------
    images : Tensor
        Grey images in linear light with white 1, (N, H, W), at full resolution.
    scale : float
        Size relative to that, at most 1.
    side : int
        Side K of the kernels at this scale in pixels, odd.

    Attributes
    ----------
    scale : float
    side : int
    images : Tensor
        The images at this scale, (N, h, w).
    blurry : Tensor
        The same continued periodically, (N, 1, P, Q).
    slopes : (Tensor, Tensor)
        Their gradients along x and y.
    spectrum : Tensor
        Their half spectra.
    laplacian : Tensor
        `laplacian_spectrum` of their shape.
    optics : Tensor
        Half spectrum of the blur behind which the latent image is.
    inside : Tensor
        1 where all that a kernel needs is in the image, else 0, (P, Q).
    """

    def __init__(self, images: Tensor, scale: float, side: int) -> None:
        height, width = (max(round(n * scale), side + 2) for n in images.shape[-2:])
        self._size = (height, width)
        self.images = self.resized(images)
        self.scale, self.side = scale, side
        self.blurry = pad_periodic(self.images, side + 4)[:, None]
        shape = (int(self.blurry.shape[-2]), int(self.blurry.shape[-1]))
        self.spectrum = torch.fft.rfft2(self.blurry)
        self.laplacian = laplacian_spectrum(shape, images)
        self.optics = torch.ones_like(self.laplacian)
        self.slopes = gradient(self.blurry)
        border = side // 2
        self.inside = images.new_zeros(shape)
        self.inside[border : height - border, border : width - border] = 1
        self._edge_unit = math.sqrt(height * width) * side

    def resized(self, images: Tensor) -> Tensor:
        """Images (N, H, W) of the full resolution at this scale, (N, h, w)."""
        if self._size == images.shape[-2:]:
            return images
        return functional.interpolate(
            images[:, None], size=self._size, mode="bilinear", antialias=True
        )[:, 0]

    def blur_latent(self, sigma: float) -> None:
        """Let the picture behind the motion blur be a latent image blurred by a Gaussian."""
        self.optics = (-0.5 * sigma**2 * self.laplacian).exp()

    def edge_count(self, share: float) -> int:
        """Edges of each orientation to use: `share` in units of √(pixels)·K."""
        return int(share * self._edge_unit)

    def sharpen(
        self, kernels: Tensor, strength: Tensor, poll: Callable[[], None], growth: float = 2.0
    ) -> Tensor:
        """Latent images (N, M, P, Q) for kernels (N, M, K, K) and λ (N, M), see `sharpen`."""
        return sharpen(
            self.blurry,
            self.spectrum,
            self.laplacian,
            self.optics,
            kernels,
            strength[..., None, None],
            poll,
            growth,
        )

    def kernels(
        self,
        edges: tuple[Tensor, Tensor],
        start: Tensor,
        extent: Tensor,
        ridge: float,
        poll: Callable[[], None],
    ) -> Tensor:
        """Kernels (N, M, K, K) that turn sharp edges into the blurry ones, not normalised.

        Parameters
        ----------
        edges : (Tensor, Tensor)
            Gradients along x and y, (N, M, P, Q).
        start : Tensor
            First guess of the kernels, (N, M, K, K).
        extent : Tensor
            Side of the square that they may fill, as a share of the full support, (N, M).
        ridge, poll
            See `blurfield.estimation.kernels.solve`.
        """
        auto, cross = self.correlations(edges)
        support = narrow_support(self.side, extent, start)
        return solve(auto, cross, start, ridge, support, poll)

    def correlations(self, edges: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """`normal_equations` of kernels that turn sharp edges into the blurry ones."""
        return normal_equations(edges, self.slopes, self.optics, self.side)
