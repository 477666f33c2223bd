"""Scripts that make layers again outside napari."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from napari.layers import Image, Layer
from qtpy.QtGui import QGuiApplication

import blurfield
from blurfield import KernelField
from blurfield.files import read_image
from napari_blurfield import (
    deblur_layer,
    estimate_layers,
    find_field,
    mask_layer,
    residual_layer,
)
from napari_blurfield._commands import copy_as_python
from napari_blurfield._provenance import as_python
from napari_blurfield._readers import read_fields
from napari_blurfield._recipe import RECIPE, recipe_for, recipe_of, with_recipe
from napari_blurfield._source import Source
from napari_blurfield.layers import FACTS, role_of

RUN_ALL = "import runpy, sys; [runpy.run_path(path) for path in sys.argv[1:]]"


def created(layers):
    return [Layer.create(data, dict(attributes), kind) for data, attributes, kind in layers]


def run(folder, *scripts):
    """Run scripts in a process of their own, which never sees napari."""
    paths = []
    for number, script in enumerate(scripts):
        paths.append(folder / f"script{number}.py")
        paths[-1].write_text(script, "utf-8")
    guard = "import sys; sys.modules['napari'] = None; "
    return subprocess.run(
        [sys.executable, "-c", guard + RUN_ALL, *map(str, paths)],
        cwd=folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.fixture(scope="module")
def blurry():
    sharp = np.random.default_rng(1).random((13, 15)).repeat(6, 0).repeat(6, 1)
    sharp = (sharp * 60_000).astype(np.uint16)
    return blurfield.simulate(sharp, kind="linear", max_extent=7, seed=0)[0]


@pytest.fixture(scope="module")
def scripts(blurry, tmp_path_factory):
    """A field, a mask and a deblurred image of a frame of a file, and what their scripts made."""
    folder = tmp_path_factory.mktemp("scripts")
    stack = np.stack([blurry[::-1], blurry, blurry[:, ::-1]])
    tifffile.imwrite(folder / "série.tif", stack, photometric="minisblack")
    layer = opened(folder / "série.tif", "cells", axis_labels=("t", "y", "x"))
    layers = {role_of(x): x for x in created(estimate_layers(layer, frame=[1], kernel_size=9))}
    layers["mask"] = Layer.create(*mask_layer(layers["basis"], threshold=0.4, min_area=30))
    regions = mask_layer(layers["mask"], threshold=0.5, tolerance=3.0)
    layers["regions"] = Layer.create(*regions)
    layers["deblurred"] = Layer.create(
        *deblur_layer(
            layer, layers["mask"], frame=[1], method="richardson-lucy", iterations=4, strength=0.7
        )
    )
    process = run(folder, *map(as_python, layers.values()))
    assert process.returncode == 0, process.stderr
    return folder, layers


def opened(path, name, **options):
    """Return a layer as napari opens it from a file."""
    from napari.layers._source import layer_source

    with layer_source(path=str(path)):
        data = np.load(path) if path.suffix == ".npy" else tifffile.imread(path)
        return Image(data, name=name, **options)


def test_the_field_is_the_same_to_the_bit(scripts):
    folder, layers = scripts
    again, field = KernelField.load(folder / "cells [t 1].blurfield"), find_field(layers["mask"])
    assert again.basis.numpy().tobytes() == field.basis.numpy().tobytes()
    assert again.mixing.numpy().tobytes() == field.mixing.numpy().tobytes()


@pytest.mark.parametrize("role", ["deblurred", "mask", "regions", "mosaic", "mixing", "basis"])
def test_images_are_the_same_to_the_bit(scripts, role):
    folder, layers = scripts
    again, data = tifffile.imread(folder / f"{layers[role].name}.tif"), layers[role].data
    assert again.dtype == data.dtype
    assert again.tobytes() == np.ascontiguousarray(data).tobytes()


def test_vectors_are_the_same_to_the_bit(scripts):
    folder, layers = scripts
    again = np.load(folder / f"{layers['vectors'].name}.npy")
    assert again.tobytes() == layers["vectors"].data.astype(again.dtype).tobytes()


def test_results_tell_what_was_really_used(scripts):
    _, layers = scripts
    facts = layers["deblurred"].metadata[FACTS]
    recipe = facts[RECIPE]
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    estimate, deblur = recipe["steps"]
    assert estimate["options"] == {
        "model": "windowed", "gamma": 1.0, "device": "cpu", "kernel_size": 9
    }  # fmt: skip
    options = deblur["options"]
    assert isinstance(options.pop("memory"), int)
    assert options == {
        "method": "richardson-lucy", "variant": "adjoint", "gamma": 1.0, "device": "cpu",
        "strength": 0.7, "iterations": 4,
    }  # fmt: skip
    assert estimate["threads"] >= 1
    image = recipe["inputs"]["image"]
    assert (image["frame"], image["shape"], len(image["sha256"])) == ([1], [78, 90], 64)
    assert image["path"].endswith("série.tif")
    assert {"blurfield", "torch", "numpy"} <= set(recipe["versions"])


def test_another_image_in_the_file_is_noticed(blurry, tmp_path, field):
    path = tmp_path / "image.npy"
    np.save(path, blurry)
    layer = opened(path, "image")
    uniform = KernelField.uniform(np.full((1, 3), 1 / 3, np.float32).repeat(3, 0) / 3, (78, 90))
    uniform.save(tmp_path / "FIELD.blurfield")
    result = Layer.create(*deblur_layer(layer, uniform, method="tikhonov"))
    script = as_python(result)
    assert script.count("# >>>") == 1  # where the field comes from is not known
    process = run(tmp_path, script)
    assert process.returncode == 0, process.stderr
    assert read_image(tmp_path / "image deblurred.tif").tobytes() == result.data.tobytes()
    np.save(path, blurry[::-1])
    process = run(tmp_path, script)
    assert process.returncode == 1
    assert "not the image that napari had" in process.stderr


def test_without_a_file_one_line_says_where_to_load_the_image(photograph, quick):
    layer = Image(photograph, name='"""; import os')
    (mask,) = (
        x for x in created(estimate_layers(layer, progress=lambda *_: None)) if role_of(x) == "mask"
    )
    script = as_python(mask)
    compile(script, "script", "exec")
    marked = [line for line in script.splitlines() if "# >>>" in line]
    assert len(marked) == 1
    assert "Load the image here" in marked[0]


