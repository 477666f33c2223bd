"""How far to go towards an image that was restored with an estimated field."""

from __future__ import annotations

import math
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional

from blurfield.estimation.shares import network_share
from blurfield.grid import read_block
from blurfield.operator import BlurOperator
from blurfield.windows import Windows

from .contrast import MID_LEVEL
from .learned_trust import LearnedTrust, on_cells
from .mirror import mirror_evidence
from .noise import NoiseModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from blurfield.field import KernelField

__all__ = [
    "NETWORK_TRUST",
    "TRUST",
    "Judged",
    "Trust",
    "doubt_by",
    "doubt_in_estimate",
    "evidence",
    "judge",
    "judged_windows",
    "observed",
    "sharp_share",
]

#: Sides of the windows that are judged, and distances between them, in kernel sizes.
_SIDE, _STRIDE = 4, 2
#: Windows on each side of one that are averaged with it.
_AROUND = 1
#: Light added before squares are weighted with the inverse of the brightness, as people see them.
_DARK = 0.01
#: Squares below this are nothing.
_LEAST_SQUARE = 1e-9
#: Kernels with more of their light than this on one tap don't blur.
_ONE_TAP = 0.8
#: Logarithm of the misfit below which it says no more for a field, and below which it speaks
#: against one: there fine details were taken for noise.
_LEAST_MISFIT, _TOO_GOOD = -0.8, -1.2
#: Logarithm of the amplification below which the image is sharper than the kernels allow.
_LEAST_AMPLIFICATION = 0.5
#: Noise with which the odds are as they are, and beyond which they change no further.
_USUAL_NOISE, _NOISE_RANGE = 0.01, (0.005, 0.0115)


class Trust(NamedTuple):
    """Logarithm of the odds that changes are right, and what changes it.

    Attributes
    ----------
    prior : float
        That of an image which is explained down to its noise, was changed by as much as the blur
        changes it, has gradients that tell nothing, and 1 % noise.
    misfit, amplification, sparsity, noise : float
        By how much each kind of evidence changes it, see `judge`.
    still : float
        What it loses beside regions that are not blurred at all.
    too_sharp, too_good : float
        What it loses for each unit by which the logarithm of the amplification, or of the misfit,
        is too low.
    """

    prior: float
    misfit: float
    amplification: float
    sparsity: float
    noise: float
    still: float
    too_sharp: float
    too_good: float


#: Fitted to restored photographs so that the mean gain in PSNR is high and hardly any
#: image becomes worse, see ``benchmarks/trust.py`` and docs/evaluation.md.
TRUST = Trust(0.5, 2.25, 1.9, 55.0, 1.9, 8.0, 8.0, 0.0)
#: The same for kernels of the compact network.
NETWORK_TRUST = Trust(2.6, 0.3, 1.2, 0.0, 0.0, 0.5, 5.0, 4.0)


class Judged(NamedTuple):
    """A restored image, and what was found about it.

    Attributes
    ----------
    sharp, blurry : Tensor
        Restored and blurry image, grey, linear light with usual exposure, (1, H, W).
    found : Tensor
        `evidence`, (6, N).
    windows : Windows
        Where it was found.
    smoothing : float
        What the odds are divided by.
    doubt : Tensor
        How far to go back by the rules, (1, H, W).
    """

    sharp: Tensor
    blurry: Tensor
    found: Tensor
    windows: Windows
    smoothing: float
    doubt: Tensor

    def told(self) -> Tensor:
        """The evidence for each pixel, (6, H, W)."""
        return self.windows.on_pixels(self.found.T)


#: Who is told what would be judged, see `observed`.
_OBSERVER: ContextVar[Callable[[Judged], None] | None] = ContextVar("observer", default=None)


@contextmanager
def observed(observer: Callable[[Judged], None]) -> Iterator[None]:
    """Trust all estimated fields within this context, and tell what would have been judged.

    Parameters
    ----------
    observer : callable
        Called for each image, or tile.
    """
    token = _OBSERVER.set(observer)
    try:
        yield
    finally:
        _OBSERVER.reset(token)


