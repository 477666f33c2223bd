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

    from napari.layers import Layer
    from numpy.typing import NDArray

    from blurfield import KernelField

    from ._source import Source

    Recipe = dict[str, Any]

#: Where a recipe is, in the metadata of a field and among the facts about a layer.
RECIPE = "recipe"

#: What a recipe tells of a layer that was an input; where it lay is told elsewhere.
_ABOUT_IMAGES = ("name", "layer", "path", "axes", "channels", "frame", "shape", "region")

#: What two steps have in common if they are the same.
_DECISIVE = ("function", "inputs", "options", "threads")

#: Arguments of `blurfield.deblur` that it chooses where it is not told, and then tells.
_RESOLVED = ("method", "variant", "gamma", "device", "memory")


def recipe_for(
    function: str,
    result: str,
    options: Mapping[str, Any],
    *,
    image: tuple[Source, NDArray[Any]] | None = None,
    field: KernelField | None = None,
    sharp: tuple[Source, NDArray[Any], Recipe | None] | None = None,
) -> Recipe:
    """Return the recipe of what a function of `blurfield` made just now, in this thread.

    Parameters
    ----------
    function : str
        Its name in `blurfield`, behind that of its module if it is not in the package itself.
    result : str
        Name of what it returned; several with commas between them.
    options : mapping
        Its keyword arguments as they were really used, ``"auto"`` resolved where that is known.
    image : (Source, ndarray), optional
        The image that it was given first, and its pixels.
    field : KernelField, optional
        The field that it was given next. What that was made by comes first in the recipe.
    sharp : (Source, ndarray, dict or None), optional
        A result that it was given before the image, its pixels, and its recipe if that is known.
    """
    import torch

    whole = _Whole()
    given = []
    if field is not None:
        given = [whole.join(recipe_of(field) or _of_unknown(field))[-1]]
    if image is not None:
        given.insert(0, whole.image("image", *image))
    if sharp is not None:
        source, pixels, earlier = sharp
        if earlier is not None and earlier.get("sha256") == pixels_digest(pixels):
            given.insert(0, whole.join(earlier)[0])
        else:
            given.insert(0, whole.image("sharp", source, pixels))
    step = {
        "function": function,
        "inputs": given,
        "options": json.loads(json.dumps(dict(options), default=str)),
        "result": result,
        "threads": torch.get_num_threads(),
    }
    return {"inputs": whole.inputs, "steps": [*whole.steps, step], "versions": _versions()}


class _Whole:
    """Inputs and steps of several recipes, each of them once."""

    def __init__(self) -> None:
        self.inputs: dict[str, Any] = {}
        self.steps: list[dict[str, Any]] = []

    def join(self, recipe: Recipe) -> list[str]:
        """Add what is not there yet; return the names of what the last step, or input, made."""
        names: dict[str, str] = {}
        made: list[str] = []
        for name, about in recipe["inputs"].items():
            names[name] = self._input(name, about)
            made = [names[name]]
        for step in recipe["steps"]:
            made = self._step({**step, "inputs": [names[name] for name in step["inputs"]]})
            names |= zip(step["result"].split(", "), made, strict=True)
        return made

    def image(self, name: str, source: Source, pixels: NDArray[Any]) -> str:
        """Return the name of an image among the inputs, where it is put if it isn't there yet."""
        stored = source.to_json()
        about = {key: stored[key] for key in _ABOUT_IMAGES if stored.get(key) is not None}
        return self._input(name, {"kind": "image", **about, "sha256": pixels_digest(pixels)})

    def _input(self, name: str, about: dict[str, Any]) -> str:
        key = "sha256" if about["kind"] == "image" else "id"
        for known, other in self.inputs.items():
            if about.get(key) is not None and other.get(key) == about[key]:
                return known
        name = self._free(name)
        self.inputs[name] = about
        return name

    def _step(self, step: dict[str, Any]) -> list[str]:
        """Return the names of a step's results, which is added if it isn't there yet."""
        for known in self.steps:
            if all(known[part] == step[part] for part in _DECISIVE):
                return list(known["result"].split(", "))
        names = [self._free(name) for name in step["result"].split(", ")]
        self.steps.append({**step, "result": ", ".join(names)})
        return names

    def _free(self, name: str) -> str:
        taken = {
            *self.inputs,
            *(name for step in self.steps for name in step["result"].split(", ")),
        }
        while name in taken:
            name = f"other_{name}"
        return name


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


def recipe_of_layer(layer: Layer | None) -> Recipe | None:
    """Return how the result that a layer shows was made, if it tells."""
    from .layers import FACTS

    facts = None if layer is None else layer.metadata.get(FACTS)
    return facts.get(RECIPE) if isinstance(facts, dict) else None


def with_digest(recipe: Recipe, pixels: NDArray[Any]) -> Recipe:
    """Return the recipe of a result, by which it is known whether that was changed since."""
    return {**recipe, "sha256": pixels_digest(pixels)}


def pixels_digest(pixels: NDArray[Any]) -> str:
    """Return what only images of the same pixels share."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def _of_unknown(field: KernelField) -> Recipe:
    """Return the recipe of a field that has to be read from a file."""
    from .layers import source_name

    about = {"kind": "field", "name": source_name(field), "id": _identity(field)}
    return {"inputs": {"field": about}, "steps": []}


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
