"""Hybrid steepest descent: the restoration of the paper on two-headed kernel estimation."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from blurfield.boundary import extend
from blurfield.compute import Reporter
from blurfield.images import decode, encode
from blurfield.operator import BlurOperator, saturate, saturate_derivative

from .contrast import exposure_of
from .denoisers import Denoiser
from .noise import estimate_noise
from .options import check_count, check_not_negative, check_variant
from .trust import give_back

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from blurfield.checkpoints import Checkpoint
    from blurfield.compute import ProgressCallback
    from blurfield.field import KernelField

    Denoise = Callable[[Tensor, float], Tensor]

__all__ = ["VARIANTS", "hybrid_steepest_descent", "noise_levels", "steepest_descent"]

VARIANTS = ("linear", "published", "paper")

#: Length of a step along minus the gradient of the energy's half. As published, the mean over three
#: colours divides it by 3.
_PUBLISHED_STEP, _STEP = 2 / 3, 1.0
#: Part of the denoised image that replaces the image.
_RELAXATION = 0.9

#: As published: iterations, calls of the denoiser, and its first and last noise level.
_PUBLISHED_ITERATIONS, _PUBLISHED_CALLS = 30, 15
_PUBLISHED_LEVELS = (49 / 255 / 2, 7.65 / 255 / 2)
#: As printed: a call in each iteration, and the levels are variances, in units of 8 bits squared.
_PAPER_LEVELS = (math.sqrt(49) / 255, math.sqrt(7.65) / 255)

#: Ours: gradient steps cost little next to calls of the denoiser, and the last noise level follows
#: that of the image, which many steps have amplified. Found by trying photographs of 0.5 to 3 %
#: noise.
_ITERATIONS, _CALLS, _AMPLIFIED, _LEAST_LEVEL = 120, 15, 2.0, 4 / 255

#: Encoded brightness at which the noise of an image is taken.
_MID_LEVEL = 0.5


@torch.no_grad()
def steepest_descent(
    blurry: Tensor,
    field: KernelField,
    *,
    variant: str = "linear",
    gamma: float = 1.0,
    smoothing: float = 1.0,
    iterations: int | None = None,
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    noisy: Tensor | None = None,
    progress: ProgressCallback | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Deblur by hybrid steepest descent with a denoiser as the image prior.

    Among the images that a denoiser leaves as they are, the one that best explains the blurry
    image is looked for: steps along the gradient of the error alternate with relaxed denoising of
    falling strength (Carbajal et al. 2021, Sec. 4; Cohen, Elad & Milanfar 2021, RED-PRO). See
    `hybrid_steepest_descent`.

    Where residuals far greater than noise remain, the field cannot be right, and the blurry image
    is given back; estimated fields are trusted by degrees, see `blurfield.restoration.trust`.
    Published variants do neither.

    Parameters
    ----------
    blurry : Tensor, shape (C, H, W)
        Blurry image in linear light, black 0, white 1; not modified.
    field : KernelField
        For images of H×W pixels.
    variant : {"linear", "published", "paper"}
        ``"linear"`` is ours: the blur happens in linear light, in which the field holds, and only
        the denoiser sees stored values. There are more steps, and the denoiser ends at the noise
        of the image. ``"published"`` does what the published code did: the kernels are applied to
        stored values, and the denoiser is called in every second step for noise from 24.5 down to
        3.8 of 255. ``"paper"`` does what the paper says: it is called in every step, and the
        variance of the noise falls from 49 to 7.65.
    gamma : float
        Exponent of the display encoding: stored values are ``light ** (1 / gamma)``.
    smoothing : float
        Factor ≥ 0 to the variance of the noise that the denoiser removes.
    iterations : int, optional
        Steps along the gradient; 120 by default for ``"linear"``, and 30 as published.
    checkpoint : Checkpoint, str or path-like, optional
        Weights of the denoiser, the name of installed ones, or a file; by default those imported
        last, or else ours.
    noisy : Tensor, shape (C, h, w), optional
        Planes in which the noise is estimated, by default the blurry image.
    progress : callable, optional
        See `blurfield.compute.Reporter`.

    Returns
    -------
    sharp : Tensor, shape (C, H, W)
        In linear light, ≥ 0; with ``"linear"``, saturated lights may be brighter than 1.
    info : dict
        ``iterations`` run, ``converged`` (never: their number is fixed), ``energy`` (mean squared
        residual before the last step), ``noise_level`` (last one of the denoiser, stored values)
        and, with ``"linear"``, ``unexplained`` (part of the image given back as it was, because
        the field cannot explain it).

    Raises
    ------
    ValueError
        If an option is out of range, the checkpoint is for another network, or the image is
        smaller than the kernels.
    """
    check_variant(variant, VARIANTS)
    check_not_negative("smoothing", smoothing)
    ours = variant == "linear"
    if iterations is None:
        iterations = _ITERATIONS if ours else _PUBLISHED_ITERATIONS
    iterations = check_count("iterations", iterations)
    reporter = Reporter(progress, iterations, "Steepest descent")
    denoise: Denoise = Denoiser.load(checkpoint, device=blurry.device, poll=reporter.poll)
    noisy = blurry if noisy is None else noisy
    levels = _levels(variant, iterations, math.sqrt(smoothing), encode(noisy, gamma))
    exponent = 1.0 if ours else gamma
    if ours:
        denoise = partial(_denoise_encoded, denoise, gamma)
    field = field.to(blurry.device, blurry.dtype)
    operator = BlurOperator(field, boundary="valid", poll=reporter.poll)
    extended, energies = hybrid_steepest_descent(
        encode(blurry, exponent),
        operator,
        denoise,
        levels,
        step=_STEP if ours else _PUBLISHED_STEP,
        advance=reporter.advance,
    )
    radius, (height, width) = field.kernel_size // 2, field.shape
    inside = extended[:, radius : radius + height, radius : radius + width]
    facts = {
        "iterations": iterations,
        "converged": False,
        "energy": energies[-1],
        "noise_level": levels[-1] or 0.0,
    }
    if not ours:
        return decode(inside.clamp(0, 1), gamma), facts
    sharp, facts["unexplained"] = give_back(
        inside.clamp_min(0),
        blurry,
        operator.forward(extended),
        estimate_noise(noisy),
        field,
        smoothing=smoothing,
        exposure=exposure_of(noisy),
        poll=reporter.poll,
    )
    return sharp, facts


