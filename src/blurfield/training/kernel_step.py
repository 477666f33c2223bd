"""A loss of kernels with a gradient through the least squares that they come from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from blurfield.estimation.kernels import toeplitz

if TYPE_CHECKING:
    from collections.abc import Callable

#: Steps of the conjugate gradient method.
_STEPS = 25
#: What is divided by is at least this.
_TINY = 1e-20


def kernel_losses(
    solved: Tensor, kept: Tensor, truth: Tensor, auto: Tensor, cross: Tensor, ridge: float
) -> Tensor:
    """1 − similarity of kernels to the true ones, as a function of the normal equations.

    The kernels minimise ½ k·A·k − b·k + ½ γ‖k‖² under k ≥ 0. On the set F of positive taps the
    gradient of that vanishes, so that dk = (A_FF + γ)⁻¹ (db − dA k) there, and 0 elsewhere (the
    implicit function theorem). So nothing has to be known about how they were found.

    Parameters
    ----------
    solved : Tensor
        The solutions, (N, M, K, K), see `blurfield.estimation.kernels.solve`.
    kept : Tensor
        Which taps are left after pruning, (N, M, K, K).
    truth : Tensor
        True kernels (N, J, K, K); the one that is most alike counts.
    auto, cross : Tensor
        Normal equations, see `blurfield.estimation.kernels.normal_equations`.
    ridge : float
        γ.

    Returns
    -------
    Tensor
        (N, M).
    """
    with torch.enable_grad():
        taps = solved.detach().requires_grad_()
        losses = 1 - shifted_similarity(taps * kept, truth)
        (slope,) = torch.autograd.grad(losses.sum(), taps)
    free = (solved > 0).to(solved.dtype)
    product = toeplitz(auto.detach())
    adjoint = _conjugate_gradients(lambda x: free * product(free * x) + ridge * x, free * slope)
    # Its value means nothing; its gradient is that of the loss.
    change = (adjoint * cross).sum((-2, -1)) - (_correlation(adjoint, solved) * auto).sum((-2, -1))
    return losses.detach() + change - change.detach()


def shifted_similarity(kernels: Tensor, truth: Tensor) -> Tensor:
    """Greatest cosine of kernels (N, M, K, K) over true ones (N, J, K, K) and shifts, (N, M).

    Shifts are multiples of half a pixel: where the content of an image was during the exposure is
    not known, nor is it a whole number of pixels at each scale of a pyramid.
    """
    similarity: Tensor = _correlations(kernels, truth).flatten(2).amax(2)
    return similarity


def offsets(kernels: Tensor, truth: Tensor) -> Tensor:
    """Shift (y, x) in pixels by which kernels become most like a true one, (N, M, 2)."""
    values = _correlations(kernels, truth)
    length = values.shape[-1]
    best = values.flatten(2).argmax(2)
    place = best % (length * length)
    half = best // (length * length) % 4
    whole = torch.stack([place // length, place % length], -1)
    whole = torch.where(whole > length // 2, whole - length, whole)
    return whole + 0.5 * torch.stack([half // 2, half % 2], -1)


def _correlations(kernels: Tensor, truth: Tensor) -> Tensor:
    """Cosines by true kernel, half shift (down and across) and shift, (N, M, J, 2, 2, L, L)."""
    # Odd: without a Nyquist frequency, which has no half shifts.
    length = next_fast_len(2 * kernels.shape[-1] - 1, real=True)
    while length % 2 == 0:
        length = next_fast_len(length + 1, real=True)
    moved, fixed = (torch.fft.fft2(_unit(k), s=(length, length)) for k in (kernels, truth))
    both = (moved[:, :, None].conj() * fixed[:, None])[:, :, :, None, None]
    half = torch.exp(1j * math.pi * torch.fft.fftfreq(length, device=kernels.device))
    halves = torch.stack([torch.ones_like(half), half])
    phases = halves[:, None, :, None] * halves[None, :, None, :]
    correlations: Tensor = torch.fft.ifft2(both * phases).real
    return correlations


def _unit(kernels: Tensor) -> Tensor:
    unit: Tensor = kernels / kernels.flatten(-2).norm(dim=-1).clamp_min(_TINY)[..., None, None]
    return unit


def _conjugate_gradients(product: Callable[[Tensor], Tensor], right: Tensor) -> Tensor:
    solution = torch.zeros_like(right)
    residual, direction = right, right
    old = _energy(residual)
    for _ in range(_STEPS):
        ahead = product(direction)
        step = old / (direction * ahead).sum((-2, -1), keepdim=True).clamp_min(_TINY)
        solution = solution + step * direction
        residual = residual - step * ahead
        new = _energy(residual)
        direction = residual + new / old.clamp_min(_TINY) * direction
        old = new
    return solution


def _energy(values: Tensor) -> Tensor:
    return values.square().sum((-2, -1), keepdim=True)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Σ_j a(j + s) b(j) for shifts s of −(K−1) … K−1, (..., 2K−1, 2K−1)."""
    size = a.shape[-1]
    shape = (2 * size - 1, 2 * size - 1)
    both = torch.fft.rfft2(a, s=shape) * torch.fft.rfft2(b, s=shape).conj()
    both_ways: Tensor = torch.fft.irfft2(both, s=shape)
    return both_ways.roll((size - 1, size - 1), (-2, -1))
