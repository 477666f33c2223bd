"""Estimation by the compact network and on windows, each where it is better.

What a network has learned tells short blur well, and where an image is not blurred at all. Kernels
longer than a few pixels are found better by what a whole window shows. So the network looks first,
which takes a moment, and windows are only asked where blur may be long. How well the kernels of
either agree with the image, by `blurfield.estimation.evidence`, then decides as well.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from blurfield.compute import Reporter, part_of
from blurfield.field import KernelField
from blurfield.moments import covariance, moment_grid
from blurfield.support import padded
from blurfield.windows import Windows

from .compact import estimate_compact
from .evidence import quiet_noise
from .layout import WindowSettings
from .shares import with_shares
from .windowed import estimate_windowed
from .windows import judge_own

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from torch import Tensor

    from blurfield.checkpoints import Checkpoint
    from blurfield.compute import ProgressCallback

#: Cells of the network's mixing maps (4 px) to a block, and blocks to the side of the
#: neighbourhood in which the kernels' lengths decide: about 300 pixels.
_BLOCK, _NEIGHBOURHOOD = 8, 9
#: Pixels that are added to the lengths of kernels before their logarithm is taken.
_LEAST_LENGTH = 0.3
#: Log odds for the network: constant, times the mean and the deviation of the log lengths, times
#: the evidence against it. Fitted by ``benchmarks/combined.py``.
ODDS = (2.01, -1.09, 3.26, -0.88)
#: Where not even so much evidence against the network would change the choice, windows are not
#: asked for it.
_MOST_AGAINST = 0.6
#: The log odds are this many times steeper in space, so that few kernels are mixed of both.
_STEEPER = 4.0
#: Where kernels are on average no longer than this, in pixels, but their log lengths vary by more
#: than this, something small moves in front of a still background: windows see that better. Last,
#: over how much of the log lengths that changes.
_NEARLY_STILL, _VARIED, _SOFT = 0.8, 0.2, 0.01
#: Shares below this are none, and above 1 less this they are all.
_LEAST_SHARE = 0.15
#: Shorter sides of images, in pixels, for which the kernels of the network are too large.
_SMALL = 66
#: Parts of the time: one for the network, one for comparing and joining both, the rest for windows.
_PARTS = 20


def estimate_combined(
    planes: Tensor,
    *,
    max_kernels: int = 25,
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    progress: ProgressCallback | None = None,
) -> KernelField:
    """Estimate a kernel field with the compact network, and on windows where blur is long.

    The network is better for short kernels and for scenes of which a part is not blurred, windows
    for long kernels. Which is which follows from the lengths of the kernels (standard deviation
    of the light's displacement) that the network finds: from the mean of their logarithms over a
    neighbourhood of about 300 pixels, and from how much they vary there; and from how much better
    the kernels of windows agree with the image there (`blurfield.estimation.evidence.Evidence`).
    Where lengths are next to nothing and vary, windows decide, too. Where lengths alone are clear
    all over the image, it is done without windows.

    Parameters
    ----------
    planes : Tensor
        Blurry image in linear light with white 1, (C, H, W), at least 32×32 pixels.
    max_kernels : int
        Largest number B of basis kernels, at least 1.
    checkpoint : Checkpoint, str or path-like, optional
        The network's weights, see `blurfield.estimation.compact.estimate_compact`.
    progress : callable, optional
        See `blurfield.estimate`.

    Returns
    -------
    KernelField
        On the device of `planes`. Its metadata hold ``shares``, what part of the image is from the
        ``compact`` network and from ``windowed`` estimation, and its map ``network`` tells the
        network's share of each pixel. There are also ``weights`` of the network, if it has a share;
        and what windowed estimation tells, if that has one: ``parameters``, ``confidence`` and
        ``windows``, and the map ``confidence``. Else, ``parameters`` are those of the network.

    Raises
    ------
    ValueError
        If an option is out of its range, or the weights do not exist or are for another network.
    """
    if min(planes.shape[-2:]) < _SMALL:
        field = estimate_windowed(planes, max_kernels=max_kernels, progress=progress)
        return with_shares(field, planes.new_zeros(1, 1))
    learned = estimate_compact(
        planes,
        checkpoint=checkpoint,
        max_kernels=max_kernels,
        progress=part_of(progress, 0, _PARTS),
    )
    lengths = log_lengths(learned)
    most = torch.full_like(lengths[:1], _MOST_AGAINST)
    if bool((share_by(torch.cat([lengths, most])) == 1).all()):
        return with_shares(learned, planes.new_ones(1, 1))
    classical = estimate_windowed(
        planes,
        max_kernels=max_kernels,
        progress=part_of(progress, 1, _PARTS, _PARTS - 2),
    )
    poll = Reporter(part_of(progress, _PARTS - 1, _PARTS), 1, "Comparing both").poll
    cells = learned.mixing.shape[-2:]
    share = share_by(signs(learned, classical, planes.mean(0), poll)).to(learned.dtype)
    share = functional.interpolate(share[None, None], size=cells, mode="bilinear")[0, 0]
    if not bool(share.any()):
        return with_shares(classical, planes.new_zeros(1, 1))
    if bool((share == 1).all()):
        return with_shares(learned, planes.new_ones(1, 1))
    field = _join(learned, classical, share)
    if field.num_kernels > max_kernels:
        field = field.compress(max_kernels, progress=part_of(progress, _PARTS - 1, _PARTS))
    return field


def log_lengths(field: KernelField) -> Tensor:
    """Mean and deviation of the kernels' log lengths around each block of a field, (2, h, w)."""
    var_y, var_x, _ = covariance(moment_grid(field))
    logs = (var_y + var_x).clamp_min(0).sqrt_().add_(_LEAST_LENGTH).log_()
    moments = torch.stack([logs, logs.square()])
    blocks = functional.avg_pool2d(moments, _BLOCK, ceil_mode=True)
    mean, square = _neighbourhood_means(blocks)
    return torch.stack([mean, (square - mean.square()).clamp_min(0).sqrt()])


def signs(
    learned: KernelField, classical: KernelField, grey: Tensor, poll: Callable[[], None]
) -> Tensor:
    """What tells which of two fields is better, around each block of the network's, (3, h, w).

    `log_lengths` of the network's, and how much worse the evidence of its kernels is than that of
    the other one's (`blurfield.estimation.evidence.Evidence`), for the blurry image (H, W).
    """
    lengths = log_lengths(learned)
    size = max(learned.kernel_size, classical.kernel_size)
    layout, shape = WindowSettings(), learned.shape
    side, stride = (round(length * size) for length in (layout.trial_side, layout.trial_stride))
    windows = Windows.on(shape, side, stride, layout.most_trials)
    kernels = torch.stack(
        [
            padded(field.kernels_at(windows.centres()), size).flip(-2, -1)
            for field in (learned, classical)
        ],
        dim=1,
    )
    scores = judge_own(windows.cut(grey), kernels, quiet_noise(grey), poll)
    against = windows.on_cells(scores[:, :1] - scores[:, 1:], stride)
    against = functional.interpolate(against[None], size=lengths.shape[-2:], mode="bilinear")[0]
    return torch.cat([lengths, _neighbourhood_means(against)])


def share_by(found: Tensor, odds: tuple[float, ...] = ODDS) -> Tensor:
    """Share of the network by the `signs` that were found, (3, …), with some weights."""
    constant, *weights = odds
    weighted = sum(weight * sign for weight, sign in zip(weights, found, strict=True))
    share = torch.sigmoid(_STEEPER * (constant + weighted))
    mean, deviation, _ = found
    still = torch.sigmoid((math.log(_NEARLY_STILL + _LEAST_LENGTH) - mean) / _SOFT)
    share = share * (1 - still * torch.sigmoid((deviation - _VARIED) / _SOFT))
    return ((share - _LEAST_SHARE) / (1 - 2 * _LEAST_SHARE)).clamp(0, 1)


def _neighbourhood_means(blocks: Tensor) -> Tensor:
    """Means over the neighbourhood of each block; that of a block at the edge lies within."""
    sides = [min(_NEIGHBOURHOOD, n) for n in blocks.shape[-2:]]
    means = functional.avg_pool2d(blocks, sides, stride=1)
    margins = [((side - 1) // 2, side // 2) for side in sides]
    return functional.pad(means, (*margins[1], *margins[0]), mode="replicate")


def _join(learned: KernelField, classical: KernelField, share: Tensor) -> KernelField:
    """One field of both, with so much of the first at each of its cells."""
    size = max(learned.kernel_size, classical.kernel_size)
    basis = torch.cat([padded(field.basis, size) for field in (learned, classical)])
    coarse = functional.interpolate(classical.mixing[None], size=share.shape, mode="bilinear")[0]
    mixing = torch.cat([learned.mixing * share, coarse * (1 - share)])
    facts = {**classical.metadata, "weights": learned.metadata["weights"]}
    field = KernelField(basis, mixing / mixing.sum(0), learned.shape, facts, classical.maps)
    return with_shares(field, share)
