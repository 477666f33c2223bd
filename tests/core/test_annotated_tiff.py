"""TIFF files that keep what is known of an image."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from blurfield.annotated_tiff import read_annotated, write_annotated
from blurfield.files import read_image

NOTE = {"name": 'µ <&> "quoted" ]]>\n', "list": [1, 2.5, None], "nested": {"a": True}}
TYPES = ["bool", "uint8", "uint16", "int32", "int64", "uint64", "float16", "float32", "float64"]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("axes", "shape"), [("YX", (5, 7)), ("YXS", (5, 7, 3)), ("TZYX", (2, 3, 5, 7))]
)
def test_values_and_note_come_back(tmp_path, dtype, axes, shape):
    array = (np.random.default_rng(0).random(shape) * 9).astype(dtype)
    write_annotated(tmp_path / "a.tif", array, axes, NOTE)
    again, note = read_annotated(tmp_path / "a.tif")
    assert again.dtype == array.dtype
    np.testing.assert_array_equal(again, array)
    assert note == NOTE


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ("QYX", (5, 6, 7)),
        ("CTYX", (2, 3, 6, 7)),
        ("TYXS", (2, 6, 7, 4)),
        ("TYX", (1, 6, 7)),
        ("QTZCYX", (2, 1, 2, 2, 6, 7)),
    ],
)
def test_stacks_keep_their_shape(tmp_path, axes, shape):
    array = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    write_annotated(tmp_path / "a.tif", array, axes, {})
    np.testing.assert_array_equal(read_annotated(tmp_path / "a.tif")[0], array)


def test_other_programs_find_the_pixel_size(tmp_path):
    size = {"X": (0.25, "micrometer"), "Y": (0.5, "um"), "Z": (2.0, "furlong")}
    write_annotated(tmp_path / "a.tif", np.zeros((2, 5, 7), np.uint8), "ZYX", NOTE, size)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.is_ome
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
    assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeXUnit"]) == (0.25, "µm")
    assert (pixels["PhysicalSizeY"], pixels["PhysicalSizeYUnit"]) == (0.5, "µm")
    assert (pixels["PhysicalSizeZ"], pixels["PhysicalSizeZUnit"]) == (2.0, "furlong")


def test_they_are_images_like_any_other(tmp_path):
    array = np.random.default_rng(0).integers(0, 255, (6, 7, 4), np.uint8)
    write_annotated(tmp_path / "a.tif", array, "YXS", NOTE)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), array)


def test_images_are_taken_one_by_one(tmp_path):
    class Lazy:
        shape, ndim, dtype = (3, 2, 6, 7), 4, np.dtype(np.float32)
        taken = ()

        def __getitem__(self, index):
            self.taken += (tuple(map(int, index)),)
            return np.full((6, 7), sum(index), np.float32)

    lazy = Lazy()
    write_annotated(tmp_path / "a.tif", lazy, "TZYX", {})
    assert lazy.taken == tuple(np.ndindex(3, 2))
    assert read_annotated(tmp_path / "a.tif")[0][2, 1, 0, 0] == 3


def test_changes_stay_out_of_the_file(tmp_path):
    write_annotated(tmp_path / "a.tif", np.zeros((2, 5, 7), np.uint8), "TYX", {})
    before = (tmp_path / "a.tif").read_bytes()
    array, _ = read_annotated(tmp_path / "a.tif")
    array[:] = 1
    del array
    assert (tmp_path / "a.tif").read_bytes() == before


def test_half_a_file_is_not_written(tmp_path):
    class Broken:
        shape, ndim, dtype = (2, 6, 7), 3, np.dtype(np.uint8)

        def __getitem__(self, index):
            raise RuntimeError("the disk is gone")

    write_annotated(tmp_path / "a.tif", np.ones((6, 7), np.uint8), "YX", NOTE)
    with pytest.raises(RuntimeError, match="the disk is gone"):
        write_annotated(tmp_path / "a.tif", Broken(), "TYX", {})
    assert read_annotated(tmp_path / "a.tif")[1] == NOTE
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_other_files_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "plain.tif", np.zeros((5, 7)))
    tifffile.imwrite(tmp_path / "ome.tif", np.zeros((5, 7)), ome=True)
    (tmp_path / "text.tif").write_text("nothing")
    for name in ("plain.tif", "ome.tif", "text.tif"):
        with pytest.raises(ValueError, match=f"{name} is not an image that was saved with"):
            read_annotated(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_annotated(tmp_path / "missing.tif")


@pytest.mark.parametrize("axes", ["Y", "XX", "TYX", "TZ"])
def test_axes_have_to_suit(tmp_path, axes):
    with pytest.raises(ValueError, match="do not name each axis"):
        write_annotated(tmp_path / "a.tif", np.zeros((5, 7)), axes, {})


def test_complex_numbers_are_refused(tmp_path):
    with pytest.raises(ValueError, match="complex64 are not real"):
        write_annotated(tmp_path / "a.tif", np.zeros((5, 7), np.complex64), "YX", {})