def doubt_in_estimate(
    sharp: Tensor,
    blurry: Tensor,
    misfit: Tensor,
    noise: NoiseModel,
    field: KernelField,
    *,
    smoothing: float,
    channels: int = 1,
    poll: Callable[[], None],
) -> Tensor:
    """How far to go back from a restored image to the blurry one, around each pixel.

    By rules, see `judge`, whose odds a `LearnedTrust` shifts where its weights are installed.

    Parameters
    ----------
    sharp, blurry, misfit, noise, field, smoothing, channels, poll
        See `judge`. With a smoothing of 0 the field is trusted fully.

    Returns
    -------
    Tensor, shape (1, H, W)
        From 0 where the restored image is trusted to 1 where only the blurry one is.
    """
    if smoothing == 0:
        return torch.zeros_like(misfit)
    judged = judge(
        sharp, blurry, misfit, noise, field, smoothing=smoothing, channels=channels, poll=poll
    )
    observer = _OBSERVER.get()
    if observer is not None:
        observer(judged)
        return torch.zeros_like(misfit)
    learned = LearnedTrust.load(misfit.device)
    if learned is None:
        return judged.doubt
    told = on_cells(judged.told())
    return learned(judged.doubt, sharp, blurry, told, field.kernel_size, poll)


def judge(
    sharp: Tensor,
    blurry: Tensor,
    misfit: Tensor,
    noise: NoiseModel,
    field: KernelField,
    *,
    smoothing: float,
    channels: int = 1,
    poll: Callable[[], None],
) -> Judged:
    """Say by rules how far a restored image is wrong, around each pixel.

    An estimate may explain a blurry image down to its noise and be wrong all the same. What was
    made with it is hence trusted by degrees, and the share p of the way from the blurry image to
    the restored one is gone::

        p = o / (1 + o),
        o = 1.65 · misfit^−2.25 · amplification^−1.9 · sparsity^55 · (noise / 0.01)^1.9

    The misfit is the mean squared residual, in units of the noise, and at least e^−0.8: less means
    that fine details were taken for noise. The amplification is how much restoration has changed
    the image, relative to how much the field's blur changes the blurry image once more, both as
    mean squares: where restoring takes much more light from place to place than blurring did, it
    mostly takes it to wrong places. The sparsity is how many times sparser gradients are with the
    kernel than with its mirror image, see `mirror_evidence`. These three are found in windows of
    four kernel sizes, and ln o is averaged over neighbouring ones. The noise is that of the blurry
    image at medium brightness, from 0.005 to 0.0115: the less there is, the more exactly a kernel
    is followed, and the more its errors show.

    From what is blurred, more blur takes little, and restoration brings back much. Where it is the
    other way round, the image is sharper than the kernel allows: an amplification below e^0.5 makes
    the odds smaller by the eighth power of what it lacks.

    Where a part of the image is not blurred at all, kernels around it are mixtures of what moves
    and what does not, and the odds fall by up to e⁻⁸: with the share of such pixels in a window or
    a neighbouring one.

    Kernels of the compact network are short, and where it is not sure they are wide and smooth:
    what they do to an image is not far from right, or little. For them::

        o = 13.5 · misfit^−0.3 · amplification^−1.2

    It is the fifth power by which a low amplification makes these odds smaller, and up to e^−0.5
    beside what is not blurred. A misfit below e^−1.2 makes them smaller by the fourth power of what
    it lacks: images without blur have such. Between kernels of either origin, ln o is in between.

    Parameters
    ----------
    sharp, blurry : Tensor, shape (1, H, W)
        What a method returned, and what it was given; mean of the channels, linear light.
    misfit : Tensor, shape (1, H, W)
        Squared residual of each pixel in units of its expected variance.
    noise : NoiseModel
        Noise of each channel.
    field : KernelField
        For images of this shape, on the same device.
    smoothing : float
        The odds are divided by it; not 0.
    channels : int
        Of how many channels the images are the mean.
    poll : callable
        Called between steps; may raise to stop.

    Returns
    -------
    Judged
        With a doubt of 1 − p: 0 where the restored image is trusted to 1 where only the blurry one
        is.
    """
    windows = judged_windows(field)
    found = evidence(sharp, blurry, misfit, noise, field, windows, channels, poll)
    return Judged(sharp, blurry, found, windows, smoothing, doubt_by(found, windows, smoothing))


