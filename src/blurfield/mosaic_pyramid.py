"""The kernel mosaic at several scales, so that kernels can be seen however far the view is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .field import KernelField
from .mosaic import kernel_ink

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["mosaic_pyramid"]

#: Sides of the tiles that kernels are drawn on, at least, in pixels of the picture: at full scale,
#: where people zoom in to look at a kernel, and at the others, where they look at all of them.
_LEAST_CLOSE, _LEAST_FAR = 16, 32
#: The most pixels of the first picture.
_MOST_PIXELS = 1 << 24
#: Longer side below which there is no smaller picture.
_SMALLEST = 512
#: How opaque the dark tiles are.
_TILE = 0.4
#: Light against them.
_COLOUR = (255, 214, 64)
#: Exponent that brings out the faint parts of kernels.
_GAMMA = 0.6


def mosaic_pyramid(field: KernelField, levels: int | None = None) -> list[NDArray[np.uint8]]:
    """Draw the point-spread functions of a field at several scales, light on dark tiles.

    Each picture has half the pixels along each side that the one before has, and kernels of the
    same size: seen from afar there are fewer, and none gets too small to be seen.

    Parameters
    ----------
    field : KernelField
        The blur of an image.
    levels : int, optional
        At most so many pictures; by default as many as are of use.

    Returns
    -------
    list of numpy.ndarray
        uint8, (h, w, 4), transparent between the tiles. The first one has a pixel for each pixel of
        the image, or if that is very large, for 2×2, 4×4, … of them.
    """
    first = 0
    while math.prod(_reduced(field.shape, first)) > _MOST_PIXELS:
        first += 1
    pictures = [_picture(field, first)]
    while max(pictures[-1].shape) > _SMALLEST and len(pictures) != levels:
        pictures.append(_picture(field, first + len(pictures)))
    return pictures


def _picture(field: KernelField, level: int) -> NDArray[np.uint8]:
    """Draw a field as if its image were smaller."""
    smaller = KernelField(field.basis, field.mixing, _reduced(field.shape, level))
    least = _LEAST_FAR if level else _LEAST_CLOSE
    side = field.kernel_size * math.ceil(least / field.kernel_size)
    ink = kernel_ink(smaller, side, side) ** _GAMMA
    tiles = kernel_ink(smaller, side, side, filled=True)
    opacity = ink + (1 - ink) * _TILE * tiles
    picture = np.empty((*smaller.shape, 4), np.uint8)
    share = ink / np.maximum(opacity, np.finfo(np.float32).tiny)
    picture[..., :3] = np.rint(share[..., None] * np.array(_COLOUR, np.float32))
    picture[..., 3] = np.rint(opacity * 255)
    return picture


def _reduced(shape: tuple[int, int], level: int) -> tuple[int, int]:
    height, width = (math.ceil(length / 2**level) for length in shape)
    return height, width
