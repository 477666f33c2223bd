"""What a kernel field says about the blur: where it is, how strong, and in which direction.

The kernel of a pixel is a mixture, κ(i) = Σ_b m_b(i) k_b, and so are its first and second moments.
Nothing here ever makes κ for all pixels: moments of the few basis kernels are mixed instead, and
‖κ(i)‖₂² = m(i)ᵀ G m(i) with the Gram matrix G of the basis.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from . import grid
from .comparison import Similarity, grid_axis, kernel_similarity, similarity
from .compute import Reporter
from .moments import (
    covariance,
    direction,
    extent_of,
    moment_grid,
    moments_at,
    principal_variances,
)
from .mosaic import kernel_mosaic
from .small_areas import without_small_areas

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from .compute import ProgressCallback
    from .field import KernelField

__all__ = [
    "Similarity",
    "blur_extent",
    "blur_map",
    "blur_mask",
    "blur_score",
    "kernel_mosaic",
    "kernel_similarity",
    "motion_features",
    "motion_vectors",
    "similarity",
]

#: Side in pixels of the tiles in which images are gone through. Interpolating a coarse grid costs
#: less per pixel in small tiles, for its matrices grow with their side.
_TILE = 256

#: Numbers held at once (128 MiB of float64).
_MOST_NUMBERS = 1 << 24

#: Components of a direction smaller than this are noise, and would flip its sign at random.
_SMALL_COMPONENT = 1e-4


def blur_map(
    field: KernelField, threshold: float = 0.25, *, progress: ProgressCallback | None = None
) -> NDArray[np.float32]:
    """Return how much of each pixel's kernel is blur, by the L2 norm of the basis kernels.

    A basis kernel whose norm is above `threshold` is sharp, any other is blur; the map is the sum
    of the mixing coefficients of the blur kernels (Carbajal et al. 2021, arXiv 2102.01026,
    motion-blur segmentation).

    Parameters
    ----------
    field : KernelField
        The blur of an image.
    threshold : float, default 0.25
        Norm between blur and sharp, above 0 and below 1. A straight line of L pixels has the norm
        1/√L whatever the kernel's support, so that 0.25 stands for motion of 16 pixels, and
        ``1 / L ** 0.5`` for L.
    progress : callable, optional
        Called as ``progress(done, total, message)`` while the field is read; what it raises stops
        that.

    Returns
    -------
    numpy.ndarray
        (H, W), float32, from 0 (sharp) to 1 (blur).

    Raises
    ------
    ValueError
        If `threshold` is not between 0 and 1.

    Notes
    -----
    In a dense field, whose basis kernels are single taps of norm 1, that rule would call every
    pixel sharp. There the norm n(i) = ‖κ(i)‖₂ of each pixel's own kernel decides: the map falls
    linearly from 1 at n = 0 to ½ at the threshold and on to 0 at n = 1.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must be between 0 and 1, not {threshold!r}")
    if field.is_one_tap:
        norm = 1 - blur_score(field, progress=progress)
        above = 0.5 * (1 - norm) / (1 - threshold)
        result: NDArray[np.float32] = np.where(norm <= threshold, 1 - norm / (2 * threshold), above)
        return result.clip(0, 1)
    mixing = field.mixing.detach()
    is_blur = (field.l2_norms().detach() <= threshold).to(mixing)
    blur = torch.tensordot(is_blur, mixing, dims=1)[None]

    def share(rows: slice, cols: slice) -> torch.Tensor:
        return grid.read_block(blur, field.shape, rows, cols)[0].clamp(0, 1)

    return by_tiles(share, field.shape, progress=progress)


