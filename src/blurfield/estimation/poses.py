"""Ways a camera looks during an exposure, and the kernels that they make across an image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csc_array
    from torch import Tensor

__all__ = ["Poses", "align_poses", "centre_poses", "resize_poses"]

#: Poses that lose more of their light than this at any of the points are left out.
_MOST_LOST = 1e-3


class Poses:
    """Poses on a grid of three axes: movements along y and x, and turns about the line of sight.

    A step moves what is in the middle of the image by a pixel, or turns the image so that its
    corners move by one. A camera that is turned up or aside moves the margin of the image farther
    than the middle, the more, the shorter its focal length (Whyte et al., "Non-uniform deblurring
    for shaken images", 2012, Sec. 3); angles are small.

    Weights of all poses are called a volume, (A, A, A), with axes y, x, turn and sum 1.

    Parameters
    ----------
    shape : (float, float)
        Height and width of the image in pixels.
    side : int
        Poses A along each axis, and side K of the kernels; odd.
    focal : float
        Focal length in pixels.
    """

    def __init__(self, shape: tuple[float, float], side: int, focal: float) -> None:
        self.side = side
        self._shape, self._focal = shape, focal
        self._corner = math.hypot(*shape) / 2

    def matrix(self, points: NDArray[np.float64], chosen: Tensor) -> csc_array:
        """Matrix (N·K², P) from weights of the chosen poses to kernels at N points.

        Poses that lead out of the kernel at any point are left out: their columns are 0.

        Parameters
        ----------
        points : ndarray
            Positions (y, x) in pixels, (N, 2).
        chosen : Tensor
            True for P of the poses, (A³,).
        """
        from scipy.sparse import csc_array

        half = self.side // 2
        taps = torch.arange(-half, half + 1, dtype=torch.float32)
        grid = torch.meshgrid(taps, taps, taps, indexing="ij")
        along_y, along_x, turn = (axis.flatten()[chosen] for axis in grid)
        y, x = (
            torch.from_numpy(points[:, axis] - (length - 1) / 2).float()
            for axis, length in enumerate(self._shape)
        )
        v, u = y / self._focal, x / self._focal
        down = torch.outer(along_y, 1 + v * v) + torch.outer(along_x, u * v)
        down += torch.outer(turn, x / self._corner)
        across = torch.outer(along_x, 1 + u * u) + torch.outer(along_y, u * v)
        across -= torch.outer(turn, y / self._corner)
        first = torch.arange(len(points)) * self.side**2
        rows, weights = [], []
        for row in (down.floor(), down.floor() + 1):
            for column in (across.floor(), across.floor() + 1):
                i, j = row.long() + half, column.long() + half
                inside = (i >= 0) & (i < self.side) & (j >= 0) & (j < self.side)
                rows.append((first + (i * self.side + j) * inside).int())
                weights.append((1 - (down - row).abs()) * (1 - (across - column).abs()) * inside)
        row, weight = (torch.stack(parts, -1).flatten(1) for parts in (rows, weights))
        weight *= (weight.sum(1, keepdim=True) > len(points) - _MOST_LOST).float()
        begins = np.arange(len(row) + 1) * row.shape[1]
        return csc_array(
            (weight.flatten().numpy(), row.flatten().numpy(), begins),
            shape=(len(points) * self.side**2, len(row)),
        )

    def kernels_at(self, volumes: Tensor, points: NDArray[np.float64]) -> Tensor:
        """Point-spread functions (N, M, K, K) of volumes (M, A, A, A) at points (N, 2)."""
        weights = volumes.flatten(1)
        chosen = weights.amax(0) > 0
        matrix = self.matrix(points, chosen)
        return kernels_of(matrix, weights[:, chosen], self.side)


def kernels_of(matrix: csc_array, weights: Tensor, side: int) -> Tensor:
    """Kernels (N, M, K, K) with sum 1, by the matrix of some poses and their weights (M, P)."""
    taps = torch.from_numpy(matrix @ weights.T.contiguous().numpy())
    kernels = taps.reshape(-1, side, side, len(weights)).permute(0, 3, 1, 2).contiguous()
    return kernels / kernels.sum((-2, -1), keepdim=True).clamp_min(1e-20)


def centre_poses(volumes: Tensor) -> Tensor:
    """Move the centre of mass of volumes (M, A, A, A) to the middle, by whole steps."""
    side = volumes.shape[-1]
    steps = torch.arange(side, dtype=volumes.dtype) - side // 2
    moved = []
    for volume in volumes:
        others = ((1, 2), (0, 2), (0, 1))
        middle = [round(float((volume.sum(rest) * steps).sum())) for rest in others]
        moved.append(volume.roll([-offset for offset in middle], (0, 1, 2)))
    return torch.stack(moved)


def align_poses(volumes: Tensor, reference: Tensor) -> Tensor:
    """Shift volumes (M, A, A, A) by whole steps to where they correlate best with a reference."""
    side = volumes.shape[-1]
    size = (2 * side,) * 3
    fixed = torch.fft.rfftn(reference, s=size)
    moved = []
    for volume in volumes:
        match = torch.fft.irfftn(torch.fft.rfftn(volume, s=size).conj() * fixed, s=size)
        best = np.unravel_index(int(match.argmax()), size)
        offsets = [int(step) if step < side else int(step) - 2 * side for step in best]
        moved.append(volume.roll(offsets, (0, 1, 2)))
    return torch.stack(moved)


def resize_poses(volumes: Tensor, side: int) -> Tensor:
    """Volumes (M, A, A, A) at another scale: (M, side, side, side), with sum 1."""
    finer = functional.interpolate(
        volumes[:, None], size=(side,) * 3, mode="trilinear", align_corners=False
    )[:, 0]
    return finer / finer.sum((1, 2, 3), keepdim=True)
