"""The widget that shows the kernel under the cursor."""

from __future__ import annotations

import gc
import time

import numpy as np
import pytest
import torch
from in_viewer import add_field
from napari.layers import Image
from napari.utils._test_utils import read_only_mouse_event
from napari.utils.interactions import (
    mouse_move_callbacks,
    mouse_press_callbacks,
    mouse_release_callbacks,
)
from qtpy.QtGui import QGuiApplication

from blurfield import KernelField
from blurfield.kernel_files import read_kernel
from napari_blurfield._source import Source
from napari_blurfield.layers import SOURCE
from napari_blurfield.widgets import InspectorWidget


@pytest.fixture
def inspector(viewer, qtbot):
    widget = InspectorWidget(viewer)
    qtbot.addWidget(widget)
    widget.show()
    return widget


def texts(widget):
    return {name: label.text() for name, label in widget._values.items()}


def click(viewer, position, button=1, moved=0):
    """Press and release at a place in the world, `moved` pixels of the screen apart."""
    press, move, release = (
        read_only_mouse_event(
            type=kind, position=position, button=button, pos=(50 + x, 50), is_dragging=x > 0
        )
        for kind, x in (("mouse_press", 0), ("mouse_move", moved), ("mouse_release", moved))
    )
    mouse_press_callbacks(viewer, press)
    if moved:
        mouse_move_callbacks(viewer, move)
    mouse_release_callbacks(viewer, release)


def move(viewer, y, x):
    """Move the cursor to a place in the world, at the first slice of all other axes."""
    viewer.cursor.position = (0.0,) * (viewer.dims.ndim - 2) + (y, x)


def clipboard():
    return QGuiApplication.clipboard().text()


# ------------------------------------------------------------------------- following


def test_follows_the_cursor(inspector, viewer, field, qtbot):
    assert inspector.facts is None
    assert inspector.view.is_empty
    add_field(viewer, field, kernels=False)
    move(viewer, 20.0, 60.2)
    qtbot.waitUntil(lambda: inspector.facts is not None and inspector.facts.x == 60)
    assert texts(inspector) == {
        "place": "row 20, column 60",
        "support": "9 × 9 px",
        "extent": "9.0 px",
        "direction": "0° (anisotropy 1.00)",
        "norm": "0.333",
        "uncertainty": "–",
    }
    assert not inspector._values["uncertainty"].isVisible()
    move(viewer, 20.0, 3.0)
    qtbot.waitUntil(lambda: inspector.facts.x == 3)
    assert texts(inspector)["direction"] == "none: it is round"
    move(viewer, 20.0, -3.0)
    qtbot.waitUntil(lambda: inspector.facts is None)
    assert inspector.view.is_empty
    assert not any(button.isEnabled() for button in inspector._buttons)


def test_shows_the_psf_and_not_the_kernel(inspector, viewer, qtbot):
    kernel = np.zeros((5, 5), np.float32)
    kernel[0, 0] = kernel[2, 2] = 0.5
    add_field(viewer, KernelField.uniform(kernel, (40, 40)), kernels=False)
    inspector.pin((10, 10))
    assert inspector.facts.psf[4, 4] == 0.5
    assert inspector.facts.psf[0, 0] == 0


def test_uncertainty_and_units(inspector, viewer, field, placed):
    known = KernelField(
        field.basis,
        field.mixing,
        field.shape,
        {SOURCE: Source.from_layer(Image(np.zeros(field.shape), name="cells", **placed)).to_json()},
        {"uncertainty": np.full((4, 8), 0.25)},
    )
    add_field(viewer, known, kernels=False)
    inspector.pin(viewer.layers["cells blur mask"].data_to_world((20, 60)))
    assert (inspector.facts.y, inspector.facts.x) == (20, 60)
    assert texts(inspector)["extent"] == "9.0 px = 2.25 µm"
    assert texts(inspector)["uncertainty"] == "25%"
    assert inspector._values["uncertainty"].isVisible()


def test_works_over_a_stack(inspector, viewer, field, qtbot):
    labels = ("t", "y", "x")
    movie = Image(np.zeros((7, 48, 64)), scale=(3, 2, 2), axis_labels=labels, name="movie")
    viewer.add_layer(movie)
    source = Source.from_layer(movie, (2,)).to_json()
    add_field(viewer, field.with_metadata(**{SOURCE: source}))
    move(viewer, 40.0, 120.0)
    qtbot.waitUntil(lambda: (inspector.facts.y, inspector.facts.x) == (20, 60))


def test_another_field_is_read_at_the_same_place(inspector, viewer, field):
    add_field(viewer, field, kernels=False)
    inspector.pin((20, 60))
    add_field(
        viewer, KernelField.uniform(np.ones((1, 1)), (48, 64), {"source": "sharp"}), kernels=False
    )
    viewer.layers.selection.active = viewer.layers["sharp blur mask"]
    assert inspector.is_pinned
    assert texts(inspector)["norm"] == "1.000"
    small = KernelField.uniform(np.ones((1, 1)), (8, 8), {"source": "small"})
    add_field(viewer, small, kernels=False)
    viewer.layers.selection.active = viewer.layers["small blur mask"]
    assert not inspector.is_pinned


def test_thirty_times_a_second_with_a_kernel_for_each_pixel(inspector, viewer):
    basis = torch.eye(361).reshape(361, 19, 19)
    dense = KernelField(basis, torch.full((361, 64, 64), 1 / 361), (256, 256))
    inspector.field.add("dense", dense)
    inspector.refresh()
    started = time.perf_counter()
    for i in range(30):
        move(viewer, 8.0 * i, 5.0 * i)
        inspector.refresh()
        inspector.view.grab()
    assert time.perf_counter() - started < 1
    assert inspector._timer.interval() < 1000 / 30


