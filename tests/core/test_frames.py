"""Files with many frames: which frames there are, and that only those asked for are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from blurfield.frames import open_frames

if TYPE_CHECKING:
    from pathlib import Path

NUMBERS = np.random.default_rng(0)


def numbers(*shape: int) -> np.ndarray:
    return NUMBERS.integers(0, 60_000, shape, dtype=np.uint16)


@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((4, 9, 8), {"axes": "TYX"}, (("T",), (4,), (9, 8), None)),
        ((4, 9, 8), {"axes": "ZYX", "imagej": True}, (("Z",), (4,), (9, 8), None)),
        ((2, 3, 9, 8), {"axes": "TZYX", "imagej": True}, (("T", "Z"), (2, 3), (9, 8), None)),
        ((2, 5, 9, 8), {"axes": "TCYX", "imagej": True}, (("T",), (2,), (5, 9, 8), 0)),
        ((5, 9, 8), {"axes": "CYX", "imagej": True}, ((), (), (5, 9, 8), 0)),
        ((4, 9, 8), {"axes": "TYX", "compression": "zlib"}, (("T",), (4,), (9, 8), None)),
        ((2, 5, 9, 8), {"axes": "TCYX", "compression": "zlib"}, (("T",), (2,), (5, 9, 8), 0)),
        ((5, 2, 9, 8), {"axes": "CTYX"}, (("T",), (2,), (5, 9, 8), 0)),
        ((5, 2, 9, 8), {"axes": "CTYX", "compression": "zlib"}, (("T",), (2,), (5, 9, 8), 0)),
        ((4, 9, 8, 3), {"axes": "TYXS"}, (("T",), (4,), (9, 8, 3), None)),
        ((3, 9, 8), {"axes": "TYX", "byteorder": ">"}, (("T",), (3,), (9, 8), None)),
        ((9, 8), {"axes": "YX"}, ((), (), (9, 8), None)),
        ((9, 8, 3), {"axes": "YXS"}, ((), (), (9, 8, 3), None)),
    ],
)
def test_tiff(
    tmp_path: Path,
    shape: tuple[int, ...],
    options: dict[str, Any],
    expected: tuple[Any, ...],
) -> None:
    values = numbers(*shape)
    axes = options.pop("axes")
    photometric = "rgb" if "S" in axes else "minisblack"
    ome = {} if options.get("imagej") else {"ome": True}
    file = tmp_path / "a.tif"
    tifffile.imwrite(
        file, values, metadata={"axes": axes}, photometric=photometric, **options, **ome
    )
    with open_frames(file) as frames:
        assert (frames.axes, frames.sizes, frames.shape, frames.channel_axis) == expected
        assert frames.dtype == np.uint16
        inner = [axis for axis in "CYXS" if axis in axes]
        order = [axes.index(axis) for axis in (*frames.axes, *inner)]
        wanted = np.transpose(values, order).reshape(-1, *frames.shape)
        assert len(frames) == len(wanted)
        for found, frame in zip(frames, wanted, strict=True):
            np.testing.assert_array_equal(found, frame)


def test_npy_is_read_where_it_is_asked_for(tmp_path: Path) -> None:
    values = numbers(3, 2, 9, 8)
    np.save(tmp_path / "a.npy", values)
    with open_frames(tmp_path / "a.npy") as frames:
        assert frames.position(5) == {"T": 2, "Z": 1}
        frame = frames[5]
        assert not isinstance(frame, np.memmap)
        np.testing.assert_array_equal(frame, values[2, 1])
        with pytest.raises(IndexError, match="6 frames, from 0; there is no frame 6"):
            frames[6]
    with open_frames(tmp_path / "a.npy", axes="CTYX") as frames:
        assert (frames.axes, frames.shape, frames.channel_axis) == (("T",), (3, 9, 8), 0)
        np.testing.assert_array_equal(frames[1], values[:, 1])


def test_single_images(tmp_path: Path) -> None:
    values = NUMBERS.integers(0, 256, (9, 8, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", values)
    for name in ("a.png", "b.npy"):
        with open_frames(tmp_path / name) as frames:
            assert (len(frames), frames.axes, frames.position(0)) == (1, (), {})
            np.testing.assert_array_equal(frames[0], values)


def test_frames_of_a_damaged_file_before_the_damage(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    values = numbers(6, 40, 40)
    tifffile.imwrite(
        file, values, metadata={"axes": "TYX"}, photometric="minisblack", compression="zlib"
    )
    with tifffile.TiffFile(file) as tif:
        start = tif.pages[4].dataoffsets[0]
    content = bytearray(file.read_bytes())
    content[start : start + 400] = bytes(400)
    file.write_bytes(content)
    with open_frames(file) as frames:
        np.testing.assert_array_equal(frames[3], values[3])
        with pytest.raises(ValueError, match=r"cannot read frame 4 of .*a\.tif"):
            frames[4]
        np.testing.assert_array_equal(frames[5], values[5])


@pytest.mark.parametrize(
    ("shape", "axes", "complaint"),
    [
        ((2, 2, 2, 9, 8), None, "no known axes; say which they are"),
        ((5,), None, "no known axes"),
        ((3, 9, 8), "TY", r"do not name each axis of the shape \(3, 9, 8\) once"),
        ((3, 9, 8), "TZX", "Y and X have to be rows and columns"),
    ],
)
def test_unknown_axes(
    tmp_path: Path, shape: tuple[int, ...], axes: str | None, complaint: str
) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape))
    with pytest.raises(ValueError, match=complaint), open_frames(tmp_path / "a.npy", axes):
        pass


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_text("no image")
    with (
        pytest.raises(ValueError, match=r"cannot read .*as images"),
        open_frames(tmp_path / "a.tif"),
    ):
        pass
    with pytest.raises(FileNotFoundError), open_frames(tmp_path / "b.tif"):
        pass
