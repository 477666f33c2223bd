"""Series of frames: files, continuing after interruptions, bad frames, several at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
import tifffile
import torch

import blurfield.estimation
import blurfield.restoration
from blurfield import Cancelled, KernelField, similarity
from blurfield.frames import frames_of, frames_of_files
from blurfield.series import Series, median_field, process
from blurfield.series.sources import distinct_names, image_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from blurfield.frames import Frames

SIDE = 48
CHEAP: dict[str, Any] = {"estimate": {"kernel_size": 5}, "deblur": {"method": "tikhonov"}}


def line(length: int, size: int = 5) -> np.ndarray:
    kernel = np.zeros((size, size), np.float32)
    start = (size - length) // 2
    kernel[size // 2, start : start + length] = 1 / length
    return kernel


class Estimator:
    """A stand-in for `blurfield.estimate`: a line whose length depends on the image."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def __call__(
        self, image: Any, *, progress: Any = None, channel_axis: int | None = None, **options: Any
    ) -> KernelField:
        values = np.asarray(image, np.float64)
        if not np.isfinite(values).all():
            raise ValueError("the image has values that are not finite")
        self.seen.append(float(values.max()))
        if progress is not None:
            progress(1, 2, "Estimating")
        shape = values.shape[1:] if channel_axis == 0 else values.shape[:2]
        length = 1 + 2 * (int(values.max()) % 2)
        return KernelField.uniform(line(length), shape, {"model": "windowed"})


@pytest.fixture
def estimator(monkeypatch: pytest.MonkeyPatch) -> Estimator:
    stand_in = Estimator()
    monkeypatch.setattr(blurfield.estimation, "estimate", stand_in)
    return stand_in


def stack(count: int = 4, dtype: str = "uint16", shape: tuple[int, ...] = (SIDE, SIDE)) -> Any:
    values = np.random.default_rng(0).integers(0, 200, (count, *shape)).astype(dtype)
    for number in range(count):
        values[number].flat[0] = 201 + number  # the largest, by which the stand-in knows it
    return values


def lazily(values: np.ndarray, axes: str = "TYX") -> Frames:
    return frames_of(da.from_array(values, chunks=(1, *values.shape[1:])), axes)


