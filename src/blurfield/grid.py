"""Bilinear reading of a coarse grid of values laid over an image, with half-pixel centres.

Cell j of n cells over a side of L pixels has its centre at pixel coordinate (j + ½)·L/n − ½.
Between centres values are interpolated linearly, beyond the outermost ones they are constant, so
a convex combination stays one. This is ``torch.nn.functional.interpolate(mode="bilinear",
align_corners=False)``, but for any block or set of points without making the whole image.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Grid cells under a block up to which a product with a dense matrix beats gathering.
_DENSE = 64


def axis_weights(positions: Tensor, length: int, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """Neighbouring cells of pixel positions along one axis and the weight of the second.

    Parameters
    ----------
    positions : Tensor
        Pixel coordinates, any shape; pixel centres are whole numbers.
    length : int
        Pixels along the axis.
    cells : int
        Grid cells along the axis.

    Returns
    -------
    lower, upper : Tensor of int64
        Indices of the two cells, of the shape of `positions`.
    weight : Tensor
        Weight of `upper`, in [0, 1].
    """
    place = ((positions + 0.5) * (cells / length) - 0.5).clamp(0, cells - 1)
    lower = place.floor().long()
    return lower, (lower + 1).clamp(max=cells - 1), place - lower


def axis_matrix(
    start: int, stop: int, length: int, cells: int, like: Tensor
) -> tuple[Tensor, slice]:
    """Interpolation of pixels start…stop−1 as a dense matrix over the cells that they touch.

    Returns
    -------
    matrix : Tensor, shape (stop - start, n)
        Rows sum to 1; of the dtype and device of `like`.
    touched : slice
        The n cells that the columns stand for.
    """
    # Positions in double precision: above 2^24 pixels a float32 has no halves left, and the
    # weights of two neighbouring blocks must agree to the last bit.
    positions = torch.arange(start, stop, dtype=torch.float64)
    lower, upper, weight = axis_weights(positions, length, cells)
    first, last = int(lower[0]), int(upper[-1])
    matrix = torch.zeros(stop - start, last - first + 1, dtype=torch.float64)
    rows = torch.arange(stop - start)
    matrix.index_put_((rows, lower - first), 1 - weight, accumulate=True)
    matrix.index_put_((rows, upper - first), weight, accumulate=True)
    return matrix.to(like), slice(first, last + 1)


def read_block(grid: Tensor, shape: tuple[int, int], rows: slice, cols: slice) -> Tensor:
    """Values of a grid on a block of pixels.

    Parameters
    ----------
    grid : Tensor, shape (B, h, w)
    shape : (H, W)
        The image over which the grid lies.
    rows, cols : slice
        The block, with plain non-negative start and stop.

    Returns
    -------
    Tensor, shape (B, rows, cols)
        A view of `grid` where the grid has one cell a pixel.
    """
    if tuple(grid.shape[-2:]) == tuple(shape):
        return grid[:, rows, cols]
    tall = _read_rows(grid, rows, shape[0])
    return _read_rows(tall.transpose(1, 2), cols, shape[1]).transpose(1, 2)


def _read_rows(grid: Tensor, rows: slice, length: int) -> Tensor:
    """Interpolate a grid (B, h, w) along its second axis."""
    cells = grid.shape[1]
    if (rows.stop - rows.start) * cells <= _DENSE * length:
        matrix, touched = axis_matrix(rows.start, rows.stop, length, cells, grid)
        return matrix @ grid[:, touched]
    lower, upper, weight = axis_weights(
        torch.arange(rows.start, rows.stop, dtype=torch.float64), length, cells
    )
    lower, upper = lower.to(grid.device), upper.to(grid.device)
    return torch.lerp(grid[:, lower], grid[:, upper], weight.to(grid)[:, None])


def read_points(grid: Tensor, shape: tuple[int, int], points: Tensor) -> Tensor:
    """Values of a grid at points.

    Parameters
    ----------
    grid : Tensor, shape (B, h, w)
    shape : (H, W)
        The image over which the grid lies.
    points : Tensor, shape (N, 2)
        Pixel coordinates (y, x).

    Returns
    -------
    Tensor, shape (N, B)
    """
    places = points.double().cpu()  # not every device has double precision
    y0, y1, wy = axis_weights(places[:, 0], shape[0], grid.shape[-2])
    x0, x1, wx = axis_weights(places[:, 1], shape[1], grid.shape[-1])
    y0, y1, x0, x1 = (index.to(grid.device) for index in (y0, y1, x0, x1))
    wy, wx = wy.to(grid), wx.to(grid)
    upper = grid[:, y0, x0] * (1 - wx) + grid[:, y0, x1] * wx
    lower = grid[:, y1, x0] * (1 - wx) + grid[:, y1, x1] * wx
    return (upper * (1 - wy) + lower * wy).T


def rescaling_matrix(kernels: Tensor, factor: float, size: int) -> Tensor:
    """Matrix (size, K) that rescales an axis of kernels (..., K), about its middle, to `size` taps.

    Of the dtype and device of `kernels`. Growing changes the sum, which is to be restored.
    """
    taps = torch.arange(kernels.shape[-1], dtype=torch.float64) - kernels.shape[-1] // 2
    out = torch.arange(size, dtype=torch.float64) - size // 2
    # Shrinking splats each tap onto its new place, growing reads each new tap from its old place:
    # both are hat functions, and neither leaves holes.
    distance = out[:, None] - factor * taps if factor < 1 else out[:, None] / factor - taps[None, :]
    return (1 - distance.abs()).clamp(min=0).to(kernels)
