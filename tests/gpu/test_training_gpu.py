"""Training on a GPU: samples made there, in bfloat16, compiled, and resumed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from blurfield.checkpoints import read_checkpoint
from blurfield.training.estimator import EstimatorTask
from blurfield.training.loop import Trainer
from blurfield.training.settings import RunSettings, Schedule
from blurfield.training.source import Source

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.gpu

SMALL = {
    "widths": [8, 8, 8, 8, 16],
    "width": 16,
    "heads": 2,
    "layers": [1, 1],
    "kernel_widths": [4, 4, 8],
}


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    from PIL import Image

    random = np.random.default_rng(0)
    lines = ["file,mask,split,kind"]
    for number in range(6):
        picture = random.integers(0, 256, (180, 200, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,,{'val' if number == 5 else 'train'},photo")
    (tmp_path / "manifest.csv").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("compiled", ["off", "on"])
def test_training_runs_and_goes_on(photographs: Path, tmp_path: Path, compiled: str) -> None:
    device = torch.device("cuda")
    source = Source(photographs, 64, 8, device)
    task = EstimatorTask(source, config=SMALL, kernels=200, cameras=20)
    schedule = Schedule(warmup=2)
    for steps, resume in ((4, False), (8, True)):
        settings = RunSettings(batch=8, side=64, steps=steps, compile=compiled, schedule=schedule)
        trainer = Trainer(task, settings, tmp_path / "run", device=device, resume=resume)
        result = trainer.run()
        assert result["step"] == steps
        assert 0 < result["similarity"] <= 1
    checkpoint = read_checkpoint(tmp_path / "run" / "compact.safetensors")
    assert checkpoint.architecture == "compact"
    assert all(value.isfinite().all() for value in checkpoint.load().values())
