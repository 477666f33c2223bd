"""The widget that finds the blur, on a viewer without a window."""

from __future__ import annotations

import time

import numpy as np
from in_viewer import roles
from qtpy.QtCore import Qt

import blurfield
from blurfield.estimation import MODELS
from napari_blurfield.widgets import EstimateWidget


def test_estimate_adds_layers_on_top(estimate, viewer, photograph, quick, finish, notes):
    source = viewer.add_image(photograph, name="cells")
    estimate.gamma.value = 1.0
    estimate.run()
    assert not estimate.run_button.isEnabled()
    finish(estimate)
    assert roles(viewer) == [None, "mixing", "basis", "mosaic", "mask", "vectors"]
    assert viewer.layers.selection.active is source
    assert "on cpu" in estimate.status.text()
    assert estimate.run_button.isEnabled()
    assert not notes
    image, options = quick["estimate"]
    np.testing.assert_array_equal(image, photograph)
    options.pop("progress")
    assert options == {"model": "auto", "gamma": 1.0, "device": "auto"}


def test_largest_blur_is_the_kernel_size(estimate, viewer, photograph, quick, finish):
    viewer.add_image(photograph)
    assert estimate.largest.text() == "automatic"
    estimate.largest.setValue(24)
    estimate.run()
    finish(estimate)
    assert quick["estimate"][1]["kernel_size"] == 25


def test_refinement(estimate, viewer, photograph, quick, finish):
    viewer.add_image(photograph)
    assert estimate.rounds.text() == "none"
    estimate.rounds.setValue(3)
    estimate.run()
    finish(estimate)
    assert quick["estimate"][1]["refine"] == 3


def test_models_without_weights_say_what_to_import(
    monkeypatch, qtbot, viewer, photograph, quick, finish
):
    present = ["windowed", "two-heads"]
    monkeypatch.setattr("blurfield.estimation.installed_models", lambda: present)
    widget = EstimateWidget(viewer)
    qtbot.addWidget(widget)
    values = widget.model.values
    assert values == ["auto", *MODELS]
    model = widget.model.model()
    usable = [value for index, value in enumerate(values) if model.item(index).isEnabled()]
    assert usable == ["auto", *present]
    index = values.index("ufp")
    assert widget.model.itemText(index) == "UFPNet (each pixel): no weights"
    tooltip = widget.model.itemData(index, Qt.ItemDataRole.ToolTipRole)
    assert "net_g_latest.pth" in tooltip
    assert "blurfield weights import FILE" in tooltip
    assert widget.model.itemText(values.index("two-heads")) == "two-headed network"
    viewer.add_image(photograph)
    widget.largest.setValue(24)
    widget.model.value = "two-heads"
    assert not widget.largest.isEnabled()
    widget.run()
    finish(widget)
    assert quick["estimate"][1]["model"] == "two-heads"
    assert "kernel_size" not in quick["estimate"][1]
    widget.model.value = "windowed"
    assert widget.largest.isEnabled()


def test_results_never_replace_layers(estimate, viewer, photograph, quick, finish):
    viewer.add_image(photograph, name="cells")
    estimate.kernels.setChecked(False)
    for _ in range(2):
        estimate.run()
        finish(estimate)
    assert len(viewer.layers) == 7
    assert len({layer.name for layer in viewer.layers}) == 7


def test_estimates_the_frame_that_is_shown(estimate, viewer, quick, finish):
    stack = np.zeros((5, 48, 64))
    stack += np.arange(5)[:, None, None]
    viewer.add_image(stack, name="movie", scale=(2, 1, 1))
    viewer.dims.set_current_step(0, 3)
    estimate.run()
    finish(estimate)
    assert (quick["estimate"][0] == 3).all()
    assert "movie [frame 3] blur mask" in viewer.layers


def test_sliders_outside_the_stack_are_explained(estimate, viewer, notes):
    movie = viewer.add_image(np.zeros((5, 48, 64)), name="movie")
    viewer.add_image(np.zeros((20, 48, 64)), name="longer")
    viewer.dims.set_current_step(0, 15)
    viewer.layers.selection.active = movie
    estimate.run()
    assert "'movie' has only 0 to 4" in notes[0].message
    assert estimate.job is None
    assert "only 0 to 4" in estimate.image_note.text()


def test_cancel_leaves_the_layers_alone(estimate, viewer, photograph, endless, qtbot, notes):
    viewer.add_image(photograph)
    estimate.run()
    job = estimate.job
    qtbot.waitUntil(lambda: "looking" in estimate.status.text())
    assert estimate.progress_bar.maximum() == 1000
    started = time.monotonic()
    with qtbot.waitSignal(job.ended):
        estimate.cancel_button.click()
    assert time.monotonic() - started < 1
    assert roles(viewer) == [None]
    assert estimate.run_button.isEnabled()
    assert "Cancelled" in estimate.status.text()
    assert not notes


def test_errors_are_shown_and_nothing_is_added(
    estimate, viewer, photograph, monkeypatch, finish, notes
):
    def fail(image, **options):
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(blurfield, "estimate", fail, raising=False)
    viewer.add_image(photograph)
    estimate.run()
    finish(estimate)
    assert roles(viewer) == [None]
    assert [note.message for note in notes] == ["RuntimeError: shapes cannot be multiplied"]
    assert estimate.status.text() == notes[0].message
    assert estimate.run_button.isEnabled()


def test_source_removed_meanwhile(estimate, viewer, photograph, placed, quick, finish, notes):
    source = viewer.add_image(photograph, name="cells", **placed)
    corner = source.data_to_world((3, 4))
    estimate.run()
    viewer.layers.clear()
    finish(estimate)
    mask = viewer.layers["cells blur mask"]
    np.testing.assert_allclose(mask.data_to_world((3, 4)), corner)
    assert "gone" in notes[0].message


def test_source_painted_meanwhile(estimate, viewer, photograph, quick, finish):
    layer = viewer.add_image(photograph.copy())
    estimate.run()
    layer.data[:] = 0
    finish(estimate)
    np.testing.assert_array_equal(quick["estimate"][0], photograph)


def test_one_job_at_a_time(estimate, viewer, photograph, endless, qtbot, notes):
    viewer.add_image(photograph)
    estimate.run()
    job = estimate.job
    estimate.run()
    assert estimate.job is job
    assert "running already" in notes[0].message
    with qtbot.waitSignal(job.ended):
        estimate.cancel()


def test_a_destroyed_widget_stops_its_job(viewer, photograph, endless, qtbot, notes):
    widget = EstimateWidget(viewer)
    viewer.add_image(photograph)
    widget.run()
    job = widget.job
    qtbot.waitUntil(lambda: "looking" in widget.status.text())
    widget.deleteLater()
    qtbot.waitUntil(lambda: not job.is_running, timeout=1000)
    assert roles(viewer) == [None]
    assert not notes
