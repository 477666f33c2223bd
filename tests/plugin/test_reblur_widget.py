"""The widget that blurs images and checks deblurred ones, and its functions for scripts."""

from __future__ import annotations

import numpy as np
import pytest
from in_viewer import add_field, roles
from napari.layers import Image, Layer

import blurfield
from blurfield.files import read_image
from blurfield.kernel_files import write_kernel
from blurfield.simulation import KINDS
from napari_blurfield import (
    deblur_layer,
    find_field,
    reblur_layer,
    residual_layer,
    simulate_layer,
)
from napari_blurfield._identity import Identity
from napari_blurfield._provenance import as_python
from napari_blurfield.layers import FACTS, source_of
from napari_blurfield.widgets import ReblurWidget
from napari_blurfield.widgets import reblur as module

SPATIAL = ("scale", "translate", "rotate", "shear", "units", "axis_labels")


@pytest.fixture
def reblur(viewer, qtbot):
    widget = ReblurWidget(viewer)
    qtbot.addWidget(widget)
    return widget


@pytest.fixture
def sharp():
    """A bright square on a dark ground, of the size that `field` is for."""
    image = np.full((48, 64), 30, np.uint8)
    image[16:32, 40:56] = 200
    return image


def same_place(one, other):
    for name in SPATIAL:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(one.affine.affine_matrix, other.affine.affine_matrix)


# ----------------------------------------------------------------------------- widget


def test_apply_a_field(reblur, viewer, sharp, field, placed, finish, notes):
    source = viewer.add_image(sharp, name="cells", contrast_limits=(5, 99), **placed)
    add_field(viewer, field)
    viewer.layers.selection.active = source
    before = sharp.copy()
    reblur.run()
    finish(reblur)
    made = viewer.layers["cells reblurred"]
    np.testing.assert_array_equal(made.data, blurfield.reblur(before, field))
    np.testing.assert_array_equal(source.data, before)
    assert made.data.dtype == np.uint8
    assert list(made.contrast_limits) == [5, 99]
    same_place(made, source)
    facts = made.metadata[FACTS]
    assert facts["role"] == "reblurred"
    assert facts["source"]["layer"] == "cells"
    assert facts["parameters"]["gamma"] == "auto"
    assert viewer.layers.selection.active is source
    assert "Blurred in" in reblur.status.text()
    assert not notes


def test_a_kernel_file_fits_any_image(reblur, viewer, sharp, tmp_path, finish, notes):
    psf = np.zeros((5, 7))
    psf[2] = 1 / 7
    reblur.open_field(write_kernel(tmp_path / "line.npy", psf))
    viewer.add_image(sharp, name="cells")
    assert reblur.field.currentText() == "line.npy"
    reblur.run()
    finish(reblur)
    expected = blurfield.reblur(sharp, blurfield.import_kernels(tmp_path / "line.npy", sharp.shape))
    np.testing.assert_array_equal(viewer.layers["cells reblurred"].data, expected)
    assert not notes


def test_a_field_of_another_size_is_refused(reblur, viewer, field, finish, notes):
    viewer.add_image(np.zeros((60, 60)), name="other")
    add_field(viewer, field)
    viewer.layers.selection.active = viewer.layers["other"]
    count = len(viewer.layers)
    reblur.run()
    finish(reblur)
    (note,) = notes
    assert "48 × 64" in note.message
    assert "60 × 60" in note.message
    assert len(viewer.layers) == count


def test_what_is_no_kernel_is_explained(reblur, tmp_path, notes):
    path = tmp_path / "broken.npy"
    path.write_bytes(b"nothing")
    reblur.open_field(path)
    (note,) = notes
    assert "broken.npy" in note.message
    assert reblur.field.value is None


def test_simulate_with_the_true_field(reblur, viewer, sharp, placed, finish, notes):
    source = viewer.add_image(sharp, name="cells", **placed)
    reblur.task.value = "simulate"
    assert reblur.run_button.text() == "Simulate"
    reblur.kind.value = "linear"
    reblur.largest.setValue(9)
    reblur.noise.setValue(0)
    reblur.seed.setValue(3)
    reblur.run()
    finish(reblur)
    blurry = viewer.layers["cells simulated blur"]
    expected, truth = blurfield.simulate(sharp, kind="linear", max_extent=9, noise=0, seed=3)
    np.testing.assert_array_equal(blurry.data, expected)
    assert roles(viewer) == [None, "simulated", "mixing", "basis", "mosaic", "mask", "vectors"]
    field = find_field(viewer.layers["cells true blur mask"])
    np.testing.assert_array_equal(field.basis, truth.basis)
    assert source_of(field).is_same_image(Identity.of_frame(blurry, ()))
    same_place(blurry, source)
    same_place(viewer.layers["cells true blur mask"], source)
    assert blurry.metadata[FACTS]["parameters"]["seed"] == 3
    assert find_field(blurry) is field
    assert not notes


