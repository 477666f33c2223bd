"""Save the blur field of layers as a ``.blurfield`` file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeVar

    from napari.components import Dims

    from blurfield import KernelField

    from ._field_stack import FieldStack

    T = TypeVar("T")


def write_field(path: str, layers: list[tuple[Any, dict[str, Any], str]]) -> list[str]:
    """Save the field that the layers were made from; of a stack, that of the frame shown.

    Parameters
    ----------
    path : str
        Gets the extension ``.blurfield`` if it has another one or none.
    layers : list of (data, attributes, type)
        Layers of one field, any of them; an image beside them is let be.

    Returns
    -------
    list of str
        The file that was written.

    Raises
    ------
    TypeError
        If the layers hold no field, or several, or there is none of the frame shown. (napari takes
        a ValueError for "no writer found" and would hide the message.)
    """
    from .layers import FIELD, FIELDS

    fields: list[KernelField] = _each_once(layers, FIELD)
    stacks: list[FieldStack] = _each_once(layers, FIELDS)
    names = ", ".join(repr(attributes.get("name", "")) for _, attributes, _ in layers)
    if not fields and not stacks:
        raise TypeError(
            f"there is no blur field in {names}; select a layer that 'Estimate blur field' made"
        )
    if len(fields) + len(stacks) > 1:
        raise TypeError(
            f"{names} belong to {len(fields) + len(stacks)} blur fields; select layers of one"
        )
    if not path.lower().endswith(".blurfield"):
        path += ".blurfield"
    if fields:
        fields[0].save(path)
    else:
        _write_shown(path, stacks[0])
    return [path]


def write_one(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save the field of a single layer; see `write_field`."""
    return write_field(path, [(data, attributes, "")])


def _each_once(layers: Iterable[tuple[Any, dict[str, Any], str]], key: str) -> list[T]:
    found: list[T] = []
    for _, attributes, _ in layers:
        known = attributes.get("metadata", {}).get(key)
        if known is not None and not any(known is other for other in found):
            found.append(known)
    return found


def _write_shown(path: str, stack: FieldStack) -> None:
    """Save the field of the frame that the viewer shows, and say which that is."""
    from napari.utils.notifications import show_info

    from .layers import source_name

    dims = _dims()
    field = None if dims is None else stack.shown(dims)
    others = f"those of all frames are files in {stack.series.folder}"
    if dims is None:
        raise TypeError(f"no viewer shows which frame of {stack.name!r} to save; {others}")
    if field is None:
        raise TypeError(
            f"the frame of {stack.name!r} that is shown has no blur field; go to another one "
            f"({others})"
        )
    field.save(path)
    show_info(f"Saved the blur field of {source_name(field)}; {others}.")


def _dims() -> Dims | None:
    """Sliders of the viewer that is in use: writers are told of layers only."""
    from napari import current_viewer

    viewer = current_viewer()
    return None if viewer is None else viewer.dims
