"""Rows that outlive an interrupted run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from blurfield.evaluation.rows import Rows

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = {"seed": 0, "crop": None, "noise": (0.1, 0.2)}


def test_rows_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = Rows(path, SETTINGS)
    rows.add("uniform", 0.01, 3, figures={"psnr": 20.123456789012345})
    assert rows.find("uniform", 0.01, 3) == {"psnr": 20.123456789012345}
    assert rows.find("uniform", 0.02, 3) is None
    again = Rows(path, SETTINGS)
    assert again.find("uniform", 0.01, 3) == {"psnr": 20.123456789012345}
    again.add("rotation", figures={"psnr": None})
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line.get("key") for line in lines] == [None, ["uniform", 0.01, 3], ["rotation"]]


def test_a_line_that_was_not_finished_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    Rows(path, SETTINGS).add("a", figures={"psnr": 1.0})
    whole = path.read_text()
    path.write_text(whole + '{"key": ["b"], "fig')
    rows = Rows(path, SETTINGS)
    assert rows.find("b") is None
    rows.add("c", figures={"psnr": 2.0})
    assert path.read_text() == whole + '{"key": ["c"], "figures": {"psnr": 2.0}}\n'


def test_rows_without_a_file() -> None:
    rows = Rows(None, SETTINGS)
    rows.add("a", figures={})
    assert rows.find("a") == {}


def test_other_settings_and_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    Rows(path, SETTINGS)
    with pytest.raises(ValueError, match=r"settings .*\"seed\": 0.* not .*\"seed\": 1"):
        Rows(path, {**SETTINGS, "seed": 1})
    for text in ("some words\n", "[1]\n", '{"a": 1}\n'):
        path.write_text(text)
        with pytest.raises(ValueError, match="no file of measured rows"):
            Rows(path, SETTINGS)
        assert path.read_text() == text