def blur_mask(
    field: KernelField,
    threshold: float = 0.25,
    level: float = 0.5,
    *,
    min_extent: float | None = None,
    pixel_size: float | tuple[float, float] = 1.0,
    min_area: int = 0,
    progress: ProgressCallback | None = None,
) -> NDArray[np.bool_]:
    """Return which pixels are blurred: where `blur_map` reaches `level`.

    Parameters
    ----------
    field : KernelField
        The blur of an image.
    threshold : float, default 0.25
        L2 norm up to which a kernel is blur; see `blur_map`.
    level : float, default 0.5
        Share of blur, from 0 to 1, from which on a pixel is blurred.
    min_extent : float, optional
        If given, pixels of at least this `blur_extent` are blurred, whatever their norm.
    pixel_size : float or (float, float), default 1
        As in `blur_extent`.
    min_area : int, default 0
        Blurred regions, and gaps in them, of fewer pixels are removed.
    progress : callable, optional
        Called as ``progress(done, total, message)`` while the field is read; what it raises stops
        that.

    Returns
    -------
    numpy.ndarray
        (H, W), bool.

    Raises
    ------
    ValueError
        If `threshold`, `level`, `min_extent` or `pixel_size` is out of range.
    """
    if not 0 <= level <= 1:
        raise ValueError(f"level must be from 0 to 1, not {level!r}")
    if min_extent is None:
        blurred = blur_map(field, threshold, progress=progress) >= level
    elif math.isfinite(min_extent) and min_extent > 0:
        blurred = blur_extent(field, pixel_size, progress=progress) >= min_extent
    else:
        raise ValueError(f"min_extent must be a number above 0, not {min_extent!r}")
    return without_small_areas(blurred, min_area)


def blur_score(
    field: KernelField, *, progress: ProgressCallback | None = None
) -> NDArray[np.float32]:
    """Return the continuous blur score 1 − ‖κ(i)‖₂ of each pixel's kernel.

    Parameters
    ----------
    field : KernelField
        The blur of an image.
    progress : callable, optional
        Called as ``progress(done, total, message)`` while the field is read; what it raises stops
        that.

    Returns
    -------
    numpy.ndarray
        (H, W), float32: 0 for no blur, 1 − 1/√L for a line of L pixels, always below 1.
    """
    gram = _gram_matrix(field)

    def score(rows: slice, cols: slice) -> torch.Tensor:
        return 1 - _mixed_norms(field.mixing_block(rows, cols).detach(), gram)

    return by_tiles(score, field.shape, numbers=field.num_kernels, progress=progress)


def blur_extent(
    field: KernelField,
    pixel_size: float | tuple[float, float] = 1.0,
    *,
    progress: ProgressCallback | None = None,
) -> NDArray[np.float32]:
    """Return how far each pixel's blur reaches along its principal direction.

    The extent is √(12 λ + 1), with λ the largest eigenvalue of the covariance of κ(i) as a
    distribution over positions: L for a straight line of L pixels, 1 for no blur.

    Parameters
    ----------
    field : KernelField
        The blur of an image.
    pixel_size : float or (float, float), default 1
        Side of a pixel in the unit that the extent shall have; height and width where pixels are
        not square. By default, extents are in pixels.
    progress : callable, optional
        Called as ``progress(done, total, message)`` while the field is read; what it raises stops
        that.

    Returns
    -------
    numpy.ndarray
        (H, W), float32.

    Raises
    ------
    ValueError
        If `pixel_size` is not above 0.
    """
    moments, sides = moment_grid(field), pixel_sides(pixel_size)

    def extent(rows: slice, cols: slice) -> torch.Tensor:
        return extent_of(*covariance(grid.read_block(moments, field.shape, rows, cols)), sides)

    return by_tiles(extent, field.shape, progress=progress)


def motion_vectors(field: KernelField, spacing: float = 32) -> NDArray[np.float32]:
    """Return the direction and extent of the blur as vectors for napari.

    Parameters
    ----------
    field : KernelField
        The blur of an image.
    spacing : float, default 32
        Pixels between the points of a grid that is centred on the image.

    Returns
    -------
    numpy.ndarray
        (N, 2, 2), float32, in pixels (y, x): ``[:, 0]`` the starts and ``[:, 1]`` the projections
        of vectors whose middles are the points of the grid, row by row. A vector lies along the
        principal direction of its point's kernel and is as long as the blur's extent there (see
        `blur_extent`). A blurred photograph doesn't tell which way along that direction the motion
        went: vectors point to larger x, vertical ones to larger y.

    Raises
    ------
    ValueError
        If `spacing` is not above 0.
    """
    points = _grid_points(field, spacing)
    spread = covariance(moments_at(field, points))
    length, angle = extent_of(*spread), direction(*spread)
    step = torch.stack([angle.sin(), angle.cos()], dim=-1)
    step[step[:, 1] < _SMALL_COMPONENT] = step.new_tensor([1.0, 0.0])
    projection = step * length[:, None]
    return _to_numpy(torch.stack([points.to(step) - projection / 2, projection], dim=1))


