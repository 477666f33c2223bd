"""Kernels chosen by the power of an image close to each place."""

from __future__ import annotations

import pytest
import torch
from kernels_and_fields import line

from blurfield.estimation import local_power
from blurfield.estimation.evidence import quiet_noise
from blurfield.estimation.local_power import choose_locally
from blurfield.field import KernelField
from blurfield.no_blur import no_blur
from blurfield.operator import BlurOperator

KERNELS = torch.stack([no_blur(33), line(25)])


def texture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """An image whose spectrum falls as that of photographs."""
    generator = torch.Generator().manual_seed(seed)
    spectrum = torch.fft.rfft2(torch.randn(height, width, generator=generator))
    down, across = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    frequency = (down.square() + across.square()).sqrt().clamp_min(1 / 64)
    image = torch.fft.irfft2(spectrum * frequency**-1.2, s=(height, width))
    return 0.5 + 0.1 * image / image.std()


def half_blurred(height: int = 160, width: int = 320) -> torch.Tensor:
    """Sharp on the left, blurred on the right, with some noise."""
    sharp = texture(height, width)
    blurry = BlurOperator(KernelField.uniform(KERNELS[1], (height, width))).forward(sharp[None])[0]
    image = torch.cat([sharp[:, : width // 2], blurry[:, width // 2 :]], 1)
    generator = torch.Generator().manual_seed(1)
    return image + 0.005 * torch.randn(image.shape, generator=generator)


def chosen(image: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    if weights is None:
        weights = torch.full((2, 1, 2), 0.5)
    return choose_locally(image, KERNELS, weights, quiet_noise(image), lambda: None)


def test_what_is_blurred_and_what_is_not() -> None:
    found = chosen(half_blurred())
    assert found.shape == (2, 19, 39)  # 160 and 320 pixels, by a quarter of 33
    torch.testing.assert_close(found.sum(0), torch.ones(19, 39))
    for kernel, part in ((0, found[0, :, :16]), (1, found[1, :, -16:])):
        assert float(part.mean()) > 0.75, kernel
        assert float((part > 0.5).float().mean()) > 0.95, kernel


def test_large_windows_have_a_say() -> None:
    image = half_blurred()
    sure = torch.tensor([[0.001, 0.001], [0.999, 0.999]])[:, None]
    assert float((chosen(image, sure)[1] - chosen(image)[1]).min()) > -1e-4
    plain = torch.full((160, 320), 0.3)
    left = torch.tensor([[1.0, 0.0], [0.0, 1.0]])[:, None]
    found = choose_locally(plain, KERNELS, left, torch.tensor(0.01), lambda: None)
    # Where nothing is to be seen, they alone do, but for what is spread.
    assert float(found[0, :, 0].mean()) == pytest.approx(0.85, abs=0.1)
    assert float(found[1, :, -1].mean()) == pytest.approx(0.85, abs=0.1)


def test_tiles_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    image = half_blurred()
    whole = chosen(image)
    monkeypatch.setattr(local_power, "_AT_A_TIME", 7)
    torch.testing.assert_close(chosen(image), whole, atol=0.02, rtol=0)


def test_power_of_noise_and_of_photographs() -> None:
    bands = local_power._bands(33)
    assert len(bands) == 8
    assert 0.03 < bands[-1] < bands[0] < 0.48
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(256, 256, generator=generator)
    ((_, power),) = local_power._local_power(noise, (4, 4), 33, bands, lambda: None)
    expected = local_power._flat(bands, noise)
    torch.testing.assert_close(power.mean((1, 2)), expected, rtol=0.25, atol=0)
    sharp, blurred = local_power._expected(KERNELS, bands)
    assert bool((blurred < sharp).all())
    assert bool(((blurred / sharp)[:4] < 0.2).all())


@pytest.mark.parametrize("shape", [(32, 32), (33, 200)])
def test_small_images(shape: tuple[int, int]) -> None:
    kernels = torch.stack([no_blur(5), torch.full((5, 5), 0.04)])
    image = texture(*shape).double()
    found = choose_locally(
        image, kernels.double(), torch.full((2, 3, 1), 0.5).double(), quiet_noise(image), int
    )
    assert found.dtype == torch.float64
    assert bool(found.isfinite().all())


def test_can_be_stopped() -> None:
    class Stop(Exception):
        pass

    def poll() -> None:
        raise Stop

    image = half_blurred()
    with pytest.raises(Stop):
        choose_locally(image, KERNELS, torch.full((2, 1, 1), 0.5), quiet_noise(image), poll)
