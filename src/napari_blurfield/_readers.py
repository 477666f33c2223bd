"""Open ``.blurfield`` files as the layers that estimation adds, and layers saved one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .layers import LayerData

    #: Opens one path or several.
    Reader = Callable[[str | list[str]], list[LayerData]]

_SUFFIX = ".blurfield"


def get_reader(path: str | list[str]) -> Reader | None:
    """Return a function that reads `path`, or None if these are not files of this plugin."""
    from ._image_files import SUFFIXES, read_images
    from ._vector_files import NOTED, read_vectors

    paths = [path.lower()] if isinstance(path, str) else [p.lower() for p in path]
    if all(p.endswith(_SUFFIX) for p in paths):
        return read_fields
    if all(p.endswith(NOTED) for p in paths):
        return read_vectors
    return read_images if all(p.endswith(SUFFIXES) for p in paths) else None


def read_fields(path: str | list[str]) -> list[LayerData]:
    """Read blur fields; they lie where the images lay that they were estimated from.

    Raises
    ------
    ValueError, OSError
        If a file cannot be read, or is not a blur field.
    """
    from pathlib import Path

    from blurfield import KernelField

    from .layers import field_layers, source_name

    layers: list[LayerData] = []
    for one in [path] if isinstance(path, str) else path:
        field = KernelField.load(one)
        layers += field_layers(field, name=source_name(field, Path(one).stem))
    return layers
