"""Regions of similar motion: what moved alike during the exposure, told from the blur alone.

Blur does not tell which way along its direction the motion went, so that directions are axial: 0°
and 180° are the same. The square root S of the covariance of a kernel takes care of that. It is as
large as the blur is long, and two kernels of length L whose directions differ by δ lie √2 L sin δ
apart. On a coarse grid, a watershed of the change from place to place makes small areas, and those
neighbours whose mean S are most similar are merged until all that are left differ. Between two
regions, kernels change from one to the other over about the length of the blur: an area that is
narrower than that is no region of its own, and is divided between its neighbours.
"""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from . import grid
from .area_merging import merged_areas, neighbours
from .measure import by_tiles
from .moments import covariance, moment_grid

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .compute import ProgressCallback
    from .field import KernelField

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int32]

__all__ = ["motion_regions"]

#: Cells along the longer side of the grid that is divided.
_CELLS = 128
#: Standard deviation, in cells, of the smoothing in which the change from place to place is taken,
#: and side of the surroundings whose longest blur it is compared with.
_SMOOTHING, _AROUND = 1.0, 11
#: Side, in cells, of the blocks that begin with an area each.
_BLOCK = 6
#: Smallest difference that counts in that change, in units of the tolerance for each cell.
_STEP = 0.02
#: Extent in pixels below which differences are not taken relative to it any more.
_LEAST_EXTENT = 4.0


def motion_regions(
    field: KernelField,
    mask: ArrayLike | None = None,
    *,
    tolerance: float = 0.3,
    min_area: int = 0,
    progress: ProgressCallback | None = None,
) -> Ints:
    """Divide an image into connected regions of similar motion.

    Parameters
    ----------
    field : KernelField
        The blur of the image.
    mask : array_like of bool, shape (H, W), optional
        The pixels to be divided, for instance a `blurfield.blur_mask`; all of them by default.
    tolerance : float, default 0.3
        How different the mean motion of neighbouring regions must be, as a share of the longer one:
        0.3 stands for lengths that differ by 30 % or directions that differ by 12°. Above 0.
    min_area : int, default 0
        Regions of fewer pixels become part of the neighbour that is most similar to them; they
        stay if they have none.
    progress : callable, optional
        Called as ``progress(done, total, message)`` in between; what it raises stops the work.

    Returns
    -------
    numpy.ndarray
        (H, W), int32: the number of its region for each pixel of the mask, 1 for the largest one, 0
        outside. Regions are connected, but for details finer than 1/128 of the image.

    Raises
    ------
    ValueError
        If the mask is of another shape than the image, or `tolerance` is not above 0.
    """
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise ValueError(f"tolerance must be a number above 0, not {tolerance!r}")
    inside = np.ones(field.shape, bool) if mask is None else np.asarray(mask, bool)
    if inside.shape != field.shape:
        raise ValueError(
            f"the mask must have the shape of the image, {field.shape}, but has {inside.shape}"
        )
    if not inside.any():
        return np.zeros(field.shape, np.int32)
    cells = _grid_shape(field.shape)
    spread = _spread(field, cells)
    motion = _roots(spread)
    pixels = math.prod(field.shape) / math.prod(cells)
    relief = _Relief.of(spread, _any_in_cells(inside, cells), tolerance)
    areas = merged_areas(motion, relief.around(relief.lowest()), tolerance, _LEAST_EXTENT)
    areas = relief.around(_wide_areas(areas, motion / math.sqrt(pixels)))
    areas = merged_areas(motion, areas, tolerance, _LEAST_EXTENT, min_area / pixels)
    return _numbered(np.where(inside, _enlarged(areas, field.shape, progress), 0))


def _grid_shape(shape: tuple[int, int]) -> tuple[int, int]:
    step = max(1.0, max(shape) / _CELLS)
    return max(1, round(shape[0] / step)), max(1, round(shape[1] / step))


def _spread(field: KernelField, cells: tuple[int, int]) -> Floats:
    """Covariances of the kernels in the cells of a grid, (h, w, 3), times 12: L² for a line of L.

    The three numbers are the yy, xx and √2 yx entries, so that their Euclidean length is that of
    the matrix.
    """
    centres = [
        (torch.arange(n, dtype=torch.float64) + 0.5) * length / n - 0.5
        for n, length in zip(cells, field.shape, strict=True)
    ]
    moments = grid.read_points(moment_grid(field), field.shape, torch.cartesian_prod(*centres))
    var_y, var_x, cov = (12 * part.cpu().numpy().reshape(cells) for part in covariance(moments.T))
    return np.stack([var_y, var_x, 2**0.5 * cov], axis=-1)


def _roots(spread: Floats) -> Floats:
    """Square roots of symmetric matrices that are given and returned by three numbers each."""
    var_y, var_x, cov = np.moveaxis(spread, -1, 0)
    root = np.sqrt(np.maximum(var_y * var_x - cov**2 / 2, 0))
    scale = np.sqrt(np.maximum(var_y + var_x + 2 * root, np.finfo(float).tiny))
    roots: Floats = np.stack([var_y + root, var_x + root, cov], axis=-1) / scale[..., None]
    return roots


