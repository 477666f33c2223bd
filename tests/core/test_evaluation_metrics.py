"""PSNR, structural similarity, average precision and whole protocols."""

from __future__ import annotations

import itertools
import math
import sys

import numpy as np
import pytest
from conformance import close, img

from blurfield.evaluation import (
    align_homography,
    average_precision,
    compare,
    intensity_factor,
    psnr,
    register,
    ssim,
    ssim_3d,
    unit_values,
)


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Images a and b of appendix A.13."""
    a = img(3, 40, 36).permute(1, 2, 0).numpy()
    y = np.arange(40.0)[:, None, None]
    return a, np.clip(0.9 * a + 0.05 * np.cos(y), 0, 1)


def eight_bits(values: np.ndarray) -> np.ndarray:
    return np.rint(values * 255).astype(np.uint8)


def texture(height: int, width: int, channels: int = 3) -> np.ndarray:
    """A band-limited image, (H, W, C) in [0, 1]."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(0).random((height, width, channels))
    smooth = gaussian_filter(noise, (2, 2, 0))
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


def test_conformance_of_plain_metrics(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    factor = intensity_factor(a, b)
    assert close(psnr(a, b), 23.754624510699)
    assert close(factor, 1.102058562070)
    assert close(psnr(a, factor * b), 28.149616962059)
    assert close(ssim(a, b), 0.918427704950)
    assert close(ssim(a, b, crop=0), 0.913520553817)


def test_conformance_of_8_bit_metrics(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, z = (unit_values(eight_bits(values)) for values in pair)
    assert close(psnr(x, z), 23.755466912417)
    assert close(ssim_3d(x, z), 0.959760893090)
    figures = compare(*pair, "ufpnet")
    assert close(figures["psnr"], 23.755466912417)
    assert close(figures["ssim"], 0.959760893090)


def test_plain_protocol_takes_any_number_type(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    figures = compare(a, b)
    assert figures["protocol"] == "plain"
    assert close(figures["psnr"], 23.754624510699)
    assert close(figures["ssim"], 0.918427704950)
    whole = compare(eight_bits(a), eight_bits(b))
    assert whole["psnr"] == pytest.approx(23.755466912417)
    alpha = np.zeros((40, 36, 1), np.uint8)
    with_alpha = np.concatenate([eight_bits(a), alpha], axis=2)
    assert compare(with_alpha, eight_bits(b)) == whole


def test_psnr_is_its_definition() -> None:
    truth = np.zeros((4, 5))
    assert psnr(truth, truth + 0.1) == pytest.approx(20)
    assert psnr(truth, truth) == math.inf
    image, mask = truth.copy(), np.zeros((4, 5))
    image[0], image[1], mask[1] = 1, 0.1, 1
    assert psnr(truth, image, mask) == pytest.approx(20)
    with pytest.raises(ValueError, match="0 everywhere"):
        psnr(truth, image, 0 * mask)


def test_mask_weighs_similarity(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    spoilt = b.copy()
    spoilt[:12] = 0
    mask = np.ones(a.shape[:2])
    mask[:18] = 0  # the window reaches five pixels beyond what it judges
    assert ssim(a, spoilt, mask) == pytest.approx(ssim(a, b, mask), abs=1e-12)
    assert ssim(a, spoilt) < ssim(a, b) - 0.1


def test_grey_is_compared_with_colour(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    grey = b[..., 0]
    stacked = np.stack([grey] * 3, axis=-1)
    assert compare(a, grey) == compare(a, stacked)
    assert compare(grey, grey, "ufpnet")["ssim"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("truth", "image", "protocol", "complaint"),
    [
        (np.zeros((20, 20)), np.zeros((20, 21)), "plain", "differ in shape"),
        (np.zeros((20, 20)), np.zeros((20, 20)), "best", "known: plain, ecc, ufpnet"),
        (np.zeros((10, 20)), np.zeros((10, 20)), "plain", "at least 11×11"),
        (np.zeros((20, 20)), np.full((20, 20), np.nan), "plain", "400 NaN"),
        (np.zeros((2, 20, 20)), np.zeros((20, 20)), "plain", "must be"),
    ],
)
def test_bad_pairs_are_refused(
    truth: np.ndarray, image: np.ndarray, protocol: str, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        compare(truth, image, protocol)


def test_unusable_numbers_are_refused() -> None:
    with pytest.raises(TypeError, match="int32"):
        unit_values(np.zeros((8, 8), np.int32))
    with pytest.raises(ValueError, match="need"):
        ssim_3d(np.zeros((8, 8)), np.zeros((8, 8)))


def test_ecc_undoes_brightness_and_a_homography() -> None:
    pytest.importorskip("cv2")
    from skimage.transform import ProjectiveTransform, warp

    truth = texture(160, 200)
    matrix = np.array([[1.001, 0.001, 1.3], [-0.001, 0.999, -1.7], [0, 1e-6, 1]])
    image = 0.8 * warp(truth, ProjectiveTransform(matrix), order=3, mode="reflect")
    aligned = align_homography(image, truth)
    assert aligned.converged
    np.testing.assert_allclose(aligned.matrix @ matrix, np.eye(3), atol=0.2)
    figures = compare(truth, image, "ecc")
    assert figures["aligned"]
    assert figures["psnr"] > 38 > 20 > compare(truth, image)["psnr"]
    assert figures["ssim"] > 0.95
    # The intensity is matched before the alignment, and so not quite.
    assert figures["intensity_factor"] == pytest.approx(1.25, rel=0.05)


def test_ecc_without_anything_to_align_stays_in_place() -> None:
    pytest.importorskip("cv2")
    truth = texture(40, 50)
    figures = compare(truth, np.full_like(truth, 0.5), "ecc")
    assert not figures["aligned"]
    assert figures["homography"] == np.eye(3).tolist()
    assert figures["psnr"] == pytest.approx(psnr(truth, np.full_like(truth, truth.mean())))


def test_missing_opencv_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    truth = texture(40, 50)
    with pytest.raises(ValueError, match=r"napari-blurfield\[evaluate\]"):
        compare(truth, truth, "ecc")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("move", [(3.0, -2.0), (-0.4, 1.3)])
def test_registration_finds_translations(move: tuple[float, float], channels: int) -> None:
    from scipy.ndimage import shift

    truth = texture(90, 110, channels)
    image = shift(truth, (-move[0], -move[1], 0), order=3, mode="nearest")
    if channels == 1:
        truth, image = truth[..., 0], image[..., 0]
    found = register(image, truth, border=6)
    np.testing.assert_allclose(found.shift, move, atol=0.02)
    assert found.image.shape == found.truth.shape == (66, 86, channels)[: truth.ndim]
    assert psnr(found.truth, found.image) > 45 > 30 > psnr(truth, image)


def test_registration_keeps_within_reach() -> None:
    truth = texture(90, 110)
    image = np.roll(truth, (7, 0), (0, 1))
    assert max(map(abs, register(image, truth, border=6, reach=3).shift)) <= 4
    np.testing.assert_allclose(register(image, truth, border=6, reach=9).shift, (-7, 0), atol=0.02)
    with pytest.raises(ValueError, match="too small"):
        register(image, truth, border=19)


def test_average_precision_is_its_definition() -> None:
    generator = np.random.default_rng(1)
    mask = generator.random(40) < 0.3
    scores = generator.integers(0, 8, 40) / 8 + 0.2 * mask  # with ties
    expected, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = scores >= threshold
        hits = (taken & mask).sum()
        expected += (hits / mask.sum() - recall) * hits / taken.sum()
        recall = hits / mask.sum()
    assert average_precision(mask, scores) == pytest.approx(expected)


def test_average_precision_of_known_cases() -> None:
    mask = np.array([[0, 255], [1, 0]])
    assert average_precision(mask, [[0.1, 0.9], [0.8, 0.2]]) == 1
    assert average_precision(mask, np.zeros((2, 2))) == 0.5
    # Whatever the order of equal scores.
    values = {
        average_precision(np.array(order), [0.5, 0.5, 0.5, 0.1])
        for order in itertools.permutations([1, 0, 0])
        for order in [[*order, 1]]
    }
    assert len(values) == 1
    with pytest.raises(ValueError, match="nothing to be found"):
        average_precision(np.zeros(3), np.ones(3))
    with pytest.raises(ValueError, match="shape"):
        average_precision(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match="1 scores are NaN"):
        average_precision(np.ones(2), [0.0, np.nan])
