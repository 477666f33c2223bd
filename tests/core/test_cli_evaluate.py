"""The command ``blurfield evaluate``."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from blurfield.cli import main
from blurfield.evaluation import SETTINGS, Setting, compare
from blurfield.files import write_image

if TYPE_CHECKING:
    from pathlib import Path


def noise(side: int = 96, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(SETTINGS, "uniform", Setting("uniform", max_extent=9))
    write_image(tmp_path / "a.png", noise())
    write_image(tmp_path / "b.png", noise(seed=1))
    return tmp_path


def test_pair(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "pair", "--truth", str(folder / "a.png"), "--image", str(folder / "b.png")]
    expected = compare(noise(), noise(seed=1), "ufpnet")
    assert main([*words, "--protocol", "ufpnet", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert {key: figures[key] for key in expected} == expected
    assert main(words) == 0
    plain = compare(noise(), noise(seed=1))
    assert f"PSNR {plain['psnr']:.2f} dB" in capsys.readouterr().out


def test_pair_says_what_is_wrong(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "pair", "--truth", str(folder / "a.png"), "--image"]
    assert main([*words, str(folder / "b.png"), "--protocol", "best"]) == 2
    assert "known: plain, ecc, ufpnet" in capsys.readouterr().err
    assert main([*words, str(folder / "c.png")]) == 2
    assert "c.png" in capsys.readouterr().err


def test_synthetic_prints_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "synthetic", "--images", str(folder), "--kinds", "uniform", "--models"]
    words += ["--no-deblur", "--device", "cpu", "--count", "1"]
    assert main(words) == 0
    table = capsys.readouterr().out.splitlines()
    assert [line[: len("uniform")].strip() for line in table] == ["kind", "uniform", "", ""]
    assert "true field" in table[-1]
    assert main([*words, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["settings"]["photographs"] == ["a.png"]
    truth = results["kinds"]["uniform"]["fields"]["true field"]
    assert truth["similarity"] == pytest.approx(1, abs=1e-4)
    assert truth["reblur_psnr"] is None  # infinite, which JSON lacks


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["synthetic"], "--images"),
        (["synthetic", "--images", "nowhere"], "no folder nowhere"),
        (["synthetic", "--images", ".", "--count", "0"], "above 0"),
        (["synthetic", "--images", ".", "--kinds", "wobbly"], "unknown kind of scene"),
        (["masks", "--images", "nowhere", "--masks", "nowhere"], "no folder nowhere"),
        (["masks", "--images", ".", "--masks", ".", "--threshold", "2"], "between 0 and 1"),
        ([], "SUBJECT"),
    ],
)
def test_mistakes_take_one_line(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *words]) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1


def test_help_is_light() -> None:
    code = (
        "import sys; from blurfield.cli import main\n"
        "try: main(['evaluate', 'synthetic', '--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'skimage' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--no-deblur" in done.stdout
