"""Richardson-Lucy deconvolution with total variation for spatially varying, clipped images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from blurfield.boundary import extend
from blurfield.compute import Reporter
from blurfield.operator import BlurOperator

from .contrast import MID_LEVEL, encoding_slope, exposure_of
from .likelihood import PoissonLikelihood
from .noise import NoiseModel, mean_noise, resolve_noise
from .options import check_count, check_not_negative
from .pilot import pilot_part
from .total_variation import TotalVariation
from .trust import give_back

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from blurfield.compute import ProgressCallback
    from blurfield.field import KernelField

    from .noise import NoiseOption
    from .pilot import Part

__all__ = ["first_estimate", "richardson_lucy"]

#: Variance per unit of light that is assumed in addition to the noise: fields are never exact.
_MODEL_GAIN = 4.4e-5

#: The weight of total variation for the reference gain, that of 1 % noise in 8-bit photographs,
#: and how it grows with the gain. For three channels: C channels share a norm that grows with √C,
#: while the likelihood grows with C. From grid searches over photographs, kinds of noise (encoded
#: Gaussian of 0 to 5 %, linear Gaussian, Poisson) and imperfect kernels.
_TV_WEIGHT, _REFERENCE_GAIN, _TV_POWER = 0.0055, 4.84e-4, 0.675


#: Less variance per unit of light than this is none.
_LEAST_GAIN = 1e-12
#: Limits of the likelihood's shift: pure photon noise, and noise that is the same everywhere.
_SHIFT_LIMITS = (0.01, 1.0)


#: Pixels seen less than this (far outside the frame) are moved as if they were seen so much.
_MIN_SEEN = 0.02

#: Dual steps of the proximal map of total variation in each iteration.
_TV_STEPS = 4


@torch.no_grad()
def richardson_lucy(
    blurry: Tensor,
    field: KernelField,
    *,
    gamma: float = 1.0,
    smoothing: float = 1.0,
    iterations: int = 40,
    tolerance: float = 1e-3,
    noise: NoiseOption = "auto",
    saturation: bool = True,
    pilot: Part | None = None,
    restarts: Sequence[int] | None = None,
    noisy: Tensor | None = None,
    progress: ProgressCallback | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Deblur by accelerated Richardson-Lucy iterations with total variation.

    Each iteration is the multiplicative step x ← x·Aᵀ(v / A x) / Aᵀ1 of Richardson (1972) and Lucy
    (1974) with the true adjoint, followed by a proximal step of total variation in the metric
    x / Aᵀ1. That is the EM-TV algorithm (Sawatzky et al. 2008), which minimises the same energy as
    the regularisation of Dey et al. (2006) but stays positive and converges for any weight.
    Nesterov extrapolation with restarts when the energy grows (O'Donoghue & Candès 2015) saves
    most of the iterations. Whether it grows, and when to stop, is decided on a part of the image
    with much texture.

    The unknown image is larger than the blurry one by half a kernel on each side, so nothing has
    to be assumed about what lies outside the frame. Clipped pixels are handled by a model of the
    sensor, see `PoissonLikelihood`. Total variation is measured in encoded light (its weight is
    the slope of the encoding), where contrast is as people see it; its amount follows from the
    noise.

    Where residuals far greater than noise remain, the field cannot be right, and what was made of
    it is full of waves: there the blurry image is given back. Estimated fields are trusted by
    degrees, see `blurfield.restoration.trust`.

    Parameters
    ----------
    blurry : Tensor, shape (C, H, W)
        Blurry image in linear light, black 0, white 1; not modified.
    field : KernelField
        For images of H×W pixels, on the same device.
    gamma : float
        Exponent of the display encoding in which contrast counts.
    smoothing : float
        How strongly noise is smoothed, a factor to the automatic amount: 0 not at all, below 1
        crisper and noisier, above 1 calmer.
    iterations : int
        At most so many.
    tolerance : float
        Stop once the relative change per iteration is below this.
    noise : "auto", "per-channel", pair of float or sequence of pairs
        See `blurfield.restoration.noise.resolve_noise`; the average over the channels is used.
    saturation : bool
        Whether clipped pixels are treated as such, or are taken at their brightness.
    pilot : (slice, slice), optional
        Rows and columns of the part that decides, by default the one that `pilot_part` finds.
    restarts : sequence of int, optional
        Iterations, counted from 1, that are undone and after which extrapolation begins anew, in
        place of those that the energy would tell.
    noisy : Tensor, shape (C, h, w), optional
        Planes that tell how dark the image is, by default the blurry image.
    progress : callable, optional
        See `blurfield.compute.Reporter`.

    Returns
    -------
    sharp : Tensor, shape (C, H, W)
        In linear light, ≥ 0; saturated lights may be brighter than 1.
    info : dict
        ``iterations`` run, ``converged``, ``noise`` (standard deviation at mid brightness, linear
        light), ``tv_weight``, ``unexplained`` (part of the image given back as it was, because
        the field cannot explain it), the ``energy`` of the part that decides (not if `restarts`
        are given), and ``repeat``: options with which other parts of the same image are treated
        alike.

    Raises
    ------
    ValueError
        If an option is out of range or the image is smaller than the kernels.
    """
    _check_options(smoothing, iterations, tolerance)
    reporter = Reporter(progress, iterations, "Richardson-Lucy")
    noise_model = mean_noise(resolve_noise(noise, blurry))
    field = field.to(blurry.device, blurry.dtype)
    operator = BlurOperator(field, boundary="valid", poll=reporter.poll)
    exposure = exposure_of(blurry if noisy is None else noisy)
    reporter.poll()
    problem = _Problem.of(blurry, noise_model, gamma, smoothing, saturation, exposure, reporter)
    reporter.poll()
    radius = field.kernel_size // 2
    x, seen, facts = _minimise(
        problem,
        problem.start(blurry, radius),
        operator,
        iterations=iterations,
        tolerance=tolerance,
        pilot=pilot or pilot_part(field.shape, lambda part: blurry[:, *part]),
        restarts=restarts,
        reporter=reporter,
    )
    height, width = field.shape
    sharp = x[:, radius : radius + height, radius : radius + width] - problem.shift
    sharp, unexplained = give_back(
        sharp,
        blurry,
        seen.sub_(problem.shift),
        noise_model,
        field,
        smoothing=smoothing,
        exposure=exposure,
        poll=reporter.poll,
    )
    info = {
        "noise": noise_model.std(MID_LEVEL),
        "tv_weight": problem.tv_weight,
        "unexplained": unexplained,
        **facts,
        "repeat": {
            "iterations": facts["iterations"],
            "tolerance": 0.0,
            "restarts": facts.pop("restarts"),
        },
    }
    return sharp, info


