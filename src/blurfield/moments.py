"""Moments of kernels as distributions over positions, and what they say about the motion.

The moments of a mixture of kernels are the mixture of theirs: those of the few kernels of a basis
are enough for all pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from . import grid

if TYPE_CHECKING:
    from .field import KernelField

#: Mixing coefficients converted to double precision at once (128 MiB).
_MOST_COEFFICIENTS = 1 << 24


def moment_grid(field: KernelField) -> torch.Tensor:
    """Moments of the kernels on the mixing grid, (5, h, w): means y, x, and of yy, xx, yx.

    In double precision: variances are small differences of them.
    """
    basis = field.basis.detach().double()
    half = field.kernel_size // 2
    axis = torch.arange(-half, half + 1, dtype=basis.dtype, device=basis.device)
    y, x = axis[:, None].expand(basis.shape[1:]), axis.expand(basis.shape[1:])
    moments = torch.einsum("kij,bij->kb", torch.stack([y, x, y * y, x * x, y * x]), basis)
    mixing = field.mixing.detach()
    rows = max(1, _MOST_COEFFICIENTS // mixing[:, 0].numel())
    bands = (part.double() for part in torch.split(mixing, rows, dim=1))
    return torch.cat([torch.einsum("kb,bhw->khw", moments, band) for band in bands], dim=1)


def moments_at(field: KernelField, points: torch.Tensor) -> torch.Tensor:
    """Moments of the kernels at points, (5, N)."""
    return grid.read_points(moment_grid(field), field.shape, points).T


def covariance(moments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Variances along y and x and their covariance, from mixed moments (5, …)."""
    mean_y, mean_x, yy, xx, yx = moments
    return yy - mean_y**2, xx - mean_x**2, yx - mean_y * mean_x


def principal_variances(
    var_y: torch.Tensor, var_x: torch.Tensor, cov: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Largest and smallest variance over all directions."""
    middle, radius = (var_y + var_x) / 2, torch.hypot((var_y - var_x) / 2, cov)
    return middle + radius, (middle - radius).clamp_min(0)


def direction(var_y: torch.Tensor, var_x: torch.Tensor, cov: torch.Tensor) -> torch.Tensor:
    """Angle of the direction of largest variance, from x towards y, within ±π/2."""
    return torch.atan2(2 * cov, var_x - var_y) / 2


def extent_of(
    var_y: torch.Tensor,
    var_x: torch.Tensor,
    cov: torch.Tensor,
    sides: tuple[float, float] = (1.0, 1.0),
) -> torch.Tensor:
    """Length of the line of pixels with these variances: (L² − 1) / 12 for L square pixels.

    The light of a tap covers a pixel, of which each side has a twelfth of its square as variance.
    """
    height, width = sides
    squares = principal_variances(
        (12 * var_y.clamp_min(0) + 1) * height**2,
        (12 * var_x.clamp_min(0) + 1) * width**2,
        12 * cov * height * width,
    )
    return squares[0].sqrt()
