"""Plug-and-play restoration: least squares with a denoiser in place of a regularisation."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from blurfield.boundary import extend
from blurfield.checkpoints import resolve
from blurfield.compute import Reporter
from blurfield.images import decode, encode
from blurfield.operator import BlurOperator

from .conjugate_gradients import solve_symmetric
from .contrast import DARK, encoding_slope
from .data_term import DataTerm
from .denoisers import ARCHITECTURE, Denoiser
from .noise import mean_noise, resolve_noise
from .trust import STRICT, give_back

if TYPE_CHECKING:
    import os

    from torch import Tensor

    from blurfield.checkpoints import Checkpoint
    from blurfield.compute import ProgressCallback
    from blurfield.field import KernelField

    from .noise import NoiseModel, NoiseOption

__all__ = ["VARIANTS", "plug_and_play"]


@dataclass(frozen=True)
class _Schedule:
    """How much is done.

    Attributes
    ----------
    outer : int
        Alternations of data and denoiser.
    inner : int
        Steps of conjugate gradients in each, at most.
    coupling : float
        λ, the weight of the denoiser's result.
    """

    outer: int
    inner: int
    coupling: float


#: By name of the variant; from grid searches over photographs, kinds of blur and 0.5 to 3 % noise.
_SCHEDULES = {"fast": _Schedule(8, 12, 0.35), "best": _Schedule(16, 16, 0.25)}
VARIANTS = tuple(_SCHEDULES)

#: The noise level that the denoiser is told first, and how far above the image's own it ends.
_FIRST_SIGMA, _LAST_FACTOR = 49 / 255, 2.0

#: Least noise level that the denoiser is told in the end: below, it does nothing.
_LEAST_SIGMA = 1e-3

#: Conjugate gradients end once the residual has fallen to this part of what it was.
_CG_TOLERANCE = 0.005

#: How often in each alternation it is decided which clipped pixels are explained, if there are any.
_OBSERVATIONS = 2

#: Brightness at which the noise of an image is taken.
_MID_LEVEL = 0.3
#: The encoding in which linear data are denoised; the square root makes photon noise even.
_ENCODING_OF_LINEAR = 2.0


@torch.no_grad()
def plug_and_play(
    blurry: Tensor,
    field: KernelField,
    *,
    variant: str = "fast",
    gamma: float = 1.0,
    smoothing: float = 1.0,
    iterations: int | None = None,
    noise: NoiseOption = "auto",
    saturation: bool = True,
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    progress: ProgressCallback | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Deblur by half-quadratic splitting, with a denoiser as the image prior.

    Alternates between the image x that explains the blurry one and stays near z, and z, which a
    denoiser makes of x (Zhang et al. 2021, Sec. 3)::

        x ← argmin Σ w (y − A x)² + λ/σ² Σ e′(z)² (x − z)²
        z ← decode(denoise(encode(x), σ))

    while σ falls from 49/255 to about the image's own noise level. Light adds up where it is
    linear, but the denoiser knows images as they are displayed: the distance of x and z is hence
    measured in encoded light, with the slope e′ of the encoding at z. The weights w are inverse
    variances of the noise, and clipped pixels are taken as such, see `DataTerm`. The unknown image
    is larger than the blurry one by half a kernel on each side, so nothing has to be assumed about
    what lies outside the frame. The first step is solved by preconditioned conjugate gradients
    that begin where the last ones ended.

    Where residuals far greater than noise remain, the field cannot be right, and the blurry image
    is given back, see `blurfield.restoration.trust`.

    Parameters
    ----------
    blurry : Tensor, shape (C, H, W)
        Blurry image in linear light, black 0, white 1; not modified. Images of three channels are
        denoised as colours, the channels of others each alone.
    field : KernelField
        For images of H×W pixels, on the same device.
    variant : {"fast", "best"}
        8 or 16 alternations, the latter with more steps of conjugate gradients in each.
    gamma : float
        Exponent of the display encoding. Linear data (1) are denoised as their square roots.
    smoothing : float
        Factor to the automatic weight λ of the denoiser's result, above 0.
    iterations : int, optional
        Number of alternations in place of the variant's.
    noise : "auto", "per-channel", pair of float or sequence of pairs
        See `blurfield.restoration.noise.resolve_noise`.
    saturation : bool
        Whether clipped pixels are treated as such, or are taken at their brightness.
    checkpoint : Checkpoint, str or path-like, optional
        Weights of the denoiser, the name of installed ones, or a file; by default those imported
        last, or ours.
    progress : callable, optional
        See `blurfield.compute.Reporter`.

    Returns
    -------
    sharp : Tensor, shape (C, H, W)
        In linear light, ≥ 0; saturated lights may be brighter than 1.
    info : dict
        ``iterations`` run (alternations), ``cg_steps`` of each of them, ``converged`` (never:
        their number is fixed), ``noise`` (standard deviation at mid brightness, linear light),
        ``sigma`` (noise level that the denoiser was told last), ``weights`` (name and origin) and
        ``unexplained`` (part of the image given back as it was, because the field cannot explain
        it).

    Raises
    ------
    ValueError
        If no weights are installed, an option is out of range, or the image is smaller than the
        kernels.
    """
    schedule = _checked_schedule(variant, smoothing, iterations)
    reporter = Reporter(progress, 2 * schedule.outer, "Plug-and-play")
    weights = resolve(checkpoint, ARCHITECTURE)
    denoiser = Denoiser.load(weights, device=blurry.device, poll=reporter.poll)
    models = resolve_noise(noise, blurry)
    field = field.to(blurry.device, blurry.dtype)
    operator = BlurOperator(field, boundary="valid", poll=reporter.poll)
    data = DataTerm(blurry, operator, models, saturation)
    encoding = gamma if gamma != 1 else _ENCODING_OF_LINEAR
    radius, (height, width) = field.kernel_size // 2, field.shape

    x = extend(blurry, radius, "reflect").clamp_(min=0)
    z = x
    steps: list[int] = []
    overall = mean_noise(models)
    sigmas = _noise_levels(overall, encoding, schedule.outer)
    for sigma in sigmas:
        pull = encoding_slope(z, encoding).square_().mul_(schedule.coupling * smoothing / sigma**2)
        x, count = _explain(data, x, z, pull, schedule.inner, first=not steps)
        steps.append(count)
        reporter.advance()
        z = decode(denoiser(encode(x, encoding), sigma), encoding)
        reporter.advance()
    sharp = z[:, radius : radius + height, radius : radius + width]
    data.observe(z)
    sharp, unexplained = give_back(sharp, blurry, data.seen, overall, field.kernel_size, STRICT)
    return sharp, {
        "iterations": schedule.outer,
        "cg_steps": steps,
        "converged": False,
        "noise": overall.std(_MID_LEVEL),
        "sigma": sigmas[-1],
        "weights": weights.identity(),
        "unexplained": unexplained,
    }


