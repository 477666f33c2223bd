"""`blurfield batch`: many inputs, names, bad files, ranges, and what is left when it is stopped."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import blurfield.estimation
from blurfield import KernelField
from blurfield.cli import main
from blurfield.cli._console import Console
from blurfield.series import Series

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 48
OPTIONS = ["--method", "tikhonov", "--kernel-size", "5", "--workers", "1", "--quiet"]
NUMBERS = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def estimated(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A stand-in for `blurfield.estimate`, and the settings of its calls."""
    calls: list[dict[str, Any]] = []

    def estimate(image: Any, **options: Any) -> KernelField:
        calls.append(options)
        kernel = np.eye(3, dtype=np.float32) / 3
        return KernelField.uniform(kernel, (SIDE, SIDE), {"model": "windowed"})

    monkeypatch.setattr(blurfield.estimation, "estimate", estimate)
    return calls


def numbers(*shape: int, dtype: str = "uint16") -> np.ndarray:
    return NUMBERS.integers(0, 255, shape).astype(dtype)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder with a stack of 3 frames, two photographs of one name and a damaged file."""
    folder = tmp_path / "in"
    folder.mkdir()
    frames = numbers(3, SIDE, SIDE)
    tifffile.imwrite(
        folder / "t.tif", frames, metadata={"axes": "TYX"}, ome=True, photometric="minisblack"
    )
    Image.fromarray(numbers(SIDE, SIDE, 3, dtype="uint8")).save(folder / "p.png")
    Image.fromarray(numbers(SIDE, SIDE, dtype="uint8")).save(folder / "P.bmp")
    (folder / "bad.png").write_bytes(b"no image")
    return folder


def run(*words: Any) -> int:
    return main(["batch", *map(str, words)])


def table(out: Path) -> list[dict[str, str]]:
    with (out / "summary.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_folder(inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(inputs, "--out", out, *OPTIONS, "--json") == 3
    said = json.loads(capsys.readouterr().out)
    assert said["failed"] == 1
    rows = table(out)
    assert len(said["frames"]) == len(rows) == 6
    assert {row["source"].rpartition("/")[2]: row["status"] for row in rows} == {
        "bad.png": "failed",
        "P.bmp": "done",
        "p.png": "done",
        "t.tif": "done",
    }
    assert "cannot read" in rows[0]["reason"]
    stack = [row for row in rows if row["T"]]
    assert [(row["frame"], row["T"]) for row in stack] == [("0", "0"), ("1", "1"), ("2", "2")]
    for row in rows[1:]:
        assert float(row["extent"]) > 2
        assert float(row["seconds"]) > 0
        assert KernelField.load(out / row["field"]).shape == (SIDE, SIDE)
        assert tifffile.imread(out / row["image"]).shape[:2] == (SIDE, SIDE)
    assert {"p_png.tif", "P_bmp.tif"} < {path.name for path in out.iterdir()}
    assert Series.open(out / "t").finished == (0, 1, 2)


def test_again(
    inputs: Path,
    tmp_path: Path,
    estimated: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert run(inputs, "--out", out, *OPTIONS) == 3
    (out / "t" / "images" / "00001.tif").unlink()
    estimated.clear()
    assert run(inputs, "--out", out, *OPTIONS[:-1]) == 3
    assert not estimated
    assert [row["status"] for row in table(out)] == [
        *("failed", "kept", "kept", "kept", "done", "kept")
    ]
    text = capsys.readouterr().out
    assert "5 frames done, 1 failed (see summary.csv), first" in text
    before = (out / "summary.csv").read_bytes()
    assert run(inputs, "--out", out, *OPTIONS, "--kernel-size", 7) == 2
    assert "holds results of other settings" in capsys.readouterr().err
    assert (out / "summary.csv").read_bytes() == before


def test_frames_that_changed_are_done_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values, out = numbers(3, SIDE, SIDE), tmp_path / "out"
    for first in (True, False):
        np.save(tmp_path / "t.npy", values)
        capsys.readouterr()
        assert run(tmp_path / "t.npy", "--out", out, *OPTIONS[:-1]) == 0
        values[1, 2, 3] += 1
        if first:
            assert "3 frames done\n" in capsys.readouterr().out
    assert [row["status"] for row in table(out)] == ["kept", "done", "kept"]
    assert "its pixels are others" in table(out)[1]["reason"]
    said = capsys.readouterr().out
    assert "3 frames done (1 again, since the images have changed)" in said


def test_settings_reach_the_library(
    inputs: Path, tmp_path: Path, estimated: list[dict[str, Any]]
) -> None:
    words = ["--gamma", "1.5", "--refine", "2", "--device", "cpu", "--strength", "0.7"]
    words += ["--noise", "0.01,0.02", "--memory", "1.5", "--iterations", "3", "--threads", "2"]
    assert run(inputs / "t.tif", "--out", tmp_path / "out", *OPTIONS, *words) == 0
    for call in estimated:
        assert call["kernel_size"] == 5
        assert (call["gamma"], call["refine"], call["device"]) == (1.5, 2, "cpu")
    record = Series.open(tmp_path / "out" / "t").record
    assert record.threads == 2
    assert record.deblur == {
        "method": "tikhonov",
        "gamma": 1.5,
        "device": "cpu",
        "noise": [0.01, 0.02],
        "iterations": 3,
        "strength": 0.7,
        "memory": 1_500_000_000,
    }


def test_estimate_only_some_frames(inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(inputs / "t.tif", "--out", out, *OPTIONS, "--estimate-only", "--frames", "0,2-") == 0
    assert [row["frame"] for row in table(out)] == ["0", "2"]
    assert {row["image"] for row in table(out)} == {""}
    assert sorted(path.stem for path in out.rglob("*.blurfield")) == ["00000", "00002"]
    assert not list(out.rglob("*.tif"))


def test_axes_of_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", numbers(2, 2, SIDE, SIDE))
    out = tmp_path / "out"
    assert run(tmp_path / "a.npy", "--out", out, *OPTIONS, "--axes", "CTYX") == 0
    series = Series.open(out / "a")
    assert (series.axes, series.sizes, series.channel_axis) == (("T",), (2,), 0)


def test_files_joined_to_a_time_lapse(tmp_path: Path) -> None:
    folder = tmp_path / "film"
    folder.mkdir()
    for number in (10, 9, 8):
        tifffile.imwrite(folder / f"f{number}.tif", numbers(SIDE, SIDE))
    tifffile.imwrite(folder / "f11.tif", numbers(SIDE, SIDE + 1))
    out = tmp_path / "out"
    assert run(folder, "--out", out, *OPTIONS, "--join", "--shared-field") == 3
    assert [row["status"] for row in table(out)] == ["done", "done", "done", "failed"]
    assert "shape (48, 49)" in table(out)[3]["reason"]
    series = Series.open(out / "film")
    names = [path.rpartition("/")[2] for path in series.metadata["files"]]
    assert names == ["f8.tif", "f9.tif", "f10.tif", "f11.tif"]
    assert series.field(0).metadata["shared"] == {"fields": 3, "frames": [0, 1, 2]}


def test_ctrl_c_keeps_what_is_finished(
    inputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    simple = blurfield.estimation.estimate
    count = iter(range(9))

    def estimate(image: Any, **options: Any) -> KernelField:
        if next(count) == 2:
            raise KeyboardInterrupt
        return simple(image, **options)

    monkeypatch.setattr(blurfield.estimation, "estimate", estimate)
    out = tmp_path / "out"
    assert run(inputs / "t.tif", "--out", out, *OPTIONS) == 130
    assert capsys.readouterr().err == "blurfield: stopped\n"
    assert [(row["frame"], row["status"]) for row in table(out)] == [("0", "done"), ("1", "done")]
    assert Series.open(out / "t").finished == (0, 1)


def test_cluster_without_the_package_for_it(
    inputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    words = ["--out", tmp_path / "out", "--scheduler", "tcp://127.0.0.1:8786"]
    assert run(inputs, *words) == 2
    error = capsys.readouterr().err
    assert (
        "a cluster needs the package distributed: pip install 'napari-blurfield[cluster]'" in error
    )


def test_bar_says_how_much_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Console().progress(foretell=True) as progress:
        progress(0, 4, "frame 1")
        progress(1, 4, "frame 2")
    assert re.search(r"frame 2  25%\|.*left: [0-9?]", terminal.getvalue())


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["absent.tif", "--out", "out"], "there is no file or folder absent.tif"),
        (["in", "--out", "in"], "inputs lie there; choose another folder"),
        (["in", "--out", "out/deep"], r"the folder .*out does not exist"),
        (["in", "--out", "out", "--method", "magic"], "unknown method 'magic'"),
        (["in", "--out", "out", "--model", "magic"], "the model 'magic' is unknown"),
        (["in", "--out", "out", "--frames", "9-x"], "numbers and ranges such as 0-9,15,20-"),
        (["in", "--out", "out", "--workers", "0"], "must be a whole number above 0"),
        (["in", "--out", "out", "--workers", "2", "--scheduler", "a"], "--workers is for this"),
    ],
)
def test_wrong_words(
    inputs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(inputs.parent)
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert error.startswith("blurfield: error: ")
    assert error.count("\n") == 1
    assert re.search(complaint, error)