def test_channels_and_frames_are_picked_as_in_the_layer(quick):
    layer = Image(np.zeros((5, 2, 48, 64)), axis_labels=("t", "c", "y", "x"), name="two")
    field_layer = created(estimate_layers(layer, frame=[3], progress=lambda *_: None))[-1]
    script = as_python(field_layer)
    assert 'np.load("IMAGE.npy")[3, :]' in script
    assert "channel_axis=0" in script


def test_a_changed_field_does_not_claim_to_be_estimated(photograph, field):
    source = Source.from_layer(Image(photograph, name="a"))
    recipe = recipe_for("estimate", "field", {}, image=(source, photograph))
    known = with_recipe(field, recipe)
    assert recipe_of(known)["steps"][0]["function"] == "estimate"
    assert recipe_of(known.with_metadata(note="the same kernels")) is not None
    assert recipe_of(known.crop((0, 0), (20, 20))) is None


def test_two_images_are_told_apart(photograph, field):
    first, second = (Source.from_layer(Image(x, name="a")) for x in (photograph, photograph + 1))
    known = with_recipe(field, recipe_for("estimate", "field", {}, image=(first, photograph)))
    same = recipe_for("deblur", "sharp", {}, image=(first, photograph), field=known)
    assert same["steps"][1]["inputs"] == ["image", "field"]
    other = recipe_for("deblur", "sharp", {}, image=(second, photograph + 1), field=known)
    assert other["steps"][1]["inputs"] == ["other_image", "field"]


def assert_remade(layer, folder, monkeypatch, marks):
    """Run the script of a residual, which has so many marked lines, and compare what it writes."""
    script = as_python(layer)
    assert script.count("# >>>") == marks
    monkeypatch.chdir(folder)
    exec(compile(script, "script", "exec"), {})
    again = tifffile.imread(folder / f"{layer.name}.tif")
    assert again.dtype == np.float32
    assert again.tobytes() == np.ascontiguousarray(layer.data).tobytes()


