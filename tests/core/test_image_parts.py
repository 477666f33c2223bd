"""Images that are read and written in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from blurfield import image_parts
from blurfield.image_parts import ImageParts
from blurfield.images import LinearImage

if TYPE_CHECKING:
    from pathlib import Path

RANDOM = np.random.default_rng(0)
IMAGES = {
    "grey": (RANDOM.integers(0, 256, (40, 50), dtype=np.uint8), None),
    "colour": (RANDOM.integers(0, 256, (40, 50, 3), dtype=np.uint8), None),
    "alpha": (RANDOM.integers(0, 256, (40, 50, 4), dtype=np.uint8), None),
    "planes": (RANDOM.random((5, 40, 50)) * 3, 0),
    "deep": (RANDOM.integers(0, 4000, (40, 50), dtype=np.uint16), None),
    "negative": (RANDOM.normal(size=(40, 50)).astype(np.float32), None),
    "middle": (RANDOM.random((40, 3, 50), dtype=np.float32), 1),
    "tensor": (torch.rand(40, 50, 3, generator=torch.Generator().manual_seed(0)), None),
}


@pytest.mark.parametrize("name", IMAGES)
def test_parts_are_those_of_the_whole(name, monkeypatch):
    monkeypatch.setattr(image_parts, "_PIXELS", 50 * 7)
    array, axis = IMAGES[name]
    whole = LinearImage.from_array(array, channel_axis=axis)
    parts = ImageParts(array, channel_axis=axis)
    assert parts.shape == (40, 50)
    assert parts.channels == len(whole.planes)
    assert parts.gamma == whole.gamma
    part = parts.read(slice(3, 20), slice(10, 41))
    torch.testing.assert_close(part.planes, whole.planes[:, 3:20, 10:41], rtol=1e-6, atol=0)
    result = parts.new_result()
    for start in range(0, 40, 16):
        rows = slice(start, min(start + 16, 40))
        parts.write(result, rows, whole.planes[:, rows])
    expected = whole.to_array(whole.planes)
    assert type(result) is type(expected)
    assert result.dtype == expected.dtype
    np.testing.assert_allclose(np.asarray(result), np.asarray(expected), rtol=1e-6)


def test_another_number_type():
    array, _ = IMAGES["alpha"]
    parts = ImageParts(array)
    result = parts.new_result(np.float32)
    parts.write(result, slice(0, 40), parts.read(slice(0, 40), slice(0, 50)).planes, np.float32)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, array, atol=1e-3)


@pytest.mark.parametrize("step", [2, 3, 5])
def test_blocks_are_pixels_side_by_side(step):
    array, _ = IMAGES["colour"]
    planes = LinearImage.from_array(array).planes
    blocks = ImageParts(array).sparse_blocks(step)
    assert blocks.shape == (3, 2 * (40 // step), 2 * (50 // step))
    for row, col in ((0, 0), (3, 4), (40 // step - 1, 50 // step - 1)):
        block = blocks[:, 2 * row : 2 * row + 2, 2 * col : 2 * col + 2]
        y, x = row * step, col * step
        torch.testing.assert_close(block, planes[:, y : y + 2, x : x + 2], rtol=1e-6, atol=0)


def test_what_is_not_finite_is_found_at_its_place(monkeypatch):
    monkeypatch.setattr(image_parts, "_PIXELS", 50 * 7)
    array = np.zeros((40, 50, 3), np.float32)
    array[17, 5, 2] = np.nan
    with pytest.raises(ValueError, match=r"1 values that are NaN .* at index \(17, 5, 2\)"):
        ImageParts(array)


def test_mistakes_are_those_of_whole_images():
    with pytest.raises(ValueError, match="neither"):
        ImageParts(np.zeros((4, 5, 7)))
    with pytest.raises(ValueError, match="negative values"):
        ImageParts(np.full((8, 8), -1.0), gamma=2.2).read(slice(0, 8), slice(0, 8))


def test_files_are_read_part_by_part(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(image_parts, "_PIXELS", 50 * 7)
    array, _ = IMAGES["colour"]
    np.save(tmp_path / "image.npy", array)
    calls = []
    parts = ImageParts(np.load(tmp_path / "image.npy", mmap_mode="r"), poll=lambda: calls.append(1))
    assert len(calls) == 5
    torch.testing.assert_close(
        parts.read(slice(0, 40), slice(0, 50)).planes, LinearImage.from_array(array).planes
    )
