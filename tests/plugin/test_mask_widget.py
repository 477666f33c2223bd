"""The widget that shows where an image is blurry, on a viewer without a window."""

from __future__ import annotations

from in_viewer import add_field, roles

from napari_blurfield import find_field
from napari_blurfield.layers import FACTS


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
