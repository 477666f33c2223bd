"""What lies beyond the edge of an image, and the exact adjoint of assuming it."""

from __future__ import annotations

import torch
from torch import Tensor

#: Boundaries of the blur operator. "valid" assumes nothing: its input is larger than its output.
BOUNDARIES = ("reflect", "replicate", "circular", "valid")


def check_boundary(boundary: str) -> None:
    """Raise ValueError unless `boundary` is a known one."""
    if boundary not in BOUNDARIES:
        raise ValueError(f"unknown boundary {boundary!r}; use one of {', '.join(BOUNDARIES)}")


def source_index(start: int, stop: int, length: int, boundary: str) -> Tensor:
    """For positions start…stop−1 along an axis, the pixel 0…length−1 whose value stands there.

    "reflect" mirrors without repeating the edge pixel, "replicate" repeats it, "circular" wraps.
    """
    position = torch.arange(start, stop)
    if boundary == "replicate":
        return position.clamp(0, length - 1)
    if boundary == "circular":
        return position % length
    period = max(2 * (length - 1), 1)
    folded = position % period
    return torch.minimum(folded, period - folded)


def extend(image: Tensor, radius: int, boundary: str, slack: tuple[int, int] = (0, 0)) -> Tensor:
    """Continue an image beyond its edges.

    Parameters
    ----------
    image : Tensor, shape (N, H, W)
    radius : int
        Pixels to add on each side (0 for "valid", whose input has them already).
    boundary : str
        One of `BOUNDARIES`.
    slack : (int, int)
        Rows and columns of zeros to add at the end, to fill a whole number of tiles.

    Returns
    -------
    Tensor, shape (N, H + 2·radius + slack[0], W + 2·radius + slack[1])
        A new tensor.
    """
    n, height, width = image.shape
    extended = image.new_zeros(n, height + 2 * radius + slack[0], width + 2 * radius + slack[1])
    middle = extended[:, radius : radius + height, radius : radius + width]
    middle.copy_(image)
    if radius and boundary != "valid":
        rows, cols = (
            source_index(-radius, size + radius, size, boundary).to(image.device)
            for size in (height, width)
        )
        wide = extended[:, radius : radius + height, : width + 2 * radius]
        wide[..., :radius] = middle[..., cols[:radius]]
        wide[..., radius + width :] = middle[..., cols[radius + width :]]
        extended[:, :radius, : width + 2 * radius] = wide[:, rows[:radius]]
        below = slice(radius + height, height + 2 * radius)
        extended[:, below, : width + 2 * radius] = wide[:, rows[radius + height :]]
    return extended


def fold(extended: Tensor, shape: tuple[int, int], radius: int, boundary: str) -> Tensor:
    """Adjoint of `extend`: add what lies beyond the edges to the pixels that it was taken from.

    Parameters
    ----------
    extended : Tensor, shape (N, ≥ H + 2·radius, ≥ W + 2·radius)
        Overwritten where the boundary is not "valid".
    shape : (H, W)
    radius, boundary
        As for `extend`.

    Returns
    -------
    Tensor, shape (N, H, W)
        A view of `extended`.
    """
    height, width = shape
    middle = extended[:, radius : radius + height, radius : radius + width]
    if radius and boundary != "valid":
        rows, cols = (
            source_index(-radius, size + radius, size, boundary).to(extended.device)
            for size in (height, width)
        )
        tall = extended[:, radius : radius + height, : width + 2 * radius]
        tall.index_add_(1, rows[:radius], extended[:, :radius, : width + 2 * radius])
        below = slice(radius + height, height + 2 * radius)
        tall.index_add_(1, rows[below], extended[:, below, : width + 2 * radius])
        middle.index_add_(2, cols[:radius], tall[..., :radius].clone())
        beyond = slice(radius + width, width + 2 * radius)
        middle.index_add_(2, cols[beyond], tall[..., beyond].clone())
    return middle