def _any_in_cells(mask: NDArray[np.bool_], cells: tuple[int, int]) -> NDArray[np.bool_]:
    """Return in which cells there is something of a mask."""
    for axis, n in enumerate(cells):
        starts = np.arange(n) * mask.shape[axis] // n
        mask = np.logical_or.reduceat(mask, starts, axis=axis)
    return mask


class _Relief(NamedTuple):
    """How much motion changes in the cells of a grid.

    Attributes
    ----------
    height : ndarray of float, shape (h, w)
        The change, in whole steps; infinite outside.
    inside : ndarray of bool, shape (h, w)
        The cells that count.
    """

    height: Floats
    inside: NDArray[np.bool_]

    @classmethod
    def of(cls, spread: Floats, inside: NDArray[np.bool_], tolerance: float) -> _Relief:
        """Take the change of covariances: they are what is mixed between two regions.

        It is the largest halfway between them. With their square roots it would be the largest
        where motion begins.
        """
        from scipy import ndimage

        parts = np.moveaxis(spread, -1, 0)
        slopes = [ndimage.gaussian_gradient_magnitude(part, _SMOOTHING) for part in parts]
        longest = ndimage.maximum_filter(np.linalg.norm(spread, axis=-1), _AROUND)
        change = np.linalg.norm(slopes, axis=0) / np.maximum(longest, _LEAST_EXTENT**2)
        return cls(np.where(inside, (change / (_STEP * tolerance)).round(), np.inf), inside)

    def lowest(self) -> Ints:
        """Number the places where motion changes least, one in each small block."""
        places = np.zeros(self.height.shape, np.int32)
        height, width = self.inside.shape
        blocks = product(range(0, height, _BLOCK), range(0, width, _BLOCK))
        for number, (y, x) in enumerate(blocks, start=1):
            block = np.s_[y : y + _BLOCK, x : x + _BLOCK]
            lowest = np.argmin(self.height[block])
            places[block].flat[lowest] = number
        return np.where(self.inside, places, 0)

    def around(self, beginnings: Ints) -> Ints:
        """Let areas grow, uphill, until they meet; what they can't reach are further areas."""
        from scipy import ndimage
        from skimage.segmentation import watershed

        areas = watershed(self.height, beginnings, mask=self.inside)
        islands, _ = ndimage.label(self.inside & (areas == 0))
        result: Ints = np.where(islands > 0, areas.max() + islands, areas).astype(np.int32)
        return result


def _wide_areas(areas: Ints, motion: Floats) -> Ints:
    """Return the areas that are wider than the blur in and around them is long.

    Parameters
    ----------
    areas : ndarray of int, shape (h, w)
    motion : ndarray, shape (h, w, 3)
        In cells.
    """
    from scipy import ndimage
    from skimage.segmentation import find_boundaries

    numbers = np.arange(areas.max() + 1)
    depth = ndimage.distance_transform_edt(~find_boundaries(areas, mode="inner"))
    width = 2 * np.asarray(ndimage.maximum(depth, areas, numbers)) + 1
    extent = np.asarray(ndimage.maximum(np.linalg.norm(motion, axis=-1), areas, numbers))
    longest = extent.copy()
    for a, b in neighbours(areas):
        longest[a] = max(longest[a], extent[b])
        longest[b] = max(longest[b], extent[a])
    result: Ints = np.where(width > longest, numbers, 0)[areas].astype(np.int32)
    return result


def _enlarged(areas: Ints, shape: tuple[int, int], progress: ProgressCallback | None) -> Ints:
    """Areas of a grid for each pixel, with smooth outlines: which one weighs most there."""
    numbers, places = np.unique(areas, return_inverse=True)
    first = int(numbers[0] == 0)  # what lies outside has no weight
    which = torch.from_numpy(places.reshape(areas.shape))
    shares = (which == torch.arange(first, len(numbers))[:, None, None]).float()

    def heaviest(rows: slice, cols: slice) -> torch.Tensor:
        near = (
            grid.axis_matrix(part.start, part.stop, length, cells, shares)[1]
            for part, length, cells in zip((rows, cols), shape, areas.shape, strict=True)
        )
        here = which[tuple(near)].unique()  # of many areas, only a few reach a tile
        here = here[here >= first] - first
        if len(here) == 0:
            return torch.zeros(rows.stop - rows.start, cols.stop - cols.start)
        weights = grid.read_block(shares[here], shape, rows, cols)
        chosen: torch.Tensor = here[weights.max(0).indices]
        return chosen

    found = by_tiles(heaviest, shape, len(shares), progress).astype(np.int64)
    result: Ints = numbers[first:][found].astype(np.int32)
    return result


def _numbered(regions: NDArray[Any]) -> Ints:
    """Number regions by their area, the largest first."""
    pixels = np.bincount(regions.ravel())
    pixels[0] = 0
    order = np.argsort(-pixels, kind="stable")[: np.count_nonzero(pixels)]
    number = np.zeros(len(pixels), np.int32)
    number[order] = np.arange(1, len(order) + 1)
    result: Ints = number[regions]
    return result
