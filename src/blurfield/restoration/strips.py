"""Large images through a network of NAF blocks with little memory: strip by strip, exactly.

A block mixes pixels in two ways: by small convolutions, for which a strip of rows needs a few rows
more, and by means over large windows. So each block goes over the strips twice, with the sums for
the means in between. The result is that of the whole image, without seams, whatever the windows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from blurfield.precision import memory_format

from .local_statistics import local_means_by_rows
from .naf import Whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from .naf import NAFBlock

#: Numbers that the features of a strip hold: some rows of an image even where it is wide.
_STRIP = 1 << 22


class Strips(Whole):
    """Runs layers strip by strip, without gradients.

    What is given to blocks may have a lower precision than features; strips are converted one by
    one.

    Parameters
    ----------
    features : int
        Numbers that the features of a strip should hold.
    advance : callable, optional
        Called after each block.
    """

    def __init__(self, features: int = _STRIP, advance: Callable[[], None] | None = None) -> None:
        self._features, self._advance = features, advance

    def halve(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Run a layer that halves the size; the result has the type of what it gets."""
        number, _, height, width = x.shape
        weight = next(layer.parameters())
        result = _empty(x, (number, len(weight), height // 2, width // 2))
        for rows in self._strips(result):
            part = _cut(x, slice(2 * rows.start, 2 * rows.stop), weight)
            result[..., rows, :] = layer(part)
        return result

    def block(self, block: NAFBlock, x: Tensor, *given: Tensor) -> Tensor:
        """Run a block, see `NAFBlock`; overwrites x with the result."""
        height, strips = x.shape[-2], self._strips(x)
        y = _empty(x, x.shape)
        for rows in strips:
            seen = slice(max(0, rows.start - block.reach), min(height, rows.stop + block.reach))
            part = block.gated(*(_cut(values, seen, x) for values in (x, *given)))
            y[..., rows, :] = part[..., rows.start - seen.start : rows.stop - seen.start, :]
        means = local_means_by_rows(y, (block.window, block.window), strips)
        for rows, mean in zip(strips, means, strict=True):
            x[..., rows, :] = block.finish(x[..., rows, :], y[..., rows, :], mean)
        if self._advance is not None:
            self._advance()
        return x

    def _strips(self, x: Tensor) -> list[slice]:
        number, channels, height, width = x.shape
        tall = max(1, self._features // (number * channels * width))
        return [slice(start, min(start + tall, height)) for start in range(0, height, tall)]


def _empty(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.empty(
        shape, dtype=like.dtype, device=like.device, memory_format=memory_format(like.device)
    )


def _cut(values: Tensor, rows: slice, like: Tensor) -> Tensor:
    """Rows of values, as another tensor's type."""
    part = values[..., rows, :]
    return part.to(like.dtype).contiguous(memory_format=memory_format(like.device))
