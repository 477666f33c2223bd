"""The widget that shows where an image is blurry, on a viewer without a window."""

from __future__ import annotations

import csv
import json
import threading
import time

import numpy as np
import pytest
from in_viewer import add_field, roles
from napari.layers import Layer

from blurfield import KernelField
from napari_blurfield import find_field, mask_layer
from napari_blurfield._masks import MaskSettings, label_image
from napari_blurfield._provenance import as_python
from napari_blurfield.layers import FACTS, SOURCE
from napari_blurfield.widgets import MaskWidget
from napari_blurfield.widgets import mask as mask_module


@pytest.fixture
def placed_field(field, placed):
    """The field of an image with pixels of 0.5 by 0.25 µm, and a motion down in a corner."""
    basis = np.concatenate([field.basis.numpy(), field.basis.numpy()[1:].transpose(0, 2, 1)])
    mixing = np.zeros((3, *field.shape), np.float32)
    mixing[0, :, :32] = mixing[1, :24, 32:] = mixing[2, 24:, 32:] = 1
    source = {
        "name": "cells",
        "layer": "cells",
        "frame": [],
        "scale": placed["scale"],
        "translate": placed["translate"],
        "rotate": np.eye(2).tolist(),
        "shear": np.eye(2).tolist(),
        "affine": np.eye(3).tolist(),
        "units": ["micrometer", "micrometer"],
        "axis_labels": ["y", "x"],
    }
    return KernelField(basis, mixing, field.shape, {SOURCE: source}, {"confidence": [[0.5]]})


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


def test_a_painted_mask_stays_until_a_control_is_touched(viewer, field, qtbot):
    add_field(viewer, field, threshold=0.6)
    add_field(viewer, field.with_metadata(seed=2), name="other")
    layer = viewer.layers["field blur mask"]
    layer.data[:10, :10] = 7
    layer.visible = False
    viewer.layers.selection.active = viewer.layers["field blur vectors"]
    widget = MaskWidget(viewer)
    qtbot.addWidget(widget)
    assert widget.threshold.value() == 0.6
    viewer.layers.selection.active = viewer.layers["other blur vectors"]
    assert widget.threshold.value() == 0.25
    viewer.layers.selection.active = viewer.layers["field blur vectors"]
    assert widget.threshold.value() == 0.6
    qtbot.wait(200)
    assert (layer.data[:10, :10] == 7).all()
    assert not layer.visible
    widget.threshold.setValue(0.5)
    qtbot.waitUntil(lambda: layer.visible)
    assert not (layer.data == 7).any()


def test_controls_show_what_the_chosen_layer_was_made_with(mask, viewer, field, qtbot):
    settings = {"min_extent": 7.5, "min_area": 30, "tolerance": 0.5}
    add_field(viewer, field)
    regions = viewer.add_layer(Layer.create(*mask_layer(field, **settings)))
    viewer.layers.selection.active = regions
    controls = mask.controls
    assert controls.settings == MaskSettings(**settings)
    assert mask.run_button.text() == "Add blur regions"
    viewer.layers.selection.active = viewer.layers["field blur mask"]
    assert controls.settings == MaskSettings()
    controls.regions.setChecked(True)  # the choice of a person stays
    viewer.layers.selection.active = viewer.layers["field blur vectors"]
    assert controls.regions.isChecked()
    assert mask.linked() is regions


def test_changes_are_gathered(mask, viewer, field, qtbot):
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


def test_threshold_without_a_mask_does_nothing(mask, viewer, field, notes):
    mask.threshold.setValue(0.5)
    mask.update_mask()
    mask.run_statistics()
    assert "There is no mask" in notes[-1].message
    mask.run()
    assert "There is no blur field" in notes[-1].message
    add_field(viewer, field)
    viewer.layers.remove("field blur mask")
    mask.update_mask()
    assert "mask" not in roles(viewer)


def test_mask_by_extent_in_pixels_and_in_the_unit_of_the_image(
    mask, viewer, field, placed_field, qtbot
):
    add_field(viewer, field)
    assert mask.controls.unit.isHidden()  # its image has no unit
    assert mask.controls.extent.isHidden()
    add_field(viewer, placed_field)
    viewer.layers.selection.active = layer = viewer.layers["cells blur mask"]
    controls = mask.controls
    controls.criterion.value = "extent"
    assert controls.threshold.isHidden()
    controls.extent.setValue(8.5)
    controls.min_area.setValue(40)
    qtbot.waitUntil(lambda: layer.data.any())
    assert layer.metadata[FACTS]["min_extent"] == 8.5
    assert layer.metadata[FACTS]["min_area"] == 40

    controls.unit.value = True
    side = (0.5 * 0.25) ** 0.5
    assert controls.extent.value() == pytest.approx(8.5 * side, abs=0.01)
    assert controls.min_area.value() == 5  # of 0.125 µm² each
    assert controls.min_area.suffix() == " µm²"
    assert controls.settings.min_area == 40
    controls.extent.setValue(4.6)  # the motion down reaches 4.5 µm
    qtbot.waitUntil(lambda: not layer.data.any())