def first_estimate(
    blurry: Tensor,
    operator: BlurOperator,
    noise: NoiseModel,
    *,
    gamma: float,
    smoothing: float,
    saturation: bool,
    exposure: float,
    iterations: int,
    reporter: Reporter,
) -> Tensor:
    """What other methods begin with: the image after a few iterations without restarts.

    Parameters
    ----------
    blurry : Tensor, shape (C, H, W)
        Blurry image in linear light; not modified.
    operator : BlurOperator
        Its blur, with the boundary "valid".
    noise : NoiseModel
        Its noise.
    gamma, smoothing, saturation
        See `richardson_lucy`.
    exposure : float
        How dark the image is, see `blurfield.restoration.contrast.exposure_of`.
    iterations : int
        So many.
    reporter : Reporter
        Is told of each iteration.

    Returns
    -------
    Tensor, shape (C, H + K − 1, W + K − 1)
        Linear light, ≥ 0. Each pixel depends only on what is near it.
    """
    problem = _Problem.of(blurry, noise, gamma, smoothing, saturation, exposure, reporter)
    field = operator.field
    x, _, _ = _minimise(
        problem,
        problem.start(blurry, field.kernel_size // 2),
        operator,
        iterations=iterations,
        tolerance=0,
        pilot=(slice(0, field.shape[0]), slice(0, field.shape[1])),
        restarts=(),
        reporter=reporter,
    )
    return x.sub_(problem.shift)


def _check_options(smoothing: float, iterations: int, tolerance: float) -> None:
    check_not_negative("smoothing", smoothing)
    check_count("iterations", iterations)
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be ≥ 0, but is {tolerance!r}")


@dataclass(frozen=True)
class _Problem:
    """What is minimised: the likelihood and total variation of images shifted by β.

    Attributes
    ----------
    shift : float
        β, see `PoissonLikelihood`.
    tv_weight : float
        Of total variation in encoded light.
    likelihood : PoissonLikelihood
        Of the blurry image.
    gamma : float
        Exponent of the encoding.
    exposure : float
        See `blurfield.restoration.contrast.exposure_of`.
    """

    shift: float
    tv_weight: float
    likelihood: PoissonLikelihood
    gamma: float
    exposure: float

    @classmethod
    def of(
        cls,
        blurry: Tensor,
        noise: NoiseModel,
        gamma: float,
        smoothing: float,
        saturation: bool,
        exposure: float,
        reporter: Reporter,
    ) -> _Problem:
        """Balance both terms by the noise of the image.

        What is done to an image does not depend on the unit of its light, but for clipping.
        """
        low, high, level = (exposure * light for light in (*_SHIFT_LIMITS, MID_LEVEL))
        shift = min(high, max(low, noise.floor / max(noise.gain, _LEAST_GAIN * exposure)))
        gain = noise.std(level) ** 2 / (level + shift) + exposure * _MODEL_GAIN
        # The sums over channels are of their number, the norm of their gradient of its root.
        weight = smoothing * math.sqrt(len(blurry) / 3) * _TV_WEIGHT
        weight *= (gain / exposure / _REFERENCE_GAIN) ** _TV_POWER
        # The likelihood is proportional to light, total variation to its encoded values.
        weight *= exposure ** (1 - 1 / gamma)
        likelihood = PoissonLikelihood(blurry, shift, saturation, reporter.poll)
        return cls(shift, weight, likelihood, gamma, exposure)

    def start(self, blurry: Tensor, radius: int) -> Tensor:
        """The blurry image, larger by `radius` on each side, and shifted."""
        return extend(blurry, radius, "reflect").clamp_(min=0).add_(self.shift)

    def variation(self, x: Tensor, poll: Callable[[], None]) -> TotalVariation | None:
        """Total variation, if it counts at all, weighted for images of the brightness of x."""
        if self.tv_weight == 0:
            return None
        light = x.mean(0, keepdim=True).sub_(self.shift)
        poll()
        slope = encoding_slope(light, self.gamma, self.exposure)
        return TotalVariation(slope.mul_(self.tv_weight), len(x), poll)


def _minimise(
    problem: _Problem,
    x: Tensor,
    operator: BlurOperator,
    *,
    iterations: int,
    tolerance: float,
    pilot: Part,
    restarts: Sequence[int] | None,
    reporter: Reporter,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Minimise divergence + total variation from `x`; return the minimiser and it blurred."""
    likelihood, minimum = problem.likelihood, problem.shift
    reporter.poll()
    variation = problem.variation(x, reporter.poll)
    reporter.poll()
    margin = operator.field.kernel_size - 1
    rows, cols = (slice(s.start, s.stop + margin) for s in pilot)  # the pilot in what is unknown
    seen_much = operator.column_sums().clamp(min=_MIN_SEEN)
    seen = operator.forward(x)
    # Rows of A sum to 1, so extrapolating an image extrapolates its blurred version: each
    # iteration costs one forward and one adjoint.
    point, point_seen = x.clone(), seen.clone()
    energy, momentum, converged, done = math.inf, 1.0, False, 0
    undone: list[int] = []
    while done < iterations and not converged:
        done += 1
        metric = point / seen_much
        step = operator.adjoint(likelihood.excess(point_seen)).mul_(metric).add_(point)
        reporter.poll()
        if variation is not None:
            step = variation.proximal(step, metric, minimum, _TV_STEPS)
        else:
            step.clamp_(min=minimum)
        del metric
        step_seen = operator.forward(step)
        if restarts is None:
            step_energy = likelihood.divergence(step_seen, pilot)
            step_energy += variation(step, (rows, cols)) if variation else 0.0
            too_fast = step_energy > energy and momentum > 1
        else:
            step_energy, too_fast = energy, done in restarts
        reporter.advance()
        if too_fast:  # go on slowly from the last image
            undone.append(done)
            momentum = 1.0
            point.copy_(x)
            point_seen.copy_(seen)
            continue
        change = float((step - x)[:, rows, cols].norm() / step[:, rows, cols].norm())
        faster = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead = (momentum - 1) / faster
        _extrapolate(x, step, ahead, minimum / 2, out=point)
        _extrapolate(seen, step_seen, ahead, minimum / 2, out=point_seen)
        x, seen, energy, momentum = step, step_seen, step_energy, faster
        converged = change < tolerance
    reporter.advance(iterations - done)
    facts = {"iterations": done, "converged": converged, "restarts": undone}
    return x, seen, facts if restarts is not None else {**facts, "energy": energy}


def _extrapolate(old: Tensor, new: Tensor, ahead: float, minimum: float, out: Tensor) -> None:
    """Write new + ahead·(new − old), but not below `minimum`, to `out`."""
    torch.sub(new, old, out=out)
    out.mul_(ahead).add_(new).clamp_(min=minimum)
