from __future__ import annotations

import math

import pytest
import torch

from blurfield.simulation.kernels import (
    camera_shake_kernels,
    defocus_kernel,
    linear_kernel,
    splat,
)
from blurfield.simulation.trajectories import DRIFT_STD, camera_shake_angles


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _centroid(kernels: torch.Tensor) -> torch.Tensor:
    taps = torch.arange(kernels.shape[-1]) - kernels.shape[-1] // 2
    y = (kernels * taps[:, None]).sum((-2, -1))
    x = (kernels * taps).sum((-2, -1))
    return torch.stack([y, x], dim=-1)


def _sides(kernels: torch.Tensor) -> torch.Tensor:
    """Longer side in pixels of the box around each kernel's support."""
    rows = (kernels.amax(-1) > 1e-6).sum(-1)
    columns = (kernels.amax(-2) > 1e-6).sum(-1)
    return torch.maximum(rows, columns)


@pytest.mark.parametrize("size", [1, 3, 33, 65])
def test_shake_kernels_are_kernels(size: int) -> None:
    kernels = camera_shake_kernels(20, size, generator=_generator())
    assert kernels.shape == (20, size, size)
    assert kernels.dtype == torch.float32
    assert bool((kernels >= 0).all())
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(20))
    assert _centroid(kernels).abs().max() < 1e-3


def test_shake_kernels_repeat_and_differ() -> None:
    first = camera_shake_kernels(6, 21, generator=_generator(3))
    assert torch.equal(first, camera_shake_kernels(6, 21, generator=_generator(3)))
    assert not torch.allclose(first, camera_shake_kernels(6, 21, generator=_generator(4)))
    assert not torch.allclose(first[0], first[1])


def test_shake_kernels_more_than_a_chunk() -> None:
    kernels = camera_shake_kernels(600, 9, generator=_generator())
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(600))


def test_extents_cover_the_range() -> None:
    sides = _sides(camera_shake_kernels(400, 33, generator=_generator())).float()
    assert sides.min() <= 4
    assert sides.max() >= 31
    assert 14 < sides.mean() < 20  # uniform over 1..33, less what had to shrink
    for lowest, highest in [(1.0, 1.0), (7.0, 7.0), (5.0, 11.0)]:
        sides = _sides(
            camera_shake_kernels(
                50, 33, min_extent=lowest, max_extent=highest, generator=_generator()
            )
        )
        # A path of p pixels from end to end touches p to p + 2 of them, less faint ends.
        assert sides.min() >= lowest - 1
        assert sides.max() <= highest + 1


def test_no_extent_is_a_delta() -> None:
    kernels = camera_shake_kernels(3, 9, max_extent=1, generator=_generator())
    expected = torch.zeros(3, 9, 9)
    expected[:, 4, 4] = 1
    torch.testing.assert_close(kernels, expected)


def test_steady_paths_curl_more() -> None:
    def straightness(share: float) -> float:
        path = camera_shake_angles(300, 128, axes=2, tremor_share=share, generator=_generator())
        length = path.diff(dim=1).norm(dim=-1).sum(1)
        return float(((path[:, -1] - path[:, 0]).norm(dim=-1) / length).mean())

    assert straightness(0.0) > 0.7
    assert straightness(1.0) < 0.6


def test_angles_follow_the_published_statistics() -> None:
    # Specification §3.6: peak to peak 0.0157 rad on average, drift 87 % of it, detrended standard
    # deviation about 1.07e-3, slope of the power spectrum -3.9 over 2..11 cycles per exposure.
    samples = 256
    angles = camera_shake_angles(500, samples, tremor_share=0.0, generator=_generator())
    assert angles.shape == (500, samples, 3)
    assert angles.mean(1).abs().max() < 1e-6
    span = angles.amax(1) - angles.amin(1)
    assert 0.010 < span.mean() < 0.019
    assert float((angles[:, -1] - angles[:, 0]).std()) == pytest.approx(DRIFT_STD, rel=0.15)
    time = torch.linspace(-0.5, 0.5, samples)[:, None]
    slope = (angles * time).sum(1, keepdim=True) / time.square().sum()
    residual = angles - slope * time
    assert 0.4e-3 < residual.std() < 1.6e-3
    power = torch.fft.rfft(residual * torch.hann_window(samples)[:, None], dim=1).abs().square()
    spectrum = power.mean((0, 2))
    decay = torch.log(spectrum[11] / spectrum[3]) / math.log(11 / 3)
    assert -4.6 < decay < -3.0


