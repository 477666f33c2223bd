"""Plug-and-play restoration: least squares with a denoiser in place of a regularisation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from blurfield.checkpoints import resolve
from blurfield.compute import Reporter
from blurfield.operator import BlurOperator

from .contrast import DARK, MID_LEVEL, exposure_of
from .data_term import DataTerm
from .denoisers import ARCHITECTURE, Denoiser
from .half_quadratic import alternate
from .noise import mean_noise, resolve_noise
from .options import check_count, check_positive, check_variant
from .richardson_lucy import first_estimate
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
    start : int
        Iterations of Richardson-Lucy before the first alternation.
    outer : int
        Alternations of data and denoiser.
    inner : int
        Steps of Chebyshev's iteration in each.
    coupling : float
        λ, the weight of the denoiser's result.
    caution : float
        The odds that a result of an estimated field is right are divided by it: the more exactly a
        field is followed, the more its errors show.
    """

    start: int
    outer: int
    inner: int
    coupling: float
    caution: float = 1.0


#: By name of the variant; from grid searches over photographs, kinds of blur and 0.5 to 3 % noise.
_SCHEDULES = {"fast": _Schedule(20, 6, 10, 0.35), "best": _Schedule(30, 16, 16, 0.25, 2.0)}
VARIANTS = tuple(_SCHEDULES)

#: The noise level that the denoiser is told first, and how far above the image's own it ends.
_FIRST_SIGMA, _LAST_FACTOR = 49 / 255, 2.0

#: Least noise level that the denoiser is told in the end: below, it does nothing.
_LEAST_SIGMA = 1e-3

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
    noisy: Tensor | None = None,
    progress: ProgressCallback | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Deblur by half-quadratic splitting, with a denoiser as the image prior.

    Alternates between the image x that explains the blurry one and stays near z, and z, which a
    denoiser makes of x (Zhang et al. 2021, Sec. 3)::

        x ← argmin Σ w (y − A x)² + λ/σ² Σ e′(z)² (x − z)²
        z ← decode(denoise(encode(x), σ))

    while σ falls from 49/255 (less in dark images) to about the image's own noise level. Light adds
    up where it is linear, but the denoiser knows images as they are displayed: the distance of x
    and z is hence measured in encoded light, with the slope e′ of the encoding at z. The weights w
    are inverse variances of the noise, and clipped pixels are taken as such, see `DataTerm`. The
    unknown image is larger than the blurry one by half a kernel on each side, so nothing has to be
    assumed about what lies outside the frame. The first x is that of some iterations of
    Richardson-Lucy, which find the brightness of saturated lights, too; then the first step is
    solved by Chebyshev's iterations that begin where the last ones ended.

    Where residuals far greater than noise remain, the field cannot be right, and the blurry image
    is given back; estimated fields are trusted by degrees, see `blurfield.restoration.trust`.

    Parameters
    ----------
    blurry : Tensor, shape (C, H, W)
        Blurry image in linear light, black 0, white 1; not modified. Images of three channels are
        denoised as colours, the channels of others each alone.
    field : KernelField
        For images of H×W pixels, on the same device.
    variant : {"fast", "best"}
        6 or 16 alternations, the latter with more steps in each.
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
    noisy : Tensor, shape (C, h, w), optional
        Planes that tell how dark the image is, by default the blurry image.
    progress : callable, optional
        See `blurfield.compute.Reporter`.

    Returns
    -------
    sharp : Tensor, shape (C, H, W)
        In linear light, ≥ 0; saturated lights may be brighter than 1.
    info : dict
        ``iterations`` run (alternations), ``converged`` (never: their number is fixed),
        ``noise`` (standard deviation at mid brightness, linear light), ``sigma`` (noise level that
        the denoiser was told last), ``weights`` (name and origin) and ``unexplained`` (part of the
        image given back as it was, because the field cannot explain it).

    Raises
    ------
    ValueError
        If no weights are installed, an option is out of range, or the image is smaller than the
        kernels.
    """
    schedule = _checked_schedule(variant, smoothing, iterations)
    reporter = Reporter(progress, schedule.start + 2 * schedule.outer, "Plug-and-play")
    weights = resolve(checkpoint, ARCHITECTURE)
    denoiser = Denoiser.load(weights, device=blurry.device, poll=reporter.poll)
    models = resolve_noise(noise, blurry)
    overall = mean_noise(models)
    field = field.to(blurry.device, blurry.dtype)
    operator = BlurOperator(field, boundary="valid", poll=reporter.poll)
    exposure = exposure_of(blurry if noisy is None else noisy)
    data = DataTerm(blurry, operator, models, saturation, exposure)
    encoding = gamma if gamma != 1 else _ENCODING_OF_LINEAR
    radius, (height, width) = field.kernel_size // 2, field.shape

    x = first_estimate(
        blurry,
        operator,
        overall,
        gamma=encoding,
        smoothing=smoothing,
        saturation=saturation,
        exposure=exposure,
        iterations=schedule.start,
        reporter=reporter,
    )
    sigma = _encoded_noise(overall, encoding, exposure)
    sigmas = _noise_levels(sigma, exposure ** (1 / encoding), schedule.outer)
    x, z = alternate(
        data,
        x,
        denoiser,
        sigmas,
        encoding=encoding,
        exposure=exposure,
        coupling=schedule.coupling * smoothing,
        steps=schedule.inner,
        advance=reporter.advance,
    )
    sharp = z[:, radius : radius + height, radius : radius + width]
    data.observe(x)
    sharp, unexplained = give_back(
        sharp,
        blurry,
        data.seen,
        overall,
        field,
        STRICT,
        smoothing=smoothing * schedule.caution,
        exposure=exposure,
        poll=reporter.poll,
    )
    return sharp, {
        "iterations": schedule.outer,
        "converged": False,
        "noise": overall.std(MID_LEVEL),
        "sigma": sigmas[-1],
        "weights": weights.identity(),
        "unexplained": unexplained,
    }


def _checked_schedule(variant: str, smoothing: float, iterations: int | None) -> _Schedule:
    check_variant(variant, VARIANTS)
    check_positive("smoothing", smoothing)
    schedule = _SCHEDULES[variant]
    if iterations is None:
        return schedule
    check_count("iterations", iterations)
    return replace(schedule, outer=int(iterations))


def _encoded_noise(noise: NoiseModel, encoding: float, exposure: float) -> float:
    """Standard deviation of the noise where it is denoised, at medium brightness."""
    level = MID_LEVEL * exposure
    slope = (level + DARK * exposure) ** (1 / encoding - 1) / encoding
    return float(noise.std(level) * slope)


def _noise_levels(sigma: float, contrast: float, count: int) -> list[float]:
    """Standard deviations that the denoiser is told, evenly spaced in their logarithm."""
    last = max(_LAST_FACTOR * sigma, _LEAST_SIGMA * contrast)
    first = max(_FIRST_SIGMA * contrast, last)
    return [first * (last / first) ** (i / max(count - 1, 1)) for i in range(count)]
