"""Work on a part of an image that shapes or labels mark."""

from __future__ import annotations

import numpy as np
import pytest
from in_viewer import add_field, roles
from napari.layers import Image, Layer

import blurfield
from napari_blurfield import deblur_layer, estimate_layers, find_field
from napari_blurfield._provenance import as_python
from napari_blurfield._regions import Region, regions_of
from napari_blurfield._source import Source
from napari_blurfield.layers import FACTS, field_placement, role_of

# Layers are added while a thread works, which also changes the filters of warnings: what napari
# ignores for itself may then come through.
pytestmark = pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB")

BOX = np.array([[10, 20], [10, 50], [39, 50], [39, 20]], float)


@pytest.fixture
def brighter(monkeypatch, quick):
    """Let deblurring add 50, and tell which part it was given."""

    def deblur(image, field, **options):
        quick["deblur"] = (image, field, options)
        assert field.shape == image.shape[-2:] if image.ndim == 3 else image.shape
        return image + 50, {"method": "m", "variant": None}

    monkeypatch.setattr("blurfield.restoration.deblur", deblur)
    return quick


def box_of(region):
    return region.rows.start, region.rows.stop, region.cols.start, region.cols.stop


def regions(viewer, layer, image):
    return regions_of(layer, Source.shown(image, viewer.dims), viewer.dims.point)


# --------------------------------------------------------------------------- shapes


def test_rectangles_are_boxes_of_pixels(viewer, photograph):
    image = viewer.add_image(photograph)
    shapes = viewer.add_shapes([BOX, BOX - 15], name="parts")
    first, second = regions(viewer, shapes, image)
    assert box_of(first) == (10, 40, 20, 51)
    assert first.mask is None
    assert first.name == "parts 1"
    assert box_of(second) == (0, 25, 5, 36)
    shapes.selected_data = {1}
    assert [region.name for region in regions(viewer, shapes, image)] == ["parts 2"]


def test_shapes_are_placed_by_the_world(viewer, photograph, placed):
    image = viewer.add_image(photograph, **placed)
    world = np.array([image.data_to_world(corner) for corner in BOX])
    shapes = viewer.add_shapes([world / (2, 5)], shape_type="polygon", scale=(2, 5))
    (region,) = regions(viewer, shapes, image)
    assert box_of(region) == (10, 40, 20, 51)
    assert region.mask is None


def test_a_rotated_rectangle_has_a_mask(viewer, photograph):
    image = viewer.add_image(photograph)
    diamond = np.array([[4, 30], [24, 50], [44, 30], [24, 10]], float)
    (region,) = regions(viewer, viewer.add_shapes([diamond], shape_type="polygon"), image)
    assert box_of(region) == (4, 45, 10, 51)
    assert region.mask.shape == (41, 41)
    assert region.mask[20, 20]
    assert not region.mask[3, 3]
    assert region.mask.mean() == pytest.approx(0.5, abs=0.04)


def test_an_ellipse_is_round(viewer, photograph):
    image = viewer.add_image(photograph)
    (region,) = regions(viewer, viewer.add_shapes([BOX], shape_type="ellipse"), image)
    assert region.mask.mean() == pytest.approx(np.pi / 4, abs=0.04)


def test_shapes_in_a_stack_and_lines(viewer):
    image = viewer.add_image(np.zeros((5, 48, 64)))
    box = np.column_stack([np.full(4, 2), BOX])
    shapes = viewer.add_shapes(
        [box, box[:2]], shape_type=["rectangle", "line"], name="parts", ndim=3
    )
    (region,) = regions(viewer, shapes, image)
    assert region.name == "parts 1"
    shapes.selected_data = {1}
    with pytest.raises(ValueError, match="no rectangle"):
        regions(viewer, shapes, image)


def drawn_on(frames):
    """The box, drawn on frames, and a pixel further down and right on each of them."""
    frames = [frame if isinstance(frame, tuple) else (frame,) for frame in frames]
    return [
        np.column_stack([*(np.full(4, index) for index in frame), BOX + number])
        for number, frame in enumerate(frames)
    ]


def test_shapes_count_for_the_frame_that_they_are_drawn_on(viewer):
    image = viewer.add_image(
        np.zeros((5, 48, 64)), axis_labels=("t", "y", "x"), scale=(3, 1, 1), translate=(6, 0, 0)
    )
    shapes = viewer.add_shapes(
        drawn_on([1, 3, 3]), name="parts", scale=(3, 1, 1), translate=(6, 0, 0)
    )
    viewer.dims.set_point(0, 6 + 3 * 1)
    assert [region.name for region in regions(viewer, shapes, image)] == ["parts 1"]
    viewer.dims.set_point(0, 6 + 3 * 3)
    assert [region.name for region in regions(viewer, shapes, image)] == ["parts 2", "parts 3"]
    shapes.selected_data = {0, 2}  # of which the first is not to be seen
    assert [region.name for region in regions(viewer, shapes, image)] == ["parts 3"]
    shapes.selected_data = {0}
    assert [region.name for region in regions(viewer, shapes, image)] == ["parts 2", "parts 3"]
    assert box_of(regions_of(shapes, Source.from_layer(image, (1,)))[0]) == (10, 40, 20, 51)
    viewer.dims.set_point(0, 6 + 3 * 2)
    with pytest.raises(ValueError, match="'parts' are drawn on t 1; t 3, none on t 2: draw one"):
        regions(viewer, shapes, image)


