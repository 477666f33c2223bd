"""Estimation by the compact network and on windows: which is asked, and what becomes of both."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from skimage.data import camera

import blurfield
from blurfield import Cancelled, KernelField
from blurfield.estimation import combined
from blurfield.estimation.combined import estimate_combined, log_lengths, share_by, signs
from blurfield.images import LinearImage

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPE = (384, 960)
WEIGHTS = {"name": "mine", "origin": "test", "sha256": "0"}
#: Extents in pixels of blur that is clearly the network's, and clearly that of windows.
SHORT, LONG = 4, 29


def line(extent: int, size: int = 33) -> torch.Tensor:
    kernel = torch.zeros(size, size)
    first = (size - extent) // 2
    kernel[size // 2, first : first + extent] = 1 / extent
    return kernel


def halves(left: int, right: int) -> KernelField:
    """Lines of one extent on the left, and of another one on the right."""
    cells = (SHAPE[0] // 4, SHAPE[1] // 4)
    mixing = torch.zeros(2, *cells)
    mixing[0, :, : cells[1] // 2] = 1
    mixing[1] = 1 - mixing[0]
    basis = torch.stack([line(left), line(right)])
    return KernelField(basis, mixing, SHAPE, {"weights": WEIGHTS, "parameters": {"of": "network"}})


@pytest.fixture
def against(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image speaks against long kernels of the network, and for its short ones."""

    def told(learned: KernelField, *_: Any) -> torch.Tensor:
        lengths = log_lengths(learned)
        return torch.cat([lengths, (lengths[:1] > 1).to(lengths) * 2 - 1])

    monkeypatch.setattr(combined, "signs", told)


def windows(extent: int, size: int) -> KernelField:
    facts = {"parameters": {"of": "windows"}, "confidence": 0.5}
    maps = {"confidence": torch.full((2, 2), 0.5)}
    return KernelField.uniform(line(extent, size).T, SHAPE, facts, maps)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Makes both models give certain fields; returns the names of those that are asked."""

    def give(learned: KernelField, classical: KernelField) -> list[str]:
        names: list[str] = []

        def model(name: str, field: KernelField) -> Callable[..., KernelField]:
            def estimate(planes: torch.Tensor, **options: Any) -> KernelField:
                names.append(name)
                for done in range(3):
                    options["progress"](done, 2, name)
                return field

            return estimate

        monkeypatch.setattr(combined, "estimate_compact", model("compact", learned))
        monkeypatch.setattr(combined, "estimate_windowed", model("windowed", classical))
        return names

    return give


PLANES = torch.zeros(1, *SHAPE)


def test_short_blur_is_left_to_the_network(asked: Callable[..., list[str]]) -> None:
    names = asked(halves(SHORT, SHORT + 1), windows(LONG, 33))
    field = estimate_combined(PLANES, progress=lambda *_: None)
    assert names == ["compact"]
    assert field.metadata["shares"] == {"compact": 1.0, "windowed": 0.0}
    assert field.metadata["weights"] == WEIGHTS
    torch.testing.assert_close(field.kernel_at(190, 300), line(SHORT))


def test_long_blur_is_left_to_windows(asked: Callable[..., list[str]], against: None) -> None:
    names = asked(halves(LONG, LONG + 2), windows(LONG, 41))
    field = estimate_combined(PLANES, progress=lambda *_: None)
    assert names == ["compact", "windowed"]
    assert field.metadata["shares"] == {"compact": 0.0, "windowed": 1.0}
    assert "weights" not in field.metadata
    assert field.metadata["confidence"] == 0.5
    torch.testing.assert_close(field.kernel_at(190, 300), line(LONG, 41).T)


def test_blur_that_the_image_shows_to_be_short_is_left_to_the_network(
    asked: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows are asked where lengths are not clear, and the image can speak against theirs."""

    def told(learned: KernelField, *_: Any) -> torch.Tensor:
        lengths = log_lengths(learned)
        return torch.cat([lengths, torch.full_like(lengths[:1], -3.0)])

    monkeypatch.setattr(combined, "signs", told)
    names = asked(halves(LONG, LONG), windows(LONG, 65))
    field = estimate_combined(PLANES, progress=lambda *_: None)
    assert names == ["compact", "windowed"]
    assert field.kernel_size == 33
    assert field.metadata["shares"] == {"compact": 1.0, "windowed": 0.0}


def striped(moving: int, still: int) -> KernelField:
    """Stripes of so many cells in which something moves far, and in which nothing does."""
    cells = (72, 72)
    mixing = torch.zeros(2, *cells)
    mixing[0] = torch.arange(72) % (moving + still) >= moving
    mixing[1] = 1 - mixing[0]
    return KernelField(torch.stack([line(1), line(LONG)]), mixing, (288, 288))


def share(field: KernelField, against: float = 0.0) -> torch.Tensor:
    """The network's share in each block, with so much evidence against it."""
    lengths = log_lengths(field)
    return share_by(torch.cat([lengths, torch.full_like(lengths[:1], against)]))


