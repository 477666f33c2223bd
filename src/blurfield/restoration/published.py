"""The Richardson-Lucy variants of the public two-headed network code, for comparison.

They are reproduced with their quirks (Carbajal et al. 2021 and the code published with it):

* the back-projection blurs with rotated kernels but mixes afterwards, so it is not the adjoint,
  and there is no division by Aᵀ1;
* the image is mirrored beyond its edges;
* the image is kept in encoded light; only the blur happens in linear light, and the two parts of
  the "combined" variant are added in encoded light;
* total variation uses un-normalised Sobel filters, so its divergence reaches ±16;
* the box filter that softens the "combined" mask darkens the mask at the image's border.

Two defects are not reproduced: the saturation there overwrites its argument, and the softened
mask may exceed 1 by rounding, which makes negative light and NaN.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from blurfield.compute import Reporter
from blurfield.images import decode, encode
from blurfield.operator import BlurOperator, do_nothing, saturate, saturate_derivative

from .options import check_count, check_variant

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from blurfield.compute import ProgressCallback
    from blurfield.field import KernelField

__all__ = [
    "VARIANTS",
    "published_in_linear_light",
    "published_richardson_lucy",
    "tv_divergence",
]

VARIANTS = ("basic", "function", "masked", "combined")

_EPSILON = 1e-6
_MIN_GRADIENT = 1e-9
_DEFAULT_THRESHOLDS = {"masked": 0.7, "combined": 0.99}

#: The early stop compares with this "energy" before the first iteration.
_FIRST_ENERGY, _MIN_PROGRESS = 1000.0, 1e-6

#: The dilation's structuring element: where the summed kernels exceed this part of their maximum.
_SUPPORT_LEVEL = 0.25


@torch.no_grad()
def published_richardson_lucy(
    encoded: Tensor,
    field: KernelField,
    *,
    variant: str = "combined",
    gamma: float = 2.2,
    smoothing: float = 1.0,
    iterations: int = 30,
    threshold: float | None = None,
    dilate: bool = False,
    early_stop: bool = False,
    progress: ProgressCallback | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Deblur as the published code does.

    Parameters
    ----------
    encoded : Tensor, shape (C, H, W)
        Blurry image in encoded light, in [0, 1]; not modified. Computed in its precision.
    field : KernelField
        For images of H×W pixels.
    variant : {"basic", "function", "masked", "combined"}
        How saturation is handled: not at all; by a saturation function in the forward model; by
        leaving out bright pixels; by splitting the image into a saturated and an unsaturated part.
    gamma : float
        Linear light is ``encoded ** gamma``.
    smoothing : float
        Factor to the published weight of total variation, 1e-3.
    iterations : int
        So many.
    threshold : float, optional
        From which encoded value on a pixel counts as saturated: of the blurry image for "masked"
        (0.7 by default), of the estimate for "combined" (0.99 by default).
    dilate : bool
        "combined" only: widen the saturated part by the support of the kernels.
    early_stop : bool
        "combined" only: stop when the reblurred estimate no longer comes closer to the image, and
        discard the last step.
    progress : callable, optional
        See `blurfield.compute.Reporter`.

    Returns
    -------
    sharp : Tensor, shape (C, H, W)
        In encoded light, not clamped.
    info : dict
        ``iterations`` run and ``converged`` (stopped early).

    Raises
    ------
    ValueError
        If the variant is unknown, an option is out of range or does not belong to the variant.
    """
    _check_options(variant, iterations, smoothing, threshold, dilate or early_stop)
    reporter = Reporter(progress, iterations, f"Richardson-Lucy ({variant})")
    field = field.to(encoded.device, encoded.dtype)
    forward = BlurOperator(field, poll=reporter.poll).forward
    back_project = BlurOperator(field.rotated(), poll=reporter.poll).forward
    if threshold is None:
        threshold = _DEFAULT_THRESHOLDS.get(variant, 1.0)
    light = decode(encoded, gamma)
    support = _kernel_support(field) if dilate else None
    tv_weight = 1e-3 * smoothing
    estimate, energy, done = encoded, _FIRST_ENERGY, 0
    while done < iterations:
        seen = forward(decode(estimate, gamma))
        reporter.poll()
        if early_stop:
            reached = float((encode(seen.clamp(max=1.5), gamma) - encoded).square().mean())
            if energy - reached < _MIN_PROGRESS:
                break
            energy = reached
        if variant == "combined":
            parts = _combined_parts(estimate, seen, light, threshold, support, reporter.poll)
        else:
            parts = [(estimate, _ratio(variant, seen, light, encoded < threshold))]
        reporter.poll()
        damping = 1 - tv_weight * tv_divergence(estimate, reporter.poll)
        estimate = torch.zeros_like(encoded)
        for part, ratio in parts:
            estimate += encode(decode(part, gamma) * back_project(ratio), gamma)
            reporter.poll()
        estimate /= damping
        done += 1
        reporter.advance()
    stopped = done < iterations
    reporter.advance(iterations - done)
    return estimate, {"iterations": done, "converged": stopped}