def hybrid_steepest_descent(
    blurry: Tensor,
    operator: BlurOperator,
    denoise: Denoise,
    levels: Sequence[float | None],
    *,
    step: float = _PUBLISHED_STEP,
    advance: Callable[[], None] | None = None,
) -> tuple[Tensor, list[float]]:
    """Alternate gradient steps and relaxed denoising.

    In each iteration u ← u − step·Aᵀ(R′(A u)·(R(A u) − v)), the gradient of half the squared
    error of a sensor with the saturation R. Where there is a noise level σ for it, then
    u ← 0.1·u + 0.9·D(u, σ).

    As published, images are centred by −0.5 and R has its ceiling at 0.5, which changes nothing.

    Parameters
    ----------
    blurry : Tensor, shape (C, H, W)
        The image v, black 0, white 1. It is also where the search begins, mirrored beyond its
        edges.
    operator : BlurOperator
        A, with ``boundary="valid"``: the unknown is larger than the image by half a kernel on each
        side.
    denoise : callable
        D: maps an image and a standard deviation of its noise to an image.
    levels : sequence of float or None
        σ for each iteration, None where it denoises nothing.
    step : float
        2/3 where published, for all numbers of channels: grey images count as three equal ones.
    advance : callable, optional
        Called after each iteration.

    Returns
    -------
    extended : Tensor, shape (C, H + K − 1, W + K − 1)
        The image u; not clamped.
    energies : list of float
        Mean of (R(A u) − v)² before each iteration.
    """
    u = extend(blurry, operator.field.kernel_size // 2, "reflect")
    energies = []
    for level in levels:
        seen = operator.forward(u)
        residual = saturate(seen).sub_(blurry)
        energies.append(float(residual.square().mean()))
        u = u - step * operator.adjoint(residual.mul_(saturate_derivative(seen)))
        if level is not None:
            u = u.lerp_(denoise(u, level), _RELAXATION)
        if advance is not None:
            advance()
    return u, energies


def noise_levels(iterations: int, calls: int, first: float, last: float) -> list[float | None]:
    """Noise levels that a denoiser is called with, from `first` to `last` by equal factors.

    Parameters
    ----------
    iterations : int
        Of the descent.
    calls : int
        About so many times the denoiser is called: at equal distances and in the last iteration.
    first, last : float
        Levels of the first and the last call, above 0.

    Returns
    -------
    list of float or None
        For each iteration its level, or None where the denoiser is not called.
    """
    period = math.ceil(iterations / calls)
    called = [n for n in range(iterations) if (n + 1) % period == 0 or n + 1 == iterations]
    levels: list[float | None] = [None] * iterations
    for rank, number in enumerate(called):
        part = rank / (len(called) - 1) if len(called) > 1 else 1.0
        levels[number] = first ** (1 - part) * last**part
    return levels


def _levels(variant: str, iterations: int, factor: float, stored: Tensor) -> list[float | None]:
    """Noise levels of a variant for an image in stored values."""
    if variant == "paper":
        calls, (first, last) = iterations, _PAPER_LEVELS
    else:
        calls, (first, last) = _PUBLISHED_CALLS, _PUBLISHED_LEVELS
    if variant == "linear":
        calls = _CALLS
        last = max(_AMPLIFIED * estimate_noise(stored).std(_MID_LEVEL), _LEAST_LEVEL)
        first = max(first, last)
    if factor == 0:
        return [None] * iterations
    return [level and factor * level for level in noise_levels(iterations, calls, first, last)]


def _denoise_encoded(denoise: Denoise, gamma: float, light: Tensor, level: float) -> Tensor:
    """Denoise linear light as the stored values that the denoiser was trained on."""
    return decode(denoise(encode(light, gamma), level), gamma)
