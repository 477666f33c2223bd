"""The dock widgets, on a viewer without a window."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import numpy as np
import pytest
from in_viewer import add_field
from napari.components import ViewerModel
from napari.layers import Image, Points
from qtpy.QtWidgets import (
    QAbstractSlider,
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QPushButton,
    QScrollBar,
)
from superqt import QLabeledDoubleSlider

from blurfield import KernelField
from napari_blurfield import find_field, widgets
from napari_blurfield.layers import role_of
from napari_blurfield.widgets import EstimateWidget
from napari_blurfield.widgets._legend import ExtentScale

CONTROLS = (
    QAbstractSlider,
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QLabeledDoubleSlider,
    QPushButton,
)
WIDGETS = [getattr(widgets, name) for name in widgets.__all__]


@pytest.fixture(params=WIDGETS, ids=lambda cls: cls.__name__)
def any_widget(request, viewer, qtbot):
    widget = request.param(viewer)
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
        "from napari_blurfield import widgets\n"
        "viewer = ViewerModel()\n"
        "viewer.add_image(np.zeros((30, 30)))\n"
        "for name in widgets.__all__:\n"
        "    widget = getattr(widgets, name)(viewer)\n"
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
    assert estimate.image_note.text() == "t: 5 frames, 48 × 64 px, grey. Shown: t 3."
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


def test_colours_of_vectors_have_no_length_where_pixels_are_not_square(viewer, field, qtbot):
    scale = ExtentScale()
    qtbot.addWidget(scale)
    add_field(viewer, field)
    vectors = viewer.layers["field blur vectors"]
    vectors.units = ("um", "um")
    for sides, is_known in (((0.5, 0.5), True), ((0.5, 0.25), False)):
        vectors.scale = sides
        scale.explain(vectors)
        assert [not label.isHidden() for label in scale.physical] == [is_known] * 3


def test_devices_are_listed(estimate):
    assert estimate.device.values[:2] == ["auto", "cpu"]
    estimate.device.value = "cpu"
    estimate.device.refresh()
    assert estimate.device.value == "cpu"
    with pytest.raises(ValueError, match="abacus"):
        estimate.device.value = "abacus"


def test_the_script_of_a_series_can_be_copied_when_it_is_done(
    estimate, viewer, quick, finish, tmp_path
):
    viewer.add_image(np.zeros((3, 48, 64), np.uint8), name="movie", axis_labels=("t", "y", "x"))
    estimate.frames.which.value = "all"
    estimate.folder.path.setText(str(tmp_path / "out"))
    estimate.run()
    finish(estimate)
    assert "mask" in [role_of(layer) for layer in viewer.layers]
    assert not estimate.copy_button.isHidden()


def test_a_choice_that_is_no_layer(photograph):
    viewer = ViewerModel()
    viewer.add_layer(Points(np.zeros((2, 2))))
    viewer.add_layer(Image(photograph))
    widget = EstimateWidget(viewer)
    assert widget.image.value is viewer.layers[1]
