"""Scripts that make a layer again, outside napari and to the bit."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from ._recipe import RECIPE, recipe_of
from ._series_script import series_script
from .layers import FACTS, FIELD_ROLES, fields_of_stack, find_field

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from napari.layers import Layer

#: Characters of a line, beyond which each argument of a call gets a line of its own.
_LINE = 92

#: Facts about a mask that are options of `blurfield.blur_mask`.
_MASK_OPTIONS = ("threshold", "min_extent", "pixel_size", "min_area")


def as_python(layer: Layer) -> str:
    """Return a Python script that makes the layer again without napari.

    Parameters
    ----------
    layer : napari.layers.Layer
        A layer that this plugin added.

    Returns
    -------
    str
        It reads the image from the file that it was opened from, or has a marked line where to load
        it, and checks that it is the same; and ends with writing the result to a file. With the
        same versions, on a CPU of the same kind, the result is the same to the bit.

    Raises
    ------
    ValueError
        If this plugin didn't make the layer, or it was made before layers told how.
    """
    facts = layer.metadata.get(FACTS)
    if not isinstance(facts, dict) or "role" not in facts:
        raise ValueError(f"layer {layer.name!r} was not made by Blurfield; select one that was")
    role = facts["role"]
    if (fields := fields_of_stack(layer)) is not None:
        path = fields.stack.first.path
        reader = ("import numpy as np", "np.load") if path is None else _reader(path)
        source = _literal("STACK.npy" if path is None else path)
        return series_script(fields, _words(layer.name), reader, source)
    if facts.get("parameters", {}).get("regions") and RECIPE not in facts:
        raise ValueError(
            f"layer {layer.name!r} was deblurred in several regions, or in one that is no "
            "rectangle; there are scripts for one rectangle only"
        )
    recipe = _recipe(layer, facts)
    if recipe is None:
        raise ValueError(f"layer {layer.name!r} does not tell how it was made")
    script = _Script(recipe)
    script.add_inputs()
    script.add_steps()
    if role in FIELD_ROLES:
        script.add_field_view(role, facts, layer.name)
    elif role == "residual":
        mean = ".mean(axis=-1)" if facts["parameters"]["mean_of_colours"] else ""
        script.write_image(f"{script.result}.image{mean}", layer.name)
    else:
        script.write_image(script.result, layer.name)
    return script.text(layer.name)


def _recipe(layer: Layer, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the recipe of a result, or of the field that a layer shows."""
    if facts["role"] not in FIELD_ROLES:
        return facts.get(RECIPE)
    field = find_field(layer)
    stored = facts.get("made_by", {}).get(RECIPE) or {}
    found = stored if stored.get("field") == facts.get("field") else None
    if found is None and field is not None:
        found = recipe_of(field)
    about = {"kind": "field", "name": layer.name, "id": facts.get("field")}
    return found or {"inputs": {"field": about}, "steps": []}


