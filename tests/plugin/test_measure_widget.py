"""The widget that measures blur over time, on a viewer without a window."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from blurred_lapse import LENGTHS, SHAPE, line
from in_viewer import add_field
from napari.layers import Image
from qtpy.QtGui import QColor

import blurfield
from blurfield import KernelField
from blurfield.series import Series
from blurfield.series.changes import PIXELS, frame_digest
from napari_blurfield._field_stack import FieldStack
from napari_blurfield._measuring import stack_of
from napari_blurfield.layers import FACTS, FIELDS, SOURCE


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
