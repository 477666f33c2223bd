"""The mask of all frames of a time-lapse, which follows the controls of its widget."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from in_viewer import roles
from napari.layers import Layer
from napari.utils._dask_utils import _DASK_CACHE

from blurfield import KernelField
from blurfield.series import Series
from napari_blurfield import _stack_mask
from napari_blurfield._field_stack import FieldStack
from napari_blurfield._masks import MaskSettings, label_image
from napari_blurfield._series_layers import SeriesLayers
from napari_blurfield._stack import Stack
from napari_blurfield.layers import FACTS, FIELDS, role_of
from napari_blurfield.widgets import mask as mask_module


def field_of(number, field):
    """Sharp on the left, a horizontal motion of 3 + 2n pixels on the right."""
    basis = field.basis.numpy().copy()
    length = 3 + 2 * number
    basis[1] = 0
    basis[1, 4, 4 - length // 2 : 5 + length // 2] = 1 / length
    return KernelField(basis, field.mixing, field.shape)


@pytest.fixture
def series(viewer, field, tmp_path):
    """Five frames, of which the last has no field, and their layers in a viewer."""
    image = viewer.add_image(
        np.zeros((5, 48, 64)), name="movie", axis_labels=("t", "y", "x"), scale=(2, 0.5, 0.5)
    )
    stack = Stack.from_layer(image)
    series = Series.create(tmp_path, stack.frames(), estimate={}, deblur=None)
    made = SeriesLayers(FieldStack(series, stack), kernels=False)
    for number in range(4):
        series.give_field(number, field_of(number, field))
        made.add(number)
    for data in made.layers():
        viewer.add_layer(Layer.create(*data))
    return series


@pytest.fixture
def labelled(monkeypatch):
    """The largest blur of each field that was marked."""
    seen = []

    def noted(field, settings, progress=None):
        seen.append(int((field.basis[1] > 0).sum()))
        return label_image(field, settings, progress)

    monkeypatch.setattr(_stack_mask, "label_image", noted)
    return seen


def mask_in(viewer, role="mask"):
    (layer,) = (layer for layer in viewer.layers if role_of(layer) == role)
    return layer


def assert_follows(layer, series, settings):
    expected = [label_image(series.field(number), settings) for number in range(4)]
    np.testing.assert_array_equal(np.asarray(layer.data)[:4], expected)
    assert not np.asarray(layer.data[4]).any()


def test_the_mask_of_all_frames_follows_the_controls(viewer, series, mask, labelled, qtbot):
    layer = mask_in(viewer)
    viewer.dims.set_point(0, 2 * 2)
    assert mask.linked() is layer
    assert mask.threshold.value() == 0.25
    labelled.clear()
    mask.threshold.setValue(0.4)
    qtbot.waitUntil(lambda: layer.metadata[FACTS]["threshold"] == 0.4)
    assert labelled == [7]  # the frame shown, once
    assert mask.status.text() == "t 2: 50% of the image is blurry."
    viewer.dims.set_point(0, 2 * 1)
    assert labelled == [7, 5]
    assert_follows(layer, series, MaskSettings(0.4))
    mask.min_area.setValue(2000)
    qtbot.waitUntil(lambda: layer.metadata[FACTS]["min_area"] == 2000)
    assert_follows(layer, series, MaskSettings(0.4, min_area=2000))
    mask.min_area.setValue(0)
    mask.controls.criterion.value = "extent"
    mask.controls.extent.setValue(6)
    qtbot.waitUntil(lambda: layer.metadata[FACTS]["min_extent"] == 6)
    assert_follows(layer, series, MaskSettings(0.4, min_extent=6))
    assert mask_in(viewer) is layer
    assert layer.visible
    assert mask.statistics.isHidden()


def test_settings_of_the_layer_are_shown(viewer, series, mask, qtbot):
    layer = mask_in(viewer)
    mask.threshold.setValue(0.6)
    qtbot.waitUntil(lambda: layer.metadata[FACTS]["threshold"] == 0.6)
    widget = mask_module.MaskWidget(viewer)
    qtbot.addWidget(widget)
    viewer.layers.selection.active = layer
    assert widget.threshold.value() == 0.6


def test_regions_of_all_frames_are_added(viewer, series, mask, labelled, finish, qtbot):
    viewer.dims.set_point(0, 2 * 3)
    mask.regions.setChecked(True)
    mask.threshold.setValue(0.5)
    labelled.clear()
    mask.run()
    finish(mask)
    assert labelled == [3, 9]  # the first one, which a new layer asks for, and the one shown
    assert roles(viewer)[-1] == "regions"
    layer = mask_in(viewer, "regions")
    assert layer.name == "movie blur regions"
    assert layer.data.shape == (5, 48, 64)
    np.testing.assert_array_equal(layer.scale, (2, 0.5, 0.5))
    assert "t 3: 50% of the image is blurry, in 1 region" in mask.status.text()
    assert_follows(layer, series, MaskSettings(0.5, tolerance=0.3))
    mask.controls.difference.setValue(50)
    qtbot.waitUntil(lambda: layer.metadata[FACTS]["tolerance"] == 0.5)


def test_a_frame_without_a_field(viewer, series, mask, qtbot):
    layer = mask_in(viewer)
    viewer.dims.set_point(0, 2 * 4)
    mask.threshold.setValue(0.4)
    qtbot.waitUntil(lambda: layer.metadata[FACTS]["threshold"] == 0.4)
    assert "The blur of t 4 is not known" in mask.status.text()
    assert_follows(layer, series, MaskSettings(0.4))


def test_what_is_shown_follows_fields_and_is_not_kept(viewer, series, mask, qtbot):
    """napari keeps lazy data that it has seen, and would show that of a field made again."""
    layer = mask_in(viewer)
    layer.visible = True

    def shown(number):
        viewer.dims.set_point(0, 2 * number)
        return layer.get_value((number, 24, 40))

    mask.threshold.setValue(0.5)
    qtbot.waitUntil(lambda: layer.metadata[FACTS]["threshold"] == 0.5)
    before = _DASK_CACHE.cache.total_bytes
    assert [shown(number) for number in range(4)] == [0, 1, 1, 1]
    assert _DASK_CACHE.cache.total_bytes == before
    series.give_field(3, series.field(0))
    layer.metadata[FIELDS].forget(3)
    shown(0)
    assert shown(3) == 0


def test_the_mask_of_all_frames_is_not_painted(viewer, series, mask, finish, qtbot):
    """napari would fail to, and unlocks layers whose data change."""
    mask.run()
    finish(mask)
    layer = viewer.layers[-1]
    assert not layer.editable
    layer.mode = "paint"
    assert layer.mode == "pan_zoom"
    viewer.layers.selection.active = layer
    mask.threshold.setValue(0.4)
    qtbot.waitUntil(lambda: layer.metadata[FACTS]["threshold"] == 0.4)
    assert not layer.editable


def test_figures_are_found_elsewhere(viewer, series, mask, notes):
    mask.run_statistics()
    assert "'Measure blur' has the figures" in notes[-1].message


@pytest.fixture
def gate(monkeypatch):
    """Let marking of large frames wait until it is let through, or cancelled."""
    opened = threading.Event()

    def slow(field, settings, progress):
        while not opened.wait(0.02):
            progress(0, 0, "marking")
        return label_image(field, settings)

    monkeypatch.setattr(_stack_mask, "label_image", slow)
    monkeypatch.setattr(mask_module, "_QUICK_PIXELS", 1000)
    return opened


def test_large_frames_are_marked_in_the_background(viewer, series, mask, gate, finish, qtbot):
    layer = mask_in(viewer)
    mask.threshold.setValue(0.4)
    qtbot.waitUntil(lambda: mask.job is not None)
    started = time.monotonic()
    mask.threshold.setValue(0.5)  # comes next
    assert time.monotonic() - started < 0.2
    qtbot.wait(300)
    assert layer.metadata[FACTS]["threshold"] == 0.25
    gate.set()
    qtbot.waitUntil(lambda: layer.metadata[FACTS]["threshold"] == 0.5)
    finish(mask)
    assert_follows(layer, series, MaskSettings(0.5))
    assert "of the image is blurry" in mask.status.text()


def test_marking_in_the_background_is_cancelled(viewer, series, mask, gate, finish, qtbot):
    layer = mask_in(viewer)
    before = layer.data
    mask.threshold.setValue(0.4)
    qtbot.waitUntil(lambda: mask.job is not None)
    job = mask.job
    with qtbot.waitSignal(job.ended, timeout=1000):
        mask.cancel()
    finish(mask)
    assert layer.data is before
    assert mask.status.text() == "Cancelled; nothing was changed."
    gate.set()
