"""How far apart the vectors of a field lie, and how they look."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ._settings import defaults

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from blurfield import KernelField

#: Colours of short to long motion: lighter and lighter, and none of them lost on black or white.
_EXTENT_COLORS = ((0.36, 0.49, 1.0), (1.0, 0.31, 0.64), (1.0, 0.85, 0.18))


def vector_spacing(field: KernelField) -> int:
    """Return the distance of vectors in pixels: that of the settings, or what suits the field.

    That is some twenty on the longer side, with room for each.
    """
    suitable = max(8, math.ceil(max(field.shape) / 20), round(field.kernel_size * 0.8))
    return defaults().spacing or suitable


def vectors_look(features: Mapping[str, NDArray[Any]], spacing: float) -> dict[str, Any]:
    """Return how vectors look: coloured by the extent of the blur that they show."""
    from napari.utils.colormaps import Colormap

    return {
        "features": features,
        "edge_color": "length",
        "edge_colormap": Colormap(_EXTENT_COLORS, name="blur extent"),
        "edge_contrast_limits": (1.0, max(float(features["length"].max(initial=1.0)), 2.0)),
        "edge_width": max(1.0, spacing / 14),
        "opacity": 1.0,
        # A line, not an arrow: a photograph does not tell which way along it the motion went.
        "vector_style": "line",
    }


__all__ = ["vector_spacing", "vectors_look"]
