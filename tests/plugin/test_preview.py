"""A look at what deblurring will do, and the comparison of before and after."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from in_viewer import add_field
from napari.layers import Image

from blurfield import KernelField
from napari_blurfield._preview import previews_in, visible_box
from napari_blurfield._regions import Region
from napari_blurfield._source import Source
from napari_blurfield.layers import role_of
from napari_blurfield.widgets import DeblurWidget
from napari_blurfield.widgets._compare import KEY

SHAPE = (300, 400)


def look_at(layer, rows, cols):
    """Let a layer believe that this part was drawn last."""
    corners = np.zeros((2, layer.ndim), int)
    corners[:, -2:] = [[rows[0], cols[0]], [rows[1] - 1, cols[1] - 1]]
    layer.corner_pixels = corners


def press(viewer, key):
    for binding, function in viewer.keymap.items():
        if str(binding) == key.replace("-", "+"):
            return function(viewer)
    raise KeyError(key)


@pytest.fixture
def large(viewer, field):
    """A viewer with an image of SHAPE, of which each pixel is different, and its field."""
    data = np.arange(SHAPE[0] * SHAPE[1], dtype=np.float32).reshape(SHAPE)
    layer = viewer.add_image(data, name="cells", scale=(0.5, 0.25), translate=(7, 3), rotate=10)
    whole = KernelField(field.basis, field.mixing, SHAPE, {"napari": {"layer": "cells"}})
    add_field(viewer, whole)
    viewer.layers.selection.active = layer
    return layer


class TestVisibleBox:
    def test_what_was_drawn(self):
        layer = Image(np.zeros(SHAPE))
        assert visible_box(layer) == (slice(0, 300), slice(0, 400))
        look_at(layer, (100, 220), (50, 150))
        assert visible_box(layer) == (slice(100, 220), slice(50, 150))

    def test_not_too_little(self):
        layer = Image(np.zeros(SHAPE))
        look_at(layer, (0, 4), (390, 400))
        assert visible_box(layer) == (slice(0, 64), slice(336, 400))
        assert visible_box(Image(np.zeros((20, 30)))) == (slice(0, 20), slice(0, 30))

    def test_of_much_the_middle(self):
        assert visible_box(Image(np.zeros((1000, 4000, 3), np.uint8), rgb=True)) == (
            slice(180, 820), slice(1680, 2320)
        )  # fmt: skip

    def test_stacks_and_pyramids(self):
        stack = Image(np.zeros((7, 3, *SHAPE), np.uint8))
        look_at(stack, (100, 200), (40, 140))
        assert visible_box(stack) == (slice(100, 200), slice(40, 140))
        data = np.zeros((512, 512))
        pyramid = Image([data, data[::4, ::4]], multiscale=True)
        look_at(pyramid, (32, 64), (64, 128))
        assert visible_box(pyramid) == (slice(128, 253), slice(256, 509))


def test_preview_of_what_is_in_view(deblur, viewer, large, quick, finish):
    look_at(large, (100, 200), (50, 150))
    deblur.strength.setValue(0.9)
    deblur.preview_button.click()
    finish(deblur)
    (layer,) = previews_in(viewer.layers)
    assert layer.name == "cells preview"
    np.testing.assert_array_equal(layer.data, large.data[100:200, 50:150])
    np.testing.assert_allclose(layer.data_to_world((0, 0)), large.data_to_world((100, 50)))
    np.testing.assert_allclose(layer.data_to_world((9, 9)), large.data_to_world((109, 59)))
    # With a margin of the blur around it, and the field of that part.
    pixels, field, options = quick["deblur"]
    assert pixels.shape == field.shape == (136, 136)
    assert options["strength"] == 0.9
    assert "100 × 100 px" in deblur.status.text()
    assert not deblur.copy_button.isVisibleTo(deblur)
    assert viewer.layers.selection.active is large


def test_at_the_edge_there_is_no_margin(deblur, viewer, large, quick, finish):
    look_at(large, (0, 100), (300, 400))
    deblur.preview()
    finish(deblur)
    assert quick["deblur"][0].shape == (118, 118)
    np.testing.assert_array_equal(previews_in(viewer.layers)[0].data, large.data[:100, 300:])


def test_the_field_is_that_of_the_part(deblur, viewer, large, quick, finish):
    look_at(large, (100, 200), (250, 350))
    deblur.preview()
    finish(deblur)
    whole, part = deblur.field.value, quick["deblur"][1]
    np.testing.assert_allclose(part.kernel_at(50, 20), whole.kernel_at(132, 252), atol=1e-6)


def test_the_method_is_the_chosen_one_or_a_quick_one(deblur, viewer, large, quick, finish):
    deblur.preview()
    finish(deblur)
    assert quick["deblur"][2]["method"] == "tikhonov"
    deblur.method.value = "richardson-lucy"
    deblur.preview()
    finish(deblur)
    assert quick["deblur"][2]["method"] == "richardson-lucy"


def test_with_the_field_of_a_region(deblur, viewer, field, quick, finish):
    data = np.arange(SHAPE[0] * SHAPE[1], dtype=np.float32).reshape(SHAPE)
    layer = viewer.add_image(data, name="cells", translate=(7, 3))
    region = Region("box", slice(40, 240), slice(100, 350))
    stored = Source.from_layer(layer).within(region).to_json()
    add_field(viewer, KernelField(field.basis, field.mixing, (200, 250), {"napari": stored}))
    viewer.layers.selection.active = layer
    look_at(layer, (100, 200), (50, 180))
    deblur.preview()
    finish(deblur)
    (preview,) = previews_in(viewer.layers)
    # Within the region, which begins at (40, 100).
    np.testing.assert_array_equal(preview.data, data[100:200, 100:230])
    np.testing.assert_allclose(preview.data_to_world((0, 0)), layer.data_to_world((100, 100)))


def test_a_preview_takes_the_place_of_the_last(deblur, viewer, large, quick, finish):
    before = len(viewer.layers)
    for rows in ((0, 100), (100, 200)):
        look_at(large, rows, (50, 150))
        deblur.preview()
        finish(deblur)
    assert len(viewer.layers) == before + 1
    np.testing.assert_array_equal(previews_in(viewer.layers)[0].data, large.data[100:200, 50:150])
    assert deblur.image.values == [large]
    deblur.run()
    finish(deblur)
    assert previews_in(viewer.layers) == []
    assert [role_of(layer) for layer in viewer.layers].count("deblurred") == 1


def test_without_a_field_that_of_the_part_is_estimated(deblur, viewer, quick, finish):
    layer = viewer.add_image(np.random.default_rng(0).random((200, 200, 3)), rgb=True, name="rgb")
    look_at(layer, (100, 170), (100, 170))
    deblur.preview()
    finish(deblur)
    assert quick["estimate"][0].shape == (132, 132, 3)
    (preview,) = previews_in(viewer.layers)
    assert preview.rgb
    assert preview.data.shape == (70, 70, 3)
    assert len(viewer.layers) == 2


def test_channels_and_frames(deblur, viewer, quick, finish):
    data = np.random.default_rng(0).random((6, 2, 200, 210))
    layer = viewer.add_image(data, axis_labels=("t", "c", "y", "x"), name="two", scale=(2, 1, 1, 1))
    viewer.dims.set_current_step(0, 4)
    look_at(layer, (100, 200), (0, 100))
    deblur.preview()
    finish(deblur)
    (preview,) = previews_in(viewer.layers)
    np.testing.assert_array_equal(np.squeeze(preview.data), data[4, :, 100:200, :100])
    assert quick["deblur"][2]["channel_axis"] == 0
    np.testing.assert_allclose(preview.data_to_world((0,) * preview.ndim)[-2:], (100, 0))


def test_only_what_is_in_view_is_computed(deblur, viewer, quick, finish):
    dask = pytest.importorskip("dask.array")
    computed = []

    def load(block, block_info=None):
        computed.append(tuple(block_info[0]["chunk-location"]))
        return block

    data = dask.from_array(np.zeros((1024, 1024), np.uint8), chunks=(256, 256))
    layer = viewer.add_image(data.map_blocks(load, dtype=np.uint8), contrast_limits=(0, 9))
    look_at(layer, (300, 400), (300, 400))
    computed.clear()
    deblur.preview()
    finish(deblur)
    assert set(computed) == {(1, 1)}


def test_what_hinders_a_preview_is_explained(deblur, viewer, large, notes):
    viewer.dims.ndisplay = 3
    deblur.preview()
    assert "2D" in notes[0].message
    assert deblur.job is None


def test_a_cancelled_preview_leaves_the_layers_as_they_were(
    deblur, viewer, photograph, endless, qtbot
):
    viewer.add_image(photograph)
    deblur.preview()
    job = deblur.job
    assert not deblur.preview_button.isEnabled()
    with qtbot.waitSignal(job.ended):
        deblur.cancel()
    assert deblur.preview_button.isEnabled()
    assert len(viewer.layers) == 1


def test_source_stays_as_it_is(large, quick):
    source = Source.from_layer(large)
    assert source.data is not large.data


class TestCompare:
    def test_button_and_key(self, deblur, viewer, large, quick, finish):
        button = deblur.compare_button
        assert not button.isEnabled()
        deblur.run()
        finish(deblur)
        sharp = viewer.layers["cells deblurred"]
        assert button.isEnabled()
        assert not button.isChecked()
        large.visible = False
        button.click()
        assert (sharp.visible, large.visible, button.isChecked()) == (False, True, True)
        press(viewer, KEY)
        assert (sharp.visible, button.isChecked()) == (True, False)
        sharp.visible = False  # by its eye in the list
        assert button.isChecked()
        viewer.layers.remove(sharp)
        assert not button.isEnabled()
        assert not button.isChecked()

    def test_the_selected_result_is_compared(self, deblur, viewer, large, quick, finish):
        for _ in range(2):
            deblur.run()
            finish(deblur)
        first, second = (layer for layer in viewer.layers if role_of(layer) == "deblurred")
        deblur.compare_button.click()
        assert (first.visible, second.visible) == (True, False)
        viewer.layers.selection.active = first
        assert not deblur.compare_button.isChecked()
        deblur.compare_button.click()
        assert (first.visible, second.visible) == (False, False)

    def test_results_of_other_images_are_left_alone(self, deblur, viewer, large, quick, finish):
        deblur.run()
        finish(deblur)
        other = viewer.add_image(np.zeros((40, 40)), name="other")
        assert deblur.image.value is other
        assert not deblur.compare_button.isEnabled()
        press(viewer, KEY)
        assert viewer.layers["cells deblurred"].visible

    def test_the_key_goes_with_the_widget(self, viewer, qtbot):
        first, second = DeblurWidget(viewer), DeblurWidget(viewer)
        gone = weakref.ref(second.compare_button)
        first.deleteLater()
        qtbot.waitUntil(lambda: len(viewer.keymap) == 1)
        qtbot.wait(10)
        assert len(viewer.keymap) == 1
        second.deleteLater()
        qtbot.waitUntil(lambda: not viewer.keymap)
        del second
        qtbot.waitUntil(lambda: gc.collect() >= 0 and gone() is None)
