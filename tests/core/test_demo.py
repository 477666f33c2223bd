"""The demo: what it writes, and that deblurring with the estimate helps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blurfield import KernelField, demo
from blurfield.cli import main
from blurfield.files import read_image

PICTURES = {"blurry", "mosaic", "true_mosaic", "mask", "deblurred", "truth", "sheet"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_demo_meets_its_promise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new" / "demo"
    assert main(["demo", "--out", str(folder), "--quiet", "--json"]) == 0
    figures = json.loads((folder / "demo.json").read_text(encoding="utf-8"))
    assert json.loads(capsys.readouterr().out) == figures
    before = figures["blurry"]["psnr_registered"]
    assert figures["deblurred"]["psnr_registered"] >= before + 2
    assert figures["deblurred_with_true_field"]["psnr"] >= figures["blurry"]["psnr"] + 4
    files = {name: Path(path) for name, path in figures["files"].items()}
    assert files.keys() >= PICTURES
    assert {path.name for path in folder.iterdir()} == {path.name for path in files.values()}
    sheet = read_image(files["sheet"])
    assert sheet.shape[1] > 5 * 512
    assert KernelField.load(files["field"]).shape == (512, 512)


@pytest.mark.parametrize("size", [64, 513])
def test_demo_refuses_other_sizes(
    size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--out", str(tmp_path / "demo"), "--size", str(size)]) == 2
    assert "from 128 to 512" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_fidelity_sees_through_a_translation() -> None:
    truth = demo._photograph(160)
    moved = np.roll(truth, (3, -2), (0, 1))
    found = demo.fidelity(moved, truth, 8)
    np.testing.assert_allclose(found["shift"], [-3, 2], atol=0.05)
    assert found["psnr_registered"] > 45 > 30 > found["psnr"]
    assert found["ssim_registered"] > 0.99 > found["ssim"]


def test_fidelity_of_noise_is_its_definition() -> None:
    truth = np.full((64, 64, 3), 100, np.uint8)
    truth[::2] = 140
    noisy = truth + 5
    assert demo.fidelity(noisy, truth, 4)["psnr"] == pytest.approx(20 * np.log10(255 / 5))


def test_contact_sheet_keeps_pixels() -> None:
    grey = np.full((40, 30), 90, np.uint8)
    colour = np.full((40, 50, 3), (10, 200, 30), np.uint8)
    sheet = demo.contact_sheet([grey, colour], ["a", "b"])
    assert (sheet == 90).all(-1).sum() == grey.size
    assert (sheet == (10, 200, 30)).all(-1).sum() == 40 * 50


def test_view_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    assert "not installed" in (demo.open_in_napari({}) or "")
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert demo.open_in_napari({}) == "there is no display"


def test_view_opens_truth_results_and_field(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setenv("DISPLAY", ":7")
    monkeypatch.setattr(subprocess, "call", lambda command: seen.append(command) or 0)
    files = {name: f"{name}.x" for name in ("truth", "deblurred", "blurry", "field", "mask")}
    assert demo.open_in_napari({"files": files}) is None
    assert seen[0][1:3] == ["-m", "napari"]
    assert set(seen[0][3:]) == {"truth.x", "deblurred.x", "blurry.x", "field.x"}
