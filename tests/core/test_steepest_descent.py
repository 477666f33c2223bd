"""Hybrid steepest descent, against figures made by the public code, and as users get it."""

from __future__ import annotations

import math

import pytest
import torch
from conformance import F64, close, img, kern, maps
from through_deblur import check_method
from torch import Tensor
from torch.nn import functional

from blurfield.boundary import extend
from blurfield.field import KernelField
from blurfield.images import decode, encode
from blurfield.operator import BlurOperator
from blurfield.restoration.methods import METHODS
from blurfield.restoration.steepest_descent import (
    VARIANTS,
    hybrid_steepest_descent,
    noise_levels,
    steepest_descent,
)

#: As printed in the specification, in units of 8 bits and before they are halved.
PUBLISHED = [
    49, 42.913, 37.582, 32.913, 28.824, 25.243, 22.107, 19.361, 16.956, 14.849, 13.005, 11.389,
    9.974, 8.735, 7.65,
]  # fmt: skip


def box_denoiser(image: Tensor, sigma: float) -> Tensor:
    """The stand-in of Appendix A.5: some of a 3×3 mean."""
    padded = functional.pad(image[None], (1, 1, 1, 1), mode="replicate")
    return image.lerp(functional.avg_pool2d(padded, 3, stride=1)[0], 2 * sigma)


def test_conformance_a5():
    field = KernelField(kern(4, 9), maps(4, 40, 36))
    operator = BlurOperator(field, boundary="valid")
    blurry = operator.forward(extend(img(3, 40, 36), 4, "reflect")).clamp(0, 1)
    before = blurry.clone()
    levels = noise_levels(30, 15, 49 / 510, 7.65 / 510)
    extended, energies = hybrid_steepest_descent(blurry, operator, box_denoiser, levels)
    assert extended.dtype == F64
    assert extended.shape == (3, 48, 44)
    assert torch.equal(blurry, before)
    assert len(energies) == 30
    assert close(energies[0], 1.9480117898e-3)
    assert close(energies[1], 1.1493243698e-3)
    assert close(energies[29], 1.943572337e-5)
    sharp = extended[:, 4:-4, 4:-4].clamp(0, 1)
    assert close(sharp.mean(), 5.128241209007e-1)
    assert close(sharp.square().sum(), 1.352788762573e3)
    assert close(sharp[0, 0, 0], 8.344605579361e-1)
    assert close(sharp[1, 20, 17], 4.509511644354e-1)
    assert close(sharp[2, 39, 35], 8.385775061538e-1)


def test_published_levels():
    levels = noise_levels(30, 15, 49 / 510, 7.65 / 510)
    assert levels[0::2] == [None] * 15
    assert [510 * level for level in levels[1::2]] == pytest.approx(PUBLISHED, abs=6e-4)


@pytest.mark.parametrize(("iterations", "calls"), [(31, 15), (7, 15), (1, 15), (120, 15)])
def test_levels_of_other_numbers(iterations, calls):
    levels = noise_levels(iterations, calls, 0.2, 0.1)
    called = [level for level in levels if level is not None]
    assert len(levels) == iterations
    assert len(called) <= calls
    assert levels[-1] == pytest.approx(0.1)
    assert called == sorted(called, reverse=True)


def colours(height: int, width: int) -> Tensor:
    """Patches of plain colours with sharp outlines."""
    c = torch.arange(3.0)[:, None, None]
    y, x = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    return 0.4 + 0.2 * torch.tanh(3 * torch.sin(0.4 * x + 0.2 * y + c) * torch.cos(0.25 * y - c))


FIELD = KernelField(kern(4, 7), maps(4, 58, 66)).to("cpu", torch.float32)


def scene(noise: float = 0.01, gamma: float = 2.2) -> tuple[Tensor, Tensor]:
    """A sharp image and what a camera makes of it, both in linear light."""
    wide = colours(64, 72)
    blurry = encode(BlurOperator(FIELD, boundary="valid").forward(wide), gamma)
    blurry += noise * torch.randn(blurry.shape, generator=torch.Generator().manual_seed(0))
    return wide[:, 3:-3, 3:-3], decode(blurry.clamp(0, 1), gamma)


def psnr(image: Tensor, sharp: Tensor) -> float:
    difference = encode(image.clamp(0, 1), 2.2) - encode(sharp, 2.2)
    return -10 * math.log10(float(difference.square().mean()))


def test_linear_light_is_better_than_stored_values():
    """The blur of a scene holds in linear light, so the default is the best here."""
    sharp, blurry = scene()
    before = blurry.clone()
    gained = {}
    for variant in VARIANTS:
        result, info = steepest_descent(blurry, FIELD, variant=variant, gamma=2.2)
        assert result.shape == sharp.shape
        assert result.min() >= 0
        gained[variant] = psnr(result, sharp) - psnr(blurry, sharp)
        assert info["iterations"] == (120 if variant == "linear" else 30)
    assert torch.equal(blurry, before)
    assert gained["linear"] > 3
    assert gained["linear"] > max(gained["published"], gained["paper"]) + 1
    assert min(gained.values()) > 0.3