def contents(folder: Path) -> dict[str, bytes]:
    """All results in a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".json"
    }


def stop_after(series: Series, count: int) -> Callable[[int, int, str], None]:
    def progress(done: int, total: int, message: str) -> None:
        if len(series.finished) >= count:
            raise Cancelled

    return progress


def test_results_are_files(tmp_path: Path, estimator: Estimator) -> None:
    values = stack()
    frames = lazily(values)
    metadata = {"name": "cells", "place": [1, 2]}
    series = Series.create(tmp_path / "a", frames, metadata=metadata, **CHEAP)
    told: list[int] = []
    steps: list[tuple[int, int]] = []
    reports = process(
        series,
        frames,
        on_frame=told.append,
        progress=lambda done, total, message: steps.append((done, total)),
    )
    assert [report.number for report in reports] == told == [0, 1, 2, 3]
    assert {report.status for report in reports} == {"done"}
    assert reports[1].extent == pytest.approx(1)
    assert reports[2].extent == pytest.approx(3)
    assert reports[0].seconds > 0
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1]
    assert set(contents(tmp_path / "a")) == {
        *(f"fields/{number:05}.blurfield" for number in range(4)),
        *(f"images/{number:05}.tif" for number in range(4)),
    }
    series = Series.open(tmp_path / "a")
    assert (series.numbers, series.finished) == ((0, 1, 2, 3), (0, 1, 2, 3))
    assert series.metadata == metadata
    field = series.field(3)
    assert field.metadata["source"]["frame"] == [3]
    assert field.metadata["source"]["name"] == "cells"
    image = series.image(2)
    assert (image.shape, image.dtype) == ((SIDE, SIDE), np.uint16)
    expected = blurfield.deblur(values[2], series.field(2), "tikhonov")
    np.testing.assert_array_equal(image, expected)
    with tifffile.TiffFile(series.image_path(2)) as tif:
        facts = tif.shaped_metadata[0]["blurfield"]
        assert tif.series[0].axes == "YX"
    assert facts["method"] == "tikhonov"
    digest = facts["source"].pop("pixels")
    assert facts["source"] == {"name": "cells", "frame": [2]}
    assert digest == series.field(2).metadata["source"]["pixels"]


def test_stopped_and_continued_is_the_same(tmp_path: Path, estimator: Estimator) -> None:
    frames = lazily(stack())
    whole = Series.create(tmp_path / "whole", frames, **CHEAP)
    process(whole, frames)
    estimator.seen.clear()
    parts = Series.create(tmp_path / "parts", frames, **CHEAP)
    with pytest.raises(Cancelled):
        process(parts, frames, progress=stop_after(parts, 2))
    assert parts.finished == (0, 1)
    parts.image_path(1).unlink()  # as if the run had been stopped between field and image
    again = Series.create(tmp_path / "parts", frames, **CHEAP)
    totals: list[int] = []
    reports = process(again, frames, progress=lambda done, total, message: totals.append(total))
    assert [report.status for report in reports] == ["kept", "done", "done", "done"]
    assert totals[-1] == pytest.approx(0.75 * totals[0])
    assert reports[0].extent == pytest.approx(3)
    # The third one may have been begun when the run was stopped.
    assert [estimator.seen.count(known) for known in (201, 202, 204)] == [1, 1, 1]
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


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


def test_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    """With the real estimator, whose last bits depend on the number of threads."""
    frames = lazily(stack(2, shape=(32, 32)))
    estimate = {"kernel_size": 3}
    before = torch.get_num_threads()
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        series = Series.create(folder, frames, estimate=estimate, deblur={"method": "tikhonov"})
        process(series, frames, workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert torch.get_num_threads() == before


def test_folder_of_something_else(tmp_path: Path, estimator: Estimator) -> None:
    values = stack()
    frames = lazily(values)

    def create(frames: Frames = frames, folder: str = "a", **changes: Any) -> Series:
        return Series.create(tmp_path / folder, frames, **{**CHEAP, **changes})

    create(numbers=[0, 1])
    assert create(numbers=[2]).numbers == (2,)
    create(estimate={"kernel_size": 5, "device": "cpu"})
    with pytest.raises(ValueError, match=r"other settings .*kernel_size 5 there, 7 now.*another"):
        create(estimate={"kernel_size": 7})
    with pytest.raises(ValueError, match=r"other settings .*deblur"):
        create(deblur=None)
    with pytest.raises(ValueError, match=r"other settings .*threads 1 there, 2 now"):
        create(threads=2)
    with pytest.raises(ValueError, match=r"other images .*frame"):
        create(lazily(values + np.uint16(1)))
    with pytest.raises(ValueError, match=r"other images .*sizes \[4\] there, \[3\] now"):
        create(lazily(values[:3]))
    create(folder="b", shared=True, numbers=[0, 1])
    with pytest.raises(ValueError, match="other frames share the field"):
        create(folder="b", shared=True)


@pytest.mark.parametrize("name", [None, "a"])
def test_files_that_nothing_tells_of_are_no_results(
    tmp_path: Path, estimator: Estimator, name: str | None
) -> None:
    values = stack()
    frames = lazily(values) if name is None else frames_of(values[0], "YX")
    series = Series.create(tmp_path / "a", frames, name=name, **CHEAP)
    process(series, frames)
    other = {**CHEAP, "estimate": {"kernel_size": 7}}
    rest = "the whole folder .*/a$" if name is None else r"all files a\.\* in .*/a$"
    with pytest.raises(ValueError, match=rf"choose another folder, or remove {rest}"):
        Series.create(tmp_path / "a", frames, name=name, **other)
    series.record_path.unlink()
    for path in (series.field_path(0), series.image_path(0)):
        with pytest.raises(ValueError, match=rf"such as .*{path.name}: choose an empty folder"):
            Series.create(tmp_path / "a", frames, name=name, **other)
        for each in path.parent.glob(f"*{path.suffix}"):
            each.unlink()
    Series.create(tmp_path / "a", frames, name=name, **other)


@pytest.mark.parametrize(
    ("changes", "error", "complaint"),
    [
        ({"numbers": [4]}, ValueError, "there are 4 frames, from 0; there is no frame 4"),
        ({"numbers": []}, ValueError, "no frame is asked for"),
        ({"numbers": [0.5]}, ValueError, "whole numbers from 0, not 0.5"),
        ({"estimate": {"model": "magic"}}, ValueError, "the model 'magic' is unknown"),
        ({"deblur": {"method": "magic"}}, ValueError, "unknown method 'magic'"),
        ({"deblur": {"speed": 3}}, TypeError, "unknown option 'speed'"),
        ({"metadata": {"a": {1, 2}}}, TypeError, "plain JSON"),
        ({"threads": 0}, ValueError, "threads must be whole numbers from 1"),
        ({"name": "a"}, ValueError, "only a single image has a name"),
    ],
)
def test_wrong_settings(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], complaint: str
) -> None:
    with pytest.raises(error, match=complaint):
        Series.create(tmp_path / "a", lazily(stack()), **{**CHEAP, **changes})
    assert not (tmp_path / "a").exists()


def test_no_series(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no series of results: .*series\.json is missing"):
        Series.open(tmp_path)
    for text, complaint in [
        ("{", "does not describe a series"),
        ("[]", "does not describe a series"),
        ('{"format": 1}', "does not describe a series"),
    ]:
        (tmp_path / "series.json").write_text(text)
        with pytest.raises(ValueError, match=complaint):
            Series.open(tmp_path)
    Series.create(tmp_path / "a", lazily(stack()), **CHEAP)
    record = json.loads((tmp_path / "a" / "series.json").read_text())
    (tmp_path / "series.json").write_text(json.dumps({**record, "format": 99}))
    with pytest.raises(ValueError, match="newer version"):
        Series.open(tmp_path)


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


def test_stops_within_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three frames are under way, and the caller's thread says stop."""
    under_way = []

    def slow(image: Any, *, progress: Any, **options: Any) -> KernelField:
        under_way.append(image)
        for step in range(600):
            progress(step, 600, "Estimating")
            time.sleep(0.1)
        raise AssertionError("nobody stopped it")

    monkeypatch.setattr(blurfield.estimation, "estimate", slow)
    frames = lazily(stack())
    series = Series.create(tmp_path / "a", frames, **CHEAP)
    stopped: list[float] = []

    def progress(done: int, total: int, message: str) -> None:
        if len(under_way) == 3 and not stopped:
            stopped.append(time.monotonic())
            raise Cancelled

    with pytest.raises(Cancelled):
        process(series, frames, progress=progress, workers=3)
    assert time.monotonic() - stopped[0] < 1


