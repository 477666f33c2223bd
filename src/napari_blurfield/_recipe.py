"""How a result was made: the calls of `blurfield` that lead to it, as plain JSON.

A recipe has ``inputs``, by name: images of layers and fields from elsewhere; ``steps`` in order,
each with the function, the names of what it was given, its options as they were really used, the
name of its result and the number of threads; and the ``versions`` in use. Fields carry theirs in
their metadata, so that it is saved with them; results carry theirs in the metadata of the layer.
"""

from __future__ import annotations

import hashlib
import json
import platform
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from blurfield import KernelField

    from ._source import Source

    Recipe = dict[str, Any]

#: Where a recipe is, in the metadata of a field and among the facts about a layer.
RECIPE = "recipe"

#: What a recipe tells of a layer that was an input; where it lay is told elsewhere.
_ABOUT_IMAGES = ("name", "layer", "path", "axes", "channels", "frame", "shape", "region")

#: Arguments of `blurfield.deblur` that it chooses where it is not told, and then tells.
_RESOLVED = ("method", "variant", "gamma", "device", "memory")


def recipe_for(
    function: str,
    result: str,
    options: Mapping[str, Any],
    *,
    image: tuple[Source, NDArray[Any]] | None = None,
    field: KernelField | None = None,
) -> Recipe:
    """Return the recipe of what a function of `blurfield` made just now, in this thread.

    Parameters
    ----------
    function : str
        Its name in `blurfield`.
    result : str
        Name of what it returned; several with commas between them.
    options : mapping
        Its keyword arguments as they were really used, ``"auto"`` resolved where that is known.
    image : (Source, ndarray), optional
        The image that it was given first, and its pixels.
    field : KernelField, optional
        The field that it was given next. What that was made by comes first in the recipe.
    """
    import torch

    inputs: dict[str, Any] = {}
    steps: list[dict[str, Any]] = []
    given = []
    if field is not None:
        earlier = recipe_of(field) or _of_unknown(field)
        inputs, steps = dict(earlier["inputs"]), list(earlier["steps"])
        given = [_name_of_field(earlier)]
    if image is not None:
        given.insert(0, _named_image(inputs, *image))
    step = {
        "function": function,
        "inputs": given,
        "options": json.loads(json.dumps(dict(options), default=str)),
        "result": result,
        "threads": torch.get_num_threads(),
    }
    return {"inputs": inputs, "steps": [*steps, step], "versions": _versions()}


def lasting(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that say what was computed, without the callback of this run."""
    return {name: value for name, value in options.items() if name != "progress"}


def as_used(options: Mapping[str, Any], done: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `blurfield.deblur` as it used them, by what it tells of that."""
    return {**lasting(options), **{name: done[name] for name in _RESOLVED if name in done}}


def with_recipe(field: KernelField, recipe: Recipe) -> KernelField:
    """Return a field that knows how it was made."""
    return field.with_metadata(**{RECIPE: {**recipe, "field": _identity(field)}})


def recipe_of(field: KernelField) -> Recipe | None:
    """Return how a field was made; None if it doesn't know, or was changed since."""
    recipe = field.metadata.get(RECIPE)
    known = isinstance(recipe, dict) and recipe.get("field") == _identity(field)
    return recipe if known else None


def pixels_digest(pixels: NDArray[Any]) -> str:
    """Return what only images of the same pixels share."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def _named_image(inputs: dict[str, Any], source: Source, pixels: NDArray[Any]) -> str:
    """Return the name of an image among the inputs, where it is put if it isn't there yet."""
    digest = pixels_digest(pixels)
    for name, known in inputs.items():
        if known.get("sha256") == digest:
            return name
    stored = source.to_json()
    about = {key: stored[key] for key in _ABOUT_IMAGES if stored.get(key) is not None}
    name = "other_image" if "image" in inputs else "image"
    inputs[name] = {"kind": "image", **about, "sha256": digest}
    return name


def _of_unknown(field: KernelField) -> Recipe:
    """Return the recipe of a field that has to be read from a file."""
    from .layers import source_name

    about = {"kind": "field", "name": source_name(field), "id": _identity(field)}
    return {"inputs": {"field": about}, "steps": []}


def _name_of_field(recipe: Recipe) -> str:
    """Return the name that a field has after the steps that made it."""
    if not recipe["steps"]:
        return "field"
    name: str = recipe["steps"][-1]["result"].split(", ")[-1]
    return name


def _identity(field: KernelField) -> str:
    from .layers import field_id

    return field_id(field)


def _versions() -> dict[str, str]:
    import torch

    from blurfield import __version__

    return {
        "blurfield": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "processor": platform.machine(),
    }


__all__ = [
    "RECIPE",
    "as_used",
    "lasting",
    "pixels_digest",
    "recipe_for",
    "recipe_of",
    "with_recipe",
]
