"""Our Richardson-Lucy and its parts: quality, saturation, borders, noise."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch

import blurfield
from blurfield import BlurOperator, KernelField, simulate
from blurfield.images import LinearImage
from blurfield.restoration.likelihood import PoissonLikelihood
from blurfield.restoration.noise import NoiseModel, estimate_noise
from blurfield.restoration.richardson_lucy import richardson_lucy
from blurfield.restoration.total_variation import TotalVariation
from blurfield.simulation import camera_shake_kernels, photograph

deblur = partial(blurfield.deblur, method="richardson-lucy")


def psnr(a: np.ndarray, b: np.ndarray, border: int = 0) -> float:
    inside = slice(border, -border or None)
    difference = a[inside, inside].astype(float) - b[inside, inside].astype(float)
    return float(-10 * np.log10(np.mean((difference / 255) ** 2)))


@cache
def astronaut() -> np.ndarray:
    from skimage.data import astronaut

    return np.ascontiguousarray(astronaut()[10:154, 150:294])


@cache
def shaken(kind: str = "segments", noise: float = 0.01) -> tuple[np.ndarray, KernelField]:
    return simulate(astronaut(), kind=kind, seed=2, min_extent=25, noise=noise)


@cache
def restored(kind: str = "segments", noise: float = 0.01) -> tuple[np.ndarray, dict[str, Any]]:
    return deblur(*shaken(kind, noise), return_info=True)


class TestQuality:
    @pytest.mark.parametrize("kind", ["segments", "rotation"])
    def test_gain_with_the_true_field(self, kind):
        blurry, _ = shaken(kind)
        assert psnr(restored(kind)[0], astronaut()) > psnr(blurry, astronaut()) + 7

    def test_gain_of_a_grey_image(self):
        sharp = np.ascontiguousarray(astronaut()[..., 1])
        blurry, field = simulate(sharp, seed=2, min_extent=25)
        assert psnr(deblur(blurry, field), sharp) > psnr(blurry, sharp) + 5

    def test_gain_with_an_imperfect_field(self):
        blurry, field = shaken()
        smooth = torch.tensor([1.0, 2.0, 1.0]) / 4
        kernel = torch.outer(smooth, smooth)[None, None]
        basis = torch.nn.functional.conv2d(field.basis[:, None], kernel, padding=1)[:, 0]
        basis = torch.where(basis > 0.2 * basis.amax((1, 2), keepdim=True), basis, 0.0)
        basis /= basis.sum((1, 2), keepdim=True)
        imperfect = KernelField(basis, field.mixing, field.shape, field.metadata)
        result, info = deblur(blurry, imperfect, return_info=True)
        assert psnr(result, astronaut()) > psnr(blurry, astronaut()) + 4
        assert info["unexplained"] < 0.1

    def test_better_than_the_published_variants(self):
        blurry, field = shaken()
        ours = psnr(restored()[0], astronaut())
        for variant in ("basic", "combined"):
            published = deblur(blurry, field, variant=variant)
            assert ours > psnr(published, astronaut()) + 1.5

    @pytest.mark.parametrize("noise", [0.002, 0.04])
    def test_adapts_to_the_noise(self, noise):
        """A third or three times the automatic smoothing is not much better."""
        blurry, field = shaken(noise=noise)
        usual = psnr(restored(noise=noise)[0], astronaut())
        assert usual > psnr(blurry, astronaut()) + 3
        for strength in (0.9, 0.1):
            assert psnr(deblur(blurry, field, strength=strength), astronaut()) < usual + 0.4

    def test_a_wrong_field_does_less_harm(self, monkeypatch):
        """Where the field cannot explain the image, the image comes back as it was."""
        blurry, field = shaken(noise=0.002)
        wrong = KernelField.uniform(field.basis[0].flip(-2, -1).T, field.shape, {"gamma": 2.2})
        result, info = deblur(blurry, wrong, return_info=True)
        assert 0.3 < info["unexplained"] <= 1
        assert restored(noise=0.002)[1]["unexplained"] < 0.02
        monkeypatch.setattr("blurfield.restoration.trust._MAX_MISFIT", 1.0)
        trusting, info = deblur(blurry, wrong, return_info=True)
        assert info["unexplained"] == 0
        assert psnr(result, astronaut()) > psnr(trusting, astronaut()) + 1.5

    def test_real_shake(self, shared):
        """One of Levin's photographs of a projected picture: linear light, known kernel."""
        import imageio.v3 as iio

        folder = shared / "data" / "test" / "levin"
        blurry, truth, kernel = (
            iio.imread(folder / f"{name}.png") for name in ("im1_kernel4", "im1_gt", "kernel4")
        )
        kernel = torch.tensor(kernel / kernel.sum()).flip(-2, -1)
        field = KernelField.uniform(kernel, blurry.shape, {"gamma": 1.0})

        def best(image: np.ndarray) -> float:  # the kernel's middle is known to a few pixels
            shifts = range(-4, 5)
            return max(
                psnr(np.roll(image, (y, x), (0, 1)), truth, 20) for y in shifts for x in shifts
            )

        assert best(deblur(blurry, field)) > best(blurry) + 7


