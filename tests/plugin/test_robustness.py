"""Images, fields, widgets and viewers that go while people work, and jobs at the same time."""

from __future__ import annotations

import numpy as np
import pytest
from in_viewer import add_field, roles
from working_widgets import WORKERS, last_role, ready, runs_again, started

from napari_blurfield import _commands, find_field
from napari_blurfield.layers import FACTS
from napari_blurfield.widgets import DeblurWidget, EstimateWidget, ReblurWidget

# ------------------------------------------------------------------------------- layers


def test_the_layer_is_removed_meanwhile(worker, viewer, held, qtbot, finish, notes):
    started(worker, qtbot)
    viewer.layers.remove("cells")
    held.set()
    finish(worker)
    assert roles(viewer)[-1] == last_role(worker)
    assert [note.severity.value for note in notes] == ["info"]
    assert "gone" in notes[0].message
    viewer.add_image(np.zeros((48, 64), np.uint8), name="next")
    assert runs_again(worker, finish)


def test_the_layer_is_changed_meanwhile(worker, viewer, photograph, held, quick, qtbot, finish):
    before = photograph.copy()
    started(worker, qtbot)
    layer = viewer.layers["cells"]
    layer.data[:] = 0
    layer.data = np.ones((9, 9))
    layer.name = "another name"
    held.set()
    finish(worker)
    made = viewer.layers[-1]
    if last_role(worker) == "deblurred":
        np.testing.assert_array_equal(made.data, before)
    facts = find_field(made).metadata if last_role(worker) == "vectors" else made.metadata[FACTS]
    source = facts["napari"] if last_role(worker) == "vectors" else facts["source"]
    assert source["shape"] == [48, 64]
    assert source["layer"] == "cells"


def test_the_field_is_removed_meanwhile(viewer, photograph, field, held, qtbot, finish, notes):
    viewer.add_image(photograph, name="cells")
    add_field(viewer, field, kernels=False)
    widget = ReblurWidget(viewer)
    qtbot.addWidget(widget)
    started(widget, qtbot)
    for layer in list(viewer.layers)[1:]:
        viewer.layers.remove(layer)
    held.set()
    finish(widget)
    assert roles(viewer) == [None, "reblurred"]
    assert widget.field.value is None
    assert not notes


# ----------------------------------------------------------------------------- two jobs


@pytest.mark.parametrize("cancelled", [False, True])
def test_two_jobs_at_once(cancelled, viewer, photograph, field, held, qtbot, finish, notes):
    viewer.add_image(photograph, name="cells")
    add_field(viewer, field, kernels=False)
    one, other = EstimateWidget(viewer), DeblurWidget(viewer)
    other.field.value = field
    for widget in (one, other):
        qtbot.addWidget(widget)
        widget.run()
    qtbot.waitUntil(lambda: one.progress_bar.maximum() == 2)
    if cancelled:
        one.cancel()
    held.set()
    for widget in (one, other):
        finish(widget)
    assert roles(viewer).count("deblurred") == 1
    assert roles(viewer).count("vectors") == (1 if cancelled else 2)
    assert ("Cancelled" in one.status.text()) is cancelled
    assert not notes


# ------------------------------------------------------------------------------ closing


@pytest.mark.parametrize("cls", WORKERS)
def test_the_widget_is_closed(cls, viewer, photograph, field, held, qtbot, finish, notes):
    widget = ready(cls, viewer, photograph, field)
    job = started(widget, qtbot)
    before = list(viewer.layers)
    with qtbot.waitSignal(widget.destroyed):
        widget.deleteLater()
    qtbot.waitUntil(lambda: not job.is_running, timeout=10_000)
    assert list(viewer.layers) == before
    assert not notes
    held.set()
    again = cls(viewer)
    qtbot.addWidget(again)
    assert runs_again(again, finish)


def test_the_viewer_is_closed(plugin, make_napari_viewer, photograph, held, qtbot, notes):
    viewer = make_napari_viewer()
    viewer.add_image(photograph, name="cells")
    _, widget = viewer.window.add_plugin_dock_widget("napari-blurfield", "Estimate blur field")
    jobs = [started(widget, qtbot), _commands.deblur_active(viewer)]
    viewer.close()
    qtbot.waitUntil(lambda: not any(job.is_running for job in jobs), timeout=10_000)
    assert not any(roles(viewer))
    assert not notes
