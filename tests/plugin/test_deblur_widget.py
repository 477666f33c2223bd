"""The widget that makes images sharp, on a viewer without a window."""

from __future__ import annotations

import numpy as np
from in_viewer import add_field, roles
from qtpy.QtCore import Qt

from blurfield.restoration import METHODS, Method
from napari_blurfield import find_field
from napari_blurfield.widgets import DeblurWidget


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


def test_methods_are_those_of_the_core(deblur, viewer, photograph, quick, finish):
    assert deblur.method.values == ["auto", *METHODS]
    for index, method in enumerate(METHODS.values(), 1):
        assert deblur.method.itemText(index).startswith(method.title)
        assert method.description in deblur.method.itemData(index, Qt.ItemDataRole.ToolTipRole)
    viewer.add_image(photograph)
    deblur.run()
    finish(deblur)
    assert quick["deblur"][2]["method"] == "auto"
    assert "variant" not in quick["deblur"][2]


def test_variants_follow_the_method(deblur, viewer, photograph, quick, finish):
    assert not deblur.variant.isEnabled()
    deblur.method.value = "richardson-lucy"
    assert deblur.variant.values == list(METHODS["richardson-lucy"].variants)
    assert METHODS["richardson-lucy"].description in deblur.method.toolTip()
    deblur.variant.value = "basic"
    viewer.add_image(photograph)
    deblur.run()
    finish(deblur)
    options = quick["deblur"][2]
    assert (options["method"], options["variant"]) == ("richardson-lucy", "basic")
    deblur.method.value = "auto"
    assert not deblur.variant.isEnabled()


def test_methods_without_weights_say_what_to_import(monkeypatch, viewer, qtbot):
    there = Method("There", {"a": "x:y"}, None, "Good.")
    gone = Method("Gone", {"a": "x:y"}, "no such network", "Better.")
    monkeypatch.setattr("napari_blurfield.widgets.deblur.METHODS", {"there": there, "gone": gone})
    widget = DeblurWidget(viewer)
    qtbot.addWidget(widget)
    words = [widget.method.itemText(index) for index in range(3)]
    assert words == ["automatic", "There", "Gone: no weights"]
    model = widget.method.model()
    assert [model.item(index).isEnabled() for index in range(3)] == [True, True, False]
    tooltip = widget.method.itemData(2, Qt.ItemDataRole.ToolTipRole)
    assert "weights import FILE" in tooltip
    assert "'no such network'" in tooltip
