"""Vectors as tables, with or without a note of where they lie and how they were made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.layers import Vectors
    from numpy.typing import NDArray

    from .layers import LayerData

#: Ending of the names of tables with a note, by which napari offers our reader.
NOTED = ".blurfield.csv"

#: What the first line of such a table begins with.
_MARK = "# blurfield: "
#: The feature that our vectors are coloured by; layers don't tell which one theirs are.
_COLORING = "length"
_LOOK = ("opacity", "blending", "edge_width", "length", "vector_style")


def write_vectors(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save a Vectors layer as a table with a row for each vector.

    Parameters
    ----------
    path : str
        Gets the extension ``.csv`` if it has another one or none. With ``.blurfield.csv``, a first
        line that begins with ``#`` tells what napari knows of the layer, for `read_vectors`.
    data : array-like, shape (N, 2, D)
        Origins and projections, in pixels.
    attributes : dict
        Of the layer; its features become columns.

    Returns
    -------
    list of str
        The file that was written: columns ``index``, ``axis-0`` … (origin, as in napari's tables of
        points), ``vector-0`` … (projection), and the features.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    from napari.layers import Vectors

    from blurfield.files import atomic_write

    if not path.lower().endswith(".csv"):
        path += ".csv"
    layer = Vectors(data, **attributes)
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        if path.lower().endswith(NOTED):
            file.write(_MARK + json.dumps(_note(layer), allow_nan=False) + "\n")
        _table(layer).to_csv(file, index=False)
    return [path]


def read_vectors(path: str | list[str]) -> list[LayerData]:
    """Read tables with a note, as the layers that they were.

    Raises
    ------
    ValueError, OSError
        If a file cannot be read, or has no note.
    """
    return [_read(one) for one in ([path] if isinstance(path, str) else path)]


def _table(layer: Vectors) -> Any:
    import numpy as np
    from pandas import DataFrame

    vectors = np.asarray(layer.data)
    columns: dict[str, Any] = {"index": np.arange(len(vectors))}
    columns |= {f"axis-{i}": vectors[:, 0, i] for i in range(vectors.shape[2])}
    columns |= {f"vector-{i}": vectors[:, 1, i] for i in range(vectors.shape[2])}
    features = layer.features
    columns |= {name: features[name].to_numpy() for name in features if name not in columns}
    return DataFrame(columns)


def _note(layer: Vectors) -> dict[str, Any]:
    from ._layer_notes import colormap_note, note_of

    note = {**note_of(layer, _LOOK), "ndim": layer.ndim}
    limits = layer.edge_contrast_limits
    if limits is not None and _COLORING in layer.features:
        note["color"] = {
            "feature": _COLORING,
            "colormap": colormap_note(layer.edge_colormap),
            "limits": [float(limit) for limit in limits],
        }
    return note


def _read(path: str) -> LayerData:
    from pandas import read_csv

    from ._layer_notes import attributes_from, colormap_from

    with Path(path).open(encoding="utf-8", newline="") as file:
        first = file.readline()
        if not first.startswith(_MARK):
            raise ValueError(f"{path} is not a table that was saved with its place and history")
        try:
            note = json.loads(first.removeprefix(_MARK))
            table = read_csv(file)
            data, features = _vectors(table, int(note["ndim"]))
            attributes = {**attributes_from(note), "features": features}
            if "color" in note:
                color = note["color"]
                attributes["edge_color"] = color["feature"]
                attributes["edge_colormap"] = colormap_from(color["colormap"])
                attributes["edge_contrast_limits"] = tuple(color["limits"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged: {error}") from error
    return data, attributes, "vectors"


def _vectors(table: Any, ndim: int) -> tuple[NDArray[Any], Any]:
    """Return vectors and features of a table."""
    import numpy as np

    names = [[f"{kind}-{i}" for i in range(ndim)] for kind in ("axis", "vector")]
    parts = [table[columns].to_numpy(np.float32) for columns in names]
    return np.stack(parts, axis=1), table.drop(columns=["index", *names[0], *names[1]])


__all__ = ["NOTED", "read_vectors", "write_vectors"]
