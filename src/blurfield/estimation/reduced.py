"""Large images: what a reduced copy tells of the blur, where it is sought at full resolution.

Windows in which kernels are estimated have to be several times as large as the kernels, and all
starts from nothing have to be tried in them. In a copy whose pixels are the means of many, blur
that is many pixels long is short, and few windows cover much of the image.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from blurfield.field import KernelField
from blurfield.support import padded

from .kernels import resize

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["lifted", "reduced_copy", "reduction"]

#: Images with a longer side than this are large, and copies get one of at most so much.
_LARGE, _REDUCED = 2400, 1600
#: Part of a kernel that has to stay when its square becomes smaller, what is added to the radius of
#: that, and the coefficient that it must have somewhere to count.
_KEPT, _MARGIN, _USED = 0.99, 1.15, 0.2


def reduction(shape: tuple[int, int]) -> int:
    """Return how many pixels along each axis become one in a reduced copy; 1 for small images."""
    longer = max(shape)
    return 1 if longer <= _LARGE else math.ceil(longer / _REDUCED)


def reduced_copy(planes: Tensor, factor: int) -> Tensor:
    """Return the means (C, H // factor, W // factor) of pixels in linear light (C, H, W)."""
    return torch.cat([functional.avg_pool2d(plane[None], factor) for plane in planes])


def lifted(
    field: KernelField, factor: int, shape: tuple[int, int], least: int, kernel_size: int | None
) -> KernelField:
    """Return the field of an image whose reduced copy has the field given.

    Parameters
    ----------
    field : KernelField
        Of the reduced copy.
    factor : int
        Pixels along each axis that are one there.
    shape : (int, int)
        Height and width of the image.
    least : int
        Side of the kernels in pixels, odd, at least …
    kernel_size : int, optional
        … or exactly; by default it is as large as the kernels need.
    """
    side = 2 * (field.kernel_size * factor // 2) + 1
    kernels = resize(field.basis, side)
    if kernel_size is None:
        most = field.mixing.amax((1, 2))
        used = most >= min(_USED, float(most.max()))  # at least one is
        radius = math.ceil(_MARGIN * _radius(kernels[used])) + factor
        shorter = 2 * ((min(shape) - 1) // 2) + 1
        kernel_size = min(max(least, 2 * radius + 1), shorter)
    kernels = padded(kernels, kernel_size)
    middle = kernel_size // 2
    kernels[:, middle, middle] += (kernels.sum((1, 2)) <= 0).to(kernels.dtype)
    return KernelField(kernels / kernels.sum((1, 2), keepdim=True), field.mixing, shape)


def _radius(kernels: Tensor) -> int:
    """Half the side of the square around the middle that holds most of each kernel (B, K, K)."""
    middle = kernels.shape[-1] // 2
    place = (torch.arange(kernels.shape[-1], device=kernels.device) - middle).abs()
    ring = torch.maximum(place[:, None], place).flatten()
    within = kernels.new_zeros(len(kernels), middle + 1).index_add_(1, ring, kernels.flatten(1))
    return int((within.cumsum(1) < _KEPT).sum(1).max())
