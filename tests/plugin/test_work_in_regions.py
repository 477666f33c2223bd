"""Estimating and deblurring only a part of an image, or of each frame."""

from __future__ import annotations

import numpy as np
import pytest
from in_viewer import BOX, add_field, roles, threads_at_work
from napari.layers import Layer

import blurfield
from napari_blurfield import deblur_layer, find_field
from napari_blurfield._provenance import as_python
from napari_blurfield.layers import FACTS, field_placement, role_of

pytestmark = threads_at_work


@pytest.fixture
def brighter(monkeypatch, quick):
    """Let deblurring add 50, and tell which part it was given."""

    def deblur(image, field, **options):
        quick["deblur"] = (image, field, options)
        assert field.shape == image.shape[-2:] if image.ndim == 3 else image.shape
        return image + 50, {"method": "m", "variant": None}

    monkeypatch.setattr("blurfield.restoration.deblur", deblur)
    return quick


# --------------------------------------------------------------------------- estimating


def test_estimate_only_there(estimate, viewer, photograph, quick, finish, placed):
    image = viewer.add_image(photograph, name="cells", **placed)
    world = np.array([image.data_to_world(corner) for corner in BOX])
    shapes = viewer.add_shapes([world], shape_type="polygon", name="part")
    estimate.region.value = shapes
    estimate.run()
    finish(estimate)
    np.testing.assert_array_equal(quick["estimate"][0], photograph[10:40, 20:51])
    mask = viewer.layers["cells [part] blur mask"]
    assert mask.data.shape == (30, 31)
    np.testing.assert_allclose(mask.data_to_world((0, 0)), image.data_to_world((10, 20)))
    assert viewer.layers.selection.active is image
    field = find_field(mask)
    assert field.metadata["napari"]["region"]["rows"] == [10, 40]
    np.testing.assert_allclose(
        field_placement(field).to_world(np.zeros(2)), mask.data_to_world((0, 0))
    )


def test_each_shape_gets_a_field(estimate, viewer, photograph, quick, finish):
    viewer.add_image(photograph, name="cells")
    estimate.region.value = viewer.add_shapes([BOX, BOX - 10], name="part")
    estimate.kernels.setChecked(False)
    estimate.run()
    finish(estimate)
    names = [layer.name for layer in viewer.layers if role_of(layer) == "vectors"]
    assert names == ["cells [part 1] blur vectors", "cells [part 2] blur vectors"]


# --------------------------------------------------------------------------- deblurring


def test_deblur_only_there(deblur, viewer, photograph, field, brighter, finish):
    viewer.add_image(photograph, name="cells")
    add_field(viewer, field.with_metadata(napari={"layer": "cells", "frame": []}))
    shapes = viewer.add_shapes([BOX], name="part")
    viewer.layers.selection.active = viewer.layers["cells"]
    deblur.region.value = shapes
    deblur.run()
    finish(deblur)
    # What lies around the region has been blurred into it.
    assert brighter["deblur"][0].shape == (30 + 9 + 8, 31 + 9 + 9)
    sharp = viewer.layers["cells deblurred"]
    more = sharp.data.astype(int) - photograph
    outside = np.ones(more.shape, bool)
    outside[10:40, 20:51] = False
    assert (more[outside] == 0).all()
    assert (more[16:34, 26:45] == 50).all()
    assert 0 < more[25, 21] < 25
    (done,) = sharp.metadata[FACTS]["parameters"]["regions"]
    assert (done["rows"], done["cols"]) == ([10, 40], [20, 51])
    script = as_python(sharp)
    assert "bf.deblur_part(" in script
    assert "rows=[10, 40]" in script


def test_the_field_of_a_region_is_used_there(
    deblur, viewer, photograph, brighter, estimate, finish
):
    viewer.add_image(photograph, name="cells")
    estimate.region.value = viewer.add_shapes([BOX], name="part")
    estimate.run()
    finish(estimate)
    viewer.layers.selection.active = viewer.layers["cells"]
    assert deblur.field.value is find_field(viewer.layers["cells [part] blur mask"])
    deblur.run()
    finish(deblur)
    more = viewer.layers["cells deblurred"].data.astype(int) - photograph
    assert more[25, 35] == 50
    assert (more[:10] == 0).all()
    script = as_python(viewer.layers["cells deblurred"])
    assert "[10:40, 20:51]" in script
    assert "corner=[10, 20]" in script


