"""Blur as a measurement: what a field says about an image, or about each region of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from . import grid
from .measure import blur_extent, blur_mask, blur_score, by_tiles, pixel_sides
from .moments import covariance, direction, moment_grid, principal_variances

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .compute import ProgressCallback
    from .field import KernelField

__all__ = ["COLUMNS", "blur_statistics"]

#: Names of the columns of `blur_statistics`.
COLUMNS = (
    "label",
    "pixels",
    "centre_y",
    "centre_x",
    "extent_mean",
    "extent_median",
    "extent_95",
    "angle",
    "anisotropy",
    "norm",
    "blurred",
    "confidence",
    "uncertainty",
)

#: Quantiles of the extent that are told.
_QUANTILES = {"extent_median": 0.5, "extent_95": 0.95}


def blur_statistics(
    field: KernelField,
    labels: ArrayLike | None = None,
    *,
    threshold: float = 0.25,
    min_extent: float | None = None,
    pixel_size: float | tuple[float, float] = 1.0,
    background: bool = False,
    progress: ProgressCallback | None = None,
) -> dict[str, NDArray[Any]]:
    """Return how strong the blur is, where it goes, and how sure that is, for each region.

    Parameters
    ----------
    field : KernelField
        The blur of an image.
    labels : array_like of int, shape (H, W), optional
        Regions of the image: one row for each number above 0. Without labels there is one row,
        with label 0, for the whole image.
    threshold : float
        As for `blurfield.blur_mask`.
    min_extent : float, optional
        If given, pixels with at least this extent are blurred, whatever `threshold` is; in the
        unit of `pixel_size`.
    pixel_size : float or (float, float)
        Side of a pixel in a unit of your choice, in which extents are given; height and width
        where pixels are not square. Pixels by default.
    background : bool
        Whether there is a row for label 0 too.
    progress : callable, optional
        Called as ``progress(done, total, message)`` while the field is read; what it raises stops
        that.

    Returns
    -------
    dict of numpy.ndarray
        Columns of a table, by the names in `COLUMNS`, each with one value a region, ascending by
        label:

        ``label``
            Number of the region, 0 for the whole image.
        ``pixels``
            Number of its pixels.
        ``centre_y``, ``centre_x``
            Mean row and column of its pixels.
        ``extent_mean``, ``extent_median``, ``extent_95``
            Mean, median and 95 % quantile of how far the blur reaches along its principal
            direction (see `blurfield.blur_extent`), 1 pixel for no blur.
        ``angle``
            Principal direction of the mean covariance of its kernels, in degrees from 0 up to 180,
            counter-clockwise on the screen, 0 for horizontal motion.
        ``anisotropy``
            (λ₁ − λ₂) / (λ₁ + λ₂) of the eigenvalues of that covariance: 1 if all motion is along
            one line, 0 if there is none or it has no direction. Where it is small, ``angle`` means
            nothing.
        ``norm``
            Mean L2 norm of its kernels, 1 for no blur.
        ``blurred``
            Share of its pixels that are blurred.
        ``confidence``
            Mean confidence of the estimator, 0 to 1; NaN if it tells none.
        ``uncertainty``
            Mean uncertainty of the kernels, 0 to 1; NaN if the estimator tells none.

    Raises
    ------
    ValueError
        If the labels are of another shape than the image or not whole numbers, or `threshold` or
        `pixel_size` is out of range.
    """
    height, width = sides = pixel_sides(pixel_size)
    regions, where = _regions(labels, field.shape, 0 if background else 1)
    inside = where >= 0
    index = where[inside]
    pixels = np.bincount(index, minlength=len(regions))

    def means(values: NDArray[Any]) -> NDArray[Any]:
        return np.bincount(index, values[inside], minlength=len(regions)) / pixels

    extent = blur_extent(field, sides, progress=progress)
    if min_extent is None:
        blurred = blur_mask(field, threshold, progress=progress)
    else:
        blurred = extent >= min_extent
    areas = (height**2, width**2, height * width)
    spread = [
        torch.from_numpy(area * means(part))
        for area, part in zip(areas, _covariances(field, progress), strict=True)
    ]
    largest, smallest = principal_variances(*spread)
    total = (largest + smallest).clamp_min(torch.finfo(torch.float64).tiny)
    ordered = _by_region(extent[inside], index, pixels)
    return {
        "label": regions,
        "pixels": pixels,
        **{name: means(places) for name, places in _places(field.shape).items()},
        "extent_mean": means(extent),
        **{
            name: np.array([np.quantile(part, at) for part in ordered])
            for name, at in _QUANTILES.items()
        },
        "angle": torch.rad2deg(-direction(*spread)).remainder(180).numpy(),
        "anisotropy": ((largest - smallest) / total).numpy(),
        "norm": means(1 - blur_score(field, progress=progress)),
        "blurred": means(blurred),
        "confidence": means(_map(field, "confidence")),
        "uncertainty": means(_map(field, "uncertainty")),
    }


def _regions(
    labels: ArrayLike | None, shape: tuple[int, int], lowest: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels of the regions, and for each pixel which of them it is in, −1 for none."""
    if labels is None:
        return np.zeros(1, np.int64), np.zeros(shape, np.int64)
    values = np.asarray(labels)
    if values.shape != shape:
        raise ValueError(
            f"labels must have the shape of the image, {shape}, but have {values.shape}"
        )
    if values.dtype.kind not in "bui":
        raise ValueError(f"labels must be whole numbers, but are of type {values.dtype}")
    found, where = np.unique(values, return_inverse=True)
    counts = found >= lowest
    position = np.where(counts, np.cumsum(counts) - 1, -1)
    return found[counts].astype(np.int64), position[where].reshape(shape)


def _places(shape: tuple[int, int]) -> dict[str, NDArray[np.int64]]:
    """Row and column of each pixel."""
    rows, cols = (np.arange(length) for length in shape)
    return {
        "centre_y": np.broadcast_to(rows[:, None], shape),
        "centre_x": np.broadcast_to(cols, shape),
    }


def _covariances(
    field: KernelField, progress: ProgressCallback | None
) -> list[NDArray[np.float32]]:
    """Variances along y and x and covariance of the kernel of each pixel, (H, W) each."""
    moments = moment_grid(field)

    def part(which: int) -> NDArray[np.float32]:
        return by_tiles(
            lambda rows, cols: covariance(grid.read_block(moments, field.shape, rows, cols))[which],
            field.shape,
            progress=progress,
        )

    return [part(which) for which in range(3)]


def _by_region(
    values: NDArray[np.float32], index: NDArray[np.int64], pixels: NDArray[np.int64]
) -> list[NDArray[np.float32]]:
    """Values of each region."""
    ordered = values[np.argsort(index, kind="stable")]
    return np.split(ordered, np.cumsum(pixels)[:-1])[: len(pixels)]


def _map(field: KernelField, name: str) -> NDArray[np.float32]:
    """Values of a map of a field for all pixels; its mean if only that is known, else NaN."""
    if name in field.maps:
        values: NDArray[np.float32] = field.full_map(name).detach().float().cpu().numpy()
        return values
    return np.full(field.shape, field.metadata.get(name, math.nan), np.float32)
