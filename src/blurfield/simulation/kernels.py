"""Blur kernels: camera shake, straight motion and defocus.

All kernels are in the correlation convention of the package: a picture whose content moves by
d(t) during the exposure is blurred by the kernel that accumulates -d(t) around its centre.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .trajectories import camera_shake_angles

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Kernels splatted at a time: bounds the memory of a large batch to some tens of MiB.
_CHUNK = 256


def camera_shake_kernels(
    n: int,
    size: int = 33,
    *,
    max_extent: float | None = None,
    min_extent: float = 1.0,
    tremor_share: float = 0.5,
    generator: torch.Generator,
    device: torch.device | str | None = None,
) -> Tensor:
    """Draw kernels of a shaking camera.

    The paths come from `camera_shake_angles`. Each is enlarged to an extent drawn uniformly
    between the two given (which stands for a focal length), moved so that its centroid is in the
    middle, shrunk if it would leave the kernel, and accumulated by bilinear splatting
    (specification §3.6).

    Parameters
    ----------
    n : int
        Number of kernels.
    size : int
        Side K of the square kernels in pixels, odd.
    max_extent : float, optional
        Greatest number of pixels that a path covers along its longer direction, in [1, size];
        by default `size`.
    min_extent : float
        Smallest such number; 1 means no movement.
    tremor_share : float
        Probability in [0, 1] of a path that curls and dwells instead of drifting.
    generator : torch.Generator
        Source of all random numbers.
    device : torch.device or str, optional
        Where to put the kernels; by default the generator's device.

    Returns
    -------
    Tensor
        Kernels in the correlation convention, float32, shape (n, size, size), non-negative, each
        with sum 1 and its centroid in the middle.

    Raises
    ------
    ValueError
        If `size` is even or the extents are not ``1 <= min_extent <= max_extent <= size``.
    """
    _check_size(size)
    highest = float(size) if max_extent is None else float(max_extent)
    if not 1 <= min_extent <= highest <= size:
        raise ValueError(
            f"extents must be 1 <= min_extent <= max_extent <= size, "
            f"got {min_extent}, {highest} and {size}"
        )
    # Dense enough for the path to leave no gaps where it is fast.
    samples = max(256, 16 * size)
    angles = camera_shake_angles(n, samples, axes=2, tremor_share=tremor_share, generator=generator)
    share = torch.rand((n,), generator=generator, device=generator.device)
    angles, share = angles.to(device), share.to(device)

    span = (angles.amax(dim=1) - angles.amin(dim=1)).amax(dim=1)
    farthest = angles.abs().amax(dim=(1, 2))
    extent = min_extent + (highest - min_extent) * share
    scale = fitting_scale(span, farthest, extent, size)
    # Yaw moves the content along x, pitch along y.
    return splat(-scale[:, None, None] * angles.flip(-1), size)


def fitting_scale(span: Tensor, farthest: Tensor, extent: Tensor, size: int) -> Tensor:
    """Return the factors that enlarge paths to an extent, or as far as the kernel allows.

    Parameters
    ----------
    span : Tensor
        What each path covers along its longer direction, in any unit.
    farthest : Tensor
        Its farthest place from the centre along either direction, in the same unit.
    extent : Tensor
        Number of pixels that it is to cover.
    size : int
        Side of the kernels.

    Returns
    -------
    Tensor
        Pixels per unit.
    """
    tiny = torch.finfo(span.dtype).tiny
    return torch.minimum(
        (extent - 1) / span.clamp_min(tiny), (size // 2) / farthest.clamp_min(tiny)
    )


def splat(offsets: Tensor, size: int) -> Tensor:
    """Accumulate paths into kernels by bilinear splatting.

    The centroid of a kernel is exactly the mean of its offsets, if all lie within the kernel.

    Parameters
    ----------
    offsets : Tensor
        Paths (..., T, 2): offsets (y, x) in pixels from the centre of the kernel, at T equally
        spaced times. What lies outside the kernel is lost.
    size : int
        Side K of the square kernels, odd.

    Returns
    -------
    Tensor
        Kernels (..., K, K) with sum 1, of the offsets' type and on their device.

    Raises
    ------
    ValueError
        If `size` is even or a path lies wholly outside its kernel.
    """
    _check_size(size)
    batch, length = offsets.shape[:-2], offsets.shape[-2]
    paths = offsets.reshape(-1, length, 2)
    taps = torch.arange(size, dtype=paths.dtype, device=paths.device) - size // 2
    kernels = paths.new_empty((len(paths), size, size))
    for start in range(0, len(paths), _CHUNK):
        part = slice(start, start + _CHUNK)
        # A product of two hat functions is the bilinear splat; as a matrix product over time it
        # adds up in a fixed order, on a GPU too.
        hat = (1 - (paths[part, :, :, None] - taps).abs()).clamp_min_(0)
        kernels[part] = hat[:, :, 0].transpose(1, 2) @ hat[:, :, 1]
    total = kernels.sum(dim=(1, 2), keepdim=True)
    if bool((total <= 0).any()):
        raise ValueError(f"a path lies wholly outside its {size}×{size} kernel")
    return (kernels / total).reshape(*batch, size, size)


def linear_kernel(
    length: float | Sequence[float] | Tensor,
    angle: float | Sequence[float] | Tensor,
    size: int = 33,
) -> Tensor:
    """Return kernels of straight motion at constant speed.

    Parameters
    ----------
    length : float, sequence of float or Tensor
        Distance covered during the exposure in pixels, at least 0.
    angle : float, sequence of float or Tensor
        Direction in degrees: 0 is along +x, 90 along +y (downwards). Broadcast against `length`.
    size : int
        Side K of the square kernels, odd.

    Returns
    -------
    Tensor
        Kernels of shape (..., K, K), float32, where ... is the common shape of the parameters.

    Raises
    ------
    ValueError
        If a length is negative or the motion does not fit into the kernel.
    """
    _check_size(size)
    lengths = torch.as_tensor(length, dtype=torch.float32)
    radians = torch.deg2rad(torch.as_tensor(angle, dtype=torch.float32))
    velocity = torch.stack([lengths * torch.sin(radians), lengths * torch.cos(radians)], dim=-1)
    # A little more than what fits is rounding in single precision.
    if bool((lengths < 0).any()) or float(velocity.abs().amax()) > (size - 1) * (1 + 1e-5):
        raise ValueError(
            f"lengths must be >= 0 and fit into a {size}×{size} kernel, "
            f"got {lengths.flatten().tolist()} at angle {angle}"
        )
    # The middle of each of so many equal intervals.
    samples = 16 * size
    time = (torch.arange(samples) + 0.5) / samples - 0.5
    return splat(-time[:, None] * velocity[..., None, :], size)


def defocus_kernel(radius: float | Sequence[float] | Tensor, size: int = 33) -> Tensor:
    """Return kernels of defocus: uniform discs with antialiased edges.

    Parameters
    ----------
    radius : float, sequence of float or Tensor
        Radius of the disc in pixels, at least 0; 0 means no blur.
    size : int
        Side K of the square kernels, odd.

    Returns
    -------
    Tensor
        Kernels of shape (..., K, K), float32, where ... is the shape of `radius`.

    Raises
    ------
    ValueError
        If a radius is negative or the disc does not fit into the kernel.
    """
    _check_size(size)
    radii = torch.as_tensor(radius, dtype=torch.float32)
    if bool((radii < 0).any()) or float(radii.amax()) > size / 2:
        raise ValueError(
            f"radii must be in [0, {size / 2}] for a {size}×{size} kernel, "
            f"got {radii.flatten().tolist()}"
        )
    # Coverage of each pixel by the disc, on sub-pixels.
    fine = 9
    axis = (torch.arange(size * fine) + 0.5) / fine - size / 2
    # At least the central sub-pixel is covered, so that radius 0 is a single tap.
    limit = radii.clamp_min(0.5 / fine)[..., None, None]
    inside = (axis[:, None].square() + axis.square() <= limit.square()).float()
    kernels = inside.reshape(*radii.shape, size, fine, size, fine).mean((-3, -1))
    return kernels / kernels.sum(dim=(-2, -1), keepdim=True)


def _check_size(size: int) -> None:
    if size < 1 or size % 2 == 0:
        raise ValueError(f"kernel size must be odd and positive, got {size}")