def motion_features(field: KernelField, spacing: float = 32) -> dict[str, NDArray[np.float32]]:
    """Return what there is to say about each of the `motion_vectors` of the same spacing.

    Parameters
    ----------
    field : KernelField
        The blur of an image.
    spacing : float, default 32
        As given to `motion_vectors`.

    Returns
    -------
    dict of numpy.ndarray
        Four arrays (N,), float32. ``length``: extent of the blur in pixels. ``angle``: in degrees
        from 0 up to 180, counter-clockwise on the screen, 0 for horizontal and 90 for vertical
        motion. ``anisotropy``: (λ₁ − λ₂) / (λ₁ + λ₂) of the covariance's eigenvalues, 0 for a
        round kernel and 1 for a straight line. ``norm``: ‖κ‖₂, 1 for no blur.
    """
    points = _grid_points(field, spacing)
    spread = covariance(moments_at(field, points))
    largest, smallest = principal_variances(*spread)
    total = largest + smallest
    mixing = field.mixing_at(points).detach().T
    features = {
        "length": extent_of(*spread),
        "angle": torch.rad2deg(-direction(*spread)).remainder(180),
        "anisotropy": (largest - smallest) / total.clamp_min(torch.finfo(total.dtype).tiny),
        "norm": _mixed_norms(mixing, _gram_matrix(field)),
    }
    return {name: _to_numpy(values) for name, values in features.items()}


def _to_numpy(values: torch.Tensor) -> NDArray[np.float32]:
    result: NDArray[np.float32] = values.to(torch.float32).cpu().numpy()
    return result


def _grid_points(field: KernelField, spacing: float) -> torch.Tensor:
    rows, cols = (torch.from_numpy(grid_axis(length, spacing)) for length in field.shape)
    return torch.cartesian_prod(rows, cols).to(field.device, field.dtype)


def _slices(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def by_tiles(
    compute: Callable[[slice, slice], torch.Tensor],
    shape: tuple[int, int],
    numbers: int = 1,
    progress: ProgressCallback | None = None,
) -> NDArray[np.float32]:
    """Assemble (H, W) from tiles of rows and columns; a pixel needs so many numbers meanwhile."""
    reporter = Reporter(progress, 1, "Reading the field")
    side = max(1, min(_TILE, math.isqrt(_MOST_NUMBERS // numbers)))
    result = np.empty(shape, np.float32)
    for rows in _slices(shape[0], side):
        for cols in _slices(shape[1], side):
            reporter.poll()
            result[rows, cols] = _to_numpy(compute(rows, cols))
    return result


def _gram_matrix(field: KernelField) -> torch.Tensor:
    flat = field.basis.detach().flatten(1)
    return flat @ flat.T


def _mixed_norms(mixing: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    """Return ‖κ‖₂ for mixing coefficients (B, …), of shape (…)."""
    flat = mixing.flatten(1)
    diagonal = gram.diagonal()
    if torch.equal(gram, diagonal.diag()):  # dense fields: B² products a pixel are too many
        squares = torch.einsum("bn,bn,b->n", flat, flat, diagonal)
    else:
        squares = torch.einsum("bn,bn->n", flat, gram @ flat)
    return squares.clamp(0, 1).sqrt().reshape(mixing.shape[1:])


def pixel_sides(pixel_size: float | tuple[float, float]) -> tuple[float, float]:
    """Height and width of a pixel, which must be above 0."""
    height, width = np.broadcast_to(np.asarray(pixel_size, float), 2).tolist()
    if not (math.isfinite(height) and math.isfinite(width) and min(height, width) > 0):
        raise ValueError(f"pixel_size must be a number above 0, but is {pixel_size!r}")
    return height, width
