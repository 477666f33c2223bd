"""Where a field cannot be right, and what was made of it is not to be trusted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from blurfield.operator import BlurOperator, saturate

from .estimated import doubt_in_estimate
from .local_statistics import mean_around
from .methods import is_estimated
from .noise import NoiseModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from blurfield.field import KernelField

__all__ = [
    "JUDGED_GAIN",
    "STRICT",
    "UNFINISHED",
    "USUAL",
    "Limits",
    "give_back",
    "local_doubt",
    "squared_misfit",
]


class Limits(NamedTuple):
    """From which mean squared residual on, in units of its expected variance, a field is doubted.

    Attributes
    ----------
    trusted, wrong : float
        Below the first one the field is trusted, above the second one not at all.
    overall : bool
        Whether a field that is wrong far around is trusted nowhere more than there on average.
    unfinished : float
        What a method may leave of the residual that the blurry image itself has, as squares,
        also where that is more than noise.
    """

    trusted: float
    wrong: float
    overall: bool = False
    unfinished: float = 0.0


#: Residuals are judged in units of their expected variance, at least that of this gain.
JUDGED_GAIN = 2e-4

#: True and slightly wrong fields reach 1, wrong ones 2 to 500.
USUAL = Limits(1.3, 2.5)
#: For methods which explain images down to their noise if the field is right, or stop not long
#: before that if there is hardly any.
STRICT = Limits(0.9, 1.4, overall=True, unfinished=0.1)
#: For methods which stop long before they explain an image.
UNFINISHED = Limits(3.9, 7.5)

#: A single pixel counts at most so much: next to lights small errors of a kernel are great ones.
_MAX_MISFIT = 12.0

#: Windows that are far around are so many times as wide: less than what tiles overlap by.
_WIDE = 3

#: Light added before residuals are compared with the variance of `JUDGED_GAIN`.
_DARK = 0.01


def local_doubt(misfit: Tensor, window: int, limits: Limits = USUAL) -> Tensor:
    """How wrong the field is around each pixel.

    Parameters
    ----------
    misfit : Tensor, shape (1, H, W)
        Squared residual of each pixel in units of its expected variance, see `squared_misfit`.
    window : int
        Side in pixels of the squares over which it is averaged; about twice the kernel size.
    limits : Limits
        `USUAL`, `STRICT` or `UNFINISHED`, by the method.

    Returns
    -------
    Tensor, shape (1, H, W)
        0 where the field is trusted to 1 where it is certainly wrong.
    """
    local = _around(misfit.clamp(max=_MAX_MISFIT), window)
    if limits.overall:
        local = torch.maximum(local, _around(local, _WIDE * window))
    span = math.log(limits.wrong / limits.trusted)
    return local.div_(limits.trusted).log_().div_(span).clamp_(0, 1)


def _around(values: Tensor, window: int) -> Tensor:
    """Mean over a square around each pixel (1, H, W), cut off at the edges of the image."""
    # Around every pixel in the same way, so that it does not matter where an image begins.
    return mean_around(values[None], (min(window, *values.shape[-2:]) - 1) // 2)[0]


def squared_misfit(
    blurry: Tensor, seen: Tensor, noise: NoiseModel, exposure: float = 1.0
) -> Tensor:
    """Squared residual of each pixel in units of the variance that noise explains.

    Parameters
    ----------
    blurry : Tensor, shape (C, H, W)
        The image in linear light, white 1.
    seen : Tensor, shape (C, H, W)
        What the sharp image would look like blurred, in linear light; may exceed 1.
    noise : NoiseModel
        Noise of the image.
    exposure : float
        How dark it is, see `blurfield.restoration.contrast.exposure_of`.

    Returns
    -------
    Tensor, shape (1, H, W)
        Mean over the channels: about 1 where the sharp image explains the blurry one, less where
        it explains some of the noise, too. Light beyond white is compared as the sensor sees it.
    """
    misfit = torch.zeros_like(blurry[:1])
    for target, plane in zip(blurry, seen, strict=True):
        model = saturate(plane.clamp_min(0))
        variance = noise.variance(model)
        torch.maximum(
            variance, model.add(_DARK * exposure).mul_(JUDGED_GAIN * exposure), out=variance
        )
        misfit[0] += model.sub_(target).square_().div_(variance)
    return misfit.div_(len(blurry))


def give_back(
    sharp: Tensor,
    blurry: Tensor,
    seen: Tensor,
    noise: NoiseModel,
    field: KernelField,
    limits: Limits = USUAL,
    *,
    smoothing: float = 1.0,
    exposure: float = 1.0,
    poll: Callable[[], None] = lambda: None,
) -> tuple[Tensor, float]:
    """Replace by the blurry image what a wrong field has made of it.

    Known fields are doubted where they leave residuals, see `local_doubt`; estimated ones
    everywhere to some degree, see `doubt_in_estimate`.

    Parameters
    ----------
    sharp, blurry, seen : Tensor, shape (C, H, W)
        What a method returned for the blurry image, and it blurred again; linear light.
    noise : NoiseModel
        Noise of each channel of the blurry image.
    field : KernelField
        On the device of the images.
    limits : Limits
        For known fields, see `local_doubt`.
    smoothing : float
        For estimated fields: the more smoothing is asked for, the less they are trusted.
    exposure : float
        How dark the image is, see `blurfield.restoration.contrast.exposure_of`.
    poll : callable
        Called between steps; may raise to stop.

    Returns
    -------
    sharp : Tensor, shape (C, H, W)
        A new tensor.
    unexplained : float
        Part of the image that was given back, from 0 to 1.
    """
    misfit = squared_misfit(blurry, seen, noise, exposure)
    if is_estimated(field):
        doubt = doubt_in_estimate(
            sharp.mean(0, keepdim=True).div_(exposure),
            blurry.mean(0, keepdim=True).div_(exposure),
            misfit.clamp_(max=_MAX_MISFIT),
            NoiseModel(noise.gain / exposure, noise.floor / exposure**2),
            field,
            smoothing=smoothing,
            channels=len(blurry),
            poll=poll,
        )
    else:
        if limits.unfinished:
            again = BlurOperator(field, boundary="reflect", poll=poll).forward(blurry)
            most = _around(squared_misfit(blurry, again, noise, exposure), 2 * field.kernel_size)
            misfit.div_(most.mul_(limits.unfinished).clamp_min_(1))
        doubt = local_doubt(misfit, 2 * field.kernel_size, limits)
    return sharp.lerp(blurry, doubt), float(doubt.mean())
