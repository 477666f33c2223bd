"""How far to go towards images that were restored with estimated fields."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from drawings import photograph
from torch import Tensor

import blurfield
from blurfield import KernelField
from blurfield.estimation.shares import with_shares
from blurfield.evaluation.fidelity import psnr
from blurfield.operator import BlurOperator
from blurfield.restoration.estimated import (
    NETWORK_TRUST,
    TRUST,
    doubt_by,
    doubt_in_estimate,
    judge,
    sharp_share,
)
from blurfield.restoration.estimated import evidence as find_evidence
from blurfield.restoration.methods import is_estimated
from blurfield.restoration.mirror import mirror_evidence
from blurfield.restoration.noise import NoiseModel
from blurfield.restoration.trust import give_back
from blurfield.windows import Windows

SIDE = 96
NOISE = NoiseModel(0.0, 1e-5)
WINDOWS = Windows.on((SIDE, SIDE), 64, 32, 100)


def hook(size: int = 9) -> Tensor:
    """A kernel that is unlike its mirror image: most light at one end of a bent line."""
    kernel = torch.zeros(size, size)
    kernel[1, 1:8] = torch.tensor([6.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0])
    kernel[2:8, 7] = 0.5
    return kernel / kernel.sum()


def field(kernel: Tensor, **metadata: Any) -> KernelField:
    return KernelField.uniform(kernel, (SIDE, SIDE), metadata)


def scene() -> tuple[Tensor, Tensor]:
    """Sharp and blurry image in linear light, (1, H, W)."""
    sharp = torch.from_numpy(photograph(SIDE)).permute(2, 0, 1).float().div(255).mean(0)[None]
    clean = BlurOperator(field(hook())).forward(sharp)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    return sharp, clean + NOISE.floor**0.5 * noise


def nothing() -> None:
    pass


def evidence(kernel: Tensor) -> Tensor:
    return mirror_evidence(scene()[1][0], field(kernel), NOISE, WINDOWS, nothing)


def doubt(sharp: Tensor, kernel: Tensor, misfit: float = 1.0, smoothing: float = 1.0) -> Tensor:
    blurry = scene()[1]
    return judge(
        sharp,
        blurry,
        torch.full_like(blurry, misfit),
        NOISE,
        field(kernel),
        smoothing=smoothing,
        poll=nothing,
    ).doubt


def test_who_guesses() -> None:
    assert is_estimated(field(hook(), model="windowed"))
    assert not is_estimated(field(hook(), model="simulation"))
    assert not is_estimated(field(hook()))


def test_mirror_images_are_told_apart() -> None:
    right = evidence(hook())
    assert right.shape == (4,)
    assert float(right.min()) > 0.03
    torch.testing.assert_close(evidence(hook().flip(-2, -1)), -right, rtol=1e-3, atol=1e-5)


def test_symmetric_kernels_have_no_mirror_image() -> None:
    symmetric = (hook() + hook().flip(-2, -1)) / 2
    assert float(evidence(symmetric).abs().max()) < 1e-4


def test_windows_are_judged_by_the_kernel_in_their_middle() -> None:
    mixing = torch.zeros(2, 1, SIDE)
    mixing[0, :, : SIDE // 2] = 1
    mixing[1] = 1 - mixing[0]
    halves = KernelField(torch.stack([hook(), hook().flip(-2, -1)]), mixing, (SIDE, SIDE))
    found = mirror_evidence(scene()[1][0], halves, NOISE, WINDOWS, nothing)
    left, right = found[0::2], found[1::2]
    assert float(left.min()) > 0 > float(right.max())


def test_right_results_are_doubted_less() -> None:
    sharp, blurry = scene()
    wrong = blurry + 3 * (blurry - sharp)  # as far from the blurry image, or farther, but not there
    trusted, doubted = doubt(sharp, hook()), doubt(wrong, hook().flip(-2, -1))
    assert trusted.shape == (1, SIDE, SIDE)
    assert float(trusted.mean()) < 0.3
    assert float(doubted.mean()) > 0.9


@pytest.mark.parametrize(("misfit", "change"), [(2.0, 1.0), (1.0, 3.0)])
def test_residuals_and_great_changes_raise_doubt(misfit: float, change: float) -> None:
    sharp, blurry = scene()
    base = doubt(sharp, hook())
    assert bool((doubt(blurry + change * (sharp - blurry), hook(), misfit) > base).all())


def test_crisp_images_need_fewer_reasons() -> None:
    sharp = scene()[0]
    crisp, usual, calm = (doubt(sharp, hook(), 2.0, s).mean() for s in (0.25, 1, 4))
    assert crisp < usual < calm
    none = doubt_in_estimate(
        sharp,
        scene()[1],
        torch.full_like(sharp, 5.0),
        NOISE,
        field(hook()),
        smoothing=0,
        poll=nothing,
    )
    assert float(none.max()) == 0


def found_with(noise: float, channels: int = 1) -> Tensor:
    """Evidence, (6, N), with a standard deviation of the noise of each channel."""
    sharp, blurry = scene()
    misfit, model = torch.ones_like(blurry), NoiseModel(0.0, noise**2)
    return find_evidence(sharp, blurry, misfit, model, field(hook()), WINDOWS, channels, nothing)


def test_little_noise_raises_doubt() -> None:
    """From 0.5 % to about 1 % of white; more does not make estimates better."""
    levels = [found_with(noise)[3].exp() for noise in (0.0, 0.005, 0.01, 0.0115, 0.1)]
    for level, expected in zip(levels, (0.5, 0.5, 1, 1.15, 1.15), strict=True):
        torch.testing.assert_close(level, torch.full_like(level, expected))
    found = found_with(0.01)
    doubts = []
    for level in levels:
        found[3] = level.log()
        doubts.append(doubt_by(found, WINDOWS, 1.0).mean())
    assert doubts[1] > doubts[2] > doubts[3]


def test_fine_details_taken_for_noise_are_no_evidence() -> None:
    sharp = scene()[0]
    low, lower = (doubt(sharp, hook(), misfit) for misfit in (0.4, 0.01))
    assert torch.allclose(low, lower)


def test_beside_what_is_sharp_nothing_is_trusted() -> None:
    no_blur = torch.zeros(9, 9)
    no_blur[4, 4] = 1
    mixing = torch.zeros(2, 4, 12)
    mixing[1] = 1
    mixing[:, :, 9:] = torch.tensor([0.9, 0.1])[:, None, None]
    part = KernelField(torch.stack([no_blur, hook()]), mixing, (96, 288))
    windows = Windows.on((96, 288), 96, 48, 100)
    still = sharp_share(part, windows)
    assert still.shape == (5,)
    assert float(still[:3].max()) == 0
    assert still[3:].tolist() == pytest.approx([0.22, 0.68], abs=0.05)
    found = torch.zeros(6, 5)
    found[1] = 0.5
    plain = doubt_by(found, windows, 1.0)
    found[4] = still
    aware = doubt_by(found, windows, 1.0)
    assert torch.allclose(aware[..., :80], plain[..., :80])
    assert float(aware[..., 240:].min()) > float(plain[..., 240:].max()) + 0.2


def test_kernels_of_a_network_are_trusted_otherwise() -> None:
    """By its own constants, as far as they are the network's: residuals say less against them."""
    found = torch.zeros(6, len(WINDOWS.centres()))
    found[:2] = 1
    doubts = {}
    for share in (0.0, 0.5, 1.0):
        found[5] = share
        doubts[share] = doubt_by(found, WINDOWS, 1.0)
    torch.testing.assert_close(doubts[0.0], doubt_by(found, WINDOWS, 1.0, network=TRUST))
    found[5] = 0
    torch.testing.assert_close(doubts[1.0], doubt_by(found, WINDOWS, 1.0, NETWORK_TRUST))
    assert bool((doubts[1.0] < doubts[0.5]).all())
    assert bool((doubts[0.5] < doubts[0.0]).all())


