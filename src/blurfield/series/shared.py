"""One field for many frames: the median of theirs.

Where a camera or a stage moves alike in all frames, the errors of the estimates differ from frame
to frame, and the median leaves out those of the few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor

from blurfield.comparison import kernel_similarity
from blurfield.estimation.kernels import shift
from blurfield.estimation.windows import in_place
from blurfield.field import KernelField
from blurfield.grid import read_points
from blurfield.support import padded

from .changes import FRAMES, SHARED, forget_shared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .store import Series

__all__ = ["median_field", "share_field"]

#: Cells along each side of the common grid, at most: what frames share is smooth.
_MOST_CELLS = 32
#: Kernels along each side by which a field is aligned with another one.
_LANDMARKS = 6
#: Fields among which the most typical one is looked for.
_CANDIDATES = 32
#: Basis kernels of the median.
_RANK = 25
#: Numbers that are held for a median at a time (of 4 bytes).
_HELD = 1 << 24
#: Sum of a median of kernels, each with sum 1, below which it tells nothing.
_LEAST_IN_COMMON = 0.05


def median_field(
    fields: Sequence[KernelField], poll: Callable[[], None] = lambda: None
) -> KernelField:
    """Return the field that frames have in common: the median of their kernels at each place.

    Each field is known up to a common translation of its kernels. They are aligned with the most
    typical of them, the median of each tap is taken over all fields, at each cell of a grid, and
    the kernels are moved together to the middle.

    Parameters
    ----------
    fields : sequence of KernelField
        Of images of the same height and width. They are looked at several times, one after the
        other, so that a sequence that reads them from files takes little memory.
    poll : callable
        Called now and then; what it raises stops the computation.

    Returns
    -------
    KernelField
        At most 25 basis kernels, on a grid of at most 32×32 cells. Its metadata are those of the
        most typical field, with ``shared``: the number of fields. Maps that all fields have are
        averaged.

    Raises
    ------
    ValueError
        If there is no field, or they are for images of different sizes.
    """
    layout = _Layout.of(fields, poll)
    typical = fields[_most_typical(fields, layout.size, poll)].to("cpu", torch.float32)

    def at_landmarks(field: KernelField) -> Tensor:
        return padded(field.kernels_at(layout.landmarks), layout.size)

    target = at_landmarks(typical)
    offsets = torch.stack([_offset(at_landmarks(field), target) for field in _polled(fields, poll)])
    at_a_time = max(1, _HELD // (len(fields) * layout.size**2))
    kernels = torch.cat(
        [
            _medians(fields, offsets, places, layout.size, poll)
            for places in layout.cells.split(at_a_time)
        ]
    )
    weights = torch.full((len(kernels),), 1 / len(kernels))
    kernels = in_place(kernels.flip(-2, -1), weights).flip(-2, -1)
    dense = KernelField(
        kernels,
        torch.eye(len(kernels)).reshape(-1, *layout.grid),
        typical.shape,
        {**typical.metadata, SHARED: {"fields": len(fields)}},
        _mean_maps(fields, layout, poll),
    )
    return dense.compress(_RANK, progress=lambda *_: poll())


def share_field(series: Series, numbers: Sequence[int], poll: Callable[[], None]) -> None:
    """Write the field that frames of a series share, unless it is there.

    It notes which frames these are. One of others, some of which had failed, is made again, and
    what was deblurred with it is removed.
    """
    if not numbers:
        return
    forget_shared(series, numbers)
    if series.shared_path.exists():
        return
    before = torch.get_num_threads()
    torch.set_num_threads(series.record.threads)
    try:
        field = median_field(_Stored(series, numbers), poll)
        noted = {**field.metadata[SHARED], FRAMES: list(numbers)}
        field.with_metadata(**{SHARED: noted}).save(series.shared_path)
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class _Layout:
    """Where fields are compared.

    Attributes
    ----------
    size : int
        Side of the largest kernels.
    grid : (int, int)
        Cells of the common grid.
    cells, landmarks : Tensor
        Their middles, and places by which fields are aligned: (N, 2), in pixels.
    maps : list of str
        Names of the maps that all fields have.
    """

    size: int
    grid: tuple[int, int]
    cells: Tensor
    landmarks: Tensor
    maps: list[str]

    @classmethod
    def of(cls, fields: Sequence[KernelField], poll: Callable[[], None]) -> _Layout:
        size, grid, names, shape = 1, [1, 1], None, None
        for field in _polled(fields, poll):
            shape = shape or field.shape
            if field.shape != shape:
                raise ValueError(
                    f"fields can only be shared by images of one size, not {shape} and "
                    f"{field.shape}"
                )
            size = max(size, field.kernel_size)
            cells = field.mixing.shape[1:]
            grid = [min(max(a, b), _MOST_CELLS) for a, b in zip(grid, cells, strict=True)]
            names = field.maps.keys() & (field.maps if names is None else names)
        if shape is None:
            raise ValueError("there is no field to be shared")
        landmarks = [min(_LANDMARKS, n) for n in shape]
        return cls(
            size,
            (grid[0], grid[1]),
            _middles(shape, grid),
            _middles(shape, landmarks),
            sorted(names or ()),
        )


class _Stored(Sequence[KernelField]):
    """The fields of frames, read from their files whenever they are looked at."""

    def __init__(self, series: Series, numbers: Sequence[int]) -> None:
        self._series = series
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: Any) -> Any:
        return self._series.own_field(self._numbers[index])


def _polled(fields: Sequence[KernelField], poll: Callable[[], None]) -> Iterator[KernelField]:
    for index in range(len(fields)):
        poll()
        yield fields[index].to("cpu", torch.float32)


def _middles(shape: Sequence[int], cells: Sequence[int]) -> Tensor:
    """Middles of cells that tile an image, row by row: (N, 2), in pixels."""
    axes = [
        (torch.arange(count, dtype=torch.float64) + 0.5) * (length / count) - 0.5
        for length, count in zip(shape, cells, strict=True)
    ]
    return torch.cartesian_prod(*axes)


def _most_typical(fields: Sequence[KernelField], size: int, poll: Callable[[], None]) -> int:
    """Index of the field whose mean kernel is most alike to those of the others."""
    step = max(1, len(fields) // _CANDIDATES)
    candidates = range(0, len(fields), step)
    chosen = [fields[index].to("cpu", torch.float32).mean_kernel() for index in candidates]
    means = torch.stack([padded(mean, size) for mean in chosen])
    alike = []
    for mean in means:
        poll()
        alike.append(kernel_similarity(mean, means).sum())
    return candidates[int(torch.stack(alike).argmax())]


def _offset(kernels: Tensor, target: Tensor) -> Tensor:
    """Whole pixels (y, x) by which kernels, moved together, are most like those of `target`."""
    size = kernels.shape[-1]
    length = next_fast_len(2 * size - 1, real=True)
    moved, fixed = (torch.fft.rfft2(part, s=(length, length)) for part in (kernels, target))
    match = torch.fft.irfft2((moved.conj() * fixed).sum(0), s=(length, length))
    offset = torch.tensor(divmod(int(match.argmax()), length))
    return torch.where(offset > length // 2, offset - length, offset)


def _medians(
    fields: Sequence[KernelField],
    offsets: Tensor,
    places: Tensor,
    size: int,
    poll: Callable[[], None],
) -> Tensor:
    """Medians of aligned kernels at places (N, 2): (N, K, K), with sum 1."""
    held = np.empty((len(fields), len(places), size, size), np.float32)
    for index, field in enumerate(_polled(fields, poll)):
        kernels = padded(field.kernels_at(places), size)
        held[index] = shift(kernels, offsets[index].expand(len(kernels), 2)).numpy()
    mean = torch.from_numpy(held.mean(0))
    median = torch.from_numpy(np.median(held, axis=0, overwrite_input=True))
    total = median.sum((-2, -1), keepdim=True)
    # Kernels that have hardly a tap in common have no median worth the name.
    median = torch.where(total > _LEAST_IN_COMMON, median, mean)
    return median / median.sum((-2, -1), keepdim=True)


def _mean_maps(
    fields: Sequence[KernelField], layout: _Layout, poll: Callable[[], None]
) -> dict[str, Tensor]:
    """Means of the maps that all fields have, on the common grid."""
    sums = {name: torch.zeros(layout.grid) for name in layout.maps}
    for field in _polled(fields, poll) if sums else ():
        for name, total in sums.items():
            values = read_points(field.maps[name][None], field.shape, layout.cells)
            total += values.reshape(layout.grid)
    return {name: total / len(fields) for name, total in sums.items()}
