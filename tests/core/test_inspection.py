"""The kernel of one pixel, and files of it."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

import blurfield
from blurfield import KernelField
from blurfield.inspection import inspect_kernel
from blurfield.kernel_files import read_kernel, write_kernel
from blurfield.measure import motion_features


@pytest.fixture
def shaken() -> KernelField:
    _, truth = blurfield.simulate(np.zeros((60, 80)), kind="rotation", seed=2, max_extent=15)
    return truth


def test_facts_are_those_of_the_whole_field(shaken: KernelField) -> None:
    facts = inspect_kernel(shaken, 30.4, 39.6)
    assert (facts.y, facts.x) == (30, 40)
    np.testing.assert_array_equal(facts.psf, shaken.kernel_at(30, 40).numpy()[::-1, ::-1])
    assert facts.extent == pytest.approx(blurfield.blur_extent(shaken)[30, 40], rel=1e-4)
    assert facts.norm == pytest.approx(1 - blurfield.blur_score(shaken)[30, 40], rel=1e-4)
    assert facts.uncertainty is None
    middle = motion_features(KernelField.uniform(shaken.kernel_at(30, 40), (9, 9)), spacing=9)
    assert facts.angle == middle["angle"][0]
    assert facts.anisotropy == middle["anisotropy"][0]


def test_uncertainty_is_read_where_the_kernel_is() -> None:
    kernel = np.zeros((5, 5))
    kernel[:, 2] = 0.2
    maps = {"uncertainty": np.linspace(0, 1, 10)[None] * np.ones((8, 1))}
    field = KernelField.uniform(kernel, (8, 10), maps=maps)
    assert inspect_kernel(field, 3, 9).uncertainty == pytest.approx(1)
    facts = inspect_kernel(field, 3, 0)
    assert facts.uncertainty == 0
    assert (facts.extent, facts.angle) == pytest.approx((5, 90))
    assert facts.physical_extent((0.5, 0.1)) == pytest.approx(2.5)


@pytest.mark.parametrize("point", [(-0.6, 3), (59.5, 3), (3, 79.5), (np.nan, 3)])
def test_outside_is_an_error(shaken: KernelField, point: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="outside the image"):
        inspect_kernel(shaken, *point)


def test_a_kernel_for_each_pixel_is_read_within_a_frame() -> None:
    basis = torch.eye(361).reshape(361, 19, 19)
    mixing = torch.full((361, 128, 128), 1 / 361)
    field = KernelField(basis, mixing, (512, 512))
    inspect_kernel(field, 0, 0)
    started = time.perf_counter()
    for i in range(10):
        inspect_kernel(field, 30.0 * i, 20.0 * i)
    assert (time.perf_counter() - started) / 10 < 1 / 30


@pytest.mark.parametrize("suffix", [".npy", ".tif", ".png", ".csv"])
def test_kernels_are_read_again(shaken: KernelField, tmp_path, suffix: str) -> None:
    facts = inspect_kernel(shaken, 30, 40)
    path = write_kernel(tmp_path / f"kernel{suffix}", facts.psf)
    again = read_kernel(path, centre=False).numpy()
    tolerance = 1e-5 if suffix == ".png" else 1e-8
    np.testing.assert_allclose(again, shaken.kernel_at(30, 40).numpy(), atol=tolerance)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("name", "psf", "words"),
    [
        ("k.jpg", np.eye(3), r"'\.jpg' is not one of"),
        ("k.npy", np.zeros(3), "two axes"),
        ("k.csv", -np.eye(3), "values ≥ 0"),
        ("k.tif", np.zeros((3, 3)), "not all of them 0"),
        ("k.png", np.full((3, 3), np.nan), "values ≥ 0"),
    ],
)
def test_what_is_no_kernel_is_not_written(tmp_path, name: str, psf, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        write_kernel(tmp_path / name, psf)
    assert not list(tmp_path.iterdir())
