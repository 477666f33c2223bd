"""How alike kernels and fields are."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels_and_fields import delta, line, random_field
from scipy.signal import correlate2d

from blurfield.comparison import grid_axis
from blurfield.measure import kernel_similarity, similarity


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 12), st.integers(0, 10**6))
def test_similarity_is_the_largest_normalised_correlation(k: int, m: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(k, k, generator=generator, dtype=torch.float64)
    b = torch.rand(m, m, generator=generator, dtype=torch.float64)
    expected = correlate2d(a, b).max() / (a.norm() * b.norm())
    assert kernel_similarity(a, b).item() == pytest.approx(expected.item(), rel=1e-9)
    assert kernel_similarity(b, a).item() == pytest.approx(expected.item(), rel=1e-9)


def test_similarity_ignores_translation_and_scale_but_not_shape() -> None:
    kernel = torch.zeros(33, 33)
    kernel[4:9, 20:32] = torch.rand(5, 12, generator=torch.Generator().manual_seed(0))
    moved = 3 * kernel.roll((24, -20), (0, 1))
    assert kernel_similarity(kernel, moved).item() == pytest.approx(1, abs=1e-6)
    assert kernel_similarity(kernel, kernel.flip(0, 1)).item() < 0.95
    assert kernel_similarity(line(16), delta()).item() == pytest.approx(0.25, abs=1e-6)
    assert kernel_similarity(line(16), line(16, vertical=True)).item() == pytest.approx(1 / 16)


def test_similarity_broadcasts_leading_axes() -> None:
    a, b = torch.rand(4, 1, 7, 7), torch.rand(3, 11, 11)
    table = kernel_similarity(a, b)
    assert table.shape == (4, 3)
    torch.testing.assert_close(table[2, 1], kernel_similarity(a[2, 0], b[1]))
    assert kernel_similarity(np.ones((3, 3), int), np.ones((5, 5))).shape == ()


def test_similarity_of_nothing_is_zero() -> None:
    assert kernel_similarity(torch.zeros(5, 5), torch.ones(5, 5)) == 0


def test_similarity_is_differentiable() -> None:
    a = torch.rand(5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(kernel_similarity, (a, torch.rand(5, 5).double()))


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.ones(5), torch.ones(5, 5), r"a must hold kernels .* not \(5,\)"),
        (torch.ones(5, 5), torch.ones(2, 0, 5), r"b must hold kernels .* not \(2, 0, 5\)"),
        (torch.ones(2, 5, 5), torch.ones(3, 5, 5), "do not broadcast"),
    ],
)
def test_similarity_refuses(a: torch.Tensor, b: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kernel_similarity(a, b)


def test_similarity_of_fields_on_a_grid() -> None:
    field, truth = random_field(5), random_field(6, cells=(3, 4))
    result = similarity(field, truth, spacing=16)
    assert result.values.shape == (2, 3)
    assert result.values.dtype == np.float32
    assert result.points[0, 0].tolist() == [11.5, 9.5]
    assert result.mean == pytest.approx(result.values.mean(), abs=1e-6)
    expected = kernel_similarity(field.kernel_at(27.5, 25.5), truth.kernel_at(27.5, 25.5))
    assert result.values[1, 1] == pytest.approx(expected.item(), abs=1e-6)
    assert similarity(field, field).mean == pytest.approx(1, abs=1e-6)


def test_similarity_of_fields_at_points(monkeypatch: pytest.MonkeyPatch) -> None:
    field, truth = random_field(5), random_field(6)
    points = [(0, 0), (39, 51), (7.25, 3.5)]
    whole = similarity(field, truth, points=points)
    assert whole.values.shape == (3,)
    monkeypatch.setattr("blurfield.comparison._BATCH_ELEMENTS", 1)
    np.testing.assert_allclose(similarity(field, truth, points=points).values, whole.values)


def test_similarity_of_fields_refuses() -> None:
    field = random_field()
    with pytest.raises(ValueError, match=r"\(40, 52\) and \(40, 53\)"):
        similarity(field, random_field(shape=(40, 53)))
    with pytest.raises(ValueError, match="points must have shape"):
        similarity(field, field, points=[1, 2])
    for spacing in (0, -4, math.nan):
        with pytest.raises(ValueError, match="spacing must be"):
            similarity(field, field, spacing=spacing)


@given(st.integers(1, 300), st.integers(1, 64))
def test_grid_axis_is_centred_and_inside(length: int, spacing: int) -> None:
    axis = grid_axis(length, spacing)
    assert axis[0] + axis[-1] == pytest.approx(length - 1)
    assert axis[0] >= 0
    np.testing.assert_allclose(np.diff(axis), spacing)
    assert axis[0] < spacing or len(axis) == 1
