"""The widget that measures blur over time, on a viewer without a window."""

from __future__ import annotations

import csv
import json
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from in_viewer import add_field, roles
from napari.layers import Image, Points
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QColor

import blurfield
from blurfield import KernelField
from blurfield.series import Series
from blurfield.series.changes import PIXELS, frame_digest
from napari_blurfield._field_stack import FieldStack
from napari_blurfield._measuring import stack_of
from napari_blurfield.layers import FACTS, FIELDS, SOURCE
from napari_blurfield.widgets import MeasureWidget

#: Blur of each frame in pixels: three frames are bad.
LENGTHS = [1, 1, 1, 1, 9, 1, 1, 7, 1, 1, 1, 9]
SHAPE = (24, 32)


def line(length):
    """A motion across so many pixels, an odd number."""
    kernel = np.zeros((15, 15))
    kernel[7, 7 - length // 2 : 8 + length // 2] = 1 / length
    return kernel


@pytest.fixture
def lapse():
    """Twelve frames, each as bright as it is blurred."""
    return np.broadcast_to(np.uint16(LENGTHS)[:, None, None], (12, *SHAPE)).copy()


@pytest.fixture
def estimated(monkeypatch):
    """Replace estimation: the first pixel says how long the blur is; return those asked for."""
    seen = []

    def estimate(image, **options):
        length = int(image.flat[0])
        options["progress"](1, 2, "looking")
        if not length:
            raise ValueError("the image is black")
        seen.append(length)
        confidence = np.full((2, 2), 1 - length / 20)
        kernel = line(length)
        return KernelField.uniform(kernel, image.shape[-2:], {}, {"confidence": confidence})

    monkeypatch.setattr(blurfield, "estimate", estimate, raising=False)
    return seen


@pytest.fixture
def measure(viewer, qtbot):
    widget = MeasureWidget(viewer)
    qtbot.addWidget(widget)
    return widget


def flagged(widget):
    return [row["frame"] for row in widget.results.rows if row["flagged"]]


def test_every_frame_is_measured_in_the_unit_of_the_image(
    measure, viewer, lapse, estimated, finish
):
    before = lapse.copy()
    viewer.add_image(lapse, name="cells", scale=(2, 0.5, 0.5), units=("s", "um", "um"))
    measure.run()
    finish(measure)
    rows = measure.results.rows
    assert [row["frame"] for row in rows] == list(range(12))
    assert [row["extent_median"] for row in rows] == pytest.approx([x / 2 for x in LENGTHS], 1e-3)
    assert [row["confidence"] for row in rows] == pytest.approx([1 - x / 20 for x in LENGTHS])
    assert {row["unit"] for row in rows} == {"µm"}
    assert list(rows[0])[:3] == ["frame", "label", "pixels"]
    assert measure.status.text().startswith("Measured 12 frames")
    assert len(viewer.layers) == 1
    np.testing.assert_array_equal(lapse, before)
    (drawn,) = measure.results.plot.lines
    assert list(drawn.values) == pytest.approx([x / 2 for x in LENGTHS], 1e-3)
    assert measure.results.table.rowCount() == 12
    assert measure.results.table.horizontalHeaderItem(1).text() == "Blur\nµm"


def test_bad_frames_are_flagged_by_a_limit_that_suits_or_was_dragged(
    measure, viewer, lapse, estimated, finish, qtbot
):
    viewer.add_image(lapse, name="cells")
    measure.run()
    finish(measure)
    results = measure.results
    assert not any("flagged" in row for row in results.rows)
    results.flag.setChecked(True)
    assert flagged(measure) == [4, 7, 11]
    assert results.summary.text() == "3 of 12 frames flagged: 4, 7, 11"
    assert results.limit.value() == 1.5
    assert results.plot.limit == pytest.approx(results.limit.value(), abs=0.01)

    results.plot.limit_moved.emit(8.0)
    assert results.limit.value() == 8
    assert flagged(measure) == [4, 11]
    qtbot.waitUntil(lambda: results.summary.text() == "2 of 12 frames flagged: 4, 11")
    assert [bool(bad) for bad in results.plot.lines[0].flagged].count(True) == 2
    results.only_flagged.setChecked(True)
    assert results.table.rowCount() == 2

    results.quantity.value = "confidence"
    assert results.flag.text() == "Flag below"
    results.limit.setValue(60)
    assert flagged(measure) == [4, 11]
    assert results.plot.limit == 60
    results.quantity.value = "angle"
    assert results.plot.limit is None
    assert not results.flag.isEnabled()
    results.quantity.value = "extent_median"
    assert results.limit.value() == 8


def test_a_limit_stays_when_the_same_image_is_measured_anew(
    measure, viewer, lapse, estimated, finish
):
    image = viewer.add_image(lapse, name="cells")
    measure.run()
    finish(measure)
    results = measure.results
    results.flag.setChecked(True)
    results.limit.setValue(8)
    measure.gamma.value = 1.0
    for _ in range(2):  # as other settings want it, and once more by the same ones
        measure.run()
        finish(measure)
        assert results.flag.isChecked()
        assert results.limit.value() == 8
        assert results.plot.limit == 8
        assert flagged(measure) == [4, 11]
    results.flag.setChecked(False)
    measure.run()
    finish(measure)
    results.flag.setChecked(True)
    assert results.limit.value() == 8
    image.scale, image.units = (1, 0.5, 0.5), ("s", "um", "um")
    measure.run()
    finish(measure)
    assert not results.flag.isChecked()


def test_a_limit_that_was_offered_is_offered_anew(measure, viewer, lapse, estimated, finish):
    image = viewer.add_image(lapse, name="cells")
    measure.run()
    finish(measure)
    measure.results.flag.setChecked(True)
    assert measure.results.limit.value() == 1.5
    image.data = lapse + 4
    measure.run()
    finish(measure)
    assert not measure.results.flag.isChecked()
    measure.results.flag.setChecked(True)
    assert measure.results.limit.value() > 5


def test_a_limit_is_not_one_for_another_image(measure, viewer, lapse, estimated, finish):
    viewer.add_image(lapse[:8], name="in pixels")
    measure.run()
    finish(measure)
    results = measure.results
    results.flag.setChecked(True)
    results.limit.setValue(8)
    assert flagged(measure) == [4]
    viewer.add_image(lapse, name="in µm", scale=(2, 0.5, 0.5), units=("s", "um", "um"))
    measure.run()
    finish(measure)
    assert not any(row.get("flagged") for row in results.rows)
    results.flag.setChecked(True)
    assert results.limit.suffix() == " µm"
    assert results.limit.value() == 0.75
    assert flagged(measure) == [4, 7, 11]


def test_clicks_go_to_frames_and_the_frame_shown_is_marked(
    measure, viewer, lapse, estimated, finish
):
    viewer.add_image(lapse, name="cells", scale=(2, 1, 1), translate=(10, 0, 0))
    viewer.add_image(np.zeros((3, 12, *SHAPE)), scale=(1, 2, 1, 1), translate=(0, 10, 0, 0))
    measure.image.value = viewer.layers["cells"]
    measure.run()
    finish(measure)
    measure.results.plot.picked.emit(4)
    assert viewer.dims.point[1] == 18
    assert measure.results.plot.current == 4
    assert measure.results.table.currentRow() == 4
    measure.results.table.setCurrentCell(7, 0)
    assert viewer.dims.point[1] == 24
    viewer.dims.set_point(1, 32)
    assert measure.results.plot.current == 11


def test_a_click_finds_the_nearest_frame(measure, viewer, lapse, estimated, finish, qtbot):
    viewer.add_image(lapse, name="cells")
    measure.run()
    finish(measure)
    plot, picked = measure.results.plot, []
    measure.resize(300, 900)
    measure.show()
    plot.picked.connect(picked.append)
    qtbot.waitExposed(measure)
    canvas, box = plot._plot, plot._plot.getPlotItem().getViewBox()
    qtbot.waitUntil(lambda: box.viewRange()[0][1] > 10)
    for frame in (6.2, 8.9):
        place = canvas.mapFromScene(box.mapViewToScene(QPointF(frame, 3.0)))
        qtbot.mouseClick(canvas.viewport(), Qt.MouseButton.LeftButton, pos=place)
    qtbot.mouseClick(canvas.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(2, 2))  # beside it
    assert picked == [6, 9]
    bottom, left = canvas.getAxis("bottom"), canvas.getAxis("left")
    assert all(step >= 1 for step, _ in bottom.tickSpacing(0.0, 2.0, 300.0))
    assert left.labelText == "median extent (px)"
    assert not left.autoSIPrefix


def test_labels_are_measured_one_by_one(measure, viewer, lapse, estimated, finish):
    labels = np.zeros(SHAPE, np.uint8)
    labels[:10, :12], labels[12:] = 3, 8
    lapse[5] = 0  # a frame that cannot be estimated
    viewer.add_image(lapse, name="cells")
    measure.labels.value = layer = viewer.add_labels(labels, name="nuclei")
    measure.run()
    finish(measure)
    rows = measure.results.rows
    assert [(row["frame"], row["label"]) for row in rows[:3]] == [(0, 3), (0, 8), (1, 3)]
    assert len(rows) == 22
    assert "1 left out, the first of them frame 5: the image is black" in measure.status.text()
    lines = measure.results.plot.lines
    assert [drawn.name for drawn in lines] == ["label 3", "label 8"]
    assert lines[0].color == QColor.fromRgbF(*layer.get_color(3).tolist())
    assert measure.results.table.horizontalHeaderItem(1).text() == "Label"


def test_labels_that_do_not_fit_are_refused(measure, viewer, lapse, estimated, notes):
    viewer.add_image(lapse, name="cells")
    measure.labels.value = viewer.add_labels(np.ones((5, *SHAPE), int), name="nuclei")
    measure.run()
    assert measure.job is None
    assert "'nuclei' does not fit 'cells': there are 5 label images" in notes[-1].message
    measure.labels.value = viewer.add_labels(np.ones((9, 9), int), name="small")
    measure.run()
    assert "'small' does not fit 'cells'" in notes[-1].message
    assert not estimated


def test_cancel_keeps_frames_and_the_next_run_goes_on(
    measure, viewer, lapse, estimated, finish, qtbot, monkeypatch
):
    go_on = threading.Event()
    quick = blurfield.estimate

    def slow_after_five(image, **options):
        while len(estimated) == 5 and not go_on.is_set():
            time.sleep(0.01)
            options["progress"](0, 2, "waiting")
        return quick(image, **options)

    monkeypatch.setattr(blurfield, "estimate", slow_after_five)
    viewer.add_image(lapse, name="cells")
    measure.run()
    qtbot.waitUntil(lambda: len(measure.results.rows) == 5)
    measure.cancel()
    assert "5 of 12 frames are measured" in measure.status.text()
    finish(measure)
    go_on.set()
    measure.run()
    finish(measure)
    assert [row["frame"] for row in measure.results.rows] == list(range(12))
    assert estimated == LENGTHS  # none twice

    measure.run()  # all were there: begins anew
    finish(measure)
    assert len(estimated) == 24
    assert len(measure.results.rows) == 12


def test_another_image_or_setting_begins_anew(measure, viewer, lapse, estimated, finish):
    layer = viewer.add_image(lapse, name="cells")
    measure.frames.which.value = "some"
    measure.frames.ranges.setText("0-2")
    measure.run()
    finish(measure)
    measure.model_rows.largest.setValue(21)
    measure.frames.ranges.setText("2-4")
    measure.run()
    finish(measure)
    assert [row["frame"] for row in measure.results.rows] == [2, 3, 4]
    layer.data = lapse[::-1].copy()
    measure.frames.ranges.setText("2-5")
    measure.run()
    finish(measure)
    assert [row["frame"] for row in measure.results.rows] == [2, 3, 4, 5]
    assert len(estimated) == 10
    measure._on_rows(measure._run - 1, [{"frame": 99}])  # of a run that is over
    assert len(measure.results.rows) == 4


def test_fields_that_are_there_are_used(measure, viewer, lapse, estimated, finish):
    layer = viewer.add_image(lapse, name="cells")
    field = KernelField.uniform(line(5), SHAPE)
    source = stack_of(layer).to_json((4,))
    add_field(viewer, field.with_metadata(**{SOURCE: source}), kernels=False)
    measure.image.value = layer
    measure.run()
    finish(measure)
    assert len(estimated) == 11
    assert measure.results.rows[4]["extent_median"] == pytest.approx(5, 1e-3)
    measure.reuse.setChecked(False)
    measure.run()
    finish(measure)
    assert measure.results.rows[4]["extent_median"] == pytest.approx(9, 1e-3)


def test_fields_of_a_time_lapse_are_used(measure, viewer, lapse, estimated, finish, tmp_path):
    stack = stack_of(viewer.add_image(lapse, name="cells"))
    field = KernelField.uniform(line(5), SHAPE)
    series = SimpleNamespace(
        field_path=lambda number: tmp_path / str(number), field=lambda number: field
    )
    for number in (2, 3):
        (tmp_path / str(number)).touch()
    shown = viewer.add_labels(np.zeros((12, *SHAPE), int))
    shown.metadata = {FACTS: {"role": "mask"}, FIELDS: FieldStack(series, stack)}
    measure.run()
    finish(measure)
    extents = [round(row["extent_median"]) for row in measure.results.rows]
    assert extents == [1, 1, 5, 5, *LENGTHS[4:]]
    assert len(estimated) == 10


def test_fields_of_frames_that_changed_are_not_used(
    measure, viewer, lapse, estimated, finish, tmp_path
):
    stack = stack_of(viewer.add_image(lapse, name="cells"))
    series = Series.create(tmp_path, stack.frames(), estimate={}, deblur=None)
    for number in series.numbers:
        origin = {PIXELS: frame_digest(lapse[number])}
        field = KernelField.uniform(line(5), SHAPE, {"source": origin})
        field.save(series.field_path(number))
    shown = viewer.add_labels(np.zeros((12, *SHAPE), int))
    shown.metadata = {FACTS: {"role": "mask"}, FIELDS: FieldStack(series, stack)}
    lapse[3] = 7
    measure.run()
    finish(measure)
    extents = [round(row["extent_median"]) for row in measure.results.rows]
    assert extents == [5, 5, 5, 7, *[5] * 8]
    assert estimated == [7]


def test_table_becomes_a_layer_of_points(measure, viewer, lapse, estimated, finish, notes):
    measure.add_layer()
    assert "no measurements" in notes[-1].message
    image = viewer.add_image(lapse, name="cells", scale=(2, 0.5, 0.5), units=("s", "um", "um"))
    measure.run()
    finish(measure)
    measure.results.flag.setChecked(True)
    measure.add_layer()
    layer = viewer.layers["cells blur measurements"]
    assert isinstance(layer, Points)
    assert viewer.layers.selection.active is image
    np.testing.assert_array_equal(layer.data[:, 0], range(12))
    assert (layer.extent.world[1] <= image.extent.world[1]).all()
    assert layer.features["flagged"].sum() == 3
    assert layer.features["words"][4] == "4.5 µm, flagged"
    facts = json.loads(json.dumps(layer.metadata[FACTS]))
    assert (facts["role"], facts["unit"]) == ("measurements", "µm")
    assert facts["parameters"]["model"] == "auto"
    assert roles(viewer) == [None, "measurements"]
    np.testing.assert_array_equal(layer.scale, image.scale)
    assert layer.units == image.units


def test_table_is_saved(measure, viewer, lapse, estimated, finish, tmp_path):
    stack = lapse.reshape(3, 4, *SHAPE)
    viewer.add_image(stack, name="cells", axis_labels=("t", "z", "y", "x"))
    measure.run()
    finish(measure)
    measure.results.flag.setChecked(True)
    measure.results.save_wanted.emit(str(tmp_path / "blur.csv"))
    with (tmp_path / "blur.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert (rows[6]["image"], rows[6]["frame"], rows[6]["t"], rows[6]["z"]) == (
        "cells",
        "6",
        "1",
        "2",
    )
    assert [row["frame"] for row in rows if row["flagged"] == "1"] == ["4", "7", "11"]
    assert measure.results.summary.text() == "3 of 12 frames flagged: t 1, z 0, 3; t 2, z 3"
    table = measure.results.table
    assert [table.horizontalHeaderItem(column).text() for column in (0, 1)] == ["t", "z"]
    assert [table.item(6, column).text() for column in (0, 1)] == ["1", "2"]
    measure.results.save_wanted.emit(str(tmp_path / "nowhere" / "blur.csv"))
    assert "nowhere" in measure.status.text()


def test_a_single_image_is_one_frame(measure, viewer, lapse, estimated, finish, notes):
    measure.run()
    assert "Open an image first" in notes[-1].message
    viewer.add_image(lapse[4], name="cell")
    assert measure.frames.isHidden()
    measure.run()
    finish(measure)
    (row,) = measure.results.rows
    assert row["extent_median"] == pytest.approx(9, 1e-3)
    measure.results.frame_picked.emit(0)
    viewer.add_image(lapse, name="cells")
    assert not measure.frames.isHidden()
    measure.frames.which.value = "current"
    viewer.dims.set_point(0, 7)
    measure.run()
    finish(measure)
    assert [row["frame"] for row in measure.results.rows] == [7]


def test_an_image_that_cannot_be_measured_says_why(measure, viewer, estimated, finish):
    viewer.add_image(np.zeros((3, *SHAPE), np.uint8), name="dark")
    measure.run()
    finish(measure)
    assert measure.status.text() == "No frame could be measured: frame 0: the image is black"
    assert measure.results.isHidden()


def test_lazy_rgb_and_multiscale_frames(measure, viewer, lapse, estimated, finish):
    import dask.array as da

    colour = np.repeat(lapse.astype(np.uint8)[..., None], 3, axis=-1)
    for layer in (
        Image(da.from_array(lapse, chunks=(1, -1, -1)), name="lazy"),
        Image(colour, rgb=True, name="colour"),
        Image([lapse, lapse[:, ::2, ::2]], multiscale=True, name="pyramid"),
    ):
        viewer.add_layer(layer)
        measure.image.value = layer
        measure.frames.which.value = "some"
        measure.frames.ranges.setText("3-4")
        measure.run()
        finish(measure)
        assert [round(row["extent_median"]) for row in measure.results.rows] == [1, 9]


@pytest.mark.parametrize(("window", "text"), [("#202020", "#f0f0f0"), ("#f5f5f5", "#101010")])
def test_plot_takes_its_colours_from_the_window(measure, window, text):
    plot = measure.results.plot
    measure.setStyleSheet(f"QWidget {{ background-color: {window}; color: {text}; }}")
    measure.results.setVisible(True)
    measure.show()
    assert plot._plot.backgroundBrush().color().name() == window
    axis = plot._plot.getAxis("left")
    assert axis.textPen().color().name() == text
    limit = plot._limit.pen.color()
    assert abs(limit.lightnessF() - QColor(window).lightnessF()) > 0.3


def test_in_the_window_of_both_themes(make_napari_viewer, lapse, estimated, finish, qtbot):
    viewer = make_napari_viewer()
    viewer.add_image(lapse, name="cells")
    _, measure = viewer.window.add_plugin_dock_widget("napari-blurfield", "Measure blur")
    measure.run()
    finish(measure)
    shown = []
    for theme in ("dark", "light"):
        viewer.theme = theme
        background = measure.palette().color(measure.backgroundRole())
        qtbot.waitUntil(
            lambda color=background: measure.results.plot._plot.backgroundBrush().color() == color
        )
        shown.append(background.lightnessF())
    assert shown[0] < 0.5 < shown[1]
