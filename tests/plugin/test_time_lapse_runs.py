"""Runs over several frames: what is seen meanwhile, stopping and going on, frames that fail."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from in_viewer import by_role, roles, threads_at_work
from movies import PICTURES, add_movie
from skimage.data import camera

from blurfield import KernelField
from blurfield.series import Series
from napari_blurfield._series import SeriesPlan, run_series
from napari_blurfield._stack import Stack
from napari_blurfield.widgets import EstimateWidget

pytestmark = threads_at_work


@pytest.fixture
def gated(monkeypatch, field, quick):
    """Let estimation wait for permission, frame by frame."""
    gate = threading.Semaphore(0)

    def estimate(image, **options):
        while not gate.acquire(timeout=0.02):
            options["progress"](0, 1, "waiting")
        return KernelField(field.basis, field.mixing, field.shape)

    monkeypatch.setattr("blurfield.estimation.estimate", estimate)
    return gate


def test_layers_appear_with_the_first_frame_and_stay(
    estimate, viewer, gated, qtbot, finish, tmp_path, notes
):
    add_movie(viewer)
    estimate.frames.which.value = "all"
    estimate.folder.path.setText(str(tmp_path))
    estimate.run()
    qtbot.wait(100)
    assert roles(viewer) == [None]
    gated.release()
    qtbot.waitUntil(lambda: len(viewer.layers) > 1)
    assert estimate.job is not None
    per_frame = len(by_role(viewer)["vectors"].data)
    gated.release()
    qtbot.waitUntil(lambda: len(by_role(viewer)["vectors"].data) == 2 * per_frame, timeout=3000)
    assert np.asarray(by_role(viewer)["mosaic"].data[1]).any()
    assert not np.asarray(by_role(viewer)["mosaic"].data[2]).any()
    estimate.cancel()
    finish(estimate)
    assert "2 of 4 frames are done, and kept" in estimate.status.text()
    assert roles(viewer) == [None, *PICTURES]
    # The second run goes on where the first one stopped.
    gated.release(2)
    estimate.run()
    finish(estimate)
    assert "Estimated 4 frames (2 of them before)" in estimate.status.text()
    assert len(by_role(viewer)["vectors"].data) == 4 * per_frame
    assert not notes


def test_a_destroyed_widget_stops_the_series(viewer, gated, qtbot, tmp_path):
    add_movie(viewer)
    widget = EstimateWidget(viewer)
    widget.frames.which.value = "all"
    widget.folder.path.setText(str(tmp_path))
    widget.run()
    job = widget.job
    gated.release()
    qtbot.waitUntil(lambda: len(viewer.layers) > 1)
    with qtbot.waitSignal(widget.destroyed):
        widget.deleteLater()
    del widget
    qtbot.waitUntil(lambda: not job.is_running, timeout=2000)
    assert len(Series.open(tmp_path).finished) == 1


def test_the_source_layer_may_go(estimate, viewer, gated, qtbot, finish, tmp_path):
    source = add_movie(viewer)
    estimate.frames.which.value = "all"
    estimate.folder.path.setText(str(tmp_path))
    estimate.run()
    viewer.layers.remove(source)
    gated.release(4)
    finish(estimate)
    assert roles(viewer) == PICTURES
    assert "Estimated 4 frames" in estimate.status.text()


def test_cancelled_before_the_first_frame(estimate, viewer, gated, qtbot, finish, tmp_path):
    add_movie(viewer)
    estimate.frames.which.value = "all"
    estimate.folder.path.setText(str(tmp_path))
    estimate.run()
    qtbot.waitUntil(
        lambda: "waiting" in estimate.status.text() or "frame" in estimate.status.text()
    )
    estimate.cancel()
    finish(estimate)
    assert roles(viewer) == [None]
    assert "nothing was changed" in estimate.status.text()


def test_frames_that_fail_are_told(monkeypatch, estimate, viewer, field, quick, finish, tmp_path):
    def some(image, **options):
        if image.mean() > 150:
            raise ValueError("too bright")
        return field

    monkeypatch.setattr("blurfield.estimation.estimate", some)
    add_movie(viewer)
    estimate.frames.which.value = "all"
    estimate.folder.path.setText(str(tmp_path))
    estimate.run()
    finish(estimate)
    assert "Estimated 2 frames" in estimate.status.text()
    assert "2 of 4 frames failed, the first at 2: too bright." in estimate.status.text()


def test_a_frame_that_fails_is_named_by_its_place(monkeypatch, viewer, field, quick, tmp_path):
    def some(image, **options):
        if image.max() > 1:
            raise ValueError("too bright")
        return field

    monkeypatch.setattr("blurfield.estimation.estimate", some)
    data = np.ones((3, 6, 48, 64), np.float32)
    data[1, 4] = 2
    layer = viewer.add_image(data, axis_labels=("t", "z", "y", "x"))
    plan = SeriesPlan(Stack.from_layer(layer), (9, 10), {}, chosen_folder=str(tmp_path))
    summary = run_series(plan).summary
    assert "1 of 2 frames failed, the first at t 1, z 4: too bright." in summary


def test_if_all_frames_fail_there_is_no_layer(
    monkeypatch, estimate, viewer, quick, finish, tmp_path, notes
):
    def fail(image, **options):
        raise ValueError("too dark")

    monkeypatch.setattr("blurfield.estimation.estimate", fail)
    add_movie(viewer, 2)
    estimate.frames.which.value = "all"
    estimate.folder.path.setText(str(tmp_path))
    estimate.run()
    finish(estimate)
    assert roles(viewer) == [None]
    assert "too dark" in notes[0].message


@pytest.mark.slow
def test_cancelling_real_work_takes_less_than_a_second(viewer, estimate, qtbot, tmp_path):
    movie = np.stack([np.asarray(camera())[:400, :400]] * 3)
    viewer.add_image(movie, axis_labels=("t", "y", "x"))
    estimate.frames.which.value = "all"
    estimate.folder.path.setText(str(tmp_path))
    estimate.run()
    job = estimate.job
    qtbot.waitUntil(lambda: estimate.progress_bar.maximum() > 0, timeout=60_000)
    qtbot.wait(500)
    started = time.monotonic()
    with qtbot.waitSignal(job.ended, timeout=20_000):
        estimate.cancel()
    assert time.monotonic() - started < 1
    assert len(viewer.layers) == 1
