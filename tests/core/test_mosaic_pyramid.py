"""The kernel mosaic at several scales."""

from __future__ import annotations

import numpy as np
import pytest

from blurfield import KernelField, kernel_mosaic
from blurfield.mosaic import kernel_ink
from blurfield.mosaic_pyramid import mosaic_pyramid


def line(length, shape, size=21):
    kernel = np.zeros((size, size), np.float32)
    middle = size // 2
    kernel[middle, middle - length // 2 : middle + length // 2 + 1] = 1 / length
    return KernelField.uniform(kernel, shape)


def lit(picture):
    """Which pixels are light rather than tile."""
    return picture[..., :3].max(-1) > 128


def test_each_picture_is_half_the_one_before():
    pictures = mosaic_pyramid(line(15, (700, 1100)))
    assert [picture.shape for picture in pictures] == [(700, 1100, 4), (350, 550, 4), (175, 275, 4)]
    assert all(picture.dtype == np.uint8 for picture in pictures)


def test_the_first_alone():
    (picture,) = mosaic_pyramid(line(15, (700, 1100)), levels=1)
    assert picture.shape == (700, 1100, 4)


def test_small_images_have_one_picture():
    assert [picture.shape for picture in mosaic_pyramid(line(15, (100, 90)))] == [(100, 90, 4)]


def test_from_afar_there_are_fewer_kernels_of_the_same_size():
    near, far, _ = mosaic_pyramid(line(15, (700, 1100)))
    # Bars of 15 pixels, and of twice that where each pixel stands for two and tiles for more.
    columns = lit(near)[:, 500:542].any(0).sum() / 2
    assert columns == pytest.approx(15, abs=1)
    row = lit(far)[lit(far).any(1)][0]
    starts = np.flatnonzero(np.diff(row.astype(int)) == 1)
    assert np.diff(starts).min() == 42
    assert row[starts[1] + 1 : starts[1] + 29].all()


def test_kernels_of_few_pixels_are_drawn_larger():
    (picture,) = mosaic_pyramid(line(3, (60, 60), size=5))
    rows = np.flatnonzero(np.diff(np.flatnonzero(lit(picture).any(1))) > 1)
    assert len(rows) == 2  # three rows of tiles of 20 pixels, not twelve of 5


def test_tiles_are_dark_and_can_be_told_apart():
    (picture,) = mosaic_pyramid(line(15, (100, 90)))
    opacity = picture[..., 3]
    assert set(np.unique(opacity[~lit(picture)])) <= {0, *range(102, 256)}
    assert (opacity == 0).any()
    assert (opacity == 0).mean() < 0.35


def test_very_large_images_begin_smaller(monkeypatch):
    monkeypatch.setattr("blurfield.mosaic_pyramid._MOST_PIXELS", 200 * 300)
    shapes = [picture.shape for picture in mosaic_pyramid(line(15, (700, 1100)))]
    assert shapes == [(175, 275, 4)]


def test_at_their_own_size_they_are_those_of_the_mosaic():
    field = line(15, (100, 90))
    np.testing.assert_array_equal(kernel_ink(field, 21), kernel_mosaic(field)[..., 3])
