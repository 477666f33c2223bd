"""The part of an image that decides for all of it how fast an iteration may go.

Accelerated iterations slow down where they overshoot and end where little changes. Such decisions
hold for a whole image, also where it is restored in tiles. They are hence taken on one part that is
small enough to be restored alone and has most of what is difficult: texture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    #: Rows and columns of a part of an image.
    Part = tuple[slice, slice]

__all__ = ["SIDE", "pilot_part"]

#: Side of the part in pixels.
SIDE = 512


def pilot_part(shape: tuple[int, int], read: Callable[[Part], Tensor], side: int = 0) -> Part:
    """Return the part of an image with the most texture.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the image in pixels.
    read : callable
        Returns the planes (C, rows, columns) of a part of it.
    side : int
        Side of the part in pixels, by default `SIDE`. Smaller images are taken whole.

    Returns
    -------
    (slice, slice)
        Rows and columns.
    """
    side = side or SIDE
    rows, cols = (_spans(length, side) for length in shape)
    parts = [(down, across) for down in rows for across in cols]
    return max(parts, key=lambda part: _texture(read(part))) if len(parts) > 1 else parts[0]


def _spans(length: int, side: int) -> list[slice]:
    if length <= side:
        return [slice(0, length)]
    return [slice(start, start + side) for start in range(0, length - side + 1, side)]


def _texture(planes: Tensor) -> float:
    """Mean squared difference of neighbours."""
    down, across = planes.diff(dim=-2), planes.diff(dim=-1)
    return float(down.square_().mean()) + float(across.square_().mean())
