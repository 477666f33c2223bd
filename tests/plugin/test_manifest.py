"""What napari is told about the plugin is true."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from npe2 import PluginManifest

ROOT = Path(__file__).parents[2]
NAME = "napari-blurfield"
#: Menus that napari lets plugins contribute to; items for others are dropped silently.
MENUS = {"napari/file/acquire", "napari/file/io_utilities", "napari/file/new_layer"} | {
    f"napari/layers/{name}"
    for name in (
        "annotate", "classify", "data", "filter", "layer_type", "measure", "metadata", "project",
        "register", "segment", "track", "transform", "visualize",
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def manifest():
    return PluginManifest.from_file(ROOT / "napari.yaml")


def test_installed_manifest_is_the_one_at_the_root(manifest):
    installed = PluginManifest.from_distribution(NAME)
    assert installed.contributions == manifest.contributions
    assert installed.display_name == manifest.display_name
    manifest.validate_imports()


def test_every_command_resolves(manifest):
    for command in manifest.contributions.commands:
        module, _, name = command.python_name.partition(":")
        assert callable(getattr(import_module(module), name)), command.id
        assert command.id.startswith(f"{NAME}.")
        assert command.title[0].isupper()
    titles = [command.title for command in manifest.contributions.commands]
    assert len(set(titles)) == len(titles)


def test_every_contribution_has_a_command(manifest):
    known = {command.id for command in manifest.contributions.commands}
    parts = manifest.contributions
    used = [*parts.widgets, *parts.readers, *parts.writers, *parts.sample_data]
    used += [item for items in parts.menus.values() for item in items]
    assert {item.command for item in used} == known - {
        # in the command palette only
        f"{NAME}.estimate_active",
        f"{NAME}.deblur_active",
        f"{NAME}.mask_active",
    }


def test_menus_and_widgets(manifest):
    parts = manifest.contributions
    assert set(parts.menus) <= MENUS
    names = [widget.display_name for widget in parts.widgets]
    assert {"Estimate blur field", "Deblur", "Blur mask"} <= set(names)
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 25  # the title of a narrow dock
    layer_menus = [items for menu, items in parts.menus.items() if menu.startswith("napari/layers")]
    assert all(item.when for items in layer_menus for item in items)


def test_listing_the_commands_imports_nothing_heavy():
    code = (
        "import sys, napari_blurfield, napari_blurfield._readers, napari_blurfield._writers\n"
        "import napari_blurfield._samples, napari_blurfield._commands\n"
        "slow = {'torch', 'napari', 'qtpy', 'skimage', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {slow}' if slow else 0)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=dict(os.environ))


def test_public_names_exist():
    import napari_blurfield

    assert dir(napari_blurfield) == sorted(napari_blurfield.__all__)
    for name in napari_blurfield.__all__:
        assert callable(getattr(napari_blurfield, name))
    with pytest.raises(AttributeError, match="frobnicate"):
        napari_blurfield.frobnicate  # noqa: B018
