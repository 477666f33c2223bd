"""How large a pixel of an image is, in the unit that people measure in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._spatial import PIXEL

if TYPE_CHECKING:
    from ._spatial import Placement


@dataclass(frozen=True)
class PixelSize:
    """Sides of the pixels of an image.

    Parameters
    ----------
    sides : (float, float)
        Height and width in the unit.
    unit : str
        Symbol of the unit; ``"px"`` where pixels have no known size.
    """

    sides: tuple[float, float] = (1.0, 1.0)
    unit: str = "px"

    @classmethod
    def of(cls, placement: Placement) -> PixelSize:
        """Return the size of the pixels in the last two axes of an image.

        Where these are of different units, or of pixels, the size is not known.
        """
        units = set(placement.units[-2:])
        if len(units) > 1 or PIXEL in units:
            return cls()
        height, width = (abs(float(side)) for side in placement.scale[-2:])
        return cls((height, width), symbol(units.pop()))

    @property
    def is_physical(self) -> bool:
        """Whether there is a unit other than pixels."""
        return self.unit != "px"

    @property
    def is_square(self) -> bool:
        """Whether a number of pixels is the same length in every direction."""
        return math.isclose(*self.sides, rel_tol=1e-6)

    @property
    def area(self) -> float:
        """Area of a pixel in the square of the unit."""
        return self.sides[0] * self.sides[1]

    @property
    def side(self) -> float:
        """Side of a square of the same area."""
        return float(self.area**0.5)


def symbol(unit: str) -> str:
    """Return the symbol of a unit, as napari's scale bar does: ``µm`` for ``micrometer``."""
    import pint

    registry = pint.get_application_registry()  # type: ignore[no-untyped-call]
    return f"{registry.Unit(unit):~P}"
