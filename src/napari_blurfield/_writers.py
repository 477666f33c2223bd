"""Save the blur field of layers as a ``.blurfield`` file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blurfield import KernelField


def write_field(path: str, layers: list[tuple[Any, dict[str, Any], str]]) -> list[str]:
    """Save the field that the layers were made from.

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
        If the layers hold no field, or several. (napari takes a ValueError for "no writer found"
        and would hide the message.)
    """
    from .layers import FIELD

    fields: list[KernelField] = []
    for _, attributes, _ in layers:
        field = attributes.get("metadata", {}).get(FIELD)
        if field is not None and not any(field is known for known in fields):
            fields.append(field)
    names = ", ".join(repr(attributes.get("name", "")) for _, attributes, _ in layers)
    if not fields:
        raise TypeError(
            f"there is no blur field in {names}; select a layer that 'Estimate blur field' made"
        )
    if len(fields) > 1:
        raise TypeError(f"{names} belong to {len(fields)} blur fields; select layers of one")
    if not path.lower().endswith(".blurfield"):
        path += ".blurfield"
    fields[0].save(path)
    return [path]


def write_one(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save the field of a single layer; see `write_field`."""
    return write_field(path, [(data, attributes, "")])
