"""``blurfield train``: train the networks of this package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._values import fraction, positive_int, positive_number, seed

if TYPE_CHECKING:
    import argparse

    from blurfield.training.loop import Task
    from blurfield.training.settings import RunSettings
    from blurfield.training.source import Source

    from ._console import Console

#: Samples per step and their side in pixels, where they are not given: small ones on a CPU.
_SAMPLES = {"cpu": (32, 128), "cuda": (64, 256)}


def add_parser(
    commands: argparse._SubParsersAction[Any],
    *,
    device: argparse.ArgumentParser,
    spoken: argparse.ArgumentParser,
) -> None:
    """Add the command to those of the parser; the others are parents with shared options."""
    train = commands.add_parser(
        "train", help="train a network", description="See docs/training.md for what to run next."
    )
    networks = train.add_subparsers(title="which network", metavar="NETWORK", required=True)

    network = networks.add_parser(
        "estimator", parents=[device, spoken], help="the compact network that estimates fields"
    )
    _add_common(network)
    network.add_argument(
        "--max-extent",
        type=positive_number,
        metavar="PX",
        help="longest blur in pixels (default: as long as kernels can hold)",
    )
    network.add_argument(
        "--kernels", type=positive_int, metavar="N", help="kernels that are made up front"
    )
    network.set_defaults(run=estimator)

    network = networks.add_parser(
        "denoiser", parents=[device, spoken], help="the denoiser that restoration uses"
    )
    _add_common(network)
    network.set_defaults(run=denoiser)


def _add_common(network: argparse.ArgumentParser) -> None:
    network.add_argument(
        "--data", metavar="DIR", required=True, help="sharp images with their manifest.csv"
    )
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
    network.add_argument("--size", type=positive_int, metavar="PX", help="side of the samples")
    network.add_argument(
        "--rate", type=positive_number, default=1e-3, help="learning rate (default 0.001)"
    )
    network.add_argument(
        "--warmup", type=positive_int, default=500, metavar="N", help="steps in which it rises"
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


def estimator(options: argparse.Namespace, console: Console) -> None:
    """Train the compact estimation network."""
    settings, source = _prepare(options)
    from blurfield.training.estimator import EstimatorTask

    task = EstimatorTask(
        source,
        kernels=options.kernels,
        max_extent=options.max_extent,
        seed=options.seed,
    )
    _train(task, settings, source, options, console)


def denoiser(options: argparse.Namespace, console: Console) -> None:
    """Train the denoiser."""
    settings, source = _prepare(options)
    from blurfield.training.denoiser import DenoiserTask

    _train(DenoiserTask(source), settings, source, options, console)


def _prepare(options: argparse.Namespace) -> tuple[RunSettings, Source]:
    """Settings and samples; what can be wrong with the folders is found before anything is read."""
    from blurfield.training.images import read_manifest
    from blurfield.training.state import require_run

    read_manifest(options.data, "train")
    require_run(Path(options.out), options.resume)
    if options.resume and options.start:
        raise ValueError("--resume continues with the run's own weights; leave out --from")

    import torch

    from blurfield.compute import choose_device
    from blurfield.training.processes import local_device
    from blurfield.training.settings import RunSettings, Schedule
    from blurfield.training.source import Source

    if options.threads:
        torch.set_num_threads(options.threads)
    device = local_device(choose_device(options.device))
    batch, side = _SAMPLES.get(device.type, _SAMPLES["cpu"])
    settings = RunSettings(
        batch=options.batch or batch,
        side=options.size or side,
        steps=options.steps,
        minutes=options.minutes,
        seed=options.seed,
        precision=options.precision,
        compile=options.compile,
        checkpoint_minutes=options.checkpoint_minutes,
        validation_minutes=options.validation_minutes,
        schedule=Schedule(
            rate=options.rate, warmup=options.warmup, cooldown=options.cooldown or 0.0
        ),
    )
    return settings, Source(options.data, settings.side, settings.batch, device)


def _train(
    task: Task,
    settings: RunSettings,
    source: Source,
    options: argparse.Namespace,
    console: Console,
) -> None:
    from blurfield.training.loop import Trainer

    silent = options.quiet or options.json

    def say(line: str) -> None:
        if not silent:
            print(line, flush=True)

    trainer = Trainer(
        task,
        settings,
        options.out,
        device=source.device,
        resume=options.resume,
        start=options.start,
        say=say,
    )
    result = trainer.run()
    if trainer.is_first:
        figures = "  ".join(
            f"{name} {value:.4g}" for name, value in result.items() if isinstance(value, float)
        )
        console.result(
            f"{result['export']}: {result['samples']:,} samples, {figures} ({result['stopped']})",
            result,
        )
