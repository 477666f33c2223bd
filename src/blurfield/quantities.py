"""Figures in which frames are compared, and flagged. Imports nothing heavy."""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    Row = dict[str, Any]

__all__ = ["QUANTITIES", "Quantity", "flag_rows", "unusual_from"]

#: Standard deviations of a normal distribution for one median distance from the median, and how
#: many of them are unusual.
_SIGMA, _MANY = 1.4826, 3.0
#: Differences that are usual in any case: of extents as a part of the median, of shares as such.
_LEAST_OF_EXTENT, _LEAST_OF_SHARE = 0.5, 0.1


class Quantity(NamedTuple):
    """A figure in which frames are compared.

    Attributes
    ----------
    name : str
        For people.
    kind : str
        ``"extent"`` in the unit of lengths, ``"share"`` from 0 to 1, or ``"angle"`` in degrees.
    worse : int
        1 if frames are worse the larger it is, −1 if they are worse the smaller it is, 0 if it says
        nothing about that.
    """

    name: str
    kind: str
    worse: int


#: Columns of `blurfield.blur_statistics` in which frames are compared.
QUANTITIES = {
    "extent_median": Quantity("median extent", "extent", 1),
    "extent_95": Quantity("95 % extent", "extent", 1),
    "blurred": Quantity("blurred share", "share", 1),
    "confidence": Quantity("confidence", "share", -1),
    "angle": Quantity("direction", "angle", 0),
}


def flag_rows(rows: Iterable[Row], limit: float | None, column: str = "extent_median") -> list[Row]:
    """Return rows with a column ``flagged``: 1 where a quantity is worse than a limit, else 0.

    Parameters
    ----------
    rows : iterable of dict
        As `measure_frames` gives them.
    limit : float or None
        Figures above it are worse, or below it for the confidence. With None, the rows are
        returned without the column.
    column : str
        The quantity, one of `QUANTITIES`.

    Raises
    ------
    ValueError
        If there is no such quantity, or it is neither good nor bad.
    """
    comparable = [name for name, quantity in QUANTITIES.items() if quantity.worse]
    if column not in comparable:
        known = ", ".join(repr(name) for name in comparable)
        raise ValueError(f"frames can be flagged by {known}, but not by {column!r}")
    bare = [{name: value for name, value in row.items() if name != "flagged"} for row in rows]
    if limit is None:
        return bare
    sign = QUANTITIES[column].worse
    return [{**row, "flagged": int(sign * row[column] > sign * limit)} for row in bare]


def unusual_from(rows: Iterable[Row], column: str = "extent_median") -> float:
    """Return the limit from which on a figure is worse than what is usual among rows.

    It lies three standard deviations from the median, and these are told by the median distance
    from the median, which a few bad frames do not change; but at least half of the median away for
    extents, and 0.1 for shares.

    Parameters
    ----------
    rows : iterable of dict
        As `measure_frames` gives them.
    column : str
        The quantity, one of `QUANTITIES`.

    Raises
    ------
    ValueError
        If no row has that figure.
    """
    figures = [row[column] for row in rows if math.isfinite(row.get(column, math.nan))]
    if not figures:
        raise ValueError(f"there are no figures for {column!r} to tell what is usual")
    middle = median(figures)
    spread = _MANY * _SIGMA * median(abs(figure - middle) for figure in figures)
    quantity = QUANTITIES[column]
    least = _LEAST_OF_SHARE if quantity.kind == "share" else _LEAST_OF_EXTENT * middle
    return float(middle + (-1 if quantity.worse < 0 else 1) * max(spread, least))