class TestConvergence:
    def test_energy_never_grows(self):
        blurry, field = shaken()
        planes = LinearImage.from_array(blurry).planes
        energies = [
            richardson_lucy(planes, field, gamma=2.2, iterations=n)[1]["energy"]
            for n in (1, 2, 4, 7, 12, 20)
        ]
        assert energies == sorted(energies, reverse=True)

    def test_stops_when_nothing_changes(self):
        flat = torch.full((1, 40, 40), 0.3)
        kernel = camera_shake_kernels(1, size=9, generator=torch.Generator().manual_seed(0))[0]
        field = KernelField.uniform(kernel, (40, 40))
        result, info = richardson_lucy(flat, field)
        assert info["converged"]
        assert info["iterations"] < 10
        torch.testing.assert_close(result, flat, atol=1e-3, rtol=0)
        assert richardson_lucy(flat, field, tolerance=0, iterations=12)[1]["iterations"] == 12

    def test_one_tap_field(self):
        """Dense per-pixel fields go through the operator's shifts."""
        basis = torch.eye(9).reshape(9, 3, 3)
        field = KernelField(basis, torch.full((9, 1, 1), 1 / 9), (32, 40))
        sharp = torch.zeros(1, 32, 40)
        sharp[:, 10:20, 12:30] = 0.8
        blurry = BlurOperator(field).forward(sharp)
        result, _ = richardson_lucy(blurry, field)
        assert (result - sharp).square().mean() < 0.3 * (blurry - sharp).square().mean()


class TestSaturation:
    def test_clipped_lights_do_not_ring(self):
        """With the sensor's saturation modelled, lights hurt less than if taken at face value."""
        generator = torch.Generator().manual_seed(1)
        kernel = camera_shake_kernels(1, size=25, generator=generator)[0]
        light = torch.full((1, 96, 96), 0.2)
        light[:, 60:80, 20:70] = 0.5
        truth = light.clone()
        for y, x in ((20, 20), (24, 70), (48, 44), (70, 80)):
            light[:, y : y + 3, x : x + 3] = 6.0
        field = KernelField.uniform(kernel, (96, 96))
        blurry = photograph(
            BlurOperator(field).forward(light), gamma=2.2, noise=0.01, generator=generator
        )
        assert 0.003 < float((blurry > 0.98).float().mean()) < 0.3
        around = torch.nn.functional.max_pool2d((light != truth).float(), 7, stride=1, padding=3)

        def error(planes: torch.Tensor) -> float:
            return float(((planes - truth)[around == 0]).square().mean().sqrt())

        aware, _ = richardson_lucy(blurry, field, gamma=2.2)
        plain, _ = richardson_lucy(blurry, field, gamma=2.2, saturation=False)
        assert error(aware) < 0.7 * error(plain)
        assert float(aware[light != truth].mean()) > 2  # restored as brighter than white


class TestBorders:
    def test_no_ringing_at_the_frame(self):
        """The border is not much worse than the middle, unlike with an assumed mirror image."""
        sharp = astronaut()
        blurry, field = simulate(
            sharp, kind="segments", seed=4, max_extent=25, noise=0.005, boundary="valid"
        )
        truth = sharp[12:-12, 12:-12]

        def excess(image: np.ndarray) -> float:
            """Mean squared error in the outer ring of 12 pixels, relative to the middle."""
            squares = (image.astype(float) - truth.astype(float)) ** 2
            inner = squares[12:-12, 12:-12]
            return float((squares.sum() - inner.sum()) / (squares.size - inner.size) / inner.mean())

        assert excess(deblur(blurry, field)) < 0.8 * excess(deblur(blurry, field, variant="basic"))
        assert psnr(deblur(blurry, field), truth) > psnr(blurry, truth) + 6


