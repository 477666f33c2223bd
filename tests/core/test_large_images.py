"""Estimation on large images, which begins with a reduced copy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawings import photograph

from blurfield import Cancelled, KernelField, estimate, similarity, simulate
from blurfield.compute import part_of
from blurfield.estimation import reduced, windowed
from blurfield.estimation.reduced import lifted, reduced_copy, reduction
from blurfield.no_blur import no_blur


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


class TestLongerThanTheDefault:
    """Kernels of the default size that are cut off: looked at again, with larger ones."""

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Kernels have 15 pixels by default; their rim is a larger part of them."""
        monkeypatch.setattr(windowed, "DEFAULT_KERNEL_SIZE", 15)
        monkeypatch.setattr(windowed, "_CUT_OFF", 0.07)
        monkeypatch.setattr(windowed, "_LEAST_FOR_LONGER", 64)

    @staticmethod
    def blurred(extent: int, side: int = 160) -> tuple[np.ndarray, KernelField]:
        sharp = photograph(side).mean(-1).astype(np.uint8)
        return simulate(
            sharp, kind="linear", min_extent=extent - 1, max_extent=extent, seed=4, noise=0
        )

    def test_blur_longer_than_that(self) -> None:
        blurry, truth = self.blurred(25)
        seen: list[float] = []
        field = estimate(
            blurry, "windowed", progress=lambda done, total, _: seen.append(done / total)
        )
        assert field.kernel_size >= 25
        assert field.metadata["parameters"]["kernel_size"] == field.kernel_size
        assert field.metadata["parameters"]["reduction"] == 2
        assert seen == sorted(seen)
        assert seen[-1] == 1
        found = similarity(field, truth).mean
        assert found > 0.6
        assert found > similarity(estimate(blurry, "windowed", kernel_size=15), truth).mean + 0.1

    @pytest.mark.parametrize(
        ("extent", "side", "options"), [(5, 160, {}), (25, 160, {"kernel_size": 15}), (25, 63, {})]
    )
    def test_else_once_is_enough(
        self, extent: int, side: int, options: dict[str, int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where the blur is shorter, a size is asked for, or the image is small."""
        monkeypatch.setattr(windowed, "reduced_copy", None)
        seen: list[float] = []
        field = estimate(
            self.blurred(extent, side)[0],
            "windowed",
            progress=lambda done, total, _: seen.append(done / total),
            **options,
        )
        assert field.kernel_size == 15
        assert "reduction" not in field.metadata["parameters"]
        assert seen == sorted(seen)
        assert seen[-1] == 1

    def test_where_the_copy_shows_no_longer_blur(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[int] = []

        def short(field: KernelField, factor: int, shape: tuple[int, int], *_: object) -> object:
            asked.append(factor)
            return KernelField.uniform(no_blur(15), shape)

        monkeypatch.setattr(windowed, "lifted", short)
        field = estimate(self.blurred(25)[0], "windowed")
        assert asked == [2]
        assert field.kernel_size == 15
        assert "reduction" not in field.metadata["parameters"]

    def test_cancelled_in_the_second_look(self) -> None:
        def stop(done: int, total: int, _: str) -> None:
            if done > 0.6 * total:
                raise Cancelled

        with pytest.raises(Cancelled):
            estimate(self.blurred(25)[0], "windowed", progress=stop)

    def test_kernels_of_more_than_half_the_image_are_not_believed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        blurry, _ = self.blurred(25)
        monkeypatch.setattr(windowed, "_MOST_OF_SIDE", 16 / len(blurry))
        sizes: list[int] = []
        original = windowed.lifted

        def noting(*arguments: object) -> KernelField:
            field = original(*arguments)
            sizes.append(field.kernel_size)
            return field

        monkeypatch.setattr(windowed, "lifted", noting)
        seen: list[float] = []
        field = estimate(
            blurry, "windowed", progress=lambda done, total, _: seen.append(done / total)
        )
        assert sizes[-1] > 16  # the copy has asked for them
        assert field.kernel_size == 15  # the motion of the camera takes part in its place
        assert "reduction" not in field.metadata["parameters"]
        assert seen == sorted(seen)
        assert seen[-1] == 1


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