class _Script:
    """Lines of a script, and what they import."""

    def __init__(self, recipe: Mapping[str, Any]) -> None:
        self._recipe = recipe
        self._imports = {"import blurfield as bf"}
        self._lines: list[str] = []
        self._threads: int | None = None
        self.result = "field"

    def text(self, name: str) -> str:
        """Return the script."""
        versions = self._recipe.get("versions", {})
        used = ", ".join(f"{key} {value}" for key, value in versions.items())
        about = f'"""Makes {_words(name)} again, as Blurfield made it in napari.\n'
        if used:
            about += f"\nMade with {used}.\n{self._promise()}\n"
        standard = {"import hashlib"} & self._imports
        ours = {line for line in self._imports if "blurfield" in line}
        groups = [standard, self._imports - standard - ours, ours]
        heads = ["\n".join(sorted(group, key=_import_order)) for group in groups if group]
        return "\n\n".join([about + '"""', *heads, "\n".join(self._lines).strip()]) + "\n"

    def _promise(self) -> str:
        devices = {step["options"].get("device", "cpu") for step in self._recipe["steps"]} - {"cpu"}
        if devices:
            return f"On the same {', '.join(devices)}, the result is the same but for rounding."
        return "With these, the result is the same to the bit."

    def add_inputs(self) -> None:
        """Load what everything begins with."""
        for name, about in self._recipe["inputs"].items():
            if about["kind"] == "field":
                self._lines += [
                    f"# >>> Put the file of this blur field here: {_words(about['name'])} did not "
                    "tell how it was made.",
                    f'{name} = bf.KernelField.load("{name.upper()}.blurfield")',
                    "",
                ]
            else:
                self._add_image(name, about)

    def _add_image(self, name: str, about: Mapping[str, Any]) -> None:
        path = about.get("path")
        index = _index(about)
        self._imports |= {"import hashlib", "import numpy as np"}
        if path is None:
            self._lines += [
                f"# >>> Load the image here: {_words(about['layer'])} was not opened from a file.",
                f'{name} = np.load("{name.upper()}.npy"){index}',
            ]
        else:
            module, call = _reader(path)
            self._imports.add(module)
            self._lines.append(f"{name} = {call}({_literal(path)}){index}")
        self._lines += [
            f"if hashlib.sha256(np.ascontiguousarray({name})).hexdigest() != (",
            f'    "{about["sha256"]}"',
            "):",
            f'    raise SystemExit("{name} is not the image that napari had")',
            "",
        ]

    def add_steps(self) -> None:
        """Repeat the calls."""
        for step in self._recipe["steps"]:
            if step["threads"] != self._threads:
                self._threads = step["threads"]
                self._imports.add("import torch")
                self._lines.append(f"torch.set_num_threads({self._threads})")
            self._call(step["result"], step["function"], step["inputs"], step["options"])
            self.result = step["result"].split(", ")[0]

    def add_field_view(self, role: str, facts: Mapping[str, Any], name: str) -> None:
        """Make what a layer shows of a field, and write both."""
        field = self._field_name()
        image = self._recipe["inputs"].get("image", {}).get("name", name)
        self._lines.append(f'{field}.save("{_file_name(image)}.blurfield")')
        shown = field
        if facts.get("approximation"):
            kernels = facts["approximation"]["kernels"]
            shown = "shown"
            self._lines.append(f"shown = {field}.compress({kernels})")
        if role == "vectors":
            self._call("arrows", "motion_vectors", [field], {"spacing": facts["spacing"]})
            self._imports.add("import numpy as np")
            self._lines.append(f'np.save("{_file_name(name)}.npy", arrows)')
            return
        if role in ("mask", "regions"):
            self._add_mask(role, field, facts)
        elif role == "mosaic":
            self._imports.add("from blurfield.mosaic_pyramid import mosaic_pyramid")
            self._lines.append(f"mosaic = mosaic_pyramid({field}, 1)[0]")
        elif role == "mixing":
            self._lines.append(f"mixing = {shown}.mixing.numpy()")
        elif role == "basis":
            self._lines.append(f"basis = {shown}.rotated().basis.numpy()")
        else:
            self._lines.append(f'{role} = {shown}.maps["{role}"].numpy()')
        self.write_image(role, name)

    def _add_mask(self, role: str, field: str, facts: Mapping[str, Any]) -> None:
        """Say where the image is blurred, and divide that into regions if the layer does."""
        options = {key: facts[key] for key in _MASK_OPTIONS if facts.get(key)}
        self._call("mask", "blur_mask", [field], options)
        if role == "regions":
            options = _given(facts, "tolerance", "min_area")
            self._call("regions", "motion_regions", [field, "mask"], options)
        else:
            self._imports.add("import numpy as np")
            self._lines.append("mask = mask.astype(np.uint8)")

    def write_image(self, variable: str, name: str) -> None:
        """Write the result to a file beside the script."""
        self._imports.add("from blurfield.files import write_image")
        self._lines.append(f'write_image("{_file_name(name)}.tif", {variable})')

    def _field_name(self) -> str:
        steps = self._recipe["steps"]
        return str(steps[-1]["result"].split(", ")[-1]) if steps else "field"

    def _call(
        self, result: str, function: str, inputs: Iterable[str], options: Mapping[str, Any]
    ) -> None:
        arguments = [*inputs, *(f"{key}={_literal(value)}" for key, value in options.items())]
        module, _, name = function.rpartition(".")
        call = name if module else f"bf.{name}"
        if module:
            self._imports.add(f"from blurfield.{module} import {name}")
        line = f"{result} = {call}({', '.join(arguments)})"
        if len(line) > _LINE:
            line = f"{result} = {call}(\n    " + ",\n    ".join(arguments) + ",\n)"
        self._lines.append(line)


def _given(facts: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: facts[name] for name in names if facts.get(name) is not None}


def _reader(path: str) -> tuple[str, str]:
    """Return what to import, and what to call, to read a file as napari does."""
    lower = path.lower()
    if lower.endswith(".npy"):
        return "import numpy as np", "np.load"
    if lower.endswith((".tif", ".tiff")):
        return "import tifffile", "tifffile.imread"
    return "import imageio.v3 as iio", "iio.imread"


def _index(about: Mapping[str, Any]) -> str:
    """Return what picks the frame, and the region of it, as code; nothing for a whole image."""
    frame = list(about.get("frame", ()))
    region = about.get("region")
    if not frame and not region:
        return ""
    roles = about.get("axes") or ["frames"] * len(frame)
    left = iter(frame)
    index = [str(next(left)) if role == "frames" else ":" for role in roles]
    if region:
        index += [f"{first}:{last}" for first, last in (region["rows"], region["cols"])]
    return "[" + ", ".join(index) + "]"


def _import_order(line: str) -> tuple[bool, str]:
    return line.startswith("from"), line


def _literal(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _words(name: str) -> str:
    """Return a name for a comment or docstring: it must not end them."""
    return repr(name).replace('"""', "…").replace("\\", "/")


def _file_name(name: str) -> str:
    """Return a name that every system takes for a file."""
    return re.sub(r"[^\w\-. \[\]]+", "_", name).strip() or "result"


__all__ = ["as_python"]