def test_a_residual_tells_all_that_led_to_it(scripts, monkeypatch):
    folder, layers = scripts
    layer = opened(folder / "série.tif", "cells", axis_labels=("t", "y", "x"))
    left = Layer.create(*residual_layer(layers["deblurred"], layer, frame=[1]))
    steps = [step["function"] for step in left.metadata[FACTS][RECIPE]["steps"]]
    assert steps == ["estimate", "deblur", "residual.reblur_residual"]
    assert_remade(left, folder, monkeypatch, marks=0)


@pytest.mark.parametrize("kind", ["grey", "colour", "channels"])
def test_residuals_are_the_same_to_the_bit(kind, blurry, tmp_path, monkeypatch):
    """With fields from elsewhere, and of a result that was changed by hand."""
    data, options = blurry, {}
    if kind == "colour":
        data, options = np.stack([blurry, blurry[::-1], blurry], -1), {"rgb": True}
    elif kind == "channels":
        data, options = np.stack([blurry, blurry[::-1]]), {"axis_labels": ("c", "y", "x")}
    np.save(tmp_path / "image.npy", data)
    layer = opened(tmp_path / "image.npy", "cells", **options)
    field = KernelField.uniform(np.full((3, 3), 1 / 9, np.float32), (78, 90))
    field.save(tmp_path / "FIELD.blurfield")
    deblurred = Layer.create(*deblur_layer(layer, field, method="tikhonov", iterations=3))
    left = Layer.create(*residual_layer(deblurred, layer))
    assert_remade(left, tmp_path, monkeypatch, marks=1)
    other = KernelField.uniform(np.eye(3, dtype=np.float32) / 3, (78, 90))
    names = {"field": other, "other_field": field}  # the one that it is about comes first
    for name, known in names.items():
        known.save(tmp_path / f"{name.upper()}.blurfield")
    assert_remade(
        Layer.create(*residual_layer(deblurred, layer, other)), tmp_path, monkeypatch, marks=2
    )
    field.save(tmp_path / "FIELD.blurfield")
    deblurred.data = deblurred.data // 2
    np.save(tmp_path / "SHARP.npy", deblurred.data)
    changed = Layer.create(*residual_layer(deblurred, layer))
    assert "tikhonov" not in as_python(changed)
    assert_remade(changed, tmp_path, monkeypatch, marks=2)


def test_a_gpu_promises_less(photograph, field):
    source = Source.from_layer(Image(photograph, name="a"))
    recipe = recipe_for("deblur", "s", {"device": "cuda:0"}, image=(source, photograph))
    layer = Image(photograph, metadata={FACTS: {"role": "deblurred", RECIPE: recipe}})
    assert "to the bit" not in as_python(layer)
    assert "cuda:0" in as_python(layer)


def test_other_layers_have_no_script(photograph):
    with pytest.raises(ValueError, match="'mine' was not made by Blurfield"):
        as_python(Image(photograph, name="mine"))
    with pytest.raises(ValueError, match="does not tell how"):
        as_python(Image(photograph, name="old", metadata={FACTS: {"role": "deblurred"}}))


def test_button_and_command_copy_the_script(deblur, viewer, photograph, quick, finish, notes):
    clipboard = QGuiApplication.clipboard()
    viewer.add_image(photograph, name="cells")
    assert not deblur.copy_button.isVisibleTo(deblur)
    deblur.run()
    finish(deblur)
    assert deblur.copy_button.isVisibleTo(deblur)
    deblur.copy_button.click()
    assert clipboard.text() == as_python(viewer.layers["cells deblurred"])
    viewer.layers.selection.active = viewer.layers["cells blur mask"]
    copy_as_python(viewer)
    assert "blur_mask" in clipboard.text()
    viewer.layers.selection.active = viewer.layers["cells"]
    copy_as_python(viewer)
    assert "was not made by Blurfield" in notes[-1].message


def test_a_saved_field_still_knows_how_it_was_made(scripts, tmp_path):
    _, layers = scripts
    path = find_field(layers["mask"]).save(tmp_path / "field.blurfield")
    reread = {role_of(x): x for x in created(read_fields(str(path)))}
    assert as_python(reread["vectors"]) == as_python(layers["vectors"])
