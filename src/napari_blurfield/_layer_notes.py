"""What napari knows of a layer beside its data, as plain JSON for files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ._spatial import Placement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari.layers import Layer

#: Number of the note's format that this version writes; it reads all up to this one.
_FORMAT = 1


def note_of(layer: Layer, look: Sequence[str]) -> dict[str, Any]:
    """Return name, type, place, history and look of a layer.

    Parameters
    ----------
    layer : napari.layers.Layer
        A layer. Of its metadata, what is plain JSON is kept.
    look : sequence of str
        Attributes that say how it looks, and are plain JSON.
    """
    return {
        "format": _FORMAT,
        "type": type(layer).__name__.lower(),
        "name": layer.name,
        "place": Placement.of_layer(layer).to_json(),
        "look": {name: _plain(getattr(layer, name)) for name in look},
        "metadata": {key: value for key, value in layer.metadata.items() if _is_json(value)},
    }


def attributes_from(note: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `note_of` wrote as keyword arguments of a layer.

    Raises
    ------
    ValueError, KeyError, TypeError
        If something is missing or damaged, or was written by a newer version.
    """
    if int(note["format"]) > _FORMAT:
        raise ValueError("written by a newer version of this plugin")
    return {
        "name": str(note["name"]),
        "metadata": dict(note["metadata"]),
        **Placement.from_json(note["place"]).to_layer(),
        **note["look"],
    }


def colormap_note(colormap: Any) -> dict[str, Any]:
    """Return a colormap as plain JSON."""
    return {
        "name": colormap.name,
        "colors": colormap.colors.tolist(),
        "controls": colormap.controls.tolist(),
    }


def colormap_from(note: Mapping[str, Any]) -> Any:
    """Return the colormap that `colormap_note` wrote, by name if napari knows it."""
    from napari.utils.colormaps import AVAILABLE_COLORMAPS, Colormap

    if note["name"] in AVAILABLE_COLORMAPS:
        return note["name"]
    return Colormap(note["colors"], name=note["name"], controls=note["controls"])


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [float(one) for one in value]
    return value if isinstance(value, (int, float)) else str(value)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


__all__ = ["attributes_from", "colormap_from", "colormap_note", "note_of"]
