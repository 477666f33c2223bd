"""When a field is doubted, and what is given back."""

from __future__ import annotations

import pytest
import torch

from blurfield import KernelField
from blurfield.restoration.noise import NoiseModel
from blurfield.restoration.trust import STRICT, USUAL, give_back, local_doubt, squared_misfit

NOISE = NoiseModel(4e-4, 1e-5)


def test_doubt_grows_with_the_misfit() -> None:
    levels = [
        float(local_doubt(torch.full((1, 40, 50), m), 10).mean()) for m in (0, 1.29, 1.8, 2.5)
    ]
    assert levels[:2] == [0, 0]
    assert 0.3 < levels[2] < 0.7
    assert levels[3] == 1


def test_doubt_is_local() -> None:
    misfit = torch.ones(1, 60, 80)
    misfit[:, :, 50:] = 5.0
    doubt = local_doubt(misfit, 10)
    assert doubt.shape == (1, 60, 80)
    assert float(doubt[..., :40].max()) == 0
    assert float(doubt[..., 60:].min()) == 1


def test_strict_judges_by_lower_limits_and_on_the_whole() -> None:
    misfit = torch.ones(1, 60, 80)
    misfit[:, :, 50:] = 1.6
    mild, strict = (local_doubt(misfit, 10, limits) for limits in (USUAL, STRICT))
    assert float(strict[..., 60:].min()) == pytest.approx(1)
    assert float(mild[..., 60:].max()) < 0.5
    assert float(mild[..., :40].max()) == 0
    assert 0.2 < float(strict[..., :40].min()) < 0.8


def test_a_few_pixels_are_no_reason() -> None:
    misfit = torch.ones(1, 64, 64)
    misfit[0, 30, 30] = 1e6
    assert float(local_doubt(misfit, 30).max()) < 0.1


def test_windows_larger_than_the_image() -> None:
    assert torch.equal(local_doubt(torch.full((1, 5, 9), 9.0), 66), torch.ones(1, 5, 9))


def test_misfit_counts_in_expected_variances() -> None:
    seen = torch.full((2, 4, 4), 0.5)
    misfit = squared_misfit(seen + 0.03, seen, NOISE)
    torch.testing.assert_close(misfit, torch.full((1, 4, 4), 0.03**2 / (0.5 * 4e-4 + 1e-5)))


def test_noise_free_images_are_judged_mildly() -> None:
    seen = torch.full((1, 4, 4), 0.5)
    assert float(squared_misfit(seen + 0.005, seen, NoiseModel(0, 0)).max()) < 1


def test_light_beyond_white_is_no_misfit() -> None:
    white = torch.ones(3, 4, 4)
    assert float(squared_misfit(white, 5 * white, NOISE).max()) < 1e-3


def test_gives_back_what_is_not_explained() -> None:
    blurry, sharp = torch.full((3, 40, 60), 0.4), torch.full((3, 40, 60), 0.2)
    seen = blurry.clone()
    seen[..., 40:] += 0.3
    field = KernelField.uniform(torch.full((5, 5), 1 / 25), (40, 60))
    result, unexplained = give_back(sharp, blurry, seen, NOISE, field)
    torch.testing.assert_close(result[..., :30], sharp[..., :30])
    torch.testing.assert_close(result[..., 50:], blurry[..., 50:])
    assert 0.25 < unexplained < 0.45
    assert float(sharp.max()) < 0.21  # not modified


@pytest.mark.parametrize("model", ["kernel file", "windowed"])
def test_what_is_doubted_does_not_depend_on_the_exposure(model: str) -> None:
    generator = torch.Generator().manual_seed(0)
    blurry = 0.2 + 0.5 * torch.rand(1, 72, 96, generator=generator)
    sharp = (blurry + 0.2 * torch.rand(1, 72, 96, generator=generator)).clamp(0, 0.9)
    seen = blurry + 0.03 * torch.randn(1, 72, 96, generator=generator)
    metadata = {} if model == "kernel file" else {"model": model}
    field = KernelField.uniform(torch.full((7, 7), 1 / 49), (72, 96), metadata)

    def unexplained(light: float) -> float:
        noise = NoiseModel(4e-4 * light, 1e-5 * light**2)
        given = (image * light for image in (sharp, blurry, seen))
        return give_back(*given, noise, field, exposure=light)[1]

    assert unexplained(1.0) > 0.1
    assert unexplained(1 / 64) == pytest.approx(unexplained(1.0), abs=1e-3)
