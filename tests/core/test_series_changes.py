"""Series whose frames, fields or program changed since an earlier run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from small_series import CHEAP, SIDE, Estimator, contents, lazily, line, stack, stop_after

from blurfield import Cancelled, KernelField
from blurfield.series import Series, process

if TYPE_CHECKING:
    from pathlib import Path


def changed(values: np.ndarray, number: int = 1) -> np.ndarray:
    """The same frames but for one pixel."""
    values = values.copy()
    values[number].flat[0] += 7
    return values


@pytest.mark.parametrize("workers", [1, 2])
def test_changed_frame_is_done_again(tmp_path: Path, estimator: Estimator, workers: int) -> None:
    before, now = stack(), changed(stack())
    for folder, values in [("expected", now), ("a", before)]:
        process(Series.create(tmp_path / folder, lazily(values), **CHEAP), lazily(values))
    estimator.seen.clear()
    series = Series.create(tmp_path / "a", lazily(now), **CHEAP)
    assert series.finished == (0, 1, 2, 3)
    reports = process(series, lazily(now), workers=workers)
    assert [report.status for report in reports] == ["kept", "done", "kept", "kept"]
    assert [report.again for report in reports] == [False, True, False, False]
    assert "pixels are others" in reports[1].reason
    assert estimator.seen == [209]
    assert contents(tmp_path / "a") == contents(tmp_path / "expected")
    assert {report.status for report in process(series, lazily(now))} == {"kept"}


def test_changed_frame_of_a_run_that_was_killed(tmp_path: Path, estimator: Estimator) -> None:
    """After the new field was written, and before the new image was."""
    before, now = stack(), changed(stack())
    for folder, values in [("expected", now), ("a", before)]:
        process(Series.create(tmp_path / folder, lazily(values), **CHEAP), lazily(values))
    series = Series.open(tmp_path / "a")
    series.field_path(1).write_bytes(Series.open(tmp_path / "expected").field_path(1).read_bytes())
    estimator.seen.clear()
    assert process(series, lazily(now))[1].again
    assert not estimator.seen
    assert contents(tmp_path / "a") == contents(tmp_path / "expected")


def test_changed_frame_that_is_bad_now_has_no_results(tmp_path: Path, estimator: Estimator) -> None:
    values = stack(3, "float32")
    series = Series.create(tmp_path / "a", lazily(values), **CHEAP)
    process(series, lazily(values))
    values[1, 3, 4] = np.nan
    reports = process(series, lazily(values))
    assert [report.status for report in reports] == ["kept", "failed", "kept"]
    assert series.finished == (0, 2)


def test_changed_frame_changes_what_frames_share(tmp_path: Path, estimator: Estimator) -> None:
    before, now = stack(), changed(stack())
    for folder, values in [("expected", now), ("a", before)]:
        series = Series.create(tmp_path / folder, lazily(values), shared=True, **CHEAP)
        process(series, lazily(values))
    assert {report.status for report in process(series, lazily(before))} == {"kept"}
    estimator.seen.clear()
    told: list[int] = []
    reports = process(series, lazily(now), on_frame=told.append)
    assert estimator.seen == [209]
    assert told == [0, 1, 2, 3]
    assert all(report.again for report in reports)
    assert [("pixels" in report.reason) for report in reports] == [False, True, False, False]
    assert "the field that frames share is another" in reports[0].reason
    assert contents(tmp_path / "a") == contents(tmp_path / "expected")


def test_field_that_was_given_stays(tmp_path: Path, estimator: Estimator) -> None:
    """Whatever pixels it was estimated from; what was deblurred with it does not."""
    before, now = stack(), changed(stack())
    known = Series.create(tmp_path / "known", lazily(before[::-1]), **CHEAP)
    process(known, lazily(before[::-1]))
    series = Series.create(tmp_path / "a", lazily(before), **CHEAP)
    for number in series.numbers:
        series.give_field(number, known.field(number))
    estimator.seen.clear()
    assert not any(report.again for report in process(series, lazily(before)))
    assert [report.again for report in process(series, lazily(now))] == [False, True, False, False]
    assert not estimator.seen


@pytest.mark.parametrize("shared", [False, True])
def test_what_was_made_with_another_field_is_made_anew(
    tmp_path: Path, estimator: Estimator, shared: bool
) -> None:
    frames = lazily(stack())
    series = Series.create(tmp_path / "a", frames, shared=shared, **CHEAP)
    fields = [KernelField.uniform(line(length), (SIDE, SIDE)) for length in (1, 3)]
    for number in series.numbers:
        series.give_field(number, fields[0])
    process(series, frames)
    before = contents(tmp_path / "a")
    series.give_field(1, fields[0])
    assert contents(tmp_path / "a") == before
    series.give_field(1, fields[1])
    assert series.finished == (() if shared else (0, 2, 3))
    assert not series.shared_path.exists()
    statuses = [report.status for report in process(series, frames)]
    assert statuses == (["done"] * 4 if shared else ["kept", "done", "kept", "kept"])
    np.testing.assert_array_equal(series.own_field(1).basis, fields[1].basis)
    series.field_path(1).write_text("damaged")
    series.give_field(1, fields[1])
    np.testing.assert_array_equal(series.own_field(1).basis, fields[1].basis)
    assert not estimator.seen


def test_results_of_earlier_versions_are_kept(
    tmp_path: Path, estimator: Estimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They don't remember the pixels they were made of."""
    frames = lazily(stack())
    with monkeypatch.context() as patch:
        patch.setattr("blurfield.series.work.frame_digest", lambda image: None)
        series = Series.create(tmp_path / "a", frames, **CHEAP)
        with pytest.raises(Cancelled):
            process(series, frames, progress=stop_after(series, 2))
    reports = process(series, lazily(changed(stack())))
    assert [report.status for report in reports] == ["kept", "kept", "done", "done"]


def test_frames_are_read_once_to_compare_them(tmp_path: Path, estimator: Estimator) -> None:
    values = stack()
    for shared in (False, True):
        frames = lazily(values)
        series = Series.create(tmp_path / str(shared), frames, shared=shared, **CHEAP)
        process(series, frames)
        seen: list[int] = []

        def read(number: int, seen: list[int] = seen) -> Any:
            seen.append(number)
            if number == 2:
                raise OSError("the disk is broken")
            return values[number]

        reports = process(series, replace(frames, _read=read))
        assert seen == [0, 1, 2, 3]
        assert {report.status for report in reports} == {"kept"}
        assert "can no longer be read, and was not compared" in reports[2].reason
        assert not reports[2].again
