"""Estimation on large images, which begins with a reduced copy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawings import photograph

from blurfield import Cancelled, KernelField, estimate, similarity, simulate
from blurfield.compute import part_of
from blurfield.estimation import reduced
from blurfield.estimation.reduced import lifted, reduced_copy, reduction


def test_small_images_are_not_reduced() -> None:
    assert reduction((2400, 300)) == 1
    assert reduction((300, 2401)) == 2
    assert reduction((10_000, 10_000)) == 7


def test_a_pixel_of_the_copy_is_the_mean_of_many() -> None:
    planes = torch.arange(2 * 7 * 9, dtype=torch.float32).reshape(2, 7, 9)
    copy = reduced_copy(planes, 3)
    assert copy.shape == (2, 2, 3)
    assert float(copy[1, 1, 2]) == pytest.approx(float(planes[1, 3:6, 6:9].mean()))


class TestLifted:
    @staticmethod
    def line(length: int, size: int) -> torch.Tensor:
        kernel = torch.zeros(size, size)
        first = size // 2 - length // 2
        kernel[size // 2, first : first + length] = 1 / length
        return kernel

    def test_kernels_are_as_many_times_longer(self) -> None:
        field = KernelField.uniform(self.line(7, 15), (50, 60))
        large = lifted(field, 4, (203, 240), 33, None)
        assert large.shape == (203, 240)
        assert float(large.basis.sum()) == pytest.approx(1, abs=1e-5)
        across = large.basis[0].sum(0)
        middle = large.kernel_size // 2
        half = across / across.max() >= 0.5
        assert 27 <= int(half.sum()) <= 29
        assert bool(half[middle])
        # Room for three and a half pixels, four times larger, and a margin.
        assert 33 <= large.kernel_size <= 45

    def test_size_is_at_least_what_is_usual_or_what_was_asked_for(self) -> None:
        field = KernelField.uniform(self.line(1, 15), (50, 60))
        assert lifted(field, 4, (200, 240), 33, None).kernel_size == 33
        assert lifted(field, 4, (200, 240), 33, 71).kernel_size == 71
        longest = KernelField.uniform(self.line(15, 15), (50, 60))
        assert lifted(longest, 4, (60, 240), 33, None).kernel_size == 59

    def test_kernels_that_are_used_nowhere_need_no_room(self) -> None:
        basis = torch.stack([self.line(1, 15), self.line(15, 15)])
        mixing = torch.tensor([0.95, 0.05])[:, None, None].expand(2, 2, 2)
        field = KernelField(basis, mixing, (50, 60))
        large = lifted(field, 4, (200, 240), 33, None)
        assert large.kernel_size == 33
        assert large.basis.sum((1, 2)).tolist() == pytest.approx([1, 1], abs=1e-5)

    def test_of_many_kernels_none_of_which_prevails(self) -> None:
        basis = torch.stack([self.line(length, 15) for length in (1, 3, 5, 7, 9, 11, 13, 15)])
        field = KernelField(basis, torch.full((8, 1, 1), 1 / 8), (50, 60))
        assert lifted(field, 4, (200, 240), 33, None).kernel_size > 60


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of more than 150 pixels are large."""
    monkeypatch.setattr(reduced, "_LARGE", 150)
    monkeypatch.setattr(reduced, "_REDUCED", 100)


def test_blur_longer_than_usual_kernels(limits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    sharp = photograph(192).mean(-1).astype(np.uint8)
    blurry, truth = simulate(sharp, kind="linear", kernel_size=21, max_extent=17, seed=4, noise=0)
    seen: list[int] = []
    field = estimate(blurry, "windowed", progress=lambda done, total, _: seen.append(done / total))
    assert field.metadata["parameters"]["reduction"] == 2
    assert field.metadata["parameters"]["kernel_size"] == field.kernel_size
    assert field.shape == truth.shape
    assert seen == sorted(seen)
    assert seen[-1] == 1
    assert similarity(field, truth).mean > 0.6
    assert "confidence" in field.maps


def test_size_asked_for(limits: None) -> None:
    sharp = photograph(160).mean(-1).astype(np.uint8)
    field = estimate(sharp, "windowed", kernel_size=11)
    assert field.kernel_size == 11


def test_parts_of_progress() -> None:
    assert part_of(None, 0, 2) is None
    told: list[tuple[int, int, str]] = []
    second = part_of(lambda *report: told.append(report), 1, 4)
    second(3, 6, "half")
    assert told == [(1500, 4000, "half")]

    def stop(*_: object) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        part_of(stop, 0, 2)(0, 1, "")
