"""Samples a second in training the estimator, and what the time goes into.

    python benchmarks/training_speed.py --data DIR [--device cuda] [--batch 64] [--size 256]

Prints, per sample, the time for making it, for the network forward and backward and for changing
the weights; samples a second of the real loop, in which the first of these may run beside the
others; and the floating-point operations of the network per pixel. Time on the CPU is that of the
process, so that other programs matter less.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from blurfield._allocator import keep_freed_memory
from blurfield.compute import choose_device
from blurfield.precision import memory_format, network_dtype
from blurfield.training.estimator import EstimatorTask
from blurfield.training.loop import Trainer
from blurfield.training.settings import RunSettings, Schedule
from blurfield.training.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable


def seconds(work: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Least time of some calls, after one that does not count."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    times = []
    for _ in range(repeats + 1):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        begun = clock()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(clock() - begun)
    return min(times[1:])


def parts(task: EstimatorTask, device: torch.device, batch: int, repeats: int) -> dict[str, float]:
    """Milliseconds a sample for each part of a step."""
    network = task.network().to(device, memory_format=memory_format(device))
    generator = torch.Generator(device).manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), fused=device.type == "cuda")
    made = task.make(generator, 0)
    dtype = network_dtype(device)

    def forward() -> torch.Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return task.losses(network, made, generator)["loss"]

    figures = {
        "make": seconds(lambda: task.make(generator, 0), device, repeats),
        "forward": seconds(forward, device, repeats),
        "forward and backward": seconds(lambda: forward().backward(), device, repeats),
        "update": seconds(optimizer.step, device, repeats),
    }
    return {name: 1e3 * value / batch for name, value in figures.items()}


def main() -> None:
    """Run the benchmark and print its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of training images")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--size", type=int)
    parser.add_argument("--steps", type=int, default=30, help="steps of the real loop")
    parser.add_argument("--images", type=int, default=100, help="images to read")
    options = parser.parse_args()
    device = choose_device(options.device)
    if device.type == "cpu":
        keep_freed_memory()  # as `blurfield train` does
    batch = options.batch or (64 if device.type == "cuda" else 16)
    side = options.size or (256 if device.type == "cuda" else 128)
    source = Source(options.data, side, batch, device, images=options.images)
    task = EstimatorTask(source, kernels=2000)
    network = task.network().to(device)
    with FlopCounterMode(display=False) as counter:
        network(torch.rand(1, 3, side, side, device=device))
    result: dict[str, Any] = {
        "device": str(device),
        "type": str(network_dtype(device)).removeprefix("torch."),
        "batch": batch,
        "side": side,
        "parameters": sum(p.numel() for p in network.parameters()),
        "kflop_per_pixel": counter.get_total_flops() / side**2 / 1e3,
        "milliseconds_per_sample": parts(task, device, batch, 5),
    }
    with tempfile.TemporaryDirectory() as folder:
        warm = max(options.steps // 3, 1)  # compilation, and the choice of algorithms
        settings = RunSettings(batch=batch, side=side, steps=warm, schedule=Schedule())
        quiet = {"device": device, "say": lambda line: None}
        Trainer(task, settings, folder, **quiet).run()
        settings = RunSettings(batch=batch, side=side, steps=warm + options.steps)
        trainer = Trainer(task, settings, folder, resume=True, **quiet)
        begun = time.perf_counter()
        trainer.run()
        result["samples_per_second_with_validation"] = (
            options.steps * batch / (time.perf_counter() - begun)
        )
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