def test_the_true_field_is_left_out_on_request(reblur, viewer, sharp, finish):
    viewer.add_image(np.stack([sharp] * 3, axis=2), rgb=True, name="cells")
    reblur.task.value = "simulate"
    reblur.largest.setValue(9)
    reblur.truth.setChecked(False)
    reblur.run()
    finish(reblur)
    assert roles(viewer) == [None, "simulated"]
    assert viewer.layers[-1].rgb


def test_residual_finds_image_and_field_itself(reblur, viewer, sharp, field, finish, notes):
    blurry = viewer.add_image(blurfield.reblur(sharp, field), name="blurry")
    viewer.add_layer(Layer.create(*deblur_layer(blurry, field, method="richardson-lucy")))
    viewer.add_image(np.zeros((9, 9)), name="other")
    reblur.task.value = "residual"
    assert reblur.deblurred.value is viewer.layers["blurry deblurred"]
    assert reblur.image.value is blurry
    assert reblur.field.value is field
    reblur.run()
    finish(reblur)
    left = viewer.layers["blurry residual"]
    assert left.data.dtype == np.float32
    low, high = left.contrast_limits
    assert low == -high
    assert left.colormap.name == "PiYG"
    facts = left.metadata[FACTS]
    assert facts["parameters"]["rms"] < 2
    assert f"{facts['parameters']['rms']:.3g}" in reblur.status.text()
    assert "dB" in reblur.status.text()
    assert left not in reblur.image.values
    script = as_python(left)
    assert "reblur_residual(sharp, image, field" in script
    assert not reblur.copy_button.isHidden()
    assert not notes


def test_residual_of_nothing_is_explained(reblur, viewer, field, notes):
    reblur.task.value = "residual"
    viewer.add_image(np.zeros((48, 64)), name="cells")
    for layer in list(viewer.layers):
        assert reblur.deblurred.value is layer
    reblur.run()
    assert "no blur field" in notes[0].message


def test_rows_follow_the_task(reblur):
    reblur.show()
    seen = {}
    for task in module.TASKS:
        reblur.task.value = task
        rows = ("field", "deblurred", "kind", "seed", "device")
        seen[task] = [name for name in rows if getattr(reblur, name).isVisible()]
    assert seen == {
        "reblur": ["field", "device"],
        "simulate": ["kind", "seed", "device"],
        "residual": ["field", "deblurred", "device"],
    }


def test_kinds_are_those_of_the_core():
    assert set(module.KINDS) == set(KINDS)


# ------------------------------------------------------------------------- functions


def test_from_a_script(sharp, field, tmp_path):
    labels = ("t", "y", "x")
    stack = Image(np.stack([sharp, sharp // 2]), name="movie", axis_labels=labels)
    data, attributes, kind = reblur_layer(stack, field.save(tmp_path / "f.blurfield"), frame=(1,))
    np.testing.assert_array_equal(data, blurfield.reblur(sharp // 2, field))
    assert kind == "image"
    made, *truth = simulate_layer(stack, frame=(0,), kind="uniform", max_extent=9, seed=1)
    assert made[0].shape == sharp.shape
    assert [kind for _, _, kind in truth] == ["image", "image", "image", "labels", "vectors"]
    assert len(simulate_layer(stack, frame=(0,), truth=False, max_extent=9)) == 1
    blurry = Image(data, name="blurry")
    left, attributes, _ = residual_layer(Image(sharp // 2), blurry, field)
    assert np.abs(left).max() < 1
    assert attributes["name"] == "blurry residual"
    with pytest.raises(ValueError, match="holds no blur field"):
        residual_layer(Image(sharp), blurry)


def test_scripts_make_the_same_again(sharp, field, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("IMAGE.npy", sharp)
    field.save("FIELD.blurfield")
    source = Image(sharp, name="cells")
    for data, attributes, kind in (
        reblur_layer(source, blurfield.KernelField.load("FIELD.blurfield")),
        simulate_layer(source, kind="rotation", max_extent=9, seed=4)[0],
    ):
        layer = Layer.create(data, attributes, kind)
        exec(as_python(layer), {})
        made = tmp_path / f"{layer.name}.tif"
        np.testing.assert_array_equal(read_image(made), data)


def test_channels_are_blurred_together(sharp, field):
    layer = Image(np.stack([sharp, sharp // 2]), name="cells", axis_labels=("c", "y", "x"))
    data, _, _ = reblur_layer(layer, field)
    np.testing.assert_array_equal(data[1], blurfield.reblur(sharp // 2, field))
    blurry, *_ = simulate_layer(layer, kind="linear", max_extent=9, truth=False)
    assert blurry[0].shape == (2, 48, 64)
    left, attributes, _ = residual_layer(layer, Image(data, axis_labels=("c", "y", "x")), field)
    assert left.shape == (2, 48, 64)
    assert attributes["rgb"] is False


def test_colours_have_one_residual(sharp, field):
    colours = np.stack([sharp] * 3, axis=2)
    blurry = Image(blurfield.reblur(colours, field), rgb=True)
    left, _, _ = residual_layer(Image(colours, rgb=True), blurry, field)
    assert left.shape == sharp.shape
