"""What windows of an image say about its kernel."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from blurfield.estimation.compact_network import CompactNetwork, region_grid
from blurfield.estimation.correlations import (
    CHANNELS,
    REACH,
    STRIDE,
    SUMMARY,
    WINDOW,
    _Products,
    _spectra,
    displacements,
    gradients,
    observe,
)

K = 2 * REACH + 1


def noise(height: int, width: int) -> torch.Tensor:
    """Gradients of a scene with few edges."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(1, 2, height, width, generator=generator)
    return values * (torch.rand(values.shape, generator=generator) < 0.02)


def bent_kernel() -> torch.Tensor:
    kernel = torch.zeros(K, K)
    kernel[REACH, REACH - 6 : REACH + 4] = 1
    kernel[REACH : REACH + 8, REACH + 4] = 1.5
    return kernel / kernel.sum()


def everywhere(tokens: int) -> torch.Tensor:
    return torch.full((1, 1, tokens), 1 / tokens)


def test_the_quotient_of_spectra_is_the_kernel() -> None:
    sharp, kernel = noise(256 + K - 1, 256 + K - 1), bent_kernel()
    blurry = functional.conv2d(sharp.transpose(0, 1), kernel[None, None]).transpose(0, 1)
    inner = sharp[..., REACH:-REACH, REACH:-REACH]
    spectra = observe(blurry)
    assert spectra.summary.shape == (1, 64, SUMMARY)
    patches = displacements(spectra, inner, everywhere(64), torch.tensor(1e-3))
    assert patches.shape == (1, 1, CHANNELS, K, K)
    found = patches[0, 0, 3].sign() * patches[0, 0, 3].square()
    assert functional.cosine_similarity(found.flatten(), kernel.flatten(), dim=0) > 0.97
    # Turned by 180° it would be another one.
    assert functional.cosine_similarity(found.flatten(), kernel.flip(0, 1).flatten(), dim=0) < 0.7


def test_autocorrelation_of_gradients_is_that_of_the_kernel() -> None:
    kernel = bent_kernel()
    sharp = noise(256 + K - 1, 256 + K - 1)
    blurry = functional.conv2d(sharp.transpose(0, 1), kernel[None, None]).transpose(0, 1)
    patches = displacements(
        observe(blurry), torch.zeros(1, 2, 256, 256), everywhere(64), torch.tensor(1.0)
    )
    own = functional.conv2d(kernel[None, None], kernel[None, None], padding=REACH)[0, 0]
    for channel in (0, 1):
        found = patches[0, 0, channel].sign() * patches[0, 0, channel].square()
        assert functional.cosine_similarity(found.flatten(), own.flatten(), dim=0) > 0.9


def test_only_windows_that_share_a_blur_count() -> None:
    sharp, kernel = noise(256 + K - 1, 256 + K - 1), bent_kernel()
    blurry = functional.conv2d(sharp.transpose(0, 1), kernel[None, None]).transpose(0, 1)
    inner = sharp[..., REACH:-REACH, REACH:-REACH]
    half = torch.cat([blurry[..., :128], inner[..., 128:]], -1)
    left = torch.zeros(8, 8)
    left[:, :3] = 1 / 24
    patches = displacements(observe(half), inner, left.reshape(1, 1, 64), torch.tensor(1e-3))
    found = patches[0, 0, 3].sign() * patches[0, 0, 3].square()
    assert functional.cosine_similarity(found.flatten(), kernel.flatten(), dim=0) > 0.95


def test_gradients_are_those_of_plain_differentiation() -> None:
    """The adjoint of the windows' spectra is our own."""
    torch.manual_seed(0)
    sharp = torch.randn(2, 2, 96, 160, requires_grad=True)
    image = torch.fft.rfft2(torch.randn(2, 15, 2, WINDOW, WINDOW))
    weights = torch.rand(2, 15, 3, WINDOW, WINDOW // 2 + 1)
    margin = (WINDOW - STRIDE) // 2
    band = functional.pad(sharp, (margin,) * 4)

    clear = _spectra(band)
    cross = (image.conj() * clear).sum(2)
    power = clear.abs().square().sum(2)
    plain = torch.stack([cross.real, cross.imag, power], 2)
    products = _Products.apply(band, image)
    torch.testing.assert_close(products, plain)

    (expected,) = torch.autograd.grad((plain * weights).sum(), sharp)
    (found,) = torch.autograd.grad((products * weights).sum(), sharp)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_clipped_light_has_no_gradients() -> None:
    image = torch.full((1, 3, 64, 64), 0.2)
    image[..., 30:] = 1.0
    assert gradients(image).abs().max() == 0
    image[..., 30:] = 0.8
    assert gradients(image).abs().max() > 1


@pytest.mark.parametrize(
    ("size", "most", "expected"),
    [
        ((128, 128), 25, (2, 2)),
        ((32, 32), 25, (1, 1)),
        ((256, 256), 25, (4, 4)),
        ((400, 600), 25, (4, 6)),
        ((600, 400), 25, (6, 4)),
        ((2000, 64), 25, (25, 1)),
        ((500, 500), 1, (1, 1)),
    ],
)
def test_regions(size: tuple[int, int], most: int, expected: tuple[int, int]) -> None:
    assert region_grid(*size, most) == expected


def test_network_is_small_and_its_maps_are_local_at_first() -> None:
    torch.manual_seed(0)
    network = CompactNetwork().eval()
    assert sum(p.numel() for p in network.parameters()) <= 8_000_000
    with torch.no_grad():
        kernels, mixing = network(torch.rand(1, 3, 192, 256))
    assert kernels.shape == (1, 12, K, K)
    assert mixing.shape == (1, 12, 48, 64)
    torch.testing.assert_close(mixing.exp().sum(1), torch.ones(1, 48, 64))
    torch.testing.assert_close(kernels.exp().sum((2, 3)), torch.ones(1, 12))
    assert mixing[0, 0, 0, 0] > mixing[0, 11, 0, 0] + 1