def test_estimate_first_and_deblur_all_shapes(deblur, viewer, photograph, brighter, finish):
    viewer.add_image(photograph, name="cells")
    deblur.region.value = viewer.add_shapes([BOX - [5, 15], np.add(BOX, [5, 12])], name="part")
    deblur.run()
    finish(deblur)
    made = roles(viewer)
    assert made.count("vectors") == 2
    assert made[-1] == "deblurred"
    more = viewer.layers["cells deblurred"].data.astype(int) - photograph
    assert more[15, 15] == more[32, 50] == 50
    assert (more[0] == 0).all()


def test_fields_of_other_regions_help_out(
    deblur, estimate, viewer, photograph, brighter, finish, notes
):
    viewer.add_image(photograph, name="cells")
    shapes = viewer.add_shapes([BOX - [5, 15], np.add(BOX, [5, 12])], name="part")
    estimate.region.value = deblur.region.value = shapes
    estimate.run()
    finish(estimate)
    deblur.run()
    finish(deblur)
    more = viewer.layers["cells deblurred"].data.astype(int) - photograph
    assert more[15, 15] == more[32, 50] == 50
    shapes.add([BOX - [0, 20]])
    deblur.run()
    assert "does not cover 'part 3'" in notes[0].message
    assert deblur.job is None


def test_a_label_is_deblurred_with_a_soft_border(deblur, viewer, brighter, field, finish):
    image = np.full((48, 64), 100, np.uint8)
    viewer.add_image(image, name="cells")
    data = np.zeros((48, 64), np.uint8)
    yy, xx = np.mgrid[:48, :64]
    data[(yy - 24) ** 2 + (xx - 32) ** 2 < 18**2] = 2
    labels = viewer.add_labels(data, name="marks")
    labels.selected_label = 2
    viewer.layers.selection.active = viewer.layers["cells"]
    deblur.region.value = labels
    deblur.field.add("known", field)
    deblur.run()
    finish(deblur)
    sharp = viewer.layers["cells deblurred"].data
    assert (sharp[data == 0] == 100).all()
    assert sharp[24, 32] == 150
    assert (sharp[data == 2] > 100).mean() > 0.9


@pytest.mark.parametrize(("shape", "rgb"), [((48, 64, 4), True), ((3, 48, 64), False)])
def test_channels_and_alpha(shape, rgb, deblur, viewer, brighter, field, finish):
    data = np.full(shape, 100, np.uint8)
    viewer.add_image(data, rgb=rgb, name="cells")
    deblur.region.value = viewer.add_shapes([BOX])
    deblur.field.add("known", field)
    viewer.layers.selection.active = viewer.layers["cells"]
    deblur.field.setCurrentIndex(1)

    def refuse(image, field, **options):
        return image + 50, {"method": "m", "variant": None}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("blurfield.restoration.deblur", refuse)
        deblur.run()
        finish(deblur)
    sharp = viewer.layers["cells deblurred"]
    assert sharp.data.shape == shape
    planes = np.moveaxis(sharp.data, -1, 0) if rgb else sharp.data
    assert (planes[:, 25, 35] == 150).all()
    assert (planes[:, 0] == 100).all()


def test_cancel_in_a_region(estimate, viewer, photograph, endless, qtbot):
    viewer.add_image(photograph)
    estimate.region.value = viewer.add_shapes([BOX])
    estimate.run()
    job = estimate.job
    qtbot.waitUntil(lambda: "looking" in estimate.status.text())
    with qtbot.waitSignal(job.ended):
        estimate.cancel()
    assert len(viewer.layers) == 2