class TestNoise:
    SMOOTH = (0.08 + 0.8 * torch.linspace(0, 1, 256) ** 2).expand(3, 256, 256)

    @pytest.mark.parametrize("sigma", [0.003, 0.01, 0.03])
    def test_gaussian(self, sigma):
        generator = torch.Generator().manual_seed(0)
        found = estimate_noise(self.SMOOTH + sigma * torch.randn(3, 256, 256, generator=generator))
        for level in (0.1, 0.5, 0.9):
            assert found.std(level) == pytest.approx(sigma, rel=0.1)

    def test_poisson(self):
        generator = torch.Generator().manual_seed(0)
        found = estimate_noise(torch.poisson(self.SMOOTH * 1000, generator=generator) / 1000)
        assert found.gain == pytest.approx(1e-3, rel=0.1)
        assert found.floor < 1e-4

    def test_encoded_gaussian_resembles_poisson(self):
        generator = torch.Generator().manual_seed(0)
        planes = photograph(self.SMOOTH, gamma=2.2, noise=0.01, bits=8, generator=generator)
        found = estimate_noise(planes)
        assert found.gain == pytest.approx((2.2 * 0.01) ** 2, rel=0.2)
        assert found.floor < 0.1 * found.gain

    @pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (3, 2, 2), (1, 5, 4)])
    def test_tiny_images(self, shape):
        found = estimate_noise(torch.rand(shape, generator=torch.Generator().manual_seed(0)))
        assert found.gain >= 0
        assert found.floor >= 0
        assert np.isfinite(found.std(0.5))

    @pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
    def test_flat_images_are_noise_free(self, value):
        assert estimate_noise(torch.full((1, 32, 32), value)).std(0.5) < 1e-7

    def test_large_images_are_sampled(self):
        generator = torch.Generator().manual_seed(0)
        found = estimate_noise(0.5 + 0.01 * torch.randn(1, 1500, 1600, generator=generator))
        assert found.std(0.5) == pytest.approx(0.01, rel=0.05)

    def test_std(self):
        assert NoiseModel(0.04, 0.05).std(1.0) == pytest.approx(0.3)


class TestTotalVariation:
    def make(self, channels: int = 2) -> tuple[TotalVariation, torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        z = torch.rand(channels, 12, 14, generator=generator, dtype=torch.float64)
        metric = 0.2 + torch.rand(channels, 12, 14, generator=generator, dtype=torch.float64)
        weights = 0.1 + 0.2 * torch.rand(1, 12, 14, generator=generator, dtype=torch.float64)
        return TotalVariation(weights, channels, lambda: None), z, metric

    def test_value(self):
        step = torch.zeros(2, 4, 5)
        step[:, :, 2:] = 3.0  # one edge of height 3 in each channel, along 4 pixels
        weights = torch.full((1, 4, 5), 0.5)
        assert TotalVariation(weights, 2, lambda: None)(step) == pytest.approx(
            0.5 * 4 * 3 * np.sqrt(2)
        )

    def test_proximal_map_is_the_minimiser(self):
        variation, z, metric = self.make()

        def energy(x: torch.Tensor) -> float:
            return variation(x) + float(((x - z).square() / metric).sum()) / 2

        x = variation.proximal(z, metric, 0.2, steps=3000)
        assert float(x.min()) >= 0.2
        generator = torch.Generator().manual_seed(1)
        least = energy(x)
        assert least < energy(z.clamp(min=0.2))
        for scale in (1e-1, 1e-2, 1e-3):
            for _ in range(20):
                other = x + scale * torch.randn(x.shape, generator=generator, dtype=x.dtype)
                assert energy(other.clamp(min=0.2)) > least - 1e-9

    def test_starts_where_it_ended(self):
        variation, z, metric = self.make()
        exact = variation.proximal(z, metric, 0.0, steps=3000)
        again = variation.proximal(z, metric, 0.0, steps=1)
        torch.testing.assert_close(again, exact, atol=1e-6, rtol=0)

    def test_polls(self):
        calls = []
        _, z, metric = self.make()
        weights = torch.ones_like(z[:1])
        TotalVariation(weights, 2, lambda: calls.append(1)).proximal(z, metric, 0.0, steps=4)
        assert len(calls) >= 4


class TestLikelihood:
    def make(self) -> tuple[PoissonLikelihood, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        blurry = torch.rand(2, 9, 8, generator=generator, dtype=torch.float64)
        blurry[0, :3] = 1.0
        seen = 0.03 + 1.2 * torch.rand(2, 9, 8, generator=generator, dtype=torch.float64)
        return PoissonLikelihood(blurry, 0.02, True, lambda: None), seen

    def test_excess_is_minus_the_gradient(self):
        likelihood, seen = self.make()
        excess = likelihood.excess(seen)
        step = 1e-6
        for index in [(0, 0, 0), (0, 2, 5), (1, 4, 4), (1, 8, 7), (0, 6, 1)]:
            ahead, behind = seen.clone(), seen.clone()
            ahead[index] += step
            behind[index] -= step
            slope = (likelihood.divergence(ahead) - likelihood.divergence(behind)) / (2 * step)
            assert float(excess[index]) == pytest.approx(-slope, rel=1e-4, abs=1e-5)

    def test_zero_at_the_image(self):
        dark = PoissonLikelihood(torch.full((1, 4, 4), 0.3), 0.02, True, lambda: None)
        assert dark.divergence(dark.target) == pytest.approx(0, abs=1e-6)
        assert float(dark.excess(dark.target).abs().max()) < 1e-6

    def test_clipped_pixels_cannot_tell(self):
        likelihood = PoissonLikelihood(torch.ones(1, 4, 4), 0.02, True, lambda: None)
        assert float(likelihood.excess(torch.full((1, 4, 4), 7.0)).abs().max()) < 1e-6
        assert float(likelihood.excess(torch.full((1, 4, 4), 0.5)).min()) > 0.5
