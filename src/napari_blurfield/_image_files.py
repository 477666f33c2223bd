"""Images and labels in TIFF files that keep where they lie, how they look and how they were made.

napari's own writer and reader lose all of that. A file is an ordinary OME-TIFF for other programs;
what napari alone knows of a layer stands in its description.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._layer_notes import attributes_from, colormap_from, colormap_note, note_of
from ._picked_axes import stored_data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Layer

    from ._spatial import Placement
    from .layers import LayerData

#: Endings of the files' names, by which napari offers our reader.
SUFFIXES = (".blurfield.tif", ".blurfield.tiff")

_TIFF = (".tif", ".tiff")
#: Appearance of image layers that is plain JSON.
_IMAGE_LOOK = ("contrast_limits", "gamma", "blending", "opacity", "interpolation2d")
_LABELS_LOOK = ("blending", "opacity")
#: Letters for axes by their labels.
_LETTERS = {
    "t": "T", "time": "T", "frame": "T", "frames": "T",
    "z": "Z", "depth": "Z", "plane": "Z", "slice": "Z",
    "c": "C", "ch": "C", "channel": "C", "channels": "C",
}  # fmt: skip
#: Letters for all other axes, the first free one.
_OTHERS = "TZCQAHE"


def write_image(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save an image layer; see `write_layer`."""
    return write_layer(path, data, attributes, "image")


def write_labels(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save a Labels layer; see `write_layer`."""
    return write_layer(path, data, attributes, "labels")


def write_layer(path: str, data: Any, attributes: dict[str, Any], kind: str) -> list[str]:
    """Save a layer as a TIFF file with all that napari knows of it.

    Parameters
    ----------
    path : str
        Gets the extension ``.blurfield.tif`` if it has none of TIFF files.
    data, attributes, kind
        The layer, as npe2 writers get it. Of multiscale data the full resolution is saved.

    Returns
    -------
    list of str
        The file that was written.

    Raises
    ------
    TypeError
        If the values are no real numbers. (napari takes a ValueError for "no writer found" and
        would hide the message.)
    OSError
        If the file cannot be written.
    """
    from napari.layers import Layer

    from blurfield.annotated_tiff import write_annotated

    from ._spatial import Placement

    layer = Layer.create(data, dict(attributes), kind)
    placement = Placement.of_layer(layer)
    pixels = stored_data(layer)
    if not path.lower().endswith(_TIFF):
        path += SUFFIXES[0]
    letters = axis_letters(placement.axis_labels)
    rgb = bool(getattr(layer, "rgb", False))
    try:
        write_annotated(
            path,
            pixels,
            letters + "S" * rgb,
            _note(layer),
            _pixel_size(placement, letters),
        )
    except ValueError as error:
        raise TypeError(str(error)) from error
    return [path]


def read_images(path: str | list[str]) -> list[LayerData]:
    """Read images and labels that `write_layer` saved, as the layers that they were.

    Raises
    ------
    ValueError, OSError
        If a file cannot be read, or has no note of this plugin's.
    """
    return [_read(one) for one in ([path] if isinstance(path, str) else path)]


def restore(layer: Layer) -> None:
    """Give a layer back its place, look and history, which napari's own reader left in its file.

    Raises
    ------
    ValueError, OSError
        If the layer was not opened from such a file.
    """
    path = layer.source.path
    if path is None or not path.lower().endswith(_TIFF):
        raise ValueError(f"layer {layer.name!r} was not opened from a TIFF file")
    data, attributes, kind = _read(path)
    if data.shape != layer.data.shape or kind != type(layer).__name__.lower():
        raise ValueError(
            f"{Path(path).name} holds {kind} of shape {data.shape}, not what layer {layer.name!r} "
            "shows; use 'Open image saved by Blurfield…'"
        )
    layer.metadata = {**layer.metadata, **attributes.pop("metadata")}
    attributes.pop("rgb", None)
    for name, value in attributes.items():
        setattr(layer, name, value)


def axis_letters(labels: Sequence[str]) -> str:
    """Return a letter for each axis, of which the last two are Y and X."""
    known = [_LETTERS.get(label.strip().lower()) for label in labels[:-2]]
    free = iter([letter for letter in _OTHERS if letter not in known])
    letters = [
        next(free) if letter is None or letter in known[:axis] else letter
        for axis, letter in enumerate(known)
    ]
    return "".join([*letters, "Y", "X"])


def _pixel_size(placement: Placement, letters: str) -> dict[str, tuple[float, str]]:
    return {
        letter: (abs(float(size)), unit)
        for letter, size, unit in zip(letters, placement.scale, placement.units, strict=True)
        if letter in "XYZ" and size
    }


def _note(layer: Layer) -> dict[str, Any]:
    """Return what napari knows of a layer, as plain JSON."""
    from napari.layers import Labels

    if isinstance(layer, Labels):
        return {
            **note_of(layer, _LABELS_LOOK),
            "rgb": False,
            "colors": _label_colors(layer),
            "features": json.loads(layer.features.to_json(orient="split", double_precision=15)),
        }
    note = {**note_of(layer, _IMAGE_LOOK), "rgb": bool(layer.rgb)}
    return note if layer.rgb else {**note, "colormap": colormap_note(layer.colormap)}


def _read(path: str) -> LayerData:
    from blurfield.annotated_tiff import read_annotated

    data, note = read_annotated(path)
    try:
        kind = str(note["type"])
        attributes = attributes_from(note)
        if kind == "labels":
            attributes |= _labels_attributes(note)
        else:
            attributes["rgb"] = bool(note["rgb"])
        if "colormap" in note:
            attributes["colormap"] = colormap_from(note["colormap"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: what it tells of the layer is {error}") from error
    return data, attributes, kind


def _labels_attributes(note: dict[str, Any]) -> dict[str, Any]:
    from pandas import DataFrame

    stored = note["features"]
    features = DataFrame(stored["data"], columns=stored["columns"])
    for name in features:
        if features[name].isna().all():  # JSON has no NaN
            features[name] = features[name].astype(float)
    attributes: dict[str, Any] = {"features": features}
    if note["colors"] is not None:
        attributes["colormap"] = {key: tuple(color) for key, color in note["colors"]}
    return attributes


def _label_colors(layer: Layer) -> list[list[Any]] | None:
    """Return the colours of labels that have chosen ones; None where napari chooses."""
    from napari.utils.colormaps import DirectLabelColormap

    if not isinstance(layer.colormap, DirectLabelColormap):
        return None
    colors = layer.colormap.color_dict.items()
    return [[key if key is None else int(key), [float(x) for x in c]] for key, c in colors]


__all__ = ["SUFFIXES", "read_images", "restore", "write_image", "write_labels", "write_layer"]
