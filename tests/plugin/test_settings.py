"""Settings in napari's Preferences, and what the widgets make of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from npe2 import PluginManifest

from blurfield.restoration import METHODS
from napari_blurfield import _commands
from napari_blurfield._settings import Defaults, defaults
from napari_blurfield.layers import FACTS
from napari_blurfield.widgets import DeblurWidget, EstimateWidget
from napari_blurfield.widgets._model_rows import MODELS

ROOT = Path(__file__).parents[2]
NAME = "napari-blurfield"

settings = pytest.importorskip("napari.settings")
if not hasattr(settings, "get_plugin_settings"):
    pytest.skip("napari keeps settings of plugins since 0.9", allow_module_level=True)


@pytest.fixture(scope="module")
def manifest():
    return PluginManifest.from_file(ROOT / "napari.yaml")


@pytest.fixture
def kept(plugin_settings, npe2pm, manifest):
    """What napari keeps for the plugin, in a folder of this test."""
    with npe2pm.tmp_plugin(manifest=manifest):
        yield settings.get_plugin_settings(NAME)


def test_choices_are_those_of_the_widgets(manifest):
    properties = manifest.contributions.configurations["defaults"].properties
    assert properties["model"].enum == list(MODELS)
    assert properties["method"].enum == ["auto", *METHODS]


def test_manifest_and_built_in_values_agree(kept):
    assert defaults() == Defaults()


def test_settings_are_read_again_each_time(kept):
    kept.defaults.device = "cpu"
    kept.defaults.spacing = 24
    kept.defaults.memory = 1.5
    assert defaults() == Defaults(device="cpu", spacing=24, memory=1_500_000_000)
    assert "spacing: 24" in kept.config_path.read_text()


def test_they_are_there_again_after_a_restart(kept):
    kept.defaults.method = "tikhonov"
    settings._clear_plugin_settings_cache()
    assert defaults().method == "tikhonov"


@pytest.mark.parametrize("content", ["defaults: {device: abacus}", "defaults: 3", "][", "- a"])
def test_a_damaged_file_is_no_obstacle(kept, content):
    kept.config_path.write_text(content)
    settings._clear_plugin_settings_cache()
    assert defaults() == Defaults()


def test_without_a_manifest(plugin_settings):
    assert defaults() == Defaults()


def test_older_napari(kept, monkeypatch):
    kept.defaults.device = "cpu"
    monkeypatch.delattr("napari.settings.get_plugin_settings")
    assert defaults() == Defaults()
    monkeypatch.setitem(sys.modules, "napari.settings", None)
    assert defaults() == Defaults()


def test_widgets_start_with_them(kept, viewer, qtbot):
    kept.defaults.model = "windowed"
    kept.defaults.device = "cuda"
    kept.defaults.method = "richardson-lucy"
    kept.defaults.memory = 2.5
    estimate, deblur = EstimateWidget(viewer), DeblurWidget(viewer)
    qtbot.addWidget(estimate)
    qtbot.addWidget(deblur)
    assert estimate.model.value == "windowed"
    assert deblur.method.value == "richardson-lucy"
    assert deblur.variant.value == "adjoint"
    assert deblur.memory.value() == 2.5
    assert deblur.device.value.startswith(("cuda", "auto"))  # auto, where that is CUDA


def test_a_method_without_weights_is_not_chosen(kept, viewer, qtbot):
    kept.defaults.method = "ufpnet"
    kept.defaults.model = "ufp"
    estimate, deblur = EstimateWidget(viewer), DeblurWidget(viewer)
    qtbot.addWidget(estimate)
    qtbot.addWidget(deblur)
    assert (estimate.model.value, deblur.method.value) == ("auto", "auto")


def test_commands_and_layers_use_them(kept, viewer, photograph, quick, field, qtbot):
    kept.defaults.model = "windowed"
    kept.defaults.method = "tikhonov"
    kept.defaults.spacing = 16
    kept.defaults.memory = 0.5
    viewer.add_image(photograph, name="cells")
    for command in (_commands.estimate_active, _commands.deblur_active):
        job = command(viewer)
        qtbot.waitUntil(lambda job=job: not job.is_running, timeout=10_000)
    assert quick["estimate"][1]["model"] == "windowed"
    assert quick["deblur"][2]["method"] == "tikhonov"
    assert quick["deblur"][2]["memory"] == 500_000_000
    assert viewer.layers["cells blur vectors"].metadata[FACTS]["spacing"] == 16
    assert len(viewer.layers["cells blur vectors"].data) == 12


def test_memory_reaches_the_core(deblur, viewer, photograph, quick, finish):
    viewer.add_image(photograph)
    deblur.run()
    finish(deblur)
    assert quick["deblur"][2]["memory"] == "auto"
    deblur.memory.setValue(0.5)
    deblur.run()
    finish(deblur)
    assert quick["deblur"][2]["memory"] == 500_000_000


def test_restore_defaults(kept, viewer, photograph, qtbot):
    widget = DeblurWidget(viewer)
    qtbot.addWidget(widget)
    first, _ = viewer.add_image(photograph, name="a"), viewer.add_image(photograph, name="b")
    widget.image.value = first
    widget.method.value = "richardson-lucy"
    widget.variant.value = "basic"
    widget.strength.setValue(0.9)
    widget.memory.setValue(3)
    kept.defaults.memory = 4.0
    widget.restore_button.click()
    assert (widget.method.value, widget.variant.value) == ("auto", None)
    assert widget.strength.value() == 0.5
    assert widget.memory.value() == 4.0
    assert widget.image.value is first
