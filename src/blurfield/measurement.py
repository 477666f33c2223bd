"""Tables of blur over the frames of time-lapses: which frames are blurred, and how much."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

from .files import atomic_write

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from .field import KernelField
    from .frames import Frames
    from .quantities import Row

__all__ = ["label_frames", "measure_frames", "write_table"]

#: Decimals of the figures in a table.
_DECIMALS = 4


def measure_frames(
    frames: Frames,
    field_of: Callable[[int], KernelField],
    labels: Callable[[int], NDArray[np.integer[Any]] | None] = lambda _: None,
    *,
    numbers: Iterable[int] | None = None,
    threshold: float = 0.25,
    min_extent: float | None = None,
    pixel_size: float | tuple[float, float] = 1.0,
    on_bad: Callable[[int, ValueError], None] | None = None,
) -> Iterator[list[Row]]:
    """Measure the blur of one frame after the other.

    Parameters
    ----------
    frames : Frames
        The images.
    field_of : callable
        Returns the kernel field of the frame of a number.
    labels : callable
        Returns the regions (H, W) of the frame of a number; by default, the frame is one region.
    numbers : iterable of int, optional
        Which frames; all of them by default.
    threshold, min_extent, pixel_size
        See `blurfield.blur_statistics`.
    on_bad : callable, optional
        Called with the number of a frame that cannot be measured, and the reason; the frame is left
        out then. By default, the reason is raised.

    Yields
    ------
    list of dict
        Of each frame, a row for each region: ``frame``, the frame's position on each axis, and the
        columns of `blurfield.blur_statistics`.
    """
    options = {"threshold": threshold, "min_extent": min_extent, "pixel_size": pixel_size}
    for number in range(len(frames)) if numbers is None else numbers:
        try:
            rows = _rows(field_of(number), labels(number), options)
        except ValueError as error:
            if on_bad is None:
                raise
            on_bad(number, error)
            continue
        place = {"frame": number, **frames.position(number)}
        yield [{**place, **row} for row in rows]


def _rows(
    field: KernelField, labels: NDArray[Any] | None, options: dict[str, Any]
) -> Iterator[Row]:
    from .region_statistics import blur_statistics

    table = blur_statistics(field, labels, **options)
    for figures in zip(*table.values(), strict=True):
        yield {name: figure.item() for name, figure in zip(table, figures, strict=True)}


def label_frames(labels: Frames, images: Frames) -> Callable[[int], NDArray[Any]]:
    """Return the function that gives the labels of each frame.

    Parameters
    ----------
    labels : Frames
        One label image for all frames, or one for each.
    images : Frames
        The images to be measured.

    Raises
    ------
    ValueError
        If there are neither one nor as many label images as frames, or they are of another shape.
    """
    first = 0 if images.channel_axis is None else 1
    shape = images.shape[first : first + 2]
    if labels.shape != shape:
        raise ValueError(
            f"labels must have the shape of the frames, {shape}, but have {labels.shape}"
        )
    if len(labels) not in (1, len(images)):
        raise ValueError(
            f"there are {len(labels)} label images for {len(images)} frames; there has to be one "
            "for all of them or one for each"
        )
    return lambda number: labels[number if len(labels) > 1 else 0]


def write_table(path: str | os.PathLike[str], rows: Sequence[Row]) -> None:
    """Write rows as a CSV file with a header, completely or not at all.

    Numbers have up to four decimals; what is not known is left empty.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows({name: _text(value) for name, value in row.items()} for row in rows)


def _text(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if value != value else round(value, _DECIMALS)  # NaN is unlike itself
