"""Kernels of several windows: how well each fits each window, and how they are put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from blurfield.comparison import kernel_similarity

from .evidence import SpectralEvidence
from .kernels import align

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

#: Kernels less alike than this keep their own place in `common_frame`.
_RELATED = 0.5
#: Elements (windows × kernels × frequencies) that are compared at a time.
_COMPARED = 1 << 23


def judge(windows: Tensor, kernels: Tensor, poll: Callable[[], None]) -> Tensor:
    """`SpectralEvidence` of each of the kernels (C, K, K) in each window (N, h, w): (N, C)."""
    pixels = windows.shape[-1] * windows.shape[-2]
    chunk = max(1, _COMPARED // (pixels * len(kernels)))
    scores = []
    for start in range(0, len(windows), chunk):
        poll()
        scores.append(SpectralEvidence(windows[start : start + chunk])(kernels[None]))
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
