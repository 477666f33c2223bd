"""TIFF files of images with a note: pixel size, axes, and plain JSON about what the image is.

They are OME-TIFF wherever that knows the number type, so that programs for microscopy find the
pixel size; the note is the description of the image. Others have the same in JSON.
"""

from __future__ import annotations

import json
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from .files import DAMAGED, ArrayFile, atomic_write, require_file

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["read_annotated", "write_annotated"]

#: Key of the note within the description.
_KEY = "blurfield"
#: Number types that OME-TIFF has; booleans are written as the numbers 0 and 1.
_OME_TYPES = frozenset(
    ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64")
)
#: The most axes, colours not counted, that OME-TIFF takes with any names.
_OME_AXES = 5
#: Symbols of units in OME files, by the names that people write.
_SYMBOLS = {
    "angstrom": "Å",
    "centimeter": "cm",
    "inch": "in",
    "kilometer": "km",
    "meter": "m",
    "micrometer": "µm",
    "micron": "µm",
    "millimeter": "mm",
    "nanometer": "nm",
    "picometer": "pm",
    "pixel": "pixel",
    "um": "µm",
    "μm": "µm",  # the Greek letter, in place of the sign
}


def write_annotated(
    path: str | os.PathLike[str],
    array: Any,
    axes: str,
    note: Mapping[str, Any],
    pixel_size: Mapping[str, tuple[float, str]] | None = None,
) -> None:
    """Write an image with a note, completely or not at all.

    Parameters
    ----------
    path : path-like
        An existing file is replaced.
    array : array-like
        Anything that is indexed like a NumPy array; of data that are read or computed when looked
        at, one image is in memory at a time.
    axes : str
        A letter for each axis: Y and X, S after them for colours; before them T, Z, C, or others
        for anything else, each once.
    note : mapping
        Plain JSON.
    pixel_size : mapping, optional
        Size and unit of a pixel along X, Y and Z.

    Raises
    ------
    ValueError
        If the axes don't suit the array, or it holds no real numbers.
    OSError
        If the file cannot be written.
    """
    import tifffile

    if len(axes) != array.ndim or len(set(axes)) != array.ndim or not {"Y", "X"} <= set(axes):
        raise ValueError(f"axes {axes!r} do not name each axis of the shape {array.shape} once")
    dtype = np.dtype(array.dtype)
    if dtype.kind not in "buif":
        raise ValueError(f"cannot write {path}: values of type {dtype} are not real numbers")
    stored = np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")
    colours = axes.endswith("S")
    options: dict[str, Any] = {"photometric": "rgb" if colours else "minisblack"}
    if colours and array.shape[-1] == 4:
        options["extrasamples"] = ["unassalpha"]
    description = json.dumps(
        {_KEY: dict(note), "dtype": dtype.name, "shape": list(array.shape)}, allow_nan=False
    )
    metadata: dict[str, Any] = {"axes": axes, "Description": description}
    for axis, (size, unit) in (pixel_size or {}).items():
        metadata[f"PhysicalSize{axis}"] = size
        metadata[f"PhysicalSize{axis}Unit"] = _SYMBOLS.get(unit, unit)
    with atomic_write(path) as temporary, ArrayFile(temporary) as file:
        tifffile.imwrite(
            file,
            _images(array, stored, 3 if colours else 2),
            shape=array.shape,
            dtype=stored,
            ome=stored.name in _OME_TYPES and len(axes) - colours <= _OME_AXES,
            metadata=metadata,
            **options,
        )


def read_annotated(path: str | os.PathLike[str]) -> tuple[NDArray[Any], dict[str, Any]]:
    """Read a file that `write_annotated` wrote.

    Parameters
    ----------
    path : path-like
        A TIFF file.

    Returns
    -------
    array : numpy.ndarray
        Mapped to the file, not read, where that is possible. It can be written to; the file stays
        as it is.
    note : dict

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a TIFF file, damaged, or has no note.
    """
    import tifffile

    file = require_file(path)
    try:
        with tifffile.TiffFile(file) as tif:
            stored = json.loads(_description(tif))
            note, dtype = dict(stored[_KEY]), np.dtype(stored["dtype"])
            array = _array(tif, file).reshape(stored["shape"])
    except PermissionError as error:
        raise PermissionError(f"cannot read {path}: {error.strerror or error}") from error
    except (*DAMAGED, TypeError) as error:
        raise ValueError(
            f"{path} is not an image that was saved with its place and history: {error}"
        ) from error
    return array.view(dtype) if dtype.kind == "b" else array, note


def _images(array: Any, dtype: np.dtype[Any], inner: int) -> Iterator[NDArray[Any]]:
    """One image of a stack after the other."""
    sizes = array.shape[:-inner]
    for number in range(prod(sizes)):
        yield np.ascontiguousarray(
            array[np.unravel_index(number, sizes)] if sizes else array, dtype
        )


def _description(tif: Any) -> str:
    """Return the note of a file as text."""
    if not tif.is_ome:
        shaped: dict[str, Any] = tif.shaped_metadata[0] if tif.shaped_metadata else {}
        return str(shaped.get("Description", ""))
    import tifffile

    return str(tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Description"])


def _array(tif: Any, file: Path) -> NDArray[Any]:
    series = tif.series[0]
    if series.dataoffset is None:
        array: NDArray[Any] = series.asarray()
        return array
    dtype = series.dtype.newbyteorder(tif.byteorder)
    return np.memmap(file, dtype, "c", series.dataoffset, series.shape)
