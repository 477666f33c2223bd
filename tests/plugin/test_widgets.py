"""The dock widgets, on a viewer without a window."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Layer, Points
from qtpy.QtWidgets import (
    QAbstractSlider,
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QPushButton,
    QScrollBar,
)
from superqt import QLabeledDoubleSlider

import blurfield
from blurfield import KernelField
from napari_blurfield import field_layers, find_field
from napari_blurfield.layers import FACTS, role_of
from napari_blurfield.widgets import DeblurWidget, EstimateWidget, MaskWidget

CONTROLS = (
    QAbstractSlider,
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QLabeledDoubleSlider,
    QPushButton,
)
WIDGETS = [EstimateWidget, DeblurWidget, MaskWidget]


def roles(viewer):
    return [role_of(layer) for layer in viewer.layers]


def add_field(viewer, field, **options):
    for data, attributes, kind in field_layers(field, **options):
        viewer.add_layer(Layer.create(data, dict(attributes), kind))


@pytest.fixture(params=WIDGETS, ids=lambda cls: cls.__name__)
def any_widget(request, viewer, qtbot):
    widget = request.param(viewer)
    qtbot.addWidget(widget)
    return widget


@pytest.fixture
def estimate(viewer, qtbot):
    widget = EstimateWidget(viewer)
    qtbot.addWidget(widget)
    return widget


@pytest.fixture
def deblur(viewer, qtbot):
    widget = DeblurWidget(viewer)
    qtbot.addWidget(widget)
    return widget


@pytest.fixture
def mask(viewer, qtbot):
    widget = MaskWidget(viewer)
    qtbot.addWidget(widget)
    return widget


# ------------------------------------------------------------------------------ all


def test_every_control_is_named_and_explained(any_widget):
    controls = [c for kind in CONTROLS for c in any_widget.findChildren(kind)]
    ours = [c for c in controls if not any(isinstance(p, CONTROLS) for p in parents(c))]
    ours = [c for c in ours if not isinstance(c, QScrollBar)]
    assert len(ours) >= 4
    for control in ours:
        assert control.accessibleName(), control
        assert control.toolTip(), control


def parents(widget):
    """What a control is part of: a labelled slider has a number field of its own."""
    while (widget := widget.parent()) is not None:
        yield widget


def test_fits_a_narrow_dock(any_widget):
    assert any_widget.minimumSizeHint().width() <= 300


def test_without_layers_it_says_what_is_missing(any_widget, viewer, notes):
    any_widget.run()
    assert any_widget.job is None
    (note,) = notes
    assert "viewer" in note.message
    assert any_widget.status.text() == note.message
    assert len(viewer.layers) == 0


@pytest.mark.parametrize("widget", WIDGETS)
def test_nothing_is_left_connected(widget, viewer, qtbot):
    made = widget(viewer)
    with qtbot.waitSignal(made.destroyed):
        made.deleteLater()
    viewer.add_image(np.zeros((20, 20)))
    viewer.add_points(np.zeros((1, 2)))
    viewer.layers[0].name = "renamed"
    del viewer.layers[0]


@pytest.mark.parametrize("widget", WIDGETS)
def test_closing_the_dock_frees_the_widget(widget, viewer, qtbot):
    made = widget(viewer)
    gone = []

    def note(*_):  # needs a reference of its own: PyQt collects callbacks along with the widget
        gone.append(True)

    made.destroyed.connect(note)
    del made  # napari lets go of the widget like this
    gc.collect()
    assert gone


def test_opening_the_widgets_loads_no_torch():
    code = (
        "import sys, numpy as np\n"
        "from qtpy.QtWidgets import QApplication\n"
        "app = QApplication([])\n"
        "from napari.components import ViewerModel\n"
        "from napari_blurfield.widgets import DeblurWidget, EstimateWidget, MaskWidget\n"
        "viewer = ViewerModel()\n"
        "viewer.add_image(np.zeros((30, 30)))\n"
        "for kind in (DeblurWidget, EstimateWidget, MaskWidget):\n"
        "    widget = kind(viewer)\n"
        "    widget.show()\n"
        "    app.processEvents()\n"
        "slow = [m for m in ('torch', 'skimage.restoration', 'pandas') if m in sys.modules]\n"
        "sys.exit(f'loaded: {slow}' if slow else 0)\n"
    )
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)


# ------------------------------------------------------------------------- choices


def test_image_choice_follows_the_viewer(estimate, viewer, photograph):
    assert estimate.image.value is None
    first = viewer.add_image(photograph, name="first")
    second = viewer.add_image(photograph, name="second")
    viewer.add_points(np.zeros((1, 2)))
    assert estimate.image.values == [second, first]
    assert estimate.image.value is second
    viewer.layers.selection.active = first
    assert estimate.image.value is first
    viewer.layers.selection.active = viewer.layers[2]  # points: nothing to follow
    assert estimate.image.value is first
    first.name = "renamed"
    assert "renamed" in [estimate.image.itemText(i) for i in range(estimate.image.count())]
    assert estimate.image.value is first
    viewer.layers.remove(first)
    assert estimate.image.value is second


def test_pictures_of_a_field_are_no_photographs(estimate, viewer, photograph, field):
    image = viewer.add_image(photograph)
    add_field(viewer, field)
    assert estimate.image.values == [image]


def test_note_says_which_frame(estimate, viewer):
    viewer.add_image(np.zeros((5, 48, 64)), name="movie", axis_labels=("t", "y", "x"))
    viewer.dims.set_current_step(0, 3)
    assert estimate.image_note.text() == "t 3 of a stack, 48 × 64 px, grey"
    viewer.add_image(np.zeros((20, 30, 3)), rgb=True)
    assert estimate.image_note.text() == "20 × 30 px, colour"


def test_field_choice_follows_layers_and_image(deblur, viewer, photograph, field):
    cells = viewer.add_image(photograph, name="cells")
    assert deblur.field.value == "estimate"
    other = KernelField(field.basis, field.mixing, field.shape, {"source": "elsewhere"})
    add_field(viewer, other)
    viewer.layers.selection.active = cells
    from_cells = field.with_metadata(napari={"name": "cells", "layer": "cells", "frame": []})
    deblur.field.setCurrentIndex(0)
    add_field(viewer, from_cells)
    assert deblur.field.value is from_cells
    viewer.layers.selection.active = viewer.layers["elsewhere blur mask"]
    assert deblur.field.value is other
    for layer in [layer for layer in viewer.layers if find_field(layer) is other]:
        viewer.layers.remove(layer)
    assert other not in deblur.field.values


def test_fields_of_the_same_name_are_told_apart(mask, viewer, field):
    add_field(viewer, field)
    add_field(viewer, field.with_metadata(seed=2))
    words = [mask.field.itemText(i) for i in range(mask.field.count())]
    assert words == ["field", "field (2)"]


def test_devices_are_listed(estimate):
    assert estimate.device.values[:2] == ["auto", "cpu"]
    estimate.device.value = "cpu"
    estimate.device.refresh()
    assert estimate.device.value == "cpu"
    with pytest.raises(ValueError, match="abacus"):
        estimate.device.value = "abacus"


# ------------------------------------------------------------------------ estimate


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


def test_models_are_those_with_weights(monkeypatch, qtbot, viewer, photograph, quick, finish):
    monkeypatch.setattr(
        "napari_blurfield.widgets.estimate.installed_models", lambda: ["windowed", "two-heads"]
    )
    widget = EstimateWidget(viewer)
    qtbot.addWidget(widget)
    assert widget.model.values == ["auto", "windowed", "two-heads"]
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


# -------------------------------------------------------------------------- deblur


def test_deblur_with_the_field_of_the_image(deblur, viewer, photograph, quick, field, finish):
    viewer.add_image(photograph, name="cells", contrast_limits=(10, 90), colormap="green")
    add_field(viewer, field.with_metadata(napari={"layer": "cells", "frame": []}))
    viewer.layers.selection.active = viewer.layers["cells"]
    deblur.strength.setValue(0.75)
    deblur.run()
    finish(deblur)
    sharp = viewer.layers["cells deblurred"]
    assert list(sharp.contrast_limits) == [10, 90]
    assert sharp.colormap.name == "green"
    _, used, options = quick["deblur"]
    assert used is deblur.field.value
    assert options["strength"] == 0.75
    assert "estimate" not in quick
    assert viewer.layers.selection.active is viewer.layers["cells"]


def test_deblur_estimates_first(deblur, viewer, photograph, quick, finish):
    viewer.add_image(photograph, name="cells")
    assert deblur.field.value == "estimate"
    deblur.run()
    finish(deblur)
    assert roles(viewer) == [None, "mixing", "basis", "mosaic", "mask", "vectors", "deblurred"]
    assert deblur.field.value is find_field(viewer.layers["cells blur mask"])


def test_another_image_gets_another_field(deblur, viewer, photograph, field, tmp_path):
    viewer.add_image(photograph, name="cells")
    add_field(viewer, field.with_metadata(napari={"layer": "cells", "frame": []}))
    assert deblur.field.value != "estimate"
    viewer.add_image(photograph, name="other")
    assert deblur.field.value == "estimate"
    elsewhere = field.save(tmp_path / "known.blurfield")
    deblur.open_field(elsewhere)
    viewer.add_image(photograph, name="third")
    assert deblur.field.currentText() == "known.blurfield"
    viewer.layers.selection.active = viewer.layers["cells"]
    assert deblur.field.value is find_field(viewer.layers[1])


def test_deblur_with_a_file(deblur, viewer, photograph, quick, field, finish, tmp_path):
    viewer.add_image(photograph, name="cells")
    deblur.open_field(field.save(tmp_path / "known.blurfield"))
    assert deblur.field.currentText() == "known.blurfield"
    deblur.run()
    finish(deblur)
    assert quick["deblur"][1] is deblur.field.value


def test_a_damaged_file_is_explained(deblur, viewer, tmp_path, notes):
    path = tmp_path / "broken.blurfield"
    path.write_bytes(b"nothing")
    deblur.open_field(path)
    deblur.open_field(tmp_path / "missing.blurfield")
    assert ["blurfield" in note.message for note in notes] == [True, True]
    assert deblur.field.values == ["estimate"]


def test_a_field_of_another_size_is_refused(deblur, viewer, field, quick, notes):
    viewer.add_image(np.zeros((30, 30)), name="small")
    add_field(viewer, field)
    viewer.layers.selection.active = viewer.layers["small"]
    deblur.field.value = field
    deblur.run()
    assert "48 × 64" in notes[0].message
    assert "30 × 30" in notes[0].message
    assert deblur.job is None
    assert "deblur" not in quick


def test_deblurred_colours_stay_colours(deblur, viewer, quick, field, finish):
    viewer.add_image(np.zeros((48, 64, 4), np.uint8), rgb=True, name="rgba")
    add_field(viewer, field)
    deblur.field.value = field
    viewer.layers.selection.active = viewer.layers["rgba"]
    deblur.field.value = field
    deblur.run()
    finish(deblur)
    assert viewer.layers["rgba deblurred"].rgb


# ---------------------------------------------------------------------------- mask


def test_mask_follows_the_threshold_without_estimating(mask, viewer, field, qtbot, quick):
    add_field(viewer, field)
    layer = viewer.layers["field blur mask"]
    assert not layer.data.any()
    mask.threshold.setValue(0.5)
    qtbot.waitUntil(lambda: layer.data.any())
    assert abs(layer.data.mean() - 0.5) < 0.05
    assert layer.metadata[FACTS]["threshold"] == 0.5
    assert find_field(layer) is field
    assert mask.status.text() == f"{layer.data.mean():.0%} of the image is blurry."
    assert "4 px" in mask.meaning.text()
    assert "estimate" not in quick


def test_changes_are_gathered(mask, viewer, field, qtbot, monkeypatch):
    add_field(viewer, field)
    updates = []
    layer = viewer.layers["field blur mask"]
    layer.events.set_data.connect(lambda event: updates.append(mask.threshold.value()))
    for step in range(30, 60):
        mask.threshold.setValue(step / 100)
    qtbot.waitUntil(lambda: bool(updates))
    assert set(updates) == {0.59}


def test_mask_button_adds_one_more(mask, viewer, field, finish):
    add_field(viewer, field)
    mask.threshold.setValue(0.5)
    mask.min_area.setValue(100)
    mask.run()
    finish(mask)
    added = viewer.layers["field blur mask [1]"]
    assert added.data.any()
    assert added.metadata[FACTS]["min_area"] == 100


def test_a_selected_mask_goes_first(mask, viewer, field, qtbot):
    add_field(viewer, field, name="a")
    add_field(viewer, field, name="b")
    viewer.layers.selection.active = viewer.layers["a blur mask"]
    mask.threshold.setValue(0.5)
    qtbot.waitUntil(lambda: viewer.layers["a blur mask"].data.any())
    assert not viewer.layers["b blur mask"].data.any()


def test_threshold_without_a_mask_does_nothing(mask, viewer, field, qtbot):
    mask.threshold.setValue(0.5)
    mask.update_mask()
    add_field(viewer, field)
    viewer.layers.remove("field blur mask")
    mask.update_mask()
    assert "mask" not in roles(viewer)


def test_a_choice_that_is_no_layer(photograph):
    viewer = ViewerModel()
    viewer.add_layer(Points(np.zeros((2, 2))))
    viewer.add_layer(Image(photograph))
    widget = EstimateWidget(viewer)
    assert widget.image.value is viewer.layers[1]