def test_what_moves_and_what_does_not_is_left_to_the_network() -> None:
    """In the same neighbourhood, windows see mixtures of both; but small things they see better."""
    assert share(striped(10, 8)).min() > 0.99
    assert share(striped(6, 66)).max() == 0
    assert share(striped(72, 0)).max() < 0.1
    assert share(striped(0, 72)).min() == 1


def test_evidence_decides_between_lengths_that_are_neither_short_nor_long() -> None:
    middle = KernelField.uniform(line(13), (288, 288)).with_mixing(torch.ones(1, 72, 72))
    assert float(share(middle, against=2.0).max()) < 0.1
    assert float(share(middle, against=-2.0).min()) > 0.9


def test_evidence_is_against_kernels_that_do_not_agree_with_the_image() -> None:
    blurry, truth = blurfield.simulate(
        np.asarray(camera())[60:400, 60:460], kind="linear", seed=3, min_extent=14, max_extent=15
    )
    grey = LinearImage.from_array(blurry).planes.mean(0)
    cells = torch.ones(1, grey.shape[0] // 4, grey.shape[1] // 4)
    right = truth.with_mixing(cells)
    wrong = KernelField.uniform(line(3, 41), truth.shape).with_mixing(cells)
    against = signs(wrong, right, grey, lambda: None)
    assert against.shape == (3, *log_lengths(wrong).shape[1:])
    torch.testing.assert_close(against[:2], log_lengths(wrong))
    assert float(against[2].min()) > 0.4
    other_way = signs(right, wrong, grey, lambda: None)[2]
    torch.testing.assert_close(other_way, -against[2], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [29, 33, 65])
def test_each_where_it_is_better(asked: Callable[..., list[str]], against: None, size: int) -> None:
    learned = halves(SHORT, LONG)
    asked(learned, windows(LONG, size).with_metadata(weights={"name": "gradients"}))
    before = [values.clone() for values in (learned.basis, learned.mixing)]
    field = estimate_combined(PLANES, progress=lambda *_: None)
    largest = max(size, 33)
    assert field.kernel_size == largest
    torch.testing.assert_close(field.kernel_at(190, 100), line(SHORT, largest))
    torch.testing.assert_close(field.kernel_at(190, 860), line(LONG, largest).T)
    shares = field.metadata["shares"]
    assert shares["compact"] + shares["windowed"] == pytest.approx(1)
    assert 0.2 < shares["compact"] < 0.8
    assert field.metadata["weights"] == WEIGHTS
    assert field.metadata["parameters"] == {"of": "windows"}
    assert float(field.maps["confidence"][0, 0]) == 0.5
    network = field.maps["network"]
    assert float(network.mean()) == pytest.approx(shares["compact"], abs=1e-4)
    assert [float(network[40, column]) for column in (20, -20)] == [1, 0]
    assert all(map(torch.equal, before, (learned.basis, learned.mixing)))


def test_number_of_kernels(asked: Callable[..., list[str]]) -> None:
    asked(halves(SHORT, LONG), windows(LONG, 33))
    field = estimate_combined(PLANES, max_kernels=2, progress=lambda *_: None)
    assert field.num_kernels <= 2


def test_lengths_and_neighbourhoods() -> None:
    uniform = KernelField.uniform(line(7), (400, 300))
    mean, deviation = log_lengths(uniform.with_mixing(torch.ones(1, 100, 75)))
    expected = math.log(math.sqrt((7**2 - 1) / 12) + combined._LEAST_LENGTH)
    assert mean.shape == (13, 10)
    np.testing.assert_allclose(mean, expected, atol=1e-6)
    np.testing.assert_allclose(deviation, 0, atol=1e-3)
    # One block of an image that is smaller than a neighbourhood.
    small = uniform.with_mixing(torch.ones(1, 5, 7))
    assert log_lengths(small).shape == (2, 1, 1)


def test_progress_and_cancelling(asked: Callable[..., list[str]]) -> None:
    asked(halves(SHORT, LONG), windows(LONG, 33))
    reports: list[float] = []
    estimate_combined(
        PLANES, max_kernels=2, progress=lambda done, total, _: reports.append(done / total)
    )
    assert reports == sorted(reports)
    assert 0 == reports[0] < reports[2] < 0.1 < 0.9 < reports[-1] <= 1

    def cancel(done: int, total: int, message: str) -> None:
        if message == "windowed":
            raise Cancelled

    with pytest.raises(Cancelled):
        estimate_combined(PLANES, progress=cancel)


def test_short_blur_of_a_photograph() -> None:
    """The automatic choice, with the weights of the package: better than windows, and at once."""
    image, truth = blurfield.simulate(
        np.asarray(camera())[100:400, 100:420], kind="rotation", seed=2, max_extent=8, noise=0.01
    )
    field = blurfield.estimate(image, kernel_size=None)  # as if left out
    assert field.metadata["model"] == "combined"
    assert field.metadata["shares"]["compact"] > 0.5
    assert "the best of the models installed" in field.metadata["reason"]
    found = blurfield.similarity(field, truth).mean
    assert found > 0.8
    assert found > blurfield.similarity(blurfield.estimate(image, "windowed"), truth).mean
