"""The kernel mosaic: point-spread functions drawn over the places where they act."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .comparison import grid_axis
from .images import LinearImage, to_grey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from .field import KernelField

#: Kernels mixed at once.
_BATCH_KERNELS = 4096


def kernel_mosaic(
    field: KernelField, image: Any = None, spacing: int | None = None
) -> NDArray[np.float32]:
    """Draw the point-spread functions of a field in red, each where it acts.

    A point-spread function is the kernel rotated by 180°: what a point of light at that place
    looks like in the blurry image. Each is stretched so that its smallest value is transparent
    and its largest opaque.

    Parameters
    ----------
    field : KernelField
        The blur of an image.
    image : array_like, optional
        The image, which becomes the pale grey background; anything that
        `blurfield.images.LinearImage.from_array` takes, resized to the field's shape if need be.
    spacing : int, optional
        Pixels between point-spread functions; by default the kernel size K, so that they touch.
        Where they overlap, the larger value is drawn.

    Returns
    -------
    numpy.ndarray
        float32 in [0, 1] at the field's shape. With `image` RGB, (H, W, 3). Without it RGBA,
        (H, W, 4): red that is transparent where there is no light, for lying over a layer.

    Raises
    ------
    ValueError
        If `spacing` is not above 0, or `image` is not an image.
    """
    ink = kernel_ink(field, field.kernel_size if spacing is None else spacing)
    if image is None:
        rgba = np.zeros((*field.shape, 4), np.float32)
        rgba[..., 0] = ink > 0
        rgba[..., 3] = ink
        return rgba
    paper = 0.4 + 0.6 * _grey(image, field.shape)
    rgb = np.repeat((paper * (1 - ink))[..., None], 3, axis=2)
    rgb[..., 0] += ink
    return rgb


def kernel_ink(
    field: KernelField, spacing: float, side: int | None = None, *, filled: bool = False
) -> NDArray[np.float32]:
    """Return how much light of point-spread functions on a grid falls on each pixel.

    Parameters
    ----------
    field : KernelField
        The blur of an image.
    spacing : float
        Pixels between them.
    side : int, optional
        Side in pixels at which each one is drawn, by default its own.
    filled : bool
        Draw the tiles that they lie on instead, smaller by a pixel so that they can be told apart.

    Returns
    -------
    numpy.ndarray
        float32 from 0 to 1, at the field's shape. Each is stretched to that range; where they
        overlap, the larger value counts.
    """
    side = side or field.kernel_size
    half = side // 2
    height, width = field.shape
    # Tiles reach over the image's edges by up to half a kernel; the border is cut off at the end.
    canvas = np.zeros((height + 2 * half + 1, width + 2 * half + 1), np.float32)
    rows, cols = (np.floor(grid_axis(length, spacing)).astype(int) for length in field.shape)
    sites = np.stack(np.meshgrid(rows, cols, indexing="ij"), axis=-1).reshape(-1, 2)
    tiles = repeat(_frame(side), len(sites)) if filled else _tiles(field, sites, side)
    for (y, x), tile in zip(sites, tiles, strict=True):
        place = canvas[y : y + side, x : x + side]
        np.maximum(place, tile, out=place)
    return canvas[half : half + height, half : half + width]


def _tiles(field: KernelField, sites: NDArray[np.int_], side: int) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(sites), _BATCH_KERNELS):
        kernels = field.kernels_at(sites[start : start + _BATCH_KERNELS]).detach().flip(-2, -1)
        low, high = kernels.amin((-2, -1), keepdim=True), kernels.amax((-2, -1), keepdim=True)
        stretched = (kernels - low) / (high - low)
        # A kernel that is flat over its whole support, such as that of one pixel, is all light.
        tiles = torch.where(high > low, stretched, 1.0).float()
        if side != field.kernel_size:
            size = (side, side)
            tiles = torch.nn.functional.interpolate(tiles[:, None], size, mode="bilinear")[:, 0]
        yield from tiles.cpu().numpy()


def _frame(side: int) -> NDArray[np.float32]:
    """A tile without its last row and column."""
    tile = np.zeros((side, side), np.float32)
    tile[: side - 1, : side - 1] = 1
    return tile


def _grey(image: Any, shape: tuple[int, int]) -> NDArray[np.float32]:
    # As displayed, so without going to linear light.
    grey = to_grey(LinearImage.from_array(image, gamma=1).planes)
    if tuple(grey.shape) != tuple(shape):
        grey = torch.nn.functional.interpolate(
            grey[None, None], size=shape, mode="bilinear", antialias=True
        )[0, 0]
    result: NDArray[np.float32] = grey.clamp(0, 1).numpy()
    return result
