"""The preview: quality, light that clips, options."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from blurfield import BlurOperator, KernelField, deblur, simulate
from blurfield.restoration.tikhonov import tikhonov
from blurfield.simulation import camera_shake_kernels, photograph


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((a.astype(float) - b.astype(float)) ** 2) / 255**2))


@cache
def astronaut() -> np.ndarray:
    from skimage.data import astronaut

    return np.ascontiguousarray(astronaut()[10:154, 150:294])


@cache
def shaken(kind: str = "segments", noise: float = 0.01) -> tuple[np.ndarray, KernelField]:
    return simulate(astronaut(), kind=kind, seed=2, max_extent=21, min_extent=15, noise=noise)


def preview(blurry: np.ndarray, field: KernelField, **options: Any) -> Any:
    return deblur(blurry, field, method="tikhonov", **options)


@pytest.mark.parametrize("kind", ["segments", "rotation"])
def test_gain(kind: str) -> None:
    blurry, field = shaken(kind)
    result, info = preview(blurry, field, return_info=True)
    assert psnr(result, astronaut()) > psnr(blurry, astronaut()) + 4
    assert info["iterations"] == 10
    assert info["unexplained"] < 0.1


@pytest.mark.parametrize("noise", [0.003, 0.04])
def test_adapts_to_the_noise(noise: float) -> None:
    blurry, field = shaken(noise=noise)
    usual = psnr(preview(blurry, field), astronaut())
    assert usual > psnr(blurry, astronaut()) + 1.5
    for strength in (1.0, 0.0):
        assert psnr(preview(blurry, field, strength=strength), astronaut()) < usual + 0.6


def test_more_iterations_converge() -> None:
    flat = torch.full((1, 40, 40), 0.3)
    kernel = camera_shake_kernels(1, size=9, generator=torch.Generator().manual_seed(0))[0]
    field = KernelField.uniform(kernel, (40, 40))
    sharp, info = tikhonov(flat, field, iterations=60)
    assert info["iterations"] == 60
    torch.testing.assert_close(sharp, flat, atol=1e-3, rtol=0)


def test_a_wrong_field_does_no_harm() -> None:
    blurry, _ = simulate(astronaut(), kind="uniform", seed=2, max_extent=9, noise=0.002)
    wrong = KernelField.uniform(torch.full((25, 25), 1 / 625), blurry.shape[:2], {"gamma": 2.2})
    result, info = preview(blurry, wrong, return_info=True)
    assert info["unexplained"] > 0.5
    assert psnr(result, astronaut()) > psnr(blurry, astronaut()) - 0.3


def test_clipped_lights() -> None:
    generator = torch.Generator().manual_seed(1)
    kernel = camera_shake_kernels(1, size=17, generator=generator)[0]
    truth = torch.full((1, 96, 96), 0.2)
    light = truth.clone()
    for y, x in ((20, 20), (24, 70), (48, 44), (70, 80)):
        light[:, y : y + 3, x : x + 3] = 30.0
    field = KernelField.uniform(kernel, (96, 96))
    blurry = photograph(
        BlurOperator(field).forward(light), gamma=2.2, noise=0.01, generator=generator
    )
    far = torch.nn.functional.max_pool2d((light != truth).float(), 7, stride=1, padding=3) == 0

    def error(saturation: bool) -> float:
        sharp, _ = tikhonov(blurry, field, gamma=2.2, saturation=saturation)
        return float((sharp - truth)[far].square().mean().sqrt())

    assert error(saturation=True) < 0.97 * error(saturation=False)


def test_known_noise() -> None:
    planes = torch.rand(2, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.5
    field = KernelField.uniform(torch.full((3, 3), 1 / 9), (32, 32))
    known, info = tikhonov(planes, field, noise=[(0.0, 0.05), (0.0, 0.5)])
    assert info["noise"] == pytest.approx(np.sqrt((0.05**2 + 0.5**2) / 2))
    roughness = known.diff(dim=-1).square().mean((1, 2))
    assert float(roughness[1]) < 0.5 * float(roughness[0])


@pytest.mark.parametrize(
    "options", [{"smoothing": 0.0}, {"smoothing": float("nan")}, {"iterations": 0}]
)
def test_refuses(options: dict[str, float]) -> None:
    field = KernelField.uniform(torch.full((3, 3), 1 / 9), (32, 32))
    with pytest.raises(ValueError, match=next(iter(options))):
        tikhonov(torch.rand(1, 32, 32), field, **options)  # type: ignore[arg-type]