def test_paths_need_not_return() -> None:
    path = camera_shake_angles(300, 64, axes=1, tremor_share=1.0, generator=_generator())
    step = path.diff(dim=1).norm(dim=-1).mean()
    assert (path[:, -1] - path[:, 0]).norm(dim=-1).mean() > 5 * step


def test_splat_interpolates() -> None:
    kernel = splat(torch.tensor([[0.25, -1.5]]), 5)
    expected = torch.zeros(5, 5)
    expected[2, 0] = expected[2, 1] = 0.375
    expected[3, 0] = expected[3, 1] = 0.125
    torch.testing.assert_close(kernel, expected)


def test_splat_outside_is_an_error() -> None:
    with pytest.raises(ValueError, match="outside its 5×5"):
        splat(torch.full((4, 2), 9.0), 5)


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 225.0])
def test_linear_kernel_moments(angle: float) -> None:
    length = 14.0
    kernel = linear_kernel(length, angle, 21)
    assert kernel.shape == (21, 21)
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-5)
    assert _centroid(kernel).abs().max() < 1e-4
    taps = torch.arange(21.0) - 10
    direction = math.radians(angle)
    along = taps * math.cos(direction) + taps[:, None] * math.sin(direction)
    across = taps[:, None] * math.cos(direction) - taps * math.sin(direction)
    # Uniform over `length`; splatting onto a pixel grid adds at most a quarter of a pixel².
    assert float((kernel * along**2).sum()) == pytest.approx(length**2 / 12, abs=0.3)
    assert float((kernel * across**2).sum()) < 0.3


def test_linear_kernel_may_fill_its_support() -> None:
    length = 14 / math.cos(math.radians(41.7))
    kernel = linear_kernel(length, 138.3, 15)
    assert float(kernel[:, 0].sum()) > 0
    assert float(kernel[:, -1].sum()) > 0


def test_linear_kernel_batches() -> None:
    kernels = linear_kernel([0.0, 6.0], 90.0, 9)
    assert kernels.shape == (2, 9, 9)
    assert float(kernels[0, 4, 4]) == pytest.approx(1)
    assert float(kernels[1, :, 4].sum()) == pytest.approx(1)


@pytest.mark.parametrize("radius", [0.0, 0.5, 3.3, 10.0])
def test_defocus_kernel_is_a_disc(radius: float) -> None:
    kernel = defocus_kernel(radius, 21)
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(kernel, kernel.T)
    torch.testing.assert_close(kernel, kernel.flip(0))
    taps = torch.arange(21.0) - 10
    distance = (taps**2 + taps[:, None] ** 2).sqrt()
    assert bool((kernel[distance > radius + 1] == 0).all())
    inside = kernel[distance < radius - 1]
    if inside.numel():
        assert float(inside.max() - inside.min()) < 1e-7
        assert float(inside.mean()) == pytest.approx(1 / (math.pi * radius**2), rel=0.02)


def test_defocus_kernel_batches() -> None:
    kernels = defocus_kernel(torch.tensor([0.0, 2.0]), 7)
    assert kernels.shape == (2, 7, 7)
    assert float(kernels[0, 3, 3]) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: camera_shake_kernels(1, 32, generator=_generator()), "odd"),
        (lambda: camera_shake_kernels(1, 9, max_extent=12, generator=_generator()), "max_extent"),
        (lambda: camera_shake_kernels(1, 9, min_extent=0, generator=_generator()), "min_extent"),
        (lambda: camera_shake_angles(1, 1, generator=_generator()), "samples"),
        (lambda: camera_shake_angles(1, tremor_share=2, generator=_generator()), "tremor_share"),
        (lambda: linear_kernel(-1, 0, 9), ">= 0"),
        (lambda: linear_kernel(20, 0, 9), "fit into a 9×9"),
        (lambda: defocus_kernel(9, 9), r"\[0, 4.5\]"),
    ],
)
def test_bad_parameters(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