def test_residuals_far_below_the_noise_speak_against_a_network() -> None:
    """Nothing that is blurred has such: fine details were taken for noise."""
    found = torch.zeros(6, len(WINDOWS.centres()))
    found[1], found[5] = 0.5, 1
    doubts = []
    for misfit in (0.0, -1.0, -1.5, -3.0):
        found[0] = misfit
        doubts.append(float(doubt_by(found, WINDOWS, 1.0).mean()))
    assert doubts[1] <= doubts[0] < 0.2
    assert doubts[1] < doubts[2] < doubts[3]
    assert doubts[3] > 0.9


def test_whose_kernels_they_are() -> None:
    sharp, blurry = scene()
    plain = field(hook(), model="windowed")
    halves = torch.zeros(1, SIDE)
    halves[:, SIDE // 2 :] = 1
    for of, expected in (
        (plain, [0.0, 0.0]),
        (field(hook(), model="compact"), [1.0, 1.0]),
        (with_shares(plain, halves), [0.25, 0.75]),
    ):
        found = find_evidence(
            sharp, blurry, torch.ones_like(blurry), NOISE, of, WINDOWS, 1, nothing
        )
        assert found[5, :2].tolist() == pytest.approx(expected)


def test_restoration_that_brings_back_less_than_blur_takes_raises_doubt() -> None:
    found = torch.zeros(6, len(WINDOWS.centres()))
    doubts = []
    for amplification in (0.75, 0.5, 0.0, -0.5):
        found[1] = amplification
        doubts.append(float(doubt_by(found, WINDOWS, 1.0).mean()))
    usual, least, sharper, sharp = doubts
    assert least < usual  # by what restoration changes too much
    assert least < sharper < sharp
    assert sharp > 0.99


@pytest.mark.parametrize("method", ["richardson-lucy", "tikhonov"])
def test_sharp_images_with_much_noise_are_left_alone(method: str) -> None:
    """Their details are below the noise, so that residuals do not tell that nothing is blurred."""
    sharp = photograph(SIDE) / 255.0
    noise = np.random.default_rng(0).normal(0, 0.03, sharp.shape)
    noisy = (sharp + noise).clip(0, 1)
    soft = torch.zeros(9, 9)  # what is found for such images
    soft[3:6, 3:6] = torch.tensor([1.0, 2.0, 1.0]).outer(torch.tensor([1.0, 2.0, 1.0])) / 16
    careful = blurfield.deblur(noisy, field(soft, model="windowed"), method, gamma=2.2)
    certain = blurfield.deblur(noisy, field(soft), method, gamma=2.2)
    before, after, worst = (psnr(sharp, image) for image in (noisy, careful, certain))
    assert worst < before - 1
    assert after > before - 0.2


def test_channels_are_noisier_than_their_mean() -> None:
    torch.testing.assert_close(found_with(0.01)[:3], found_with(0.01 * 3**0.5, 3)[:3])


def test_only_estimates_are_doubted_without_residuals() -> None:
    sharp, blurry = scene()
    symmetric = (hook() + hook().flip(-2, -1)) / 2
    known, shared = give_back(sharp, blurry, blurry, NOISE, field(symmetric))
    torch.testing.assert_close(known, sharp)
    assert shared == 0
    guessed, shared = give_back(sharp, blurry, blurry, NOISE, field(symmetric, model="windowed"))
    assert 0 < shared < 1
    between = (guessed - sharp) * (blurry - guessed)
    assert float(between.min()) >= -1e-6


def test_parts_are_judged_like_the_whole() -> None:
    grey = torch.from_numpy(photograph(240)).permute(2, 0, 1).float().div(255).mean(0)[None]
    mixing = torch.zeros(2, 1, 240)
    mixing[0, 0] = torch.linspace(0, 1, 240)
    mixing[1] = 1 - mixing[0]
    whole = KernelField(torch.stack([hook(), hook().T]), mixing, (240, 240))
    blurry = BlurOperator(whole).forward(grey)
    part = whole.crop((0, 41), (240, 199)).with_metadata(origin=[0, 41])
    found, local = (
        judge(
            grey[..., start:],
            blurry[..., start:],
            torch.ones_like(grey[..., start:]),
            NOISE,
            of,
            smoothing=3000.0,  # so that neither image is taken as it is
            poll=nothing,
        ).doubt
        for of, start in ((whole, 0), (part, 41))
    )
    inner = 8 * hook().shape[-1]
    torch.testing.assert_close(local[..., inner:], found[..., 41 + inner :], rtol=0, atol=1e-3)
    assert float(found.std()) > 0.01


def test_flat_images() -> None:
    flat = torch.full((1, SIDE, SIDE), 0.5)
    result = doubt_in_estimate(
        flat, flat, torch.zeros_like(flat), NOISE, field(hook()), smoothing=1.0, poll=nothing
    )
    assert bool(torch.isfinite(result).all())


@pytest.mark.parametrize(
    ("method", "dtype"),
    [
        ("plug-and-play", "uint8"),
        ("plug-and-play", "float32"),
        ("richardson-lucy", "uint8"),
        ("tikhonov", "uint8"),
    ],
)
def test_known_fields_explain_images_without_noise(method: str, dtype: str) -> None:
    image = photograph(SIDE)
    image = image if dtype == "uint8" else (image / 255).astype(dtype)
    blurry, truth = blurfield.simulate(image, max_extent=13, seed=1, noise=0)
    sharp, info = blurfield.deblur(blurry, truth, method, return_info=True)
    assert info["unexplained"] < 0.02
    before, after = (((x.astype(float) - image) ** 2).mean() for x in (blurry, sharp))
    assert after < 0.5 * before


def test_methods_ask_whether_a_field_was_guessed() -> None:
    blurry, truth = blurfield.simulate(photograph(SIDE), max_extent=9, seed=1)
    guessed = truth.with_metadata(model="windowed")
    for method in ("richardson-lucy", "tikhonov"):
        shares = [
            blurfield.deblur(blurry, of, method, iterations=5, return_info=True)[1]["unexplained"]
            for of in (truth, guessed)
        ]
        assert shares[0] < 0.01 < shares[1], method