def test_real_deblurring_of_a_region(viewer):
    rng = np.random.default_rng(0)
    sharp = np.kron(rng.random((8, 8)), np.ones((12, 12))).astype(np.float32)
    image, field = blurfield.simulate(sharp, kind="linear", max_extent=9, noise=0, seed=2)
    layer = viewer.add_image(image, name="blurry")
    shapes = viewer.add_shapes([BOX + 20])
    made = Layer.create(*deblur_layer(layer, field, region=shapes, method="tikhonov"))
    part = np.s_[35:55, 45:65]
    assert np.abs(made.data - sharp)[part].mean() < 0.7 * np.abs(image - sharp)[part].mean()
    np.testing.assert_array_equal(made.data[:30], image[:30])
    script = as_python(made)
    assert 'method="tikhonov"' in script
    assert '"auto"' not in script  # whatever is automatic elsewhere, the script does the same


def test_there_is_no_script_for_several_regions(deblur, viewer, photograph, brighter, finish):
    viewer.add_image(photograph, name="cells")
    deblur.region.value = viewer.add_shapes([BOX - [5, 15], np.add(BOX, [5, 12])])
    deblur.run()
    finish(deblur)
    with pytest.raises(ValueError, match="one rectangle only"):
        as_python(viewer.layers["cells deblurred"])


# -------------------------------------------------------------------------- time-lapses


def test_a_region_of_all_frames(deblur, viewer, brighter, finish, tmp_path, notes):
    data = np.full((3, 48, 64), 100, np.uint16)
    layer = viewer.add_image(data, name="movie", axis_labels=("t", "y", "x"), scale=(2, 0.5, 0.5))
    shapes = viewer.add_shapes([BOX / 2], name="part")
    viewer.layers.selection.active = layer
    deblur.region.value = shapes
    deblur.frames.which.value = "all"
    deblur.folder.path.setText(str(tmp_path))
    deblur.run()
    finish(deblur)
    sharp = viewer.layers["movie deblurred"]
    np.testing.assert_allclose(sharp.extent.world, layer.extent.world)
    values = np.asarray(sharp.data)
    assert values[2, 25, 35] == 150
    assert (values[:, :10] == 100).all()
    mask = viewer.layers["movie [part] blur mask"]
    np.testing.assert_allclose(mask.data_to_world((0, 0, 0)), layer.data_to_world((0, 10, 20)))
    assert deblur.field.currentText() == "movie [part], each frame"
    assert deblur.field.value.shape == (30, 31)
    shapes.add([BOX / 4])
    deblur.run()
    assert "select one of the shapes" in notes[0].message


def test_fields_of_whole_frames_serve_a_region(
    deblur, estimate, viewer, brighter, finish, tmp_path
):
    data = np.full((2, 48, 64), 100, np.uint16)
    layer = viewer.add_image(data, name="movie", axis_labels=("t", "y", "x"))
    estimate.frames.which.value = deblur.frames.which.value = "all"
    estimate.folder.path.setText(str(tmp_path / "fields"))
    estimate.run()
    finish(estimate)
    shapes = viewer.add_shapes([BOX], name="part")
    viewer.layers.selection.active = layer
    deblur.region.value = shapes
    deblur.folder.path.setText(str(tmp_path / "sharp"))
    deblur.run()
    finish(deblur)
    assert brighter["deblur"][1].shape == (30, 31)
    whole = find_field(viewer.layers["movie blur mask"], (1,))
    part = find_field(viewer.layers["movie deblurred"], (1,))
    np.testing.assert_array_equal(part.kernel_at(12, 20), whole.kernel_at(22, 40))


def test_a_script_deblurs_the_region_of_all_frames(
    deblur, viewer, brighter, finish, tmp_path, monkeypatch, capsys
):
    data = np.full((2, 3, 48, 64), 100, np.uint16)
    layer = viewer.add_image(data, name="movie", axis_labels=("t", "c", "y", "x"))
    shapes = viewer.add_shapes([BOX], name="part")
    viewer.layers.selection.active = layer
    deblur.region.value = shapes
    deblur.frames.which.value = "all"
    deblur.folder.path.setText(str(tmp_path / "first"))
    deblur.run()
    finish(deblur)
    sharp = viewer.layers["movie deblurred"]
    np.save(tmp_path / "STACK.npy", data)
    monkeypatch.chdir(tmp_path)
    made = {}
    exec(compile(as_python(sharp), "script", "exec"), made)
    np.testing.assert_array_equal(made["frame"], np.asarray(sharp.data[1]))
