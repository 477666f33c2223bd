"""Training runs: what they write, and that they go on as if they had not been stopped."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from blurfield.checkpoints import read_checkpoint
from blurfield.cli import main
from blurfield.training.curves import read_curves
from blurfield.training.denoiser import DenoiserTask
from blurfield.training.loop import Trainer
from blurfield.training.settings import RunSettings, Schedule
from blurfield.training.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CPU = torch.device("cpu")
SMALL = {"channels": 3, "widths": [4, 8], "blocks": 1, "residual": True}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    numbers = np.random.default_rng(0)
    lines = ["file,mask,split,kind"]
    for name, split in (("a", "train"), ("b", "train"), ("c", "val")):
        coarse = numbers.integers(0, 256, (12, 14, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((168, 144)).save(folder / f"{name}.png")
        lines.append(f"{name}.png,,{split},photo")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def task(photographs: Path) -> DenoiserTask:
    return DenoiserTask(Source(photographs, 16, 4, CPU), config=SMALL)


def run(task: DenoiserTask, folder: Path, steps: int, **options: Any) -> dict[str, Any]:
    schedule = Schedule(warmup=4, cooldown=options.pop("cooldown", 0.0))
    settings = RunSettings(batch=4, side=16, steps=steps, report_seconds=0, schedule=schedule)
    return Trainer(task, settings, folder, device=CPU, say=lambda _: None, **options).run()


def losses(folder: Path) -> list[tuple[str, str]]:
    rows = read_curves(folder / "curve.csv")
    return [(row["step"], row["value"]) for row in rows if row["name"] == "loss"]


def test_what_a_run_leaves(task: DenoiserTask, tmp_path: Path) -> None:
    result = run(task, tmp_path / "run", 5)
    assert (result["step"], result["samples"], result["stopped"]) == (5, 20, "done")
    assert np.isfinite(result["psnr_25"])
    checkpoint = read_checkpoint(result["export"])
    assert checkpoint.architecture == "denoiser"
    assert checkpoint.config == SMALL
    assert checkpoint.facts["samples"] == 20
    names = {row["name"] for row in read_curves(tmp_path / "run" / "curve.csv")}
    assert {"loss", "psnr", "gradient", "rate", "samples_per_second", "psnr_50"} <= names


def test_resumed_is_as_if_never_stopped(task: DenoiserTask, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(task, whole, 8)
    run(task, parts, 3)
    run(task, parts, 8, resume=True)
    assert losses(whole) == losses(parts)
    assert len(losses(whole)) == 8
    one, two = (read_checkpoint(f / "denoiser.safetensors").load() for f in (whole, parts))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_cooldown_is_exported_but_not_resumed(task: DenoiserTask, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(task, folder, 8, cooldown=0.5)
    rates = [
        float(row["value"]) for row in read_curves(folder / "curve.csv") if row["name"] == "rate"
    ]
    assert rates[-1] < 0.3 * max(rates)
    assert torch.load(folder / "state.pt", weights_only=True)["step"] < 8
    assert read_checkpoint(folder / "denoiser.safetensors").facts["steps"] == 8


def test_begin_with_given_weights(task: DenoiserTask, tmp_path: Path) -> None:
    first = run(task, tmp_path / "a", 6)
    second = run(task, tmp_path / "b", 1, start=first["export"])
    scratch = run(task, tmp_path / "c", 1)
    assert abs(second["psnr_50"] - first["psnr_50"]) < abs(scratch["psnr_50"] - first["psnr_50"])


def test_steps_that_go_wrong_change_nothing(
    task: DenoiserTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = RunSettings(batch=4, side=16, steps=2, schedule=Schedule(warmup=1, decay=0.0))
    trainer = Trainer(task, settings, tmp_path / "run", device=CPU, say=lambda _: None)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    plain = task.losses

    def broken(*arguments: Any) -> dict[str, torch.Tensor]:
        terms = plain(*arguments)
        return {**terms, "loss": terms["loss"] * float("nan")}

    monkeypatch.setattr(task, "losses", broken)
    with pytest.raises(FloatingPointError, match="lower learning rate"):
        trainer.run()
    after = trainer.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def scaled_from(
    step: int, factor: float, task: DenoiserTask, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Trainer:
    """A trainer of 130 steps, the gradients of which are longer from a step on."""
    settings = RunSettings(batch=4, side=16, steps=130, schedule=Schedule(warmup=4, clip=1e9))
    trainer = Trainer(task, settings, folder, device=CPU, say=lambda _: None)
    plain = task.losses

    def explode(*arguments: Any) -> dict[str, torch.Tensor]:
        terms = plain(*arguments)
        return {**terms, "loss": terms["loss"] * (factor if trainer.step >= step else 1.0)}

    monkeypatch.setattr(task, "losses", explode)
    return trainer


def test_gradients_that_stay_longer_become_usual(
    task: DenoiserTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = scaled_from(110, 100.0, task, tmp_path / "run", monkeypatch)
    lengths = []
    original = trainer._optimizer.step

    def step() -> None:
        gradients = [p.grad for p in trainer.network.parameters()]
        lengths.append(float(torch.nn.utils.get_total_norm(gradients)))
        original()

    monkeypatch.setattr(trainer._optimizer, "step", step)
    trainer.run()
    before = sum(lengths[90:110]) / 20
    assert 5 * before < lengths[110] < 60 * before  # shortened from 100 to 20 times
    assert sum(lengths[125:]) / 5 > 60 * before
    assert all(map(math.isfinite, lengths))


def test_gradients_without_end_end_the_training(
    task: DenoiserTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = scaled_from(105, 1e9, task, tmp_path / "run", monkeypatch)
    with pytest.raises(FloatingPointError, match="far longer than usual"):
        trainer.run()


@pytest.mark.parametrize("resume", [True, False])
def test_runs_are_neither_overwritten_nor_made_up(
    task: DenoiserTask, tmp_path: Path, resume: bool
) -> None:
    if not resume:
        run(task, tmp_path, 1)
    words = "no training to resume" if resume else "give --resume"
    with pytest.raises(ValueError, match=words):
        run(task, tmp_path, 2, resume=resume)


def test_another_network_is_not_resumed(
    task: DenoiserTask, photographs: Path, tmp_path: Path
) -> None:
    run(task, tmp_path, 1)
    source = Source(photographs, 16, 4, CPU)
    other = DenoiserTask(source, config={**SMALL, "widths": [4, 6]})
    with pytest.raises(ValueError, match="holds a denoiser network"):
        run(other, tmp_path, 2, resume=True)


def test_state_with_code_in_it_is_refused(task: DenoiserTask, tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return os.mkdir, (str(tmp_path / "harm"),)

    torch.save({"format": 1, "network": Harm()}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match="no state of a training run"):
        run(task, tmp_path, 2, resume=True)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "nothing"], "no folder of training images"),
        (["--resume"], "no training to resume"),
        (["--size", "30"], "multiple of 8"),
        (["--minutes", "0"], "above 0"),
    ],
)
def test_command_line_refuses(
    arguments: list[str],
    words: str,
    photographs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    common = ["train", "denoiser", "--data", str(photographs), "--out", str(tmp_path / "run")]
    assert main([*common, "--device", "cpu", "--steps", "1", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def command(photographs: Path, folder: Path, *more: str) -> list[str]:
    words = ["train", "denoiser", "--data", str(photographs), "--out", str(folder), "--json"]
    small = ["--size", "8", "--batch", "2", "--device", "cpu", "--threads", "1", "--warmup", "2"]
    return [sys.executable, "-m", "blurfield", *words, *small, *more]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_runs_go_on(photographs: Path, tmp_path: Path, how: signal.Signals) -> None:
    folder = tmp_path / "run"
    often = ["--checkpoint-minutes", "0.005", "--validation-minutes", "100"]
    with subprocess.Popen(
        command(photographs, folder, *often), stdout=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 120
        while not (folder / "state.pt").exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(how)
        out, _ = process.communicate(timeout=60)
    if how is signal.SIGINT:
        assert process.returncode == 0
        assert json.loads(out)["stopped"] == "SIGINT"
    state = torch.load(folder / "state.pt", weights_only=True)
    steps = str(state["step"] + 2)
    for target, more in ((folder, ["--resume"]), (tmp_path / "whole", [])):
        subprocess.run(
            command(photographs, target, "--steps", steps, *more), check=True, capture_output=True
        )
    one, two = (
        torch.load(f / "state.pt", weights_only=True)["network"]
        for f in (folder, tmp_path / "whole")
    )
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
def test_two_processes_train_together(photographs: Path, tmp_path: Path) -> None:
    words = command(photographs, tmp_path / "run", "--steps", "3")
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*start, *words[1:]], check=True, capture_output=True, text=True, timeout=200
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert json.loads(line)["samples"] == 3 * 2 * 2
