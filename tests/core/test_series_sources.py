"""Images in files as the frames of a series."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from small_series import SIDE, stack

from blurfield.frames import frames_of_files
from blurfield.series.sources import distinct_names, image_files

if TYPE_CHECKING:
    from pathlib import Path


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
