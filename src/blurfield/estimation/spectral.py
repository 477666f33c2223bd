"""Periodic images: padding, gradients, transfer functions."""

from __future__ import annotations

import math

import torch
from scipy.fft import next_fast_len
from torch import Tensor


def pad_periodic(images: Tensor, margin: int) -> Tensor:
    """Extend images to the right and below so that they continue smoothly into themselves.

    The margin blends the mirror images of the two opposite edges, so that the periodic
    continuation that a discrete Fourier transform implies has no step.

    Parameters
    ----------
    images : Tensor
        (..., H, W).
    margin : int
        Least number of pixels to add to each axis; more are added up to a size that transforms
        fast.
    """
    height, width = (next_fast_len(n + margin, real=True) for n in images.shape[-2:])
    wide = _pad_last_axis(images, width)
    return _pad_last_axis(wide.transpose(-1, -2), height).transpose(-1, -2).contiguous()


def _pad_last_axis(images: Tensor, length: int) -> Tensor:
    size = images.shape[-1]
    margin = length - size
    # A margin longer than the image is filled by going back and forth in it.
    steps = torch.arange(margin, device=images.device)
    forth = _mirror(size + steps, size)
    back = _mirror(steps - margin, size)
    share = (steps + 0.5).to(images.dtype) / margin
    share = share * share * (3 - 2 * share)
    blend = torch.lerp(images[..., forth], images[..., back], share)
    return torch.cat([images, blend], dim=-1)


def _mirror(index: Tensor, size: int) -> Tensor:
    period = max(2 * size - 2, 1)
    index = index % period
    return torch.where(index < size, index, period - index)


def transfer_function(kernels: Tensor, shape: tuple[int, int]) -> Tensor:
    """Half spectrum of kernels (..., K, K), centred on the origin, for images of `shape`."""
    half = kernels.shape[-1] // 2
    padded = kernels.new_zeros((*kernels.shape[:-2], *shape))
    padded[..., : kernels.shape[-2], : kernels.shape[-1]] = kernels
    spectrum: Tensor = torch.fft.rfft2(padded.roll((-half, -half), (-2, -1)))
    return spectrum


def gradient(images: Tensor) -> tuple[Tensor, Tensor]:
    """Forward differences of periodic images along x and y."""
    along_x, along_y = (images.new_empty(images.shape) for _ in range(2))
    torch.sub(images[..., 1:], images[..., :-1], out=along_x[..., :-1])
    torch.sub(images[..., :1], images[..., -1:], out=along_x[..., -1:])
    torch.sub(images[..., 1:, :], images[..., :-1, :], out=along_y[..., :-1, :])
    torch.sub(images[..., :1, :], images[..., -1:, :], out=along_y[..., -1:, :])
    return along_x, along_y


def divergence_adjoint(along_x: Tensor, along_y: Tensor) -> Tensor:
    """Adjoint of `gradient`."""
    total = torch.add(along_x, along_y).neg_()
    total[..., 1:] += along_x[..., :-1]
    total[..., :1] += along_x[..., -1:]
    total[..., 1:, :] += along_y[..., :-1, :]
    total[..., :1, :] += along_y[..., -1:, :]
    return total


def laplacian_spectrum(shape: tuple[int, int], like: Tensor) -> Tensor:
    """Half spectrum |D_x|² + |D_y|² of `gradient` followed by its adjoint."""
    height, width = shape
    down = torch.arange(height, dtype=like.dtype, device=like.device) * (2 * math.pi / height)
    across = torch.arange(width // 2 + 1, dtype=like.dtype, device=like.device)
    across = across * (2 * math.pi / width)
    return (2 - 2 * down.cos())[:, None] + (2 - 2 * across.cos())


def moved(images: Tensor, offsets: Tensor) -> Tensor:
    """Move periodic images (..., H, W) by (y, x) pixels, (..., 2), which may be fractions."""
    shape = (int(images.shape[-2]), int(images.shape[-1]))
    down = torch.fft.fftfreq(shape[0], dtype=images.dtype, device=images.device)[:, None]
    across = torch.fft.rfftfreq(shape[1], dtype=images.dtype, device=images.device)
    offsets = offsets.to(images.dtype)[..., None, None]
    turns = offsets[..., 0, :, :] * down + offsets[..., 1, :, :] * across
    spectrum = torch.fft.rfft2(images) * torch.polar(torch.ones_like(turns), -2 * math.pi * turns)
    result: Tensor = torch.fft.irfft2(spectrum, s=shape)
    return result


def frequencies(shape: tuple[int, int], like: Tensor) -> Tensor:
    """Frequencies of a half spectrum in cycles per pixel, (H, W/2 + 1)."""
    down = torch.fft.fftfreq(shape[0], dtype=like.dtype, device=like.device)[:, None]
    across = torch.fft.rfftfreq(shape[1], dtype=like.dtype, device=like.device)
    lengths: Tensor = (down.square() + across.square()).sqrt()
    return lengths


def fit_scale(
    power: Tensor,
    signal: Tensor,
    noise: Tensor,
    scale: Tensor,
    *,
    dim: int,
    steps: int,
    least: float,
) -> Tensor:
    """Most likely c if the power P is exponentially distributed with the mean c·signal + noise.

    Fisher scoring: weighted least squares of the power, with weights 1/mean².

    Parameters
    ----------
    power, signal, noise : Tensor
        Broadcast against each other.
    scale : Tensor
        First guess of c, above 0, with `dim` kept.
    dim : int
        Axis of what belongs together.
    steps : int
        Number of steps.
    least : float
        Least c.
    """
    over = power - noise
    for _ in range(steps):
        weight = (signal / (scale * signal + noise)).square()
        scale = (weight * over / signal.clamp_min(1e-20)).sum(dim, keepdim=True)
        scale = (scale / weight.sum(dim, keepdim=True)).clamp_min(least)
    return scale
