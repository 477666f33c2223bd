"""Ringing and noise of restored images."""

from __future__ import annotations

import numpy as np
import pytest

from blurfield.evaluation.artefacts import measure_artefacts

#: A step, far from which the image is calm.
STEP = np.where(np.arange(160) < 40, 0.2, 0.8)[None, :, None].repeat(120, 0).repeat(3, 2)
REACH = 12


def noise(deviation: float) -> np.ndarray:
    return deviation * np.random.default_rng(0).standard_normal(STEP.shape)


def waves(amplitude: float) -> np.ndarray:
    """Waves that fade away from the step."""
    distance = np.abs(np.arange(160) - 39.5)
    return (amplitude * np.cos(distance) * np.exp(-3 * distance / REACH))[None, :, None]


def test_perfect_images_have_neither() -> None:
    assert measure_artefacts(STEP, STEP, REACH) == (0, 0)


def test_noise_is_no_ringing() -> None:
    found = measure_artefacts(STEP, STEP + noise(0.02), REACH)
    assert found.noise == pytest.approx(0.02, rel=0.05)
    assert found.ringing < 0.006


def test_ringing_is_no_noise() -> None:
    weak, strong = (measure_artefacts(STEP, STEP + waves(a), REACH) for a in (0.05, 0.1))
    assert strong.ringing == pytest.approx(2 * weak.ringing)
    assert weak.ringing > 0.002
    assert weak.noise < 0.1 * weak.ringing


def test_both_are_told_apart() -> None:
    alone = measure_artefacts(STEP, STEP + waves(0.1), REACH)
    both = measure_artefacts(STEP, STEP + waves(0.1) + noise(0.02), REACH)
    assert both.ringing == pytest.approx(alone.ringing, rel=0.1)
    assert both.noise == pytest.approx(0.02, rel=0.05)


def test_grey_images_and_masks() -> None:
    spoilt = STEP + waves(0.1)
    grey = measure_artefacts(STEP[..., 0], spoilt[..., 0], REACH)
    assert grey == pytest.approx(measure_artefacts(STEP, spoilt, REACH))
    mask = np.ones(STEP.shape[:2])
    mask[:60] = 0
    spoilt[:60] += 0.5
    assert measure_artefacts(STEP, spoilt, REACH, mask).noise < 0.1


def test_texture_says_nothing() -> None:
    texture = np.random.default_rng(0).random((64, 64))
    assert measure_artefacts(texture, texture, 5) == (None, None)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        measure_artefacts(STEP, STEP, 0)
    with pytest.raises(ValueError, match="differ in shape"):
        measure_artefacts(STEP, STEP[1:], 3)
