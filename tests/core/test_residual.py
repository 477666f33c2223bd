"""What a restored image leaves unexplained."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.data import astronaut

import blurfield
from blurfield.residual import reblur_residual


@pytest.fixture(scope="module")
def scene():
    sharp = astronaut()[100:164, 200:280]
    blurry, truth = blurfield.simulate(sharp, kind="linear", max_extent=9, seed=1, noise=0)
    return sharp, blurry, truth


def test_the_truth_leaves_rounding_only(scene) -> None:
    sharp, blurry, truth = scene
    found = reblur_residual(sharp, blurry, truth)
    assert found.image.shape == sharp.shape
    assert found.image.dtype == np.float32
    assert found.rms < 0.5
    assert found.psnr == pytest.approx(20 * np.log10(255 / found.rms))


def test_what_is_too_bright_is_above_zero(scene) -> None:
    sharp, blurry, truth = scene
    found = reblur_residual(sharp, (blurry * 0.5).astype(np.uint8), truth)
    np.testing.assert_allclose(
        found.image.mean(), blurry.astype(float).mean() / 2, atol=1, rtol=0.02
    )


def test_float_and_alpha(scene) -> None:
    sharp, blurry, truth = scene
    alpha = np.full((*sharp.shape[:2], 1), 7, np.uint8)
    with_alpha = np.concatenate([sharp, alpha], axis=2)
    found = reblur_residual(with_alpha, blurry, truth)
    assert found.image.shape == sharp.shape
    scaled = reblur_residual(sharp / 255, blurry / 255, truth, gamma=2.2)
    assert scaled.white == 1
    assert scaled.psnr == pytest.approx(found.psnr, rel=1e-3)


def test_channels_may_come_first(scene) -> None:
    sharp, blurry, truth = scene
    first = reblur_residual(
        np.moveaxis(sharp, 2, 0), np.moveaxis(blurry, 2, 0), truth, channel_axis=0
    )
    last = reblur_residual(sharp, blurry, truth)
    np.testing.assert_array_equal(np.moveaxis(first.image, 0, 2), last.image)
    assert first.rms == last.rms


def test_nothing_left_is_infinite(scene) -> None:
    flat = np.full((40, 50), 0.5, np.float32)
    field = blurfield.KernelField.uniform(np.full((1, 1), 1.0), (40, 50))
    assert reblur_residual(flat, flat, field).psnr == np.inf


def test_images_have_to_match(scene) -> None:
    sharp, blurry, truth = scene
    with pytest.raises(ValueError, match="same colours"):
        reblur_residual(sharp[..., 0], blurry, truth)


@pytest.mark.parametrize("kind", ["segments", "object", "linear"])
def test_simulation_can_be_stopped(kind: str) -> None:
    def stop(done: int, total: int, message: str) -> None:
        raise blurfield.Cancelled

    with pytest.raises(blurfield.Cancelled):
        blurfield.simulate(np.zeros((48, 64)), kind=kind, max_extent=9, progress=stop)


def test_simulation_tells_how_far_it_is() -> None:
    told = []
    blurfield.simulate(np.zeros((48, 64)), max_extent=9, progress=lambda *now: told.append(now))
    assert told[0] == (0, 2, "Drawing the blur")
    assert told[-1] == (2, 2, "Blurring")