def judged_windows(field: KernelField) -> Windows:
    """Return the windows in which what was made with a field is judged."""
    side, stride = _SIDE * field.kernel_size, _STRIDE * field.kernel_size
    row, column = field.metadata.get("origin", (0, 0))  # of a part, so that parts are judged alike
    return Windows.every(field.shape, side, stride, (row, column))


def doubt_by(
    found: Tensor,
    windows: Windows,
    smoothing: float,
    trust: Trust = TRUST,
    network: Trust = NETWORK_TRUST,
) -> Tensor:
    """Return what `judge` does for the `evidence` (6, N) in its windows.

    `network` is for the part of the kernels that is a network's, `trust` for the rest.
    """
    told, (still, share) = found[:4], found[4:]
    logs = [_log_odds(told, each) for each in (trust, network)]
    odds = functional.avg_pool2d(
        windows.grid(logs[0].lerp(logs[1], share)[:, None]),
        2 * _AROUND + 1,
        stride=1,
        padding=_AROUND,
        count_include_pad=False,
    )
    beside = still * (trust.still + (network.still - trust.still) * share)
    odds -= functional.max_pool2d(
        windows.grid(beside[:, None])[None], 2 * _AROUND + 1, stride=1, padding=_AROUND
    )[0]
    doubt = odds.sub_(math.log(smoothing)).neg_().sigmoid_()
    return windows.on_pixels(doubt.flatten(1).T)


def sharp_share(field: KernelField, windows: Windows) -> Tensor:
    """How much of each window is not blurred at all, according to a field, in [0, 1], (N,)."""
    still = field.basis.flatten(1).amax(1) > _ONE_TAP
    return _means(field.mixing[still].sum(0, keepdim=True), field, windows)


def _means(values: Tensor, field: KernelField, windows: Windows) -> Tensor:
    """Means over windows of what is known on a grid, (1, h, w), of an image."""
    height, width = field.shape
    whole = read_block(values, field.shape, slice(0, height), slice(0, width))
    return windows.cut(whole[0]).mean((-2, -1))


def evidence(
    sharp: Tensor,
    blurry: Tensor,
    misfit: Tensor,
    noise: NoiseModel,
    field: KernelField,
    windows: Windows,
    channels: int,
    poll: Callable[[], None],
) -> Tensor:
    """What speaks for and against a restored image in each window, (6, N).

    The logarithms of misfit, amplification, sparsity and noise, how much of the window is not
    blurred at all, and how much of its kernels is a network's. For the parameters see
    `judge`.
    """
    weight = blurry.clamp_min(0).add_(_DARK).reciprocal_()
    blurred = BlurOperator(field, boundary="reflect", poll=poll).forward(blurry)
    left, changed, blurs = (
        windows.cut(square[0]).mean((-2, -1)).clamp_min_(_LEAST_SQUARE).log_()
        for square in (
            misfit,
            (sharp - blurry).square_().mul_(weight),
            blurred.sub_(blurry).square_().mul_(weight),
        )
    )
    grey = NoiseModel(noise.gain / channels, noise.floor / channels)
    mirror = mirror_evidence(blurry[0], field, grey, windows, poll)
    low, high = _NOISE_RANGE
    level = math.log(min(max(noise.std(MID_LEVEL), low), high) / _USUAL_NOISE)
    noises = torch.full_like(mirror, level)
    still = sharp_share(field, windows).to(mirror)
    learned = _means(network_share(field), field, windows).to(mirror)
    return torch.stack([left, changed - blurs, mirror, noises, still, learned])


def _log_odds(found: Tensor, trust: Trust) -> Tensor:
    """Logarithm of the odds o in each window, (N,), by its `evidence`, (4, N)."""
    misfit, amplification, mirror, noise = found
    lacking = (_LEAST_AMPLIFICATION - amplification).clamp_min(0)
    too_good = (_TOO_GOOD - misfit).clamp_min(0)
    odds: Tensor = (
        trust.prior
        - trust.misfit * misfit.clamp_min(_LEAST_MISFIT)
        - trust.amplification * amplification
        + trust.sparsity * mirror
        + trust.noise * noise
        - trust.too_sharp * lacking
        - trust.too_good * too_good
    )
    return odds
