"""The user guide names all controls, settings and commands of the plugin."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from qtpy.QtWidgets import QAbstractButton, QLabel

from napari_blurfield import widgets
from napari_blurfield.layers import ROLES

if TYPE_CHECKING:
    from napari.components import ViewerModel

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = yaml.safe_load((ROOT / "napari.yaml").read_text(encoding="utf-8"))["contributions"]
GUIDE = (ROOT / "docs/user-guide.md").read_text(encoding="utf-8")

#: Docked widgets by the heading of their section.
TOOLS = {
    widget["display_name"]: next(
        command["python_name"].rpartition(":")[2]
        for command in MANIFEST["commands"]
        if command["id"] == widget["command"]
    )
    for widget in MANIFEST["widgets"]
}
SHARED = "What all widgets share"


def section(heading: str) -> str:
    """The text below a heading."""
    parts = re.split(r"^## (.+)$", GUIDE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[heading]


@pytest.mark.parametrize("heading", TOOLS)
def test_every_control_is_in_the_guide(heading: str, viewer: ViewerModel, qtbot: Any) -> None:
    widget = getattr(widgets, TOOLS[heading])(viewer)
    qtbot.addWidget(widget)
    told = set(re.findall(r"\*\*(.+?)\*\*", section(SHARED) + section(heading)))
    captions = {label.text() for label in widget.findChildren(QLabel) if label.buddy()}
    buttons = {button.text().rstrip("…") for button in widget.findChildren(QAbstractButton)}
    controls = {words for words in captions | buttons if re.search(r"\w", words)}
    controls.discard(widget.run_button.text())  # what the section is about
    assert controls
    assert controls <= told, f"not in the guide: {sorted(controls - told)}"


def test_every_kind_of_layer_is_in_the_guide() -> None:
    told = section("Layers")
    assert [words for words in ROLES.values() if f"*NAME* {words}" not in told] == []


def test_every_setting_is_in_the_guide() -> None:
    told = re.findall(r"\*\*(.+?)\*\*", section("Settings"))
    (group,) = MANIFEST["configurations"].values()
    assert {setting["title"] for setting in group["properties"].values()} <= set(told)


def test_every_command_without_a_widget_is_in_the_guide() -> None:
    used = {
        entry["command"]
        for kind in ("widgets", "readers", "writers", "sample_data")
        for entry in MANIFEST[kind]
    }
    titles = {command["title"] for command in MANIFEST["commands"] if command["id"] not in used}
    told = set(re.findall(r"\*(.+?)\*", section("Menus and commands")))
    assert titles
    assert titles <= told