def test_many_movements_are_one_reading(inspector, viewer, field, qtbot, monkeypatch):
    add_field(viewer, field, kernels=False)
    seen = []
    monkeypatch.setattr(inspector, "_read", seen.append)
    for i in range(200):
        move(viewer, 20.0, 1.0 + 0.2 * i)
    qtbot.waitUntil(lambda: bool(seen) and seen[-1][-1] == 1.0 + 0.2 * 199)
    assert len(seen) < 20


# --------------------------------------------------------------------------- pinning


def test_clicks_pin_and_unpin(inspector, viewer, field):
    add_field(viewer, field, kernels=False)
    viewer.layers.selection.active = viewer.layers["field blur mask"]
    click(viewer, (20.4, 60.0))
    assert inspector.is_pinned
    marker = viewer.layers["inspected place"]
    np.testing.assert_array_equal(marker.data, [[20, 60]])
    assert viewer.layers.selection.active is viewer.layers["field blur mask"]
    move(viewer, 5.0, 5.0)
    inspector.refresh()
    assert inspector.facts.x == 60
    assert inspector.run_button.text() == "Unpin"
    click(viewer, (5.0, 5.0))
    assert not inspector.is_pinned
    assert marker not in viewer.layers
    assert inspector.facts.x == 5


@pytest.mark.parametrize("how", [{"moved": 30}, {"button": 2}])
def test_drags_and_other_buttons_do_not_pin(inspector, viewer, field, how):
    add_field(viewer, field, kernels=False)
    click(viewer, (20, 60), **how)
    assert not inspector.is_pinned
    click(viewer, (20, 60), moved=2)  # the hand is never quite still
    assert inspector.is_pinned


def test_painting_does_not_pin(inspector, viewer, field):
    add_field(viewer, field, kernels=False)
    viewer.layers.selection.active = viewer.layers["field blur mask"]
    viewer.layers["field blur mask"].visible = True
    viewer.layers["field blur mask"].mode = "paint"
    click(viewer, (20, 60))
    assert not inspector.is_pinned


def test_the_button_pins_what_is_shown(inspector, viewer, field, notes):
    inspector.run()
    assert "no blur field in the viewer" in notes[0].message
    add_field(viewer, field, kernels=False)
    move(viewer, 90.0, 90.0)
    inspector.run()
    assert not inspector.is_pinned
    assert "no kernel at this place" in inspector.status.text()
    move(viewer, 9.0, 9.0)
    inspector.run()
    assert inspector.is_pinned
    inspector.run()
    assert not inspector.is_pinned


def test_removing_the_mark_unpins(inspector, viewer, field):
    add_field(viewer, field, kernels=False)
    inspector.pin((20, 60))
    viewer.layers.remove("inspected place")
    assert not inspector.is_pinned


def test_a_hidden_widget_leaves_clicks_alone(inspector, viewer, field):
    add_field(viewer, field, kernels=False)
    inspector.hide()
    click(viewer, (20, 60))
    assert not inspector.is_pinned


def test_closing_takes_mark_and_clicks_away(viewer, field, qtbot):
    add_field(viewer, field, kernels=False)
    before = list(viewer.mouse_drag_callbacks)
    widget = InspectorWidget(viewer)
    widget.pin((20, 60))
    assert len(viewer.mouse_drag_callbacks) == len(before) + 1
    with qtbot.waitSignal(widget.destroyed):
        widget.deleteLater()
    assert viewer.mouse_drag_callbacks == before
    assert "inspected place" not in viewer.layers
    move(viewer, 1.0, 2.0)
    click(viewer, (20, 60))


def test_nothing_holds_the_widget(viewer, field):
    add_field(viewer, field, kernels=False)
    widget = InspectorWidget(viewer)
    widget.pin((20, 60))
    gone = []

    def note(*_):
        gone.append(True)

    widget.destroyed.connect(note)
    del widget
    gc.collect()
    assert gone
    assert "inspected place" not in viewer.layers


# ----------------------------------------------------------------- taking it elsewhere


def test_copied_arrays_are_exact(inspector, viewer):
    rng = np.random.default_rng(0)
    kernel = rng.random((35, 35)).astype(np.float32)
    kernel /= kernel.sum()
    add_field(viewer, KernelField.uniform(kernel, (40, 40)), kernels=False)
    inspector.pin((10, 10))
    inspector.copy_array()
    copied = eval(clipboard(), {"np": np})
    np.testing.assert_array_equal(copied, inspector.facts.psf)
    assert copied.dtype == np.float32
    inspector.copy_place()
    assert clipboard() == "y=10, x=10"


@pytest.mark.parametrize("suffix", [".npy", ".tif", ".png", ".csv"])
def test_export(inspector, viewer, field, tmp_path, suffix):
    add_field(viewer, field, kernels=False)
    inspector.pin((20, 60))
    path = tmp_path / f"kernel{suffix}"
    inspector.export(path)
    assert inspector.status.text() == f"Saved {path.name}."
    np.testing.assert_allclose(read_kernel(path), field.kernel_at(20, 60), atol=1e-5)


def test_what_cannot_be_exported_is_explained(inspector, viewer, field, tmp_path, notes):
    inspector.export(tmp_path / "kernel.npy")
    add_field(viewer, field, kernels=False)
    inspector.pin((20, 60))
    inspector.export(tmp_path / "kernel.doc")
    inspector.export(tmp_path / "missing" / "kernel.npy")
    assert [
        words in note.message
        for words, note in zip(
            ("no kernel to be seen", "'.doc'", "does not exist"), notes, strict=True
        )
    ] == [True] * 3
    assert not list(tmp_path.iterdir())
