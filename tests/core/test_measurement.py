"""Tables of blur, frame by frame and region by region."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import torch

from blurfield import Cancelled, KernelField
from blurfield.cli import _commands, main
from blurfield.files import write_image
from blurfield.frames import frames_of
from blurfield.measurement import label_frames, measure_frames, write_table
from blurfield.quantities import flag_rows, unusual_from

if TYPE_CHECKING:
    from pathlib import Path


def blurred_by(frame: np.ndarray) -> KernelField:
    """A field whose blur is a line of as many pixels as the frame's first value says."""
    length = int(frame.flat[0])
    kernel = torch.zeros(9, 9)
    kernel[4, 4 - length // 2 : 5 + length // 2] = 1 / length
    shape = (int(frame.shape[-2]), int(frame.shape[-1]))
    return KernelField.uniform(kernel, shape)


@pytest.fixture
def lapse() -> np.ndarray:
    """Six frames with blurs of 1, 5, 1, 9, 1 and 3 pixels."""
    lengths = np.array([1, 5, 1, 9, 1, 3], np.uint16).reshape(3, 2)
    return np.broadcast_to(lengths[..., None, None], (3, 2, 40, 36)).copy()


@pytest.fixture
def no_estimation(monkeypatch: pytest.MonkeyPatch) -> None:
    def estimate(frame: np.ndarray, *_: Any) -> tuple[KernelField, float]:
        return blurred_by(frame), 0.0

    monkeypatch.setattr("blurfield.cli._measure.estimate_field", estimate)


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_frames_are_measured_and_flagged(lapse: np.ndarray) -> None:
    frames = frames_of(lapse, "TZYX")
    measured = measure_frames(frames, lambda number: blurred_by(frames[number]), pixel_size=0.5)
    rows = flag_rows([row for (row,) in measured], 2.0)
    assert [(row["frame"], row["T"], row["Z"]) for row in rows[2:4]] == [(2, 1, 0), (3, 1, 1)]
    assert [row["extent_median"] for row in rows] == pytest.approx([0.5, 2.5, 0.5, 4.5, 0.5, 1.5])
    assert [row["flagged"] for row in rows] == [0, 1, 0, 1, 0, 0]


def test_labels_for_all_frames_or_for_each(lapse: np.ndarray) -> None:
    frames = frames_of(lapse, "TZYX")
    label = np.zeros((40, 36), np.uint8)
    label[:10], label[20:] = 4, 9
    for labels in (frames_of(label, "YX"), frames_of(np.stack([label] * 6), "TYX")):
        found = list(
            measure_frames(
                frames,
                lambda number: blurred_by(frames[number]),
                label_frames(labels, frames),
                numbers=[4, 1],
            )
        )
        assert [[(row["frame"], row["label"]) for row in rows] for rows in found] == [
            [(4, 4), (4, 9)],
            [(1, 4), (1, 9)],
        ]
    with pytest.raises(ValueError, match="2 label images for 6 frames"):
        label_frames(frames_of(np.stack([label] * 2), "TYX"), frames)
    with pytest.raises(ValueError, match=r"shape of the frames, \(40, 36\), but have \(36, 40\)"):
        label_frames(frames_of(label.T, "YX"), frames)


def test_what_is_flagged() -> None:
    rows = [
        {"extent_median": 2.0, "confidence": 0.9},
        {"extent_median": 3.0, "confidence": float("nan"), "flagged": 1},
        {"extent_median": 4.0, "confidence": 0.2},
    ]
    assert [row["flagged"] for row in flag_rows(rows, 3.0)] == [0, 0, 1]
    assert [row["flagged"] for row in flag_rows(rows, 0.5, "confidence")] == [0, 0, 1]
    assert not any("flagged" in row for row in flag_rows(rows, None))
    assert "flagged" not in rows[0]
    with pytest.raises(ValueError, match=r"flagged by 'extent_median', .* but not by 'angle'"):
        flag_rows(rows, 90, "angle")


def test_what_is_unusual() -> None:
    figures = [2.0, 2.1, 1.9, 2.0, 2.2, 1.8, 9.0, float("nan")]
    rows = [{"extent_median": x, "confidence": 1 - x / 10} for x in figures]
    limit = unusual_from(rows)
    assert 2.9 < limit < 3.1
    assert sum(row["flagged"] for row in flag_rows(rows, limit)) == 1
    assert unusual_from(rows[:1]) == pytest.approx(3.0)
    assert unusual_from(rows[:1], "confidence") == pytest.approx(0.7)
    low = unusual_from(rows, "confidence")
    assert [row["flagged"] for row in flag_rows(rows, low, "confidence")] == [0] * 6 + [1, 0]
    with pytest.raises(ValueError, match="no figures for 'angle'"):
        unusual_from(rows, "angle")


def test_bad_frames_are_left_out(lapse: np.ndarray) -> None:
    frames = frames_of(lapse, "TZYX")
    bad: list[tuple[int, str]] = []

    def field_of(number: int) -> KernelField:
        if number == 2:
            raise ValueError("damaged")
        return blurred_by(frames[number])

    measured = measure_frames(
        frames, field_of, on_bad=lambda number, error: bad.append((number, str(error)))
    )
    assert [row["frame"] for (row,) in measured] == [0, 1, 3, 4, 5]
    assert bad == [(2, "damaged")]
    with pytest.raises(ValueError, match="damaged"):
        list(measure_frames(frames, field_of))


def test_table_of_unlike_rows(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", [{"a": 1, "b": float("nan")}, {"a": 0.123456, "c": "µ"}])
    assert read_table(tmp_path / "a.csv") == [
        {"a": "1", "b": "", "c": ""},
        {"a": "0.1235", "b": "", "c": "µ"},
    ]


def test_command_measures_a_stack(
    lapse: np.ndarray, no_estimation: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tifffile.imwrite(tmp_path / "lapse.tif", lapse, imagej=True, metadata={"axes": "TZYX"})
    words = ["measure", str(tmp_path / "lapse.tif"), "-o", str(tmp_path / "blur.csv")]
    assert main([*words, "--limit", "4"]) == 0
    assert "6 rows, 2 flagged" in capsys.readouterr().out
    rows = read_table(tmp_path / "blur.csv")
    assert [row["flagged"] for row in rows] == ["0", "1", "0", "1", "0", "0"]
    assert [(row["T"], row["Z"]) for row in rows[:3]] == [("0", "0"), ("0", "1"), ("1", "0")]
    assert rows[0]["source"].endswith("lapse.tif")

    assert main([*words, "--limit", "0.5", "--flag-by", "blurred", "--min-extent", "3"]) == 0
    rows = read_table(tmp_path / "blur.csv")
    assert [row["blurred"] for row in rows] == ["0.0", "1.0", "0.0", "1.0", "0.0", "1.0"]
    assert [row["flagged"] for row in rows] == ["0", "1", "0", "1", "0", "1"]
    capsys.readouterr()

    label = np.zeros((40, 36), np.uint8)
    label[:10], label[20:] = 4, 9
    write_image(tmp_path / "label.png", label)
    assert main([*words, "--labels", str(tmp_path / "label.png"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert [row["label"] for row in figures["rows"]] == [4, 9] * 6
    assert figures["rows"][0]["confidence"] is None


def test_command_leaves_bad_frames_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def estimate(frame: np.ndarray, *_: Any) -> tuple[KernelField, float]:
        if np.isnan(frame).any():
            raise ValueError("the image has NaN")
        return blurred_by(frame), 0.0

    monkeypatch.setattr("blurfield.cli._measure.estimate_field", estimate)
    lapse = np.full((3, 20, 20), 5.0, np.float32)
    lapse[1, 2, 2] = np.nan
    np.save(tmp_path / "lapse.npy", lapse)
    words = ["measure", str(tmp_path / "lapse.npy"), "-o", str(tmp_path / "blur.csv")]
    assert main(words) == 0
    assert "lapse.npy: frame 1: the image has NaN" in capsys.readouterr().err
    assert [row["frame"] for row in read_table(tmp_path / "blur.csv")] == ["0", "2"]
    np.save(tmp_path / "lapse.npy", lapse[1:2])
    assert main(words) == 2
    assert "no frame could be measured: " in capsys.readouterr().err


def test_command_measures_real_images_and_fields(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    write_image(tmp_path / "a.png", image)
    blurred_by(np.full((48, 48), 7)).save(tmp_path / "b.blurfield")
    sources = [str(tmp_path / name) for name in ("a.png", "b.blurfield")]
    assert main(["measure", *sources, "-o", str(tmp_path / "c.csv"), "--json"]) == 0
    measured, known = json.loads(capsys.readouterr().out)["rows"]
    assert measured["pixels"] == 48 * 48
    assert 0 <= measured["confidence"] <= 1
    assert known["extent_mean"] == pytest.approx(7, rel=1e-3)
    assert known["angle"] == pytest.approx(0, abs=0.1)


def test_what_was_measured_is_kept_when_it_stops(
    lapse: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    done: list[int] = []

    def estimate(frame: np.ndarray, *_: Any) -> tuple[KernelField, float]:
        done.append(1)
        if len(done) == 3:
            raise Cancelled
        return blurred_by(frame), 0.0

    monkeypatch.setattr("blurfield.cli._measure.estimate_field", estimate)
    np.save(tmp_path / "lapse.npy", lapse)
    words = ["measure", str(tmp_path / "lapse.npy"), "-o", str(tmp_path / "blur.csv")]
    assert main(words) != 0
    assert len(read_table(tmp_path / "blur.csv")) == 2
    capsys.readouterr()


def test_command_refuses_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_commands, "estimate_field", None)
    write_image(tmp_path / "a.png", np.zeros((48, 48), np.uint8))
    source, table = str(tmp_path / "a.png"), str(tmp_path / "t.csv")
    for words, complaint in (
        ([source, "-o", str(tmp_path / "t.txt")], "extension '.txt' is not one of .csv"),
        ([source, str(tmp_path / "b.png"), "-o", table], "there is no file"),
        ([source, "-o", table, "--pixel-size", "0"], "must be a number above 0"),
        ([source, "-o", table, "--labels", str(tmp_path / "b.png")], "there is no file"),
    ):
        assert main(["measure", *words]) == 2
        assert complaint in capsys.readouterr().err
    assert not (tmp_path / "t.csv").exists()
