"""Parts of an image that shapes or labels mark."""

from __future__ import annotations

import numpy as np
import pytest
from in_viewer import BOX, threads_at_work
from napari.layers import Image

from napari_blurfield import estimate_layers
from napari_blurfield._regions import Region, regions_of
from napari_blurfield._source import Source
from napari_blurfield.layers import FACTS

pytestmark = threads_at_work


def box_of(region):
    return region.rows.start, region.rows.stop, region.cols.start, region.cols.stop


def regions(viewer, layer, image):
    return regions_of(layer, Source.shown(image, viewer.dims), viewer.dims.point)


# ------------------------------------------------------------------------------- shapes


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


# ------------------------------------------------------------------------------- labels


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


# ----------------------------------------------------------------- the control, sources


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
