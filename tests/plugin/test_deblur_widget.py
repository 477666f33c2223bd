"""The widget that makes images sharp, on a viewer without a window."""

from __future__ import annotations

import numpy as np
from in_viewer import add_field, roles

from napari_blurfield import find_field


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