@wraps(published_richardson_lucy, assigned=())
def published_in_linear_light(
    planes: Tensor, field: KernelField, *, gamma: float = 2.2, **options: Any
) -> tuple[Tensor, dict[str, Any]]:
    """`published_richardson_lucy` of planes in linear light; the result is clamped to [0, 1]."""
    sharp, facts = published_richardson_lucy(encode(planes, gamma), field, gamma=gamma, **options)
    return decode(sharp.clamp(0, 1), gamma), facts


def _check_options(
    variant: str, iterations: int, smoothing: float, threshold: float | None, combined_only: bool
) -> None:
    check_variant(variant, VARIANTS)
    check_count("iterations", iterations)
    if not 0 <= smoothing <= 1e3 / 16:  # beyond, 1 − λ·div may reach 0
        raise ValueError(f"smoothing must be in [0, 62.5] for this variant, but is {smoothing!r}")
    if threshold is not None and variant not in _DEFAULT_THRESHOLDS:
        raise ValueError(f"threshold is for 'masked' and 'combined', not for {variant!r}")
    if combined_only and variant != "combined":
        raise ValueError(f"dilate and early_stop are for 'combined', not for {variant!r}")


def _ratio(variant: str, seen: Tensor, light: Tensor, kept: Tensor) -> Tensor:
    """What is back-projected in the variants with one part."""
    if variant == "basic":
        return light / (seen + _EPSILON)
    if variant == "function":
        slope = saturate_derivative(seen)
        return light * slope / (saturate(seen) + _EPSILON) + 1 - slope
    return torch.where(kept, light / (seen + _EPSILON), torch.ones_like(seen))


def _combined_parts(
    estimate: Tensor,
    seen: Tensor,
    light: Tensor,
    threshold: float,
    support: Tensor | None,
    poll: Callable[[], None],
) -> list[tuple[Tensor, Tensor]]:
    """Unsaturated and saturated part of the estimate, each with the ratio to back-project."""
    mask = _soft_mask(estimate, threshold, poll)
    weight = mask
    if support is not None:
        reach = functional.conv2d(
            (1 - mask)[:, None], support[None, None], padding=support.shape[-1] // 2
        )
        weight = (reach[:, 0] <= 0).to(mask)
    poll()
    slope = saturate_derivative(seen)
    poll()
    model = saturate(seen) + _EPSILON
    poll()
    unsaturated = mask * estimate
    saturated = (estimate - unsaturated).clamp_min(0)
    poll()
    ratio = light * slope * weight / model + 1 - slope * weight
    poll()
    return [(unsaturated, ratio), (saturated, light * slope / model + 1 - slope)]


def _soft_mask(estimate: Tensor, threshold: float, poll: Callable[[], None]) -> Tensor:
    """1 well inside unsaturated regions, 0 in saturated ones, in between at their borders."""
    saturated = (estimate >= threshold).to(estimate)
    poll()
    eroded = 1 - functional.max_pool2d(saturated, 3, stride=1, padding=1)
    poll()
    return functional.avg_pool2d(eroded, 3, stride=1, padding=1).clamp(0, 1)


def _kernel_support(field: KernelField) -> Tensor:
    """Where the summed basis kernels are large, as 0 and 1, (K, K)."""
    summed = field.basis.sum(0)
    return (summed > _SUPPORT_LEVEL * summed.max()).to(summed)


def tv_divergence(image: Tensor, poll: Callable[[], None] = do_nothing) -> Tensor:
    """Divergence of the normalised Sobel gradient, the published total-variation term.

    Parameters
    ----------
    image : Tensor, shape (C, H, W)
    poll : callable
        Called without arguments now and then; what it raises stops the computation.

    Returns
    -------
    Tensor, shape (C, H, W)
        Between about −16 and 16. Zeros are assumed beyond the edges.
    """

    def sobel(planes: Tensor, axis: int) -> Tensor:
        """Differences along an axis, smoothed along the other one: by slices, much faster."""
        poll()
        other = -3 - axis
        padded = functional.pad(planes, (1, 1, 1, 1))
        smooth = padded.narrow(other, 1, planes.shape[other]).mul(2)
        for start in (0, 2):
            smooth += padded.narrow(other, start, planes.shape[other])
        size = planes.shape[axis]
        poll()
        return smooth.narrow(axis, 0, size) - smooth.narrow(axis, 2, size)

    gx, gy = sobel(image, -1), sobel(image, -2)
    poll()
    length = torch.sqrt(gx * gx + gy * gy)
    poll()
    flat = length < _MIN_GRADIENT
    gx, gy = (torch.where(flat, _MIN_GRADIENT, g / length) for g in (gx, gy))
    return sobel(gx, -1) + sobel(gy, -2)
