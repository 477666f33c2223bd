"""Series of frames: their files, their settings, kinds of frames, going on after a stop."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from small_series import CHEAP, SIDE, Estimator, contents, lazily, stack, stop_after

import blurfield
from blurfield import Cancelled
from blurfield.frames import frames_of
from blurfield.series import Series, process

if TYPE_CHECKING:
    from pathlib import Path

    from blurfield.frames import Frames


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


def test_import_loads_neither_torch_nor_dask() -> None:
    code = (
        "import sys, blurfield.series; print({'torch', 'dask', 'distributed'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
