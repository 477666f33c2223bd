"""Samples that the denoiser is trained with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from blurfield.training.denoiser import MOST_NOISE, DenoiserTask
from blurfield.training.source import Source

BATCH = 64


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> DenoiserTask:
    """With photographs without colour."""
    folder = tmp_path_factory.mktemp("grey")
    numbers = np.random.default_rng(0)
    lines = ["file,mask,split,kind"]
    for number in range(8):
        values = numbers.integers(0, 256, (144, 144), dtype=np.uint8)
        Image.fromarray(values).convert("RGB").save(folder / f"{number}.png")
        lines.append(f"{number}.png,,{'val' if number == 0 else 'train'},photo")
    (folder / "manifest.csv").write_text("\n".join(lines))
    small = {"channels": 3, "widths": [4, 8], "blocks": 1, "residual": True}
    return DenoiserTask(Source(folder, 16, BATCH, torch.device("cpu")), config=small)


def test_noise_has_the_level_that_is_told(task: DenoiserTask) -> None:
    batch = task.make(torch.Generator().manual_seed(0), 0)
    found = (batch.noisy - batch.clean).flatten(1).std(1)
    torch.testing.assert_close(found, batch.sigma, rtol=0.15, atol=1e-4)
    assert 0 <= batch.sigma.min() < batch.sigma.max() <= MOST_NOISE


def test_some_images_have_the_colours_of_three(task: DenoiserTask) -> None:
    batch = task.make(torch.Generator().manual_seed(0), 0)
    alike = [
        bool(torch.corrcoef(image.flatten(1)).min() > 0.999)  # one picture in all its channels
        for image in batch.clean
    ]
    assert 0.6 * BATCH < sum(alike) < 0.9 * BATCH
    assert 0 <= batch.clean.min() < batch.clean.max() <= 1


def test_validation_tells_them_apart(task: DenoiserTask) -> None:
    figures = task.validate(task.network())
    assert set(figures) == {"psnr_15", "psnr_25", "psnr_50", "psnr_unrelated"}
    assert figures["psnr_15"] > figures["psnr_25"] > figures["psnr_50"]
