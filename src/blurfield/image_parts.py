"""Images that are read and written a part at a time, without a float copy of the whole.

Arrays on disk (`numpy.memmap`) are read where they are needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .images import Levels, LinearImage, find_channels, require_finite, resolve_gamma
from .number_types import copy_as_float, numpy_dtype, torch_dtype

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

#: Pixels of which there are float numbers at a time when the whole image is looked at.
_PIXELS = 1 << 22


class ImageParts:
    """An image of which parts are read as `LinearImage`, and a result that is written by parts.

    Parameters
    ----------
    image, gamma, channel_axis
        As for `LinearImage.from_array`.
    poll : callable, optional
        Called without arguments while the image is looked through; what it raises propagates.

    Raises
    ------
    TypeError, ValueError
        As by `LinearImage.from_array`.
    """

    def __init__(
        self,
        image: Any,
        *,
        gamma: float | str = "auto",
        channel_axis: int | None = None,
        poll: Callable[[], None] | None = None,
    ) -> None:
        self._array = image.detach() if isinstance(image, torch.Tensor) else np.asarray(image)
        self._dtype = numpy_dtype(self._array.dtype)
        self._given_axis = channel_axis
        axis, self._has_alpha = find_channels(tuple(self._array.shape), channel_axis)
        self._rows, self._cols = (n for n in range(self._array.ndim) if n != axis)
        self._axis = axis
        self.gamma = resolve_gamma(gamma, self._dtype)
        self._levels = self._measured(poll)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (int(self._array.shape[self._rows]), int(self._array.shape[self._cols]))

    @property
    def channels(self) -> int:
        """Number of planes, without alpha."""
        if self._axis is None:
            return 1
        return int(self._array.shape[self._axis]) - self._has_alpha

    def read(self, rows: slice, cols: slice, device: torch.device | str = "cpu") -> LinearImage:
        """Read a part; with steps in the slices, every so many pixels of it."""
        return LinearImage.from_array(
            self._array[self._index(rows, cols)],
            gamma=self.gamma,
            channel_axis=self._given_axis,
            device=device,
            levels=self._levels,
        )

    def sparse_blocks(self, step: int) -> Tensor:
        """Read the 2×2 pixels at every so many, side by side: planes (C, 2·rows, 2·columns)."""
        height, width = (length // step * step for length in self.shape)
        corners = [
            self.read(slice(y, y + height - 1, step), slice(x, x + width - 1, step)).planes
            for y in (0, 1)
            for x in (0, 1)
        ]
        channels, rows, cols = corners[0].shape
        blocks = torch.stack(corners).reshape(2, 2, channels, rows, cols)
        return blocks.permute(2, 3, 0, 4, 1).reshape(channels, 2 * rows, 2 * cols)

    def new_result(self, dtype: Any = None) -> Any:
        """Return an array or tensor for a result, of the image's shape; see `write`."""
        shape = tuple(self._array.shape)
        if isinstance(self._array, torch.Tensor):
            kind = self._array.dtype if dtype is None else torch_dtype(dtype)
            return torch.empty(shape, dtype=kind, device=self._array.device)
        return np.empty(shape, self._dtype if dtype is None else numpy_dtype(dtype))

    def write(self, result: Any, rows: slice, planes: Tensor, dtype: Any = None) -> None:
        """Write planes (C, rows, W) to rows of a result; see `LinearImage.to_array`."""
        columns = slice(0, self.shape[1])
        for start in range(rows.start, rows.stop, self._rows_at_once):
            part = slice(start, min(start + self._rows_at_once, rows.stop))
            those = planes[:, start - rows.start : part.stop - rows.start]
            result[self._index(part, columns)] = self.read(part, columns).to_array(those, dtype)

    @property
    def _rows_at_once(self) -> int:
        return max(1, _PIXELS // self.shape[1])

    def _index(self, rows: slice, cols: slice) -> tuple[slice, ...]:
        index = [slice(None)] * self._array.ndim
        index[self._rows], index[self._cols] = rows, cols
        return tuple(index)

    def _measured(self, poll: Callable[[], None] | None) -> Levels:
        """Look through the image for its least and greatest value."""
        height, width = self.shape
        low, high = np.inf, -np.inf
        for start in range(0, height, self._rows_at_once):
            if start and poll is not None:
                poll()
            index = self._index(slice(start, start + self._rows_at_once), slice(0, width))
            values = copy_as_float(self._array[index], self._dtype)
            require_finite(values, [part.start or 0 for part in index])
            if self._has_alpha:
                values = values[..., :3]
            low, high = min(low, float(values.min())), max(high, float(values.max()))
        return Levels.of(self._dtype, low, high)
