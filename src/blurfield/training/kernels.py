"""Banks of blur kernels, and of the kernels that a turning camera gives over an image."""

from __future__ import annotations

import torch
from torch import Tensor

from blurfield.simulation import camera_shake_angles, camera_shake_kernels, linear_kernel
from blurfield.simulation.kernels import fitting_scale, splat

#: Shares of the bank that are straight motions and barely visible shakes; the rest is shake.
_STRAIGHT, _FAINT = 0.12, 0.06
#: Kernels along each side of a camera field.
GRID = 4
#: Instants of a camera's path.
_POSES = 256
#: Fields made at a time.
_CHUNK = 64


def kernel_bank(
    count: int,
    size: int,
    *,
    max_extent: float,
    generator: torch.Generator,
) -> Tensor:
    """Make kernels for training: mostly camera shake, some straight motion, some hardly any.

    Parameters
    ----------
    count : int
        Number of kernels.
    size : int
        Side K in pixels, odd.
    max_extent : float
        Most pixels that a kernel covers, in [3, size].
    generator : torch.Generator
        Source of all random numbers, on the device of the bank.

    Returns
    -------
    Tensor
        float16 (count, K, K), each with sum 1 and its centroid in the middle.
    """
    straight, faint = round(_STRAIGHT * count), round(_FAINT * count)
    parts = [
        camera_shake_kernels(
            count - straight - faint, size, max_extent=max_extent, generator=generator
        ),
        camera_shake_kernels(faint, size, max_extent=3, generator=generator),
    ]
    draw = torch.rand(2, straight, generator=generator, device=generator.device).cpu()
    # A little within the kernel, which lines in any direction must fit.
    lengths, angles = draw[0] * (max_extent - 1), draw[1] * 180
    bank = torch.cat([kernels.half() for kernels in parts])
    for part in torch.arange(straight).split(4096):
        lines = linear_kernel(lengths[part], angles[part], size)
        bank = torch.cat([bank, lines.to(bank)])
    return bank


def camera_bank(
    count: int,
    size: int,
    *,
    side: int,
    max_extent: float,
    generator: torch.Generator,
) -> Tensor:
    """Make fields of kernels of cameras that turn, roll and zoom, as seen in crops of images.

    A roll θ moves the content at p by θ × (p − c) and a zoom s by s (p − c), where c, the optical
    centre, may lie outside the crop; yaw and pitch move it by f θ. Each kernel is centred for
    itself: a blurry image shows the shape of the motion at each place and not how the places were
    moved against each other.

    Parameters
    ----------
    count : int
        Number of fields.
    size : int
        Side K of the kernels in pixels, odd.
    side : int
        Side of the crop in pixels.
    max_extent, generator
        See `kernel_bank`.

    Returns
    -------
    Tensor
        float16 (count, GRID, GRID, K, K), each kernel with sum 1 and its centroid in the middle.
    """
    device = generator.device
    bank = torch.empty(count, GRID, GRID, size, size, dtype=torch.float16, device=device)
    place = ((torch.arange(GRID, device=device) + 0.5) / GRID - 0.5) * side
    for start in range(0, count, _CHUNK):
        n = min(_CHUNK, count - start)
        draw = torch.rand(6, n, generator=generator, device=device)
        angles = camera_shake_angles(n, _POSES, generator=generator)
        # Crops show all of an image or a fifth of its width; lenses are wide to short tele.
        whole = side * (1 + 4 * draw[0])
        focal = whole * 0.5 * 4 ** draw[1]
        centre = (draw[2:4] - 0.5) * whole
        time = torch.linspace(-0.5, 0.5, _POSES, device=device)
        zooms = (draw[4] < 0.25).float() * 0.02 * (2 * (draw[4] * 4).frac() - 1)
        yaw, pitch, roll = angles.unbind(-1)
        # A zoom is seen when the camera is still.
        calm = torch.where(draw[4] < 0.25, 0.2, 1.0)[:, None]
        y = place[None, :] - centre[0, :, None]
        x = place[None, :] - centre[1, :, None]
        y, x = y[:, :, None, None], x[:, None, :, None]
        zoom = (zooms[:, None] * time)[:, None, None]
        roll = (calm * roll)[:, None, None]
        dy = (calm * focal[:, None] * pitch)[:, None, None] + roll * x + zoom * y
        dx = (calm * focal[:, None] * yaw)[:, None, None] - roll * y + zoom * x
        offsets = -torch.stack([dy, dx], dim=-1)
        offsets = offsets - offsets.mean(dim=3, keepdim=True)
        extent = 1 + 2 * (1 - draw[5]) + (max_extent - 3) * draw[5]
        span = (offsets.amax(dim=3) - offsets.amin(dim=3)).flatten(1).amax(1)
        reach = offsets.abs().flatten(1).amax(1)
        scale = fitting_scale(span, reach, extent, size)
        fields = splat(scale[:, None, None, None, None] * offsets, size)
        bank[start : start + n] = fields.half()
    return bank


def bilinear_grid(cells: int, side: int) -> Tensor:
    """Weights (cells², side, side) with which a grid of kernels over a crop is read."""
    place = (torch.arange(side) + 0.5) * cells / side - 0.5
    hat = (1 - (place.clamp(0, cells - 1)[None] - torch.arange(cells)[:, None]).abs()).clamp_min(0)
    return (hat[:, None, :, None] * hat[None, :, None, :]).reshape(cells * cells, side, side)


def turn(tensor: Tensor, which: int, pairs: tuple[tuple[int, int], ...]) -> Tensor:
    """Apply one of the eight symmetries of the square to pairs of axes (rows, columns) alike."""
    if not 0 <= which < 8:
        raise ValueError(f"there are 8 symmetries, numbered from 0, not {which}")
    for rows, cols in pairs:
        flips = [axis for axis, bit in ((rows, 1), (cols, 2)) if which & bit]
        tensor = tensor.flip(flips) if flips else tensor
        tensor = tensor.transpose(rows, cols) if which & 4 else tensor
    return tensor
