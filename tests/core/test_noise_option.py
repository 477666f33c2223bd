"""What solvers take as `noise`."""

from __future__ import annotations

import pytest
import torch

from blurfield.restoration.noise import NoiseModel, estimate_noise, mean_noise, resolve_noise


def noisy(*levels: float) -> torch.Tensor:
    """Channels of a smooth picture with Gaussian noise of their own."""
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(0.2, 0.8, 96).expand(96, 96)
    noise = torch.randn(len(levels), 96, 96, generator=generator)
    return ramp + torch.tensor(levels)[:, None, None] * noise


def test_auto_is_what_channels_have_in_common() -> None:
    planes = noisy(0.02, 0.02, 0.02)
    assert resolve_noise("auto", planes) == [estimate_noise(planes)] * 3


def test_per_channel() -> None:
    found = resolve_noise("per-channel", noisy(0.01, 0.04))
    assert [model.std(0.5) for model in found] == pytest.approx([0.01, 0.04], rel=0.1)


def test_pairs() -> None:
    planes = torch.zeros(2, 8, 8)
    assert resolve_noise((0.01, 0.1), planes) == [NoiseModel(0.01, 0.1**2)] * 2
    assert resolve_noise([(0.01, 0.1), [0, 0.2]], planes) == [
        NoiseModel(0.01, 0.1**2),
        NoiseModel(0.0, 0.2**2),
    ]


@pytest.mark.parametrize(
    ("noise", "match"),
    [
        ("poisson", "'poisson'"),
        ((-1.0, 0.1), r"\(-1.0, 0.1\)"),
        ((0.1, float("nan")), "nan"),
        ((0.1,), r"\(0.1,\)"),
        ((0.1, "b"), "'b'"),
        ([(0, 0.1)] * 3, "3 pairs"),
        ((), r"\(\)"),
    ],
)
def test_refuses(noise: object, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        resolve_noise(noise, torch.zeros(2, 8, 8))


def test_refuses_other_types() -> None:
    with pytest.raises(TypeError, match=r"0\.3"):
        resolve_noise(0.3, torch.zeros(2, 8, 8))


def test_mean() -> None:
    same = NoiseModel(0.1, 0.3)
    assert mean_noise([same] * 3) == same
    mean = mean_noise([NoiseModel(0.1, 0.2), NoiseModel(0.3, 0.0)])
    assert (mean.gain, mean.floor) == pytest.approx((0.2, 0.1))


def test_variance_of_pixels() -> None:
    light = torch.tensor([-1.0, 0.0, 0.5])
    torch.testing.assert_close(
        NoiseModel(0.1, 0.02).variance(light), torch.tensor([0.02, 0.02, 0.07])
    )
