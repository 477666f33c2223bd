from __future__ import annotations

import numpy as np
import pytest
import torch

from blurfield.simulation import KINDS, Recipe, camera_shake_kernels, random_field, simulate

pytestmark = pytest.mark.gpu


def test_kernels_are_drawn_on_the_gpu() -> None:
    kernels = camera_shake_kernels(1000, generator=torch.Generator("cuda").manual_seed(0))
    assert kernels.device.type == "cuda"
    torch.testing.assert_close(kernels.sum((1, 2)).cpu(), torch.ones(1000))
    again = camera_shake_kernels(1000, generator=torch.Generator("cuda").manual_seed(0))
    assert torch.equal(kernels, again)


def test_same_numbers_on_any_device() -> None:
    here = camera_shake_kernels(50, generator=torch.Generator().manual_seed(0))
    there = camera_shake_kernels(50, generator=torch.Generator().manual_seed(0), device="cuda")
    assert there.device.type == "cuda"
    torch.testing.assert_close(there.cpu(), here, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_fields_are_drawn_on_the_gpu(kind: str) -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    field = random_field(kind, Recipe((120, 150), 21, 7.0, 21.0), generator)
    assert field.device.type == "cuda"


@pytest.mark.parametrize("kind", KINDS)
def test_simulate_agrees_with_the_cpu(kind: str) -> None:
    sharp = np.random.default_rng(0).integers(0, 256, (120, 150, 3), dtype=np.uint8)
    here, _ = simulate(sharp, kind=kind, max_extent=21)
    there, truth = simulate(sharp, kind=kind, max_extent=21, device="cuda")
    assert truth.device.type == "cuda"
    assert np.abs(here.astype(int) - there).max() <= 1
