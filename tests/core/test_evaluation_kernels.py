"""L1 distance of kernel fields."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from blurfield import KernelField
from blurfield.evaluation import kernel_l1_distance

SHAPE = (64, 80)


def basis(seed: int = 0) -> Tensor:
    kernels = torch.rand(3, 9, 9, generator=torch.Generator().manual_seed(seed))
    return kernels / kernels.sum((-2, -1), keepdim=True)


def mixing() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.softmax(torch.randn(3, 5, 7, generator=generator), dim=0)


def placed(kernels: Tensor, size: int, down: int, right: int) -> Tensor:
    """Kernels in a larger frame, moved from its middle."""
    frame = torch.zeros(len(kernels), size, size)
    first = size // 2 - kernels.shape[-1] // 2
    y, x = first + down, first + right
    frame[:, y : y + kernels.shape[-2], x : x + kernels.shape[-1]] = kernels
    return frame


@pytest.mark.parametrize(
    ("size", "move"), [(9, (0, 0)), (15, (2, -3)), (15, (-1, 3)), (21, (6, -6))]
)
def test_common_translation_does_not_count(size: int, move: tuple[int, int]) -> None:
    truth = KernelField(basis(), mixing(), SHAPE)
    field = KernelField(placed(basis(), size, *move), mixing(), SHAPE)
    found = kernel_l1_distance(field, truth)
    assert found.mean == pytest.approx(0, abs=1e-6)
    assert found.shift == move
    assert found.values.shape == (4, 5)
    back = kernel_l1_distance(truth, field)
    assert back.mean == pytest.approx(0, abs=1e-6)
    assert back.shift == (-move[0], -move[1])


def test_distance_is_its_definition() -> None:
    a, b = basis(1), basis(2)
    # So strong a peak that no translation is better than none.
    for kernels in (a, b):
        kernels[:, 4, 4] += 1
        kernels /= kernels.sum((-2, -1), keepdim=True)
    field, truth = (KernelField(kernels, mixing(), SHAPE) for kernels in (a, b))
    found = kernel_l1_distance(field, truth, spacing=16)
    assert found.shift == (0, 0)
    where = (7.5 + 16 * 2, 7.5 + 16 * 3)  # the grid of 4×5 begins at (7.5, 7.5)
    difference = field.kernel_at(*where) - truth.kernel_at(*where)
    assert found.values[2, 3] == pytest.approx(float(difference.abs().sum()), rel=1e-5)
    assert found.mean == pytest.approx(float(found.values.mean()), rel=1e-5)


def test_parts_displaced_against_each_other_count() -> None:
    """Similarity excuses each pixel by itself; the L1 distance must not."""
    kernel = basis()[:1]
    halves = torch.zeros(2, 1, 2)
    halves[0, 0, 0] = halves[1, 0, 1] = 1
    truth = KernelField(placed(kernel, 15, 0, 0).repeat(2, 1, 1), halves, SHAPE)
    torn = torch.cat([placed(kernel, 15, 0, 0), placed(kernel, 15, 0, 3)])
    assert kernel_l1_distance(KernelField(torn, halves, SHAPE), truth).mean > 0.1


def test_distant_kernels_do_not_overlap() -> None:
    corner, middle = torch.zeros(2, 5, 5)
    corner[0, 0] = middle[2, 2] = 1
    field = KernelField(torch.stack([corner, middle]), torch.full((2, 1, 1), 0.5), SHAPE)
    truth = KernelField.uniform(middle, SHAPE)
    assert kernel_l1_distance(field, truth).mean == pytest.approx(1)


def test_other_shapes_are_refused() -> None:
    truth = KernelField(basis(), mixing(), SHAPE)
    with pytest.raises(ValueError, match="different shapes"):
        kernel_l1_distance(KernelField(basis(), mixing(), (64, 81)), truth)
    with pytest.raises(ValueError, match="spacing"):
        kernel_l1_distance(truth, truth, spacing=0)
