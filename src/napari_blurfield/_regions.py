"""Parts of an image that somebody drew: rectangles and polygons, or a label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Region:
    """A part of an image.

    Parameters
    ----------
    name : str
        For people.
    rows, cols : slice
        The smallest box of whole pixels around it, within the image.
    mask : ndarray of bool, optional
        Which pixels of the box belong to it; all by default.
    """

    name: str
    rows: slice
    cols: slice
    mask: NDArray[np.bool_] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return name and box as plain JSON."""
        return {
            "name": self.name,
            "rows": [self.rows.start, self.rows.stop],
            "cols": [self.cols.start, self.cols.stop],
        }
