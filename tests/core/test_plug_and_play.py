"""Plug-and-play restoration: quality, light that clips, channels, options, cancelling."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from blurfield import BlurOperator, Cancelled, KernelField, deblur, simulate
from blurfield.restoration.denoisers import Denoiser
from blurfield.restoration.noise import NoiseModel
from blurfield.restoration.plug_and_play import plug_and_play
from blurfield.simulation import camera_shake_kernels, photograph


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((a.astype(float) - b.astype(float)) ** 2) / 255**2))


@cache
def astronaut() -> np.ndarray:
    from skimage.data import astronaut

    return np.ascontiguousarray(astronaut()[10:122, 150:262])


@cache
def shaken(kind: str = "segments", noise: float = 0.01) -> tuple[np.ndarray, KernelField]:
    return simulate(astronaut(), kind=kind, seed=2, max_extent=21, min_extent=15, noise=noise)


@cache
def restored(kind: str = "segments", noise: float = 0.01) -> tuple[np.ndarray, dict[str, Any]]:
    return deblur(*shaken(kind, noise), method="plug-and-play", return_info=True)


@pytest.mark.parametrize(("kind", "noise"), [("segments", 0.01), ("rotation", 0.03)])
def test_better_than_richardson_lucy(kind: str, noise: float) -> None:
    blurry, field = shaken(kind, noise)
    classical = psnr(deblur(blurry, field, method="richardson-lucy"), astronaut())
    assert classical > psnr(blurry, astronaut()) + 3
    assert psnr(restored(kind, noise)[0], astronaut()) > classical + 0.5


def test_what_it_tells() -> None:
    info = restored()[1]
    assert info["iterations"] == 6
    assert 0.003 < info["noise"] < 0.03
    assert 0.01 < info["sigma"] < 0.04
    assert info["weights"]["sha256"]
    assert info["unexplained"] < 0.02


def test_deterministic() -> None:
    assert np.array_equal(
        deblur(*shaken(), method="plug-and-play"), deblur(*shaken(), method="plug-and-play")
    )


def test_smoothing_calms() -> None:
    """More of it leaves less of the finest contrast."""

    def fine(strength: float) -> float:
        result = deblur(*shaken(), method="plug-and-play", strength=strength, iterations=5)
        return float(np.square(np.diff(result.astype(float), 2, axis=1)).mean())

    assert fine(0.0) < 0.8 * fine(0.5) < 0.8 * fine(1.0)


def test_a_wrong_field_does_no_harm() -> None:
    blurry, _ = simulate(astronaut(), kind="uniform", seed=2, max_extent=9, noise=0.002)
    wrong = KernelField.uniform(torch.full((25, 25), 1 / 625), blurry.shape[:2], {"gamma": 2.2})
    result, info = deblur(blurry, wrong, method="plug-and-play", return_info=True)
    assert info["unexplained"] > 0.5
    assert psnr(result, astronaut()) > psnr(blurry, astronaut()) - 0.3


def test_a_denoiser_that_fails_spoils_little(monkeypatch: pytest.MonkeyPatch) -> None:
    blurry, field = shaken(noise=0.001)

    def without_colour(self: Denoiser, image: torch.Tensor, sigma: float) -> torch.Tensor:
        return denoise(self, image, sigma).mean(0).expand_as(image).clone()

    denoise = Denoiser.__call__
    monkeypatch.setattr(Denoiser, "__call__", without_colour)
    found = deblur(blurry, field, method="plug-and-play")
    colours = [np.ptp(image.astype(float), axis=2).mean() for image in (found, astronaut())]
    assert colours[0] > 0.7 * colours[1]
    assert psnr(found, astronaut()) > psnr(blurry, astronaut()) + 2


def lights() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, KernelField]:
    """A dark scene with lights, blurry, clipped; what it is without them, and around which."""
    generator = torch.Generator().manual_seed(1)
    kernel = camera_shake_kernels(1, size=17, generator=generator)[0]
    truth = torch.full((1, 96, 96), 0.2)
    truth[:, 60:80, 20:70] = 0.5
    light = truth.clone()
    for y, x in ((20, 20), (24, 70), (48, 44), (70, 80)):
        light[:, y : y + 3, x : x + 3] = 6.0
    field = KernelField.uniform(kernel, (96, 96))
    blurred = BlurOperator(field).forward(light)
    blurry = photograph(blurred, gamma=2.2, noise=0.01, generator=generator)
    far = torch.nn.functional.max_pool2d((light != truth).float(), 7, stride=1, padding=3) == 0
    return blurry, truth, far, field


def test_clipped_lights_do_not_ring() -> None:
    blurry, truth, far, field = lights()

    def error(saturation: bool) -> float:
        sharp, _ = plug_and_play(blurry, field, gamma=2.2, saturation=saturation)
        return float((sharp - truth)[far].square().mean().sqrt())

    assert error(saturation=True) < 0.85 * error(saturation=False)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_channels(channels: int) -> None:
    """Other numbers than three are denoised one by one."""
    blurry, truth, far, field = lights()
    sharp, _ = plug_and_play(blurry.expand(channels, -1, -1), field, gamma=2.2, iterations=2)
    assert sharp.shape == (channels, 96, 96)
    assert float((sharp[0] - sharp[-1]).abs().max()) < 0.02
    assert float((sharp[:1] - truth)[far].square().mean()) < 0.01


def test_linear_data_with_the_noise_of_a_camera() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.as_tensor(astronaut().copy()).permute(2, 0, 1)[1:2].float().div(255).pow(2.2)
    field = shaken()[1]
    gain, read = 2e-3, 5e-3
    light = BlurOperator(field).forward(truth)
    noisy = torch.poisson(light / gain, generator=generator) * gain
    noisy += read * torch.randn(noisy.shape, generator=generator)
    sharp, info = plug_and_play(noisy, field, gamma=1.0, noise=(gain, read))
    assert info["noise"] == pytest.approx(NoiseModel(gain, read**2).std(0.3))

    def error(image: torch.Tensor) -> float:
        return float((image - truth).square().mean())

    assert error(sharp) < 0.6 * error(noisy)


def test_dark_images_are_restored_as_well() -> None:
    """A hundredth of the light with a hundredth of the noise."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.as_tensor(astronaut().copy()).permute(2, 0, 1)[1:2].float().div(255).pow(2.2)
    field = shaken()[1]
    light = BlurOperator(field).forward(truth)
    noisy = light + 0.003 * torch.randn(light.shape, generator=generator)

    def error(scale: float) -> float:
        sharp, _ = plug_and_play(noisy * scale, field, gamma=1.0, noise=(0.0, 0.003 * scale))
        return float((sharp / scale - truth).square().mean().sqrt())

    usual = error(1.0)
    assert usual < 0.6 * float((noisy - truth).square().mean().sqrt())
    assert error(0.01) < 1.1 * usual


