"""What the commands of ``blurfield train`` share: options, settings, and the loop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ._values import fraction, positive_int, positive_number, seed

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    import torch

    from blurfield.training.settings import RunSettings
    from blurfield.training.source import Source
    from blurfield.training.task import Task

    from ._console import Console

#: What training data usually are.
SHARP = "sharp images with their manifest.csv"

#: Samples per step and their side in pixels, where they are not given: small ones on a CPU.
_SAMPLES = {"cpu": (32, 128), "cuda": (64, 256)}


def add_common(
    network: argparse.ArgumentParser,
    data: str | None = SHARP,
    rate: float = 1e-3,
    warmup: int = 500,
    size: bool = True,
) -> None:
    """Add the options of all trainings.

    `data` says what --data is, None that there is none; `size` whether samples of any size can be
    cut from it.
    """
    if data is not None:
        network.add_argument("--data", metavar="DIR", required=True, help=data)
    network.add_argument(
        "--out", metavar="DIR", required=True, help="folder for state, curve and weights"
    )
    network.add_argument("--resume", action="store_true", help="continue the run in that folder")
    network.add_argument(
        "--from",
        dest="start",
        metavar="WEIGHTS",
        help="begin a new run with these weights: a file, or the name of installed ones",
    )
    network.add_argument(
        "--steps", type=positive_int, metavar="N", help="stop after so many steps in all"
    )
    network.add_argument(
        "--minutes", type=positive_number, metavar="M", help="stop after so many minutes"
    )
    network.add_argument("--batch", type=positive_int, metavar="N", help="samples per step")
    if data is not None and size:
        network.add_argument("--size", type=positive_int, metavar="PX", help="side of the samples")
    network.add_argument(
        "--rate", type=positive_number, default=rate, help=f"learning rate (default {rate:g})"
    )
    network.add_argument(
        "--warmup",
        type=positive_int,
        default=warmup,
        metavar="N",
        help=f"steps in which it rises (default {warmup})",
    )
    network.add_argument(
        "--cooldown",
        type=fraction,
        metavar="SHARE",
        help="last share of this call in which it falls to 0; what is saved to be resumed is the "
        "state before that",
    )
    network.add_argument("--seed", type=seed, default=0, help="start of the random numbers")
    network.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    network.add_argument(
        "--compile", choices=("auto", "on", "off"), default="auto", help="auto: on CUDA"
    )
    network.add_argument(
        "--threads", type=positive_int, metavar="N", help="cores to use (default all)"
    )
    for what, default in (("checkpoint", 10), ("validation", 5)):
        network.add_argument(
            f"--{what}-minutes",
            type=positive_number,
            default=default,
            metavar="M",
            help=f"time between two {what}s (default {default})",
        )


def prepare(options: argparse.Namespace, pairs: bool = False) -> tuple[RunSettings, Source]:
    """Settings and samples; what can be wrong with the folders is found before anything is read."""
    from blurfield.training.images import read_manifest
    from blurfield.training.pairs import PairFolder

    if not (pairs and PairFolder(Path(options.data)).exists):
        read_manifest(options.data, "train")
    settings, device = prepare_run(options)

    from blurfield.training.source import Source

    return settings, Source(options.data, settings.side, settings.batch, device)


def prepare_run(
    options: argparse.Namespace, batch: int | None = None, **schedule: float | tuple[float, float]
) -> tuple[RunSettings, torch.device]:
    """Settings and device of a run whose samples may need no data.

    `batch` is the number of samples per step, where it is not given, and `schedule` holds what has
    no option in `blurfield.training.settings.Schedule`.
    """
    from blurfield.training.state import require_run

    require_run(Path(options.out), options.resume)
    if options.resume and options.start:
        raise ValueError("--resume continues with the run's own weights; leave out --from")

    import torch

    from blurfield._allocator import keep_freed_memory
    from blurfield.compute import choose_device
    from blurfield.training.processes import local_device
    from blurfield.training.settings import RunSettings, Schedule

    if options.threads:
        torch.set_num_threads(options.threads)
    device = local_device(choose_device(options.device))
    if device.type == "cpu":
        keep_freed_memory()  # each step needs the same tensors again
    usual, side = _SAMPLES.get(device.type, _SAMPLES["cpu"])
    settings = RunSettings(
        batch=options.batch or batch or usual,
        side=getattr(options, "size", None) or side,
        steps=options.steps,
        minutes=options.minutes,
        seed=options.seed,
        precision=options.precision,
        compile=options.compile,
        checkpoint_minutes=options.checkpoint_minutes,
        validation_minutes=options.validation_minutes,
        schedule=Schedule(
            rate=options.rate,
            warmup=options.warmup,
            cooldown=options.cooldown or 0.0,
            **schedule,  # type: ignore[arg-type]
        ),
    )
    return settings, device


def run_training(
    task: Task,
    settings: RunSettings,
    device: torch.device,
    options: argparse.Namespace,
    console: Console,
    finish: Callable[[str], None] | None = None,
) -> None:
    """Train, and print what came of it; `finish` is given the file with the exported weights."""
    from blurfield.training.loop import Trainer

    trainer = Trainer(
        task,
        settings,
        options.out,
        device=device,
        resume=options.resume,
        start=options.start,
        say=speaker(options),
    )
    result = trainer.run()
    if trainer.is_first:
        if finish is not None:
            finish(result["export"])
        figures = "  ".join(
            f"{name} {value:.4g}" for name, value in result.items() if isinstance(value, float)
        )
        console.result(
            f"{result['export']}: {result['samples']:,} samples, {figures} ({result['stopped']})",
            result,
        )


def speaker(options: argparse.Namespace) -> Callable[[str], None]:
    """Return what prints lines of text for people, where they are wanted."""
    silent = options.quiet or options.json

    def say(line: str) -> None:
        if not silent:
            print(line, flush=True)

    return say