@pytest.mark.parametrize(
    ("variant", "last"), [("published", 7.65 / 510), ("paper", math.sqrt(7.65) / 255)]
)
def test_last_noise_level(variant, last):
    _, blurry = scene()
    options = {"variant": variant, "gamma": 2.2, "iterations": 2}
    assert steepest_descent(blurry, FIELD, **options)[1]["noise_level"] == pytest.approx(last)
    _, info = steepest_descent(blurry, FIELD, smoothing=0.25, **options)
    assert info["noise_level"] == pytest.approx(last / 2)


def test_noisy_images_are_smoothed_more():
    levels = [
        steepest_descent(scene(noise)[1], FIELD, gamma=2.2, iterations=1)[1]["noise_level"]
        for noise in (0.0, 0.02, 0.06)
    ]
    assert levels[0] < levels[1] < levels[2]
    assert levels[2] == pytest.approx(0.12, rel=0.2)


def test_no_smoothing():
    """Without noise to remove, the steps alone remain."""
    _, blurry = scene(gamma=1)
    result, info = steepest_descent(blurry, FIELD, smoothing=0.0, iterations=40)
    assert info["unexplained"] == 0
    assert info["noise_level"] == 0
    operator = BlurOperator(FIELD, boundary="valid")
    expected, _ = hybrid_steepest_descent(blurry, operator, box_denoiser, [None] * 40, step=1.0)
    torch.testing.assert_close(result, expected[:, 3:-3, 3:-3].clamp_min(0))


def test_grey():
    """A grey image is restored like three equal colours."""
    sharp, blurry = scene()
    grey, _ = steepest_descent(blurry[:1], FIELD, gamma=2.2, variant="published")
    three, _ = steepest_descent(blurry[:1].expand(3, -1, -1), FIELD, gamma=2.2, variant="published")
    torch.testing.assert_close(grey, three.mean(0, keepdim=True), rtol=0, atol=0.02)
    assert psnr(grey, sharp[:1]) > psnr(blurry[:1], sharp[:1])


def test_dense_field():
    _, blurry = scene()
    dense = KernelField(
        torch.eye(49).reshape(49, 7, 7),
        torch.einsum("bk,bhw->khw", FIELD.basis.flatten(1), FIELD.full_mixing()),
    )
    options = {"gamma": 2.2, "iterations": 12}
    expected, _ = steepest_descent(blurry, FIELD, **options)
    result, _ = steepest_descent(blurry, dense, **options)
    torch.testing.assert_close(result, expected, rtol=0, atol=0.02)


def test_clipped_light():
    """A light that the sensor cannot tell the brightness of is not held against the estimate."""
    wide = torch.full((3, 64, 72), 0.3)
    wide[:, 28:36, 28:36] = 1.8
    sharp = wide[:, 3:-3, 3:-3]
    blurry = BlurOperator(FIELD, boundary="valid").forward(wide).clamp(max=1)
    result, info = steepest_descent(blurry, FIELD, gamma=2.2)
    assert info["unexplained"] < 0.1
    assert result.max() > 1.1
    outside = sharp < 1
    error = (result - sharp)[outside].square().mean()
    assert error < 0.3 * (blurry - sharp)[outside].square().mean()


def test_a_wrong_field_gives_the_image_back():
    sharp, blurry = scene()
    _, right = steepest_descent(blurry, FIELD, gamma=2.2)
    assert right["unexplained"] < 0.1
    result, wrong = steepest_descent(sharp, FIELD, gamma=2.2, iterations=30)
    assert wrong["unexplained"] > 0.3
    published, facts = steepest_descent(sharp, FIELD, gamma=2.2, variant="published")
    assert "unexplained" not in facts
    assert (result - sharp).square().mean() < (published - sharp).square().mean()


def test_through_deblur_and_cancelled():
    assert METHODS["steepest-descent"].installed
    _, blurry = scene()
    info = check_method("steepest-descent", blurry, FIELD, 4, iterations=4, checkpoint="denoiser")
    assert info["variant"] == "linear"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "best"}, r"'best'.*linear, published, paper"),
        ({"iterations": 0}, "iterations must be a whole number ≥ 1, but is 0"),
        ({"iterations": 2.5}, "2.5"),
        ({"smoothing": -1}, "smoothing"),
        ({"checkpoint": "nowhere"}, "'nowhere'"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ValueError, match=message):
        steepest_descent(scene()[1], FIELD, **options)
