"""What the widget that measures blur over time shows: limits, the plot, the table."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from blurred_lapse import SHAPE
from in_viewer import roles
from napari.layers import Points
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QColor

from napari_blurfield.layers import FACTS

# ------------------------------------------------------------------------------- limits


def flagged(widget):
    return [row["frame"] for row in widget.results.rows if row["flagged"]]


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


# --------------------------------------------------------------------------------- plot


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


# -------------------------------------------------------------------------------- table


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