def test_import_loads_neither_torch_nor_dask() -> None:
    code = (
        "import sys, blurfield.series; print({'torch', 'dask', 'distributed'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_workers_share_the_memory(
    tmp_path: Path, estimator: Estimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each may use is no part of the results: one frame needs much less."""
    monkeypatch.setattr("blurfield.compute.available_memory", lambda device: 2_000_000_000)
    limits: list[Any] = []
    deblur = blurfield.restoration.deblur

    def noted(*args: Any, **options: Any) -> Any:
        limits.append(options.get("memory"))
        return deblur(*args, **options)

    monkeypatch.setattr(blurfield.restoration, "deblur", noted)
    frames = lazily(stack(2))
    for workers in (1, 2):
        series = Series.create(tmp_path / str(workers), frames, **CHEAP)
        process(series, frames, workers=workers)
    assert limits == [None, None, 600_000_000, 600_000_000]
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_workers_are_counted(tmp_path: Path) -> None:
    frames = lazily(stack())
    series = Series.create(tmp_path / "a", frames, **CHEAP)
    with pytest.raises(ValueError, match="workers must be a whole number from 1, not 0"):
        process(series, frames, workers=0)


@pytest.mark.parametrize(
    ("shape", "axes", "dtype"),
    [
        ((SIDE, SIDE, 3), "TYXS", "uint8"),
        ((SIDE, SIDE, 4), "TYXS", "uint16"),
        ((2, SIDE, SIDE), "TCYX", "float32"),
        ((3, SIDE, SIDE), "TCYX", "uint8"),
        ((SIDE, SIDE), "TYX", "bool"),
    ],
)
def test_kinds_of_frames(
    tmp_path: Path, estimator: Estimator, shape: tuple[int, ...], axes: str, dtype: str
) -> None:
    frames = lazily(stack(2, dtype, shape), axes)
    series = Series.create(tmp_path / "a", frames, **CHEAP)
    assert [report.reason for report in process(series, frames)] == ["", ""]
    image = Series.open(tmp_path / "a").image(1)
    assert (image.shape, image.dtype.name) == (shape, dtype)
    with tifffile.TiffFile(series.image_path(0)) as tif:
        assert tif.series[0].axes == axes[1:]


def test_single_images_share_a_folder(tmp_path: Path, estimator: Estimator) -> None:
    for name, number in [("a", 0), ("b", 1)]:
        frames = frames_of(stack()[number], "YX")
        series = Series.create(tmp_path, frames, name=name, shared=True, **CHEAP)
        process(series, frames)
        assert series.finished == (0,)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("a.blurfield", "a.json", "a.tif", "b.blurfield", "b.json", "b.tif")
    ]
    series = Series.open(tmp_path / "b.json")
    assert series.image(0).shape == series.stack().shape == (SIDE, SIDE)


def test_stack_is_read_when_it_is_looked_at(tmp_path: Path, estimator: Estimator) -> None:
    values = stack(6).reshape(2, 3, SIDE, SIDE)
    frames = frames_of(values, "TZYX")
    series = Series.create(tmp_path / "a", frames, numbers=[1, 5], **CHEAP)
    lazy = series.stack()
    assert (lazy.shape, lazy.dtype) == (values.shape, np.uint16)
    assert lazy.chunksize == (1, 1, SIDE, SIDE)
    assert not lazy.compute().any()
    process(series, frames)
    np.testing.assert_array_equal(lazy[1, 2], series.image(5))
    np.testing.assert_array_equal(lazy[0, 1, 3:5, 7], series.image(1)[3:5, 7])
    np.testing.assert_array_equal(lazy[:, [2, 1], 4][1, 0], series.image(5)[4])
    assert not lazy[0, 0].compute().any()
    assert series.position(5) == (1, 2)


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


def test_frames_share_a_field(tmp_path: Path, estimator: Estimator) -> None:
    values = stack(5)
    values[1] = 0  # an outlier: what the stand-in takes for no blur
    frames = lazily(values)
    whole = Series.create(tmp_path / "whole", frames, shared=True, **CHEAP)
    told: list[int] = []
    reports = process(whole, frames, on_frame=told.append)
    assert {report.status for report in reports} == {"done"}
    assert sorted(told) == [0, 1, 2, 3, 4]
    shared = whole.field(1)
    assert shared.metadata["shared"] == {"fields": 5, "frames": [0, 1, 2, 3, 4]}
    expected = blurfield.deblur(values[3], shared, "tikhonov")
    np.testing.assert_array_equal(whole.image(3), expected)
    assert whole.own_field(1).metadata != shared.metadata

    parts = Series.create(tmp_path / "parts", frames, shared=True, **CHEAP)
    with pytest.raises(Cancelled):
        process(parts, frames, progress=stop_after(parts, 2))
    assert 0 < len(parts.finished) < 5
    process(parts, frames, workers=3)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


@pytest.mark.parametrize("deblurs", [True, False])
def test_frames_that_failed_before_share_the_field(
    tmp_path: Path, estimator: Estimator, deblurs: bool
) -> None:
    values = stack(5, "float32")
    values[:, 0, 0] = 201, 203, 205, 202, 204  # most are blurred, but not of those that work
    partly = values.copy()
    partly[[1, 2], 5, 6] = np.nan
    settings = {**CHEAP, "deblur": CHEAP["deblur"] if deblurs else None, "shared": True}
    whole = Series.create(tmp_path / "whole", lazily(values), **settings)
    process(whole, lazily(values))
    series = Series.create(tmp_path / "a", lazily(partly), **settings)
    process(series, lazily(partly))
    assert series.field(0).metadata["shared"]["frames"] == [0, 3, 4]
    assert similarity(series.field(0), whole.field(0)).mean < 0.9
    before = contents(tmp_path / "a")
    assert {report.status for report in process(series, lazily(partly))} == {"kept", "failed"}
    assert contents(tmp_path / "a") == before
    reports = process(series, lazily(values))
    assert contents(tmp_path / "a") == contents(tmp_path / "whole")
    assert [report.again for report in reports] == [deblurs, False, False, deblurs, deblurs]


def test_shared_fields_of_earlier_versions_are_kept(tmp_path: Path, estimator: Estimator) -> None:
    """They don't remember which frames share them."""
    values = stack(3, "float32")
    partly = values.copy()
    partly[1, 5, 6] = np.nan
    series = Series.create(tmp_path, lazily(partly), shared=True, **CHEAP)
    process(series, lazily(partly))
    field = series.field(0)
    field.with_metadata(shared={"fields": 2}).save(series.shared_path)
    before = contents(tmp_path)
    assert [report.status for report in process(series, lazily(values))] == ["kept", "done", "kept"]
    assert before.items() < contents(tmp_path).items()


def test_median_field() -> None:
    """Translated as estimates are, with one that is wrong altogether."""
    random = np.random.default_rng(0)
    truth = KernelField(
        np.stack([line(5, 9), line(5, 9).T]),
        np.stack([np.linspace(0, 1, 4), np.linspace(1, 0, 4)])[:, None].repeat(2, 1),
        (64, 96),
        {"model": "windowed", "gamma": 1.0},
    )
    fields = []
    for number in range(5):
        shift = tuple(random.integers(-2, 3, 2))
        basis = np.roll(truth.basis.numpy(), shift, (1, 2))
        basis = basis + np.float32(0.15) * (random.random(basis.shape) > 0.93)  # stray taps
        basis /= basis.sum((1, 2), keepdims=True)
        fields.append(
            KernelField(
                basis, truth.mixing, truth.shape, truth.metadata, {"confidence": [[number]]}
            )
        )
    fields.append(KernelField.uniform(np.eye(9, dtype=np.float32) / 9, truth.shape, truth.metadata))
    best = max(similarity(field, truth).mean for field in fields)
    polls: list[None] = []
    median = median_field(fields, lambda: polls.append(None))
    assert polls
    assert median.shape == truth.shape
    assert median.num_kernels <= 25
    assert best < 0.95 < 0.98 < similarity(median, truth).mean
    middle = median.kernel_at(32, 95).sum(1).argmax()
    assert middle == median.kernel_size // 2
    assert median.metadata["model"] == "windowed"
    assert median.metadata["shared"] == {"fields": 6}
    assert not median.maps  # the last one has none
    assert median_field(fields[:5]).maps["confidence"].mean() == pytest.approx(2)


def test_median_of_unlike_fields() -> None:
    small = KernelField.uniform(line(3, 3), (40, 40))
    large = KernelField.uniform(line(3, 7), (40, 40))
    median = median_field([small, large, small])
    assert median.kernel_size == 7
    assert similarity(median, large).mean == pytest.approx(1, abs=1e-5)
    apart = [KernelField.uniform(np.roll(line(1), shift, 1).T, (40, 40)) for shift in (0, 1)]
    assert median_field(apart).basis.max() == pytest.approx(1)
    with pytest.raises(ValueError, match="there is no field"):
        median_field([])
    with pytest.raises(ValueError, match=r"images of one size, not \(40, 40\) and \(40, 41\)"):
        median_field([small, KernelField.uniform(line(3), (40, 41))])


def test_image_files(tmp_path: Path) -> None:
    for name in ("a10.png", "a2.TIF", "notes.txt", ".hidden.png", "sub/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = image_files([tmp_path, tmp_path / "notes.txt", tmp_path / "a2.TIF"])
    assert [path.name for path in found] == ["a2.TIF", "a10.png", "notes.txt"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="has no image files"):
        image_files([tmp_path / "empty"])
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        image_files([tmp_path / "absent"])


def test_distinct_names(tmp_path: Path) -> None:
    files = [
        tmp_path / name for name in ("l/a.png", "l/A.tif", "l/b.c.png", "r/a.png", "series.png")
    ]
    names = ["l_a_png", "A_tif", "b.c", "r_a_png", "series_png"]
    assert distinct_names(files) == names
    assert distinct_names(files[::-1]) == names[::-1]


def test_files_as_frames(tmp_path: Path) -> None:
    values = stack(3)
    files = []
    for number, image in enumerate([*values, values[0, :9], values[0].astype(np.uint8)]):
        files.append(tmp_path / f"{number}.tif")
        tifffile.imwrite(files[-1], image)
    files[0].write_text("damaged")
    frames = frames_of_files(files)
    assert (frames.axes, frames.sizes, frames.shape) == (("T",), (5,), (SIDE, SIDE))
    np.testing.assert_array_equal(frames[2], values[2])
    for number, complaint in [(0, "cannot read"), (3, r"shape \(9, 48\)"), (4, "type uint8")]:
        with pytest.raises(ValueError, match=complaint):
            frames[number]
    with pytest.raises(ValueError, match="none of the files"):
        frames_of_files(files[:1])
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((5, 9, 9), np.uint8), metadata={"axes": "CYX"})
    with pytest.raises(ValueError, match="cannot be the frame of a time-lapse"):
        frames_of_files([tmp_path / "c.tif"])