def test_shapes_on_frames_along_two_axes(viewer):
    image = viewer.add_image(np.zeros((3, 6, 48, 64)), axis_labels=("t", "z", "y", "x"))
    shapes = viewer.add_shapes(drawn_on([(2, 1), (0, 1)]), name="parts")
    assert [r.name for r in regions_of(shapes, Source.from_layer(image, (0, 1)))] == ["parts 2"]
    with pytest.raises(ValueError, match="drawn on t 0, z 1; t 2, z 1, none on t 0, z 2"):
        regions_of(shapes, Source.from_layer(image, (0, 2)))
    planes = viewer.add_shapes(drawn_on([4]), name="planes")
    assert regions_of(planes, Source.from_layer(image, (1, 4)))
    with pytest.raises(ValueError, match="drawn on z 4, none on z 2"):
        regions_of(planes, Source.from_layer(image, (1, 2)))


def test_a_region_of_several_frames_is_the_one_on_the_frame_shown(
    viewer, estimate, quick, finish, tmp_path, notes
):
    data = np.random.default_rng(0).random((4, 48, 64), np.float32)
    viewer.add_image(data, name="movie", axis_labels=("t", "y", "x"))
    shapes = viewer.add_shapes(drawn_on([1, 2]), name="parts")
    viewer.layers.selection.active = viewer.layers["movie"]
    estimate.frames.which.value = "all"
    estimate.region.value = shapes
    estimate.folder.path.setText(str(tmp_path))
    viewer.dims.set_point(0, 3)
    estimate.run()
    assert "drawn on t 1; t 2, none on t 3" in notes[-1].message
    viewer.dims.set_point(0, 2)
    estimate.run()
    finish(estimate)
    np.testing.assert_array_equal(quick["estimate"][0], data[3, 11:41, 21:52])
    made = estimate_layers(
        viewer.layers["movie"], frames=[0, 2], region=shapes, folder=tmp_path / "again"
    )
    assert made[-1][1]["metadata"][FACTS]["source"]["region"]["rows"] == [11, 41]


def test_shapes_beside_the_image(viewer, photograph):
    image = viewer.add_image(photograph)
    shapes = viewer.add_shapes([BOX + 100], name="parts")
    with pytest.raises(ValueError, match="parts does not touch the image"):
        regions(viewer, shapes, image)


# --------------------------------------------------------------------------- labels


def test_a_label_of_another_sampling(viewer, photograph):
    image = viewer.add_image(photograph, scale=(0.5, 0.5), translate=(0.25, 0.25))
    data = np.zeros((24, 32), np.uint8)
    data[3:9, 4:10] = 5
    data[3, 4] = 0
    labels = viewer.add_labels(data, translate=(0.5, 0.5), name="cells")
    labels.selected_label = 5
    (region,) = regions(viewer, labels, image)
    assert region.name == "cells 5"
    assert box_of(region) == (6, 18, 8, 20)
    assert not region.mask[:2, :2].any()
    assert region.mask.sum() == 140


def test_labels_of_the_frame_shown(viewer):
    image = viewer.add_image(np.zeros((5, 48, 64)))
    data = np.zeros((5, 48, 64), np.uint8)
    data[3, 10:20, 30:50] = 1
    labels = viewer.add_labels(data, name="cells")
    viewer.dims.set_current_step(0, 3)
    (region,) = regions(viewer, labels, image)
    assert box_of(region) == (10, 20, 30, 50)
    viewer.dims.set_current_step(0, 2)
    with pytest.raises(ValueError, match="no label 1"):
        regions(viewer, labels, image)
    labels.selected_label = 0
    with pytest.raises(ValueError, match="background"):
        regions(viewer, labels, image)


# ----------------------------------------------------------------------- estimating


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


# ----------------------------------------------------------------------- deblurring


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


# ------------------------------------------------------------- time-lapses, the control


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


def test_regions_are_listed(estimate, viewer, photograph):
    viewer.add_image(photograph)
    assert estimate.region.values == [None]
    shapes = viewer.add_shapes([BOX], name="part")
    labels = viewer.add_labels(np.zeros((48, 64), np.uint8), name="cells")
    assert estimate.region.values == [None, labels, shapes]
    assert estimate.region.itemText(2) == "part (shapes)"
    estimate.region.value = shapes
    shapes.name = "other"
    assert estimate.region.currentText() == "other (shapes)"
    viewer.layers.remove(shapes)
    assert estimate.region.value is None


def test_sources_within_regions(photograph):
    source = Source.from_layer(Image(photograph, name="cells"))
    part = source.within(Region("part", slice(3, 13), slice(5, 25)))
    assert part.name == "cells [part]"
    assert part.shape == (10, 20)
    with pytest.raises(ValueError, match="part of an image already"):
        part.within(part.region)


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


def test_there_is_no_script_for_several_regions(deblur, viewer, photograph, brighter, finish):
    viewer.add_image(photograph, name="cells")
    deblur.region.value = viewer.add_shapes([BOX - [5, 15], np.add(BOX, [5, 12])])
    deblur.run()
    finish(deblur)
    with pytest.raises(ValueError, match="one rectangle only"):
        as_python(viewer.layers["cells deblurred"])