def test_an_extent_in_the_unit_is_that_of_the_table(mask, viewer, placed_field, qtbot):
    """Pixels are twice as high as wide: of the motions of 9 px, one is 4.5 µm, one 2.25 µm."""
    add_field(viewer, placed_field)
    viewer.layers.selection.active = layer = viewer.layers["cells blur mask"]
    controls = mask.controls
    controls.criterion.value = "extent"
    controls.unit.value = True
    controls.extent.setValue(3)
    qtbot.waitUntil(lambda: len(layer.features) == 2)
    settings = MaskSettings(min_extent=3, pixel_size=(0.5, 0.25))
    assert controls.settings == settings
    assert layer.data[40, 50]
    assert not layer.data[5, 50]
    assert layer.features["blurred"].tolist() == [0, 1]
    assert "min_extent=3.0, pixel_size=[0.5, 0.25]" in as_python(layer)
    facts = json.loads(json.dumps(layer.metadata[FACTS]))
    np.testing.assert_array_equal(label_image(placed_field, MaskSettings.of(facts)), layer.data)

    controls.unit.value = False
    controls.extent.setValue(8.5)
    qtbot.waitUntil(lambda: bool(layer.data[5, 50]))
    qtbot.waitUntil(lambda: layer.features["blurred"].tolist() == [0, 1])
    assert controls.settings == MaskSettings(min_extent=8.5)
    assert "pixel_size" not in as_python(layer)
    controls.show_settings(settings)
    assert controls.unit.value
    assert controls.settings == settings


def test_statistics_of_each_label_are_features_in_step(mask, viewer, placed_field, qtbot):
    add_field(viewer, placed_field)
    viewer.layers.selection.active = layer = viewer.layers["cells blur mask"]
    table = mask.statistics.table
    assert layer.features["region"].tolist() == ["sharp"]
    assert not mask.statistics.isHidden()
    mask.threshold.setValue(0.4)
    qtbot.waitUntil(lambda: table.rowCount() == 2)
    features = layer.features.set_index("region")
    assert features["pixels"].sum() == layer.data.size
    assert features["area"]["blurry"] == pytest.approx(features["pixels"]["blurry"] * 0.125)
    assert features["blurred"].tolist() == [0, 1]
    assert features["confidence"].tolist() == [0.5, 0.5]
    assert features["unit"].tolist() == ["µm", "µm"]
    assert table.horizontalHeaderItem(2).text() == "Blur\nµm"

    layer.selected_label = 2
    layer.paint((40, 50), 2)
    qtbot.waitUntil(lambda: table.rowCount() == 3)
    assert layer.features["index"].tolist() == [0, 1, 2]
    table.setCurrentCell(1, 0)
    assert layer.selected_label == 1
    layer.undo()
    qtbot.waitUntil(lambda: table.rowCount() == 2)


def test_regions_of_similar_motion(mask, viewer, placed_field, qtbot, finish):
    add_field(viewer, placed_field)
    mask.controls.criterion.value = "extent"
    mask.regions.setChecked(True)
    assert mask.run_button.text() == "Add blur regions"
    mask.run()
    finish(mask)
    layer = viewer.layers["cells blur regions"]
    assert set(np.unique(layer.data)) == {0, 1, 2}
    assert layer.data[5, 50] != layer.data[40, 50] != layer.data[5, 5] == 0
    assert "in 2 regions" in mask.status.text()
    features = layer.features
    assert features["region"].tolist() == ["outside", "region 1", "region 2"]
    assert sorted(round(angle) % 180 for angle in features["angle"][1:]) == [0, 90]
    np.testing.assert_array_equal(layer.scale, (0.5, 0.25))
    assert layer.metadata[FACTS]["tolerance"] == 0.3
    same = mask_layer(placed_field, min_extent=5, tolerance=0.3)
    np.testing.assert_array_equal(same[0], layer.data)

    mask.controls.difference.setValue(200)
    qtbot.waitUntil(lambda: layer.data.max() == 1)
    assert not viewer.layers["cells blur mask"].data.any()  # only regions follow


def test_statistics_of_large_images_wait_for_the_button(
    mask, viewer, field, qtbot, finish, monkeypatch
):
    monkeypatch.setattr(mask_module, "_MOST_PIXELS", 100)
    add_field(viewer, field)
    layer = viewer.layers["field blur mask"]
    viewer.layers.selection.active = layer
    mask.threshold.setValue(0.5)
    qtbot.waitUntil(lambda: "press 'Update statistics'" in mask.statistics.note.text())
    assert layer.features["index"].tolist() == [0]
    mask.statistics.update_button.click()
    finish(mask)
    assert layer.features["index"].tolist() == [0, 1]
    assert mask.statistics.note.text() == "field blur mask:"
    assert mask.status.text() == "Measured 2 labels."


def test_statistics_can_be_cancelled(mask, viewer, field, finish, monkeypatch):
    started = threading.Event()

    def read(field, labels, settings, pixel, progress=None):
        started.set()
        for _ in range(500):  # ten seconds
            time.sleep(0.02)
            if progress is not None:
                progress(0, 0, "reading")
        return {"index": []}

    add_field(viewer, field)
    monkeypatch.setattr(mask_module, "label_table", read)
    mask.run_statistics()
    assert started.wait(5)
    mask.cancel()
    begun = time.monotonic()
    finish(mask)
    assert time.monotonic() - begun < 2
    assert mask.status.text() == "Cancelled; nothing was changed."


def test_statistics_are_saved(mask, viewer, field, qtbot, tmp_path):
    add_field(viewer, field)
    mask.threshold.setValue(0.5)
    qtbot.waitUntil(lambda: mask.statistics.table.rowCount() == 2)
    mask.statistics.save_wanted.emit(str(tmp_path / "blur.csv"))
    with (tmp_path / "blur.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["0", "1"]
    assert {row["layer"] for row in rows} == {"field blur mask"}
    assert float(rows[1]["extent_median"]) == pytest.approx(9, rel=1e-3)
    assert rows[1]["confidence"] == ""
    mask.statistics.save_wanted.emit(str(tmp_path / "nowhere" / "blur.csv"))
    assert "nowhere" in mask.status.text()
