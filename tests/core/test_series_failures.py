"""Series with bad frames, files that were damaged, and runs that end early."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from small_series import CHEAP, Estimator, lazily, stack

from blurfield.series import Series, process

if TYPE_CHECKING:
    from pathlib import Path


def test_bad_frames_are_left_out(tmp_path: Path, estimator: Estimator) -> None:
    values = stack(4, "float32")
    values[1, 3, 4] = np.nan
    frames = lazily(values)

    def read(number: int) -> Any:
        if number == 2:
            raise OSError("the disk is\nbroken")
        return values[number]

    broken = replace(frames, _read=read)
    series = Series.create(tmp_path / "a", broken, **CHEAP)
    told: list[int] = []
    reports = process(series, broken, on_frame=told.append)
    assert [report.status for report in reports] == ["done", "failed", "failed", "done"]
    assert reports[1].reason == "the image has values that are not finite"
    assert reports[2].reason == "the disk is broken"
    assert told == [0, 3]
    assert series.finished == (0, 3)
    assert [report.status for report in process(series, frames)] == [
        "kept",
        "failed",
        "done",
        "kept",
    ]


def test_full_disk_ends_the_run(
    tmp_path: Path, estimator: Estimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = lazily(stack())
    series = Series.create(tmp_path / "a", frames, **CHEAP)

    def no_space(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", no_space)
    with pytest.raises(OSError, match=r"cannot write .*No space left on device"):
        process(series, frames)
    assert series.finished == ()
    assert not list((tmp_path / "a").rglob(".*"))


def test_changed_results(tmp_path: Path, estimator: Estimator) -> None:
    frames = lazily(stack(1))
    series = Series.create(tmp_path / "a", frames, **CHEAP)
    with pytest.raises(FileNotFoundError, match="frame 0 has not been deblurred"):
        series.image(0)
    process(series, frames)
    tifffile.imwrite(series.image_path(0), np.zeros((3, 3)))
    with pytest.raises(ValueError, match="it was changed"):
        series.image(0)
    series.image_path(0).write_text("no image")
    with pytest.raises(ValueError, match="cannot read"):
        series.image(0)


def test_damaged_field_spoils_its_frame_only(tmp_path: Path, estimator: Estimator) -> None:
    frames = lazily(stack(2))
    series = Series.create(tmp_path / "a", frames, **CHEAP)
    process(series, frames)
    series.field_path(0).write_text("damaged")
    reports = process(series, frames)
    assert [report.status for report in reports] == ["failed", "kept"]
    assert "as a kernel field" in reports[0].reason


def test_files_of_killed_runs_are_removed(tmp_path: Path, estimator: Estimator) -> None:
    frames = lazily(stack(1))
    series = Series.create(tmp_path / "a", frames, **CHEAP)
    old, new, other = (
        tmp_path / "a" / name
        for name in (
            "images/.00000-0123abcd.tif",
            "fields/.00000-0123abcd.blurfield",
            "images/.mine-0123abcd.tif",
        )
    )
    for path in (old, new, other):
        path.touch()
    for path in (old, other):
        os.utime(path, (0, 0))
    process(series, frames)
    assert [path.exists() for path in (old, new, other)] == [False, True, True]
