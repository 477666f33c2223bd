"""How an image is cut into overlapping tiles for a network, which sees beyond what it writes."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

__all__ = ["Tile", "faded", "overlapping_tiles"]


class Tile(NamedTuple):
    """A part of an image; each attribute is a pair of rows and columns.

    Attributes
    ----------
    seen : (slice, slice)
        Of the image: the tile with what overlaps its neighbours.
    inside : (slice, slice)
        Of what is seen: the tile alone.
    written : (slice, slice)
        Of the image: the tile alone. These parts cover the image once.
    """

    seen: tuple[slice, slice]
    inside: tuple[slice, slice]
    written: tuple[slice, slice]


def overlapping_tiles(
    height: int, width: int, *, most: int, overlap: int, multiple: int
) -> Iterator[Tile]:
    """Cut an image into tiles.

    Parameters
    ----------
    height, width : int
        The image.
    most : int
        Pixels that a tile may see, unless that would make it smaller than its overlap.
    overlap : int
        Pixels beyond each side of a tile that it sees, as far as there are any.
    multiple : int
        What is seen begins at multiples of this, so that networks which halve images find the
        pixels of a tile grouped like those of the whole image.

    Yields
    ------
    Tile
    """
    rows = cols = 1
    while _seen(height, rows, overlap) * _seen(width, cols, overlap) > most:
        tall = height * cols > width * rows
        if (height // rows if tall else width // cols) <= overlap:
            break
        rows, cols = rows + tall, cols + (not tall)
    for down in _spans(height, rows, overlap, multiple):
        for across in _spans(width, cols, overlap, multiple):
            yield Tile(*zip(down, across, strict=True))


def faded(written: slice, length: int, feather: int) -> tuple[slice, Tensor]:
    """How a tile goes over into the next ones along an axis.

    Parameters
    ----------
    written : slice
        The tile alone.
    length : int
        Of the image.
    feather : int
        Pixels on each side of a border over which tiles go over into each other; no more than half
        of the smallest tile.

    Returns
    -------
    used : slice
        Pixels to which the tile contributes.
    weight : Tensor
        By how much, for each of them. At each pixel of the image, weights of all tiles sum to 1.
    """
    used = slice(max(0, written.start - feather), min(length, written.stop + feather))
    place = torch.arange(used.start, used.stop) + 0.5
    weight = torch.ones(len(place))
    if written.start > 0:
        weight *= ((place - written.start) / (2 * feather) + 0.5).clamp(max=1)
    if written.stop < length:
        weight *= ((written.stop - place) / (2 * feather) + 0.5).clamp(max=1)
    return used, weight


def _seen(length: int, parts: int, overlap: int) -> int:
    """Pixels of an axis that the longest of its parts sees."""
    return min(length, ceil(length / parts) + (2 * overlap if parts > 1 else 0))


def _spans(
    length: int, parts: int, overlap: int, multiple: int
) -> Iterator[tuple[slice, slice, slice]]:
    """What each part of an axis sees, its own pixels among these, and its own pixels."""
    step = multiple * ceil(length / (parts * multiple))
    for start in range(0, length, step):
        stop = min(start + step, length)
        first = max(0, start - multiple * ceil(overlap / multiple))
        last = min(length, stop + overlap)
        yield slice(first, last), slice(start - first, stop - first), slice(start, stop)
