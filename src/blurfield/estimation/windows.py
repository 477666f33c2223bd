"""Kernels of several windows: how well each fits each window, and how they are put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from blurfield.comparison import kernel_similarity
from blurfield.no_blur import no_blur

from .evidence import Evidence, share_noise
from .kernels import align, shift

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

#: Kernels less alike than this keep their own place in `common_frame`.
_RELATED = 0.5
#: Squared differences of pixels grow with about this power of their distance, and what a common
#: translation may cut off of the average kernel.
_GROWTH, _MOST_CUT = 0.5, 0.01
#: With this power, the middle of the average kernel is its centre of mass.
CENTRE_OF_MASS = 2.0
#: Finest details relative to the noise up to which there are none, and from which there are enough
#: of them for no blur to be an answer; what it costs it that there are none, and what it gains each
#: time that they double beyond enough, so many times.
_DETAIL, _LACKING, _PLENTY, _MOST_PLENTY = (1.5, 2.0), 3.0, 0.3, 1.5
#: Elements (windows × kernels × frequencies) that are compared at a time.
_COMPARED = 1 << 23


def judge(windows: Tensor, kernels: Tensor, quiet: Tensor, poll: Callable[[], None]) -> Tensor:
    """`Evidence` of no blur and of kernels in each window of an image.

    No blur is an answer only where there are fine details that stand out of the noise: otherwise
    it would win where there is nothing to be seen.

    Parameters
    ----------
    windows : Tensor
        Parts of a blurry image, (N, h, w).
    kernels : Tensor
        (C, K, K).
    quiet : Tensor
        `quiet_noise` of the image.
    poll : callable
        Called between steps; may raise to stop.

    Returns
    -------
    Tensor
        Scores (N, 1 + C), first that of no blur; less is better.
    """
    still = no_blur(int(kernels.shape[-1]), kernels.device, kernels.dtype)
    everything = torch.cat([still[None], kernels])
    pixels = windows.shape[-1] * windows.shape[-2]
    chunk = max(1, _COMPARED // (pixels * len(everything)))
    nothing, enough = _DETAIL
    scores = []
    for part in windows.split(chunk):
        poll()
        noise, detail = share_noise(part, quiet)
        found = Evidence(part, poll, noise)(everything[None])
        lacking = ((enough - detail) / (enough - nothing)).clamp(0, 1)
        found[:, 0] += _LACKING * lacking - _PLENTY * (detail / enough).log2().clamp(
            0, _MOST_PLENTY
        )
        scores.append(found)
    return torch.cat(scores)


def judge_own(windows: Tensor, kernels: Tensor, quiet: Tensor, poll: Callable[[], None]) -> Tensor:
    """`Evidence` of kernels of its own in each window of an image.

    Parameters
    ----------
    windows, quiet, poll
        As for `judge`.
    kernels : Tensor
        (N, M, K, K).

    Returns
    -------
    Tensor
        Scores (N, M); less is better.
    """
    pixels = windows.shape[-1] * windows.shape[-2]
    chunk = max(1, _COMPARED // (pixels * kernels.shape[1]))
    scores = []
    for part, own in zip(windows.split(chunk), kernels.split(chunk), strict=True):
        poll()
        scores.append(Evidence(part, poll, share_noise(part, quiet)[0])(own))
    return torch.cat(scores)


def common_frame(kernels: Tensor, poll: Callable[[], None]) -> Tensor:
    """Move kernels (C, K, K) by whole pixels so that like kernels coincide.

    Each kernel is known up to a translation only, and mixtures of kernels that are shifted
    against each other would show double contours. Starting with the most typical kernel, the one
    that is most alike to any that has its place is aligned with it. Kernels unlike all others stay
    with their centre of mass in the middle, and so does the whole on average.
    """
    rows = []
    for kernel in kernels:
        poll()
        rows.append(kernel_similarity(kernel, kernels))
    alike = torch.stack(rows).cpu().fill_diagonal_(0)
    moved = kernels.clone()
    placed = [int(alike.sum(1).argmax())]
    left = [index for index in range(len(kernels)) if index != placed[0]]
    while left:
        part = alike[left][:, placed]
        row, column = divmod(int(part.argmax()), len(placed))
        index = left.pop(row)
        if part[row, column] > _RELATED:
            moved[index] = align(moved[index], moved[placed[column]])
        placed.append(index)
    return moved


def in_place(kernels: Tensor, weights: Tensor, power: float = _GROWTH) -> Tensor:
    """Move all kernels (C, K, K) by the same whole pixels, so that sharp images stay in place.

    Blur and sharp image are known up to opposite translations. Of these the one is taken by which
    the blurry image, as it is, is most alike to the sharp one. A blurry image is a mixture of
    translated sharp ones, from which another translation of it differs the more, the farther apart
    they are, in photographs as about the root of the distance. So the middle of the average kernel
    is where the mean root of the distances to its taps is smallest: its median rather than its
    centre of mass, which light that strayed far pulls aside.

    Parameters
    ----------
    kernels : Tensor
        Point-spread functions (C, K, K).
    weights : Tensor
        How much each counts in the average, (C,).
    power : float
        Of the distances, in the place of ½.
    """
    size = kernels.shape[-1]
    average = torch.einsum("c,cij->ij", weights, kernels)
    taps = torch.arange(1 - size, size, dtype=average.dtype, device=average.device)
    distance = taps.square()[:, None].add(taps.square()).pow(power / 2)
    costs = functional.conv2d(distance[None, None], average[None, None])[0, 0].flip(0, 1)
    # Nothing to speak of may leave the kernel's square.
    for axis in (0, 1):
        share = average.sum(1 - axis)
        share = share / share.sum()
        first = int((share.cumsum(0) <= _MOST_CUT).sum())
        last = size - 1 - int((share.flip(0).cumsum(0) <= _MOST_CUT).sum())
        middle = size // 2
        place = torch.arange(size, device=average.device)
        outside = (place > middle + first) | (place < middle - (size - 1 - last))
        costs = costs.masked_fill(outside[:, None] if axis == 0 else outside, torch.inf)
    row, column = divmod(int(costs.argmin()), size)
    return shift(kernels, kernels.new_tensor([size // 2 - row, size // 2 - column]))