def _checked_schedule(variant: str, smoothing: float, iterations: int | None) -> _Schedule:
    if variant not in _SCHEDULES:
        raise ValueError(f"unknown variant {variant!r}; known: {', '.join(VARIANTS)}")
    if not (math.isfinite(smoothing) and smoothing > 0):
        raise ValueError(f"smoothing must be a finite number > 0, but is {smoothing!r}")
    schedule = _SCHEDULES[variant]
    if iterations is None:
        return schedule
    if int(iterations) != iterations or iterations < 1:
        raise ValueError(f"iterations must be a whole number ≥ 1, but is {iterations!r}")
    return replace(schedule, outer=int(iterations))


def _noise_levels(noise: NoiseModel, encoding: float, count: int) -> list[float]:
    """Standard deviations that the denoiser is told, evenly spaced in their logarithm."""
    slope = (_MID_LEVEL + DARK) ** (1 / encoding - 1) / encoding
    last = max(_LAST_FACTOR * noise.std(_MID_LEVEL) * slope, _LEAST_SIGMA)
    first = max(_FIRST_SIGMA, last)
    return [first * (last / first) ** (i / max(count - 1, 1)) for i in range(count)]


def _explain(
    data: DataTerm, x: Tensor, z: Tensor, pull: Tensor, steps: int, *, first: bool
) -> tuple[Tensor, int]:
    """Minimise the data term + ½ Σ pull·(x − z)² from x; return the minimiser ≥ 0 and the steps."""
    count = 0
    observations = _OBSERVATIONS if data.clips else 1
    for number in range(observations):
        data.observe(x, first=first and number == 0)
        found = solve_symmetric(
            lambda direction: data.hessian(direction).addcmul_(pull, direction),
            data.descent().addcmul_(pull, z - x),
            preconditioner=data.diagonal().add_(pull).reciprocal_().mul,
            iterations=steps // observations,
            tolerance=_CG_TOLERANCE,
        )
        x = found.x.add_(x).clamp_(min=0)
        count += found.iterations
    return x, count
