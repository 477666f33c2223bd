"""Training of the flow of motion kernels: it learns, goes on where it stopped, and can be used."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from blurfield.checkpoints import read_checkpoint
from blurfield.cli import main
from blurfield.estimation.flow import KernelFlow
from blurfield.kernel_prior import KernelPrior
from blurfield.training.flow import NORMALIZATION, FlowTask
from blurfield.training.loop import Trainer
from blurfield.training.settings import RunSettings, Schedule

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")
SMALL = {"kernel_size": 5, "hidden": 8, "blocks": 2}


@pytest.fixture(scope="module")
def task() -> FlowTask:
    return FlowTask(CPU, 32, config=SMALL, kernels=500)


def run(task: FlowTask, folder: Path, steps: int, **options: Any) -> dict[str, Any]:
    settings = RunSettings(batch=32, steps=steps, schedule=Schedule(rate=5e-3, warmup=2))
    return Trainer(task, settings, folder, device=CPU, say=lambda _: None, **options).run()


def test_likelihood_rises_and_runs_go_on(task: FlowTask, tmp_path: Path) -> None:
    few = run(task, tmp_path / "run", 5)
    more = run(task, tmp_path / "run", 40, resume=True)
    assert more["log_likelihood"] > few["log_likelihood"] + 2
    run(task, tmp_path / "whole", 40)
    one, two = (
        read_checkpoint(tmp_path / name / "flow.safetensors").load() for name in ("run", "whole")
    )
    assert all(torch.equal(values, two[name]) for name, values in one.items())
    prior = KernelPrior.load(tmp_path / "run" / "flow.safetensors")
    assert prior.flow.config == SMALL
    assert float(prior.flow.normalization) == pytest.approx(NORMALIZATION, rel=1e-3)
    # It has seen that the light is in the middle, on average.
    kernels = prior.sample(200, torch.Generator().manual_seed(0), 1.0)
    assert kernels.mean(0).argmax() == 12


def test_statistics_are_those_of_the_weights(task: FlowTask, tmp_path: Path) -> None:
    run(task, tmp_path / "run", 40)
    path = tmp_path / "run" / "flow.safetensors"
    before = read_checkpoint(path)
    old = before.load(as_stored=True)
    task.settle_file(path)
    after = read_checkpoint(path)
    assert (after.config, after.facts) == (before.config, before.facts)
    new = after.load(as_stored=True)
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == {f"net.{n}.running_{what}" for n in (1, 3) for what in ("mean", "var")}
    assert {values.dtype for values in new.values()} == {torch.float16}
    # What comes out of the last normalisation has the mean and spread that it was told.
    flow = KernelPrior.load(path).flow
    kernels = task.make(torch.Generator().manual_seed(5), 0)
    codes = flow.encode(kernels.repeat(20, 1, 1), torch.Generator().manual_seed(6))
    last = flow.net[3]
    assert (codes.mean(0) - last.beta).abs().max() < 1
    assert (codes.std(0).log() - last.log_gamma).abs().max() < 1


def test_a_new_flow_changes_nothing_but_the_spread(task: FlowTask) -> None:
    flow = task.network().eval()
    assert isinstance(flow, KernelFlow)
    x = torch.randn(3, 25, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(flow(x)[0], x, rtol=1e-4, atol=1e-4)


def test_batches_are_turned_and_depend_on_the_generator(task: FlowTask) -> None:
    batches = [task.make(torch.Generator().manual_seed(seed), 0) for seed in (1, 1, 2)]
    assert batches[0].shape == (32, 5, 5)
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])
    torch.testing.assert_close(batches[0].sum((1, 2)), torch.ones(32), rtol=0, atol=2e-3)


def test_one_kernel_is_no_batch() -> None:
    with pytest.raises(ValueError, match="needs 2 kernels or more, got 1"):
        FlowTask(CPU, 1, config=SMALL)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "flow", "--out", str(tmp_path / "run"), "--device", "cpu", "--json"]
    small = ["--kernel-size", "3", "--hidden", "4", "--blocks", "1", "--kernels", "50"]
    assert main([*words, *small, "--steps", "2"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["step"], result["samples"]) == (2, 200)
    assert read_checkpoint(result["export"]).config["hidden"] == 4
    assert main([*words, *small, "--steps", "3"]) == 2
    assert "give --resume" in capsys.readouterr().err
    assert main([*words, *small, "--steps", "3", "--resume"]) == 0
    # Weights to begin with say how large the flow is.
    begun = [*words[:3], str(tmp_path / "other"), *words[4:], "--kernels", "50", "--steps", "1"]
    assert main([*begun, "--from", result["export"]]) == 0
    assert read_checkpoint(tmp_path / "other" / "flow.safetensors").config["hidden"] == 4
