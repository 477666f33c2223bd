"""Blur as a measurement: figures for regions whose blur is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from blurfield import KernelField, blur_extent, blur_statistics
from blurfield.region_statistics import COLUMNS


def line(length: int, *, down: float = 0.0, across: float = 1.0, size: int = 17) -> torch.Tensor:
    kernel = torch.zeros(size, size)
    for step in np.arange(length) - length // 2:
        kernel[size // 2 + round(down * step), size // 2 + round(across * step)] += 1 / length
    return kernel


@pytest.fixture(scope="module")
def field() -> KernelField:
    """No blur above, 9 pixels across in the middle, 5 down the other diagonal below."""
    basis = torch.stack([line(1), line(9), line(5, down=1.0)])
    mixing = torch.zeros(3, 30, 20)
    for number in range(3):
        mixing[number, 10 * number : 10 * number + 10] = 1
    uncertainty = torch.linspace(0, 1, 30)[:, None].expand(30, 20)
    return KernelField(basis, mixing, maps={"uncertainty": uncertainty})


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    numbers = np.zeros((30, 20), np.uint8)
    numbers[:10], numbers[10:20], numbers[20:, :5] = 7, 2, 3
    return numbers


def test_each_region_has_a_row(field: KernelField, labels: np.ndarray) -> None:
    table = blur_statistics(field, labels)
    assert tuple(table) == COLUMNS
    np.testing.assert_array_equal(table["label"], [2, 3, 7])
    np.testing.assert_array_equal(table["pixels"], [200, 50, 200])
    for column in ("extent_mean", "extent_median", "extent_95"):
        np.testing.assert_allclose(table[column], [9, 5 * 2**0.5, 1], rtol=0.02)
    np.testing.assert_allclose(table["angle"][:2], [0, 135], atol=0.01)
    np.testing.assert_allclose(table["anisotropy"], [1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(table["norm"], [1 / 3, 5**-0.5, 1], rtol=1e-5)
    np.testing.assert_array_equal(table["blurred"], [0, 0, 0])
    np.testing.assert_allclose(table["uncertainty"], [0.5, 24.5 / 29, 4.5 / 29], rtol=1e-5)
    assert np.isnan(table["confidence"]).all()
    assert blur_statistics(field, labels, threshold=0.4)["blurred"].tolist() == [1, 0, 0]


def test_a_whole_image_is_one_region(field: KernelField) -> None:
    table = blur_statistics(field.with_metadata(confidence=0.75), pixel_size=0.5)
    assert table["label"].tolist() == [0]
    assert table["pixels"].tolist() == [600]
    assert table["extent_median"] == pytest.approx([0.5 * 5 * 2**0.5], rel=0.02)
    assert table["extent_95"] == pytest.approx([4.5], rel=0.02)
    assert table["confidence"] == pytest.approx([0.75])


def test_motions_across_each_other_have_no_direction() -> None:
    field = KernelField(torch.stack([line(9), line(9, down=1, across=0)]), torch.eye(2)[:, None])
    (anisotropy,) = blur_statistics(field)["anisotropy"]
    assert anisotropy == pytest.approx(0, abs=1e-6)


def test_labels_without_regions(field: KernelField) -> None:
    table = blur_statistics(field, np.zeros((30, 20), int))
    assert all(len(column) == 0 for column in table.values())


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"labels": np.zeros((30, 21), int)}, r"shape of the image, \(30, 20\), but have \(30, 21"),
        ({"labels": np.zeros((30, 20))}, "whole numbers, but are of type float64"),
        ({"pixel_size": 0}, "pixel_size must be a number above 0, but is 0"),
        ({"pixel_size": math.nan}, "pixel_size must be a number above 0"),
        ({"threshold": 2}, "threshold"),
    ],
)
def test_bad_input(field: KernelField, options: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        blur_statistics(field, **options)  # type: ignore[arg-type]


def test_pixels_that_are_not_square(field: KernelField) -> None:
    """9 px across stay 9 px wide; diagonals and heights grow with the pixels."""
    sizes = (2.0, 1.0)
    assert blur_extent(field, sizes)[5, 3] == pytest.approx(2)  # no blur: a pixel's longer side
    assert blur_extent(field, sizes)[15, 3] == pytest.approx(9)
    assert blur_extent(field, 0.5)[15, 3] == pytest.approx(4.5)
    strips = np.repeat([1, 2, 3], 10)[:, None].repeat(20, 1)
    table = blur_statistics(field, strips, pixel_size=sizes)
    assert table["angle"][2] == pytest.approx(180 - math.degrees(math.atan(2)), abs=0.01)
    assert table["extent_median"][2] == pytest.approx(5 * 5**0.5, rel=0.02)


def test_places_and_background(field: KernelField, labels: np.ndarray) -> None:
    table = blur_statistics(field, labels, background=True)
    assert table["label"].tolist() == [0, 2, 3, 7]
    assert table["pixels"].sum() == labels.size
    assert table["centre_y"][1:].tolist() == [14.5, 24.5, 4.5]
    assert table["centre_x"][1:].tolist() == [9.5, 2, 9.5]


def test_blurred_by_extent(field: KernelField, labels: np.ndarray) -> None:
    table = blur_statistics(field, labels, min_extent=4.2, pixel_size=0.5)
    assert table["blurred"].tolist() == [1, 0, 0]