def test_one_tap_field() -> None:
    basis = torch.eye(9).reshape(9, 3, 3)
    field = KernelField(basis, torch.full((9, 1, 1), 1 / 9), (32, 40))
    sharp = torch.zeros(1, 32, 40)
    sharp[:, 10:20, 12:30] = 0.8
    blurry = BlurOperator(field).forward(sharp)
    result, _ = plug_and_play(blurry, field, gamma=2.2)
    assert (result - sharp).square().mean() < 0.5 * (blurry - sharp).square().mean()


def test_input_is_not_modified() -> None:
    blurry, _, _, field = lights()
    before = blurry.clone()
    plug_and_play(blurry, field, gamma=2.2, iterations=1)
    assert torch.equal(blurry, before)


def test_reports_and_can_be_cancelled() -> None:
    blurry, _, _, field = lights()
    reports: list[tuple[int, int]] = []
    plug_and_play(
        blurry, field, iterations=2, progress=lambda done, total, _: reports.append((done, total))
    )
    assert {total for _, total in reports} == {24}  # 20 to begin with, and two for each
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    assert reports[-1] == (24, 24)

    def cancel(done: int, total: int, message: str) -> None:
        if done == 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        plug_and_play(blurry, field, iterations=2, progress=cancel)


@pytest.mark.parametrize(
    "options", [{"smoothing": 0.0}, {"iterations": 0}, {"iterations": 2.5}, {"variant": "slow"}]
)
def test_refuses(options: dict[str, Any]) -> None:
    blurry, _, _, field = lights()
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        plug_and_play(blurry, field, **options)
