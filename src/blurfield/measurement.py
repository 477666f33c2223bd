"""Tables of blur over the frames of time-lapses: which frames are blurred, and how much."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

from .files import atomic_write
from .region_statistics import COLUMNS, blur_statistics

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from .field import KernelField
    from .frames import Frames

    Row = dict[str, Any]

__all__ = ["label_frames", "measure_frames", "write_table"]

#: Decimals of the figures in a table.
_DECIMALS = 4


def measure_frames(
    frames: Frames,
    field_of: Callable[[NDArray[Any]], KernelField],
    labels: Callable[[int], NDArray[np.integer[Any]] | None] = lambda _: None,
    *,
    threshold: float = 0.25,
    pixel_size: float = 1.0,
    limit: float | None = None,
) -> Iterator[list[Row]]:
    """Measure the blur of one frame after the other.

    Parameters
    ----------
    frames : Frames
        The images.
    field_of : callable
        Returns the kernel field of a frame.
    labels : callable
        Returns the regions (H, W) of the frame of a number; by default, the frame is one region.
    threshold, pixel_size : float
        See `blur_statistics`.
    limit : float, optional
        Median extent, in the unit of `pixel_size`, above which a region is ``flagged``.

    Yields
    ------
    list of dict
        Of each frame, a row for each region: ``frame``, the frame's position on each axis, the
        columns of `blur_statistics`, and ``flagged`` (0 or 1) if there is a limit.
    """
    for number in range(len(frames)):
        regions = labels(number)
        field = field_of(frames[number])
        table = blur_statistics(field, regions, threshold=threshold, pixel_size=pixel_size)
        place = {"frame": number, **frames.position(number)}
        rows: list[Row] = [
            {**place, **{name: table[name][region].item() for name in COLUMNS}}
            for region in range(len(table["label"]))
        ]
        if limit is not None:
            for row in rows:
                row["flagged"] = int(row["extent_median"] > limit)
        yield rows


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
        If there are neither one nor as many label images as frames.
    """
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
