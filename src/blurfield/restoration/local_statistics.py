"""Means over a window around each pixel, in place of means over an image, and maxima.

Networks with channel attention average their features over the image. They are trained on crops,
so larger images give them other averages than they know. Chu et al., "Improving image restoration
by revisiting global information aggregation", ECCV 2022, Sec. 3.2, therefore average over windows
of about the size of a crop: a place looks alike in a crop and in the image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

__all__ = ["local_mean", "local_means_by_rows", "mean_around", "most_around"]


def local_mean(features: Tensor, window: tuple[int, int]) -> Tensor:
    """Return means over the window around each pixel.

    Parameters
    ----------
    features : Tensor
        (..., H, W).
    window : (int, int)
        Height and width in pixels; along an axis that is not longer, the mean is over all of it.

    Returns
    -------
    Tensor
        (..., H or 1, W or 1), 1 where the window holds the whole axis. Where a window would reach
        beyond an edge, the mean is that of the nearest one which does not. Windows of even length
        have one more pixel after their middle than before.
    """
    height, width = window
    return _axis_mean(_axis_mean(features, -2, height), -1, width)


def local_means_by_rows(
    features: Tensor, window: tuple[int, int], strips: Sequence[slice]
) -> Iterator[Tensor]:
    """Return the means of `local_mean` strip by strip, so that they are never there as a whole.

    Sums over rows go on from strip to strip, in double precision where the device has it.

    Parameters
    ----------
    features : Tensor
        (..., H, W).
    window : (int, int)
        See `local_mean`.
    strips : sequence of slice
        Rows, each beginning where the one before ended, from 0 to H.

    Yields
    ------
    Tensor
        (..., rows or 1, W or 1) for each strip.
    """
    height, (tall, wide) = features.shape[-2], window
    if tall >= height:
        mean = local_mean(features, window)
        for _ in strips:
            yield mean
        return
    exact = _exact(features)
    first, total = 0, features[..., :tall, :].sum(-2, keepdim=True, dtype=exact)
    for strip in strips:
        places = _nearest_window(torch.arange(strip.start, strip.stop), tall, height)
        last = int(places[-1])
        # From one window to the next, a row enters and a row leaves.
        entering = features[..., first + tall : last + tall, :].to(exact)
        changes = entering - features[..., first:last, :].to(exact)
        totals = torch.cat([total, changes], -2).cumsum(-2)
        means = (totals / tall).to(features)
        yield _axis_mean(means.index_select(-2, (places - first).to(features.device)), -1, wide)
        first, total = last, totals[..., -1:, :]


def mean_around(values: Tensor, reach: int) -> Tensor:
    """Mean over the square of 2·reach + 1 around each place of (…, H, W), cut off at edges."""
    for axis in (-2, -1):
        length = values.shape[axis]
        sums = values.cumsum(axis, dtype=_exact(values))
        places = torch.arange(length, device=values.device)
        last, first = (places + reach).clamp_max(length - 1), places - reach - 1
        total = sums.index_select(axis, last)
        inner = first[first >= 0]  # where there is something in front of the square
        total.narrow(axis, length - len(inner), len(inner)).sub_(sums.index_select(axis, inner))
        count = (last - first.clamp_min(-1)).to(total)
        values = (total / (count[:, None] if axis == -2 else count)).to(values)
    return values


def most_around(values: Tensor, reach: int) -> Tensor:
    """Maximum over the same squares, of (N, C, H, W)."""
    down, across = (min(reach, length - 1) for length in values.shape[-2:])
    tall = functional.max_pool2d(values, (2 * down + 1, 1), stride=1, padding=(down, 0))
    return functional.max_pool2d(tall, (1, 2 * across + 1), stride=1, padding=(0, across))


def _exact(values: Tensor) -> torch.dtype:
    """What long sums are to be in: double precision where the device has it."""
    return torch.float32 if values.device.type == "mps" else torch.float64


def _axis_mean(features: Tensor, axis: int, side: int) -> Tensor:
    length = features.shape[axis]
    if side >= length:
        return features.mean(axis, keepdim=True)
    sums = features.to(torch.promote_types(features.dtype, torch.float32)).cumsum(axis)
    # Window i ends with pixel i + side - 1; the first has nothing to subtract.
    ends = sums.narrow(axis, side - 1, length - side + 1)
    before = functional.pad(
        sums.narrow(axis, 0, length - side), (0, 0, 1, 0) if axis == -2 else (1, 0)
    )
    means = ((ends - before) / side).to(features)
    places = _nearest_window(torch.arange(length, device=features.device), side, length)
    return means.index_select(axis, places)


def _nearest_window(pixels: Tensor, side: int, length: int) -> Tensor:
    """First pixels of the windows whose means these pixels get."""
    return (pixels - (side - 1) // 2).clamp(0, length - side)
