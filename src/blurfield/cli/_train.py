"""``blurfield train``: train the networks of this package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._values import fraction, not_negative, odd, positive_int, positive_number, seed

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from torch import Tensor

    from blurfield.training.factories import RestorerFactory
    from blurfield.training.restoration_samples import RestorationSamples
    from blurfield.training.settings import RunSettings
    from blurfield.training.source import Source
    from blurfield.training.task import Task

    from ._console import Console

#: Samples per step and their side in pixels, where they are not given: small ones on a CPU.
_SAMPLES = {"cpu": (32, 128), "cuda": (64, 256)}
#: What training data can be.
_SHARP = "sharp images with their manifest.csv"
_SHARP_OR_PAIRS = f"{_SHARP}, or pairs"
#: Weight of the reblur-consistency term in fine-tuning.
_REBLUR = 30.0


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

    network = networks.add_parser(
        "gradients",
        parents=[device, spoken],
        help="the network that finds sharp edges for the windowed estimator",
    )
    _add_common(network, rate=2e-3, warmup=40)
    network.add_argument(
        "--kernel-size",
        type=odd,
        default=33,
        metavar="K",
        help="side of the kernels in pixels, at most half of that of the samples (default 33)",
    )
    network.set_defaults(run=gradients)

    network = networks.add_parser(
        "restorer", parents=[device, spoken], help="a small network that restores without a field"
    )
    _add_common(network, data=_SHARP_OR_PAIRS)
    _add_restoration(network, reblur=0.0)
    network.add_argument(
        "--width", type=positive_int, metavar="N", help="its channels at full size (default 16)"
    )
    network.set_defaults(run=restorer)

    network = networks.add_parser(
        "finetune",
        parents=[device, spoken],
        help="any network that restores, so that its results explain the blurry images",
    )
    _add_common(network, data=_SHARP_OR_PAIRS, rate=2e-4, warmup=50)
    _add_restoration(network, reblur=_REBLUR)
    network.add_argument(
        "--restorer",
        default="ours",
        metavar="PATH",
        help="package.module:factory of a torch network (default: ours)",
    )
    network.add_argument(
        "--loss",
        metavar="PATH",
        help="package.module:function of restored and sharp images (default: mean absolute "
        "difference)",
    )
    network.set_defaults(run=finetune)

    network = networks.add_parser(
        "pairs", parents=[spoken], help="blur sharp images, as pairs for finetune"
    )
    network.add_argument("--data", metavar="DIR", required=True, help=_SHARP)
    network.add_argument("--out", metavar="DIR", required=True, help="folder for the pairs")
    network.add_argument(
        "--count", type=positive_int, default=200, metavar="N", help="pairs (default 200)"
    )
    network.add_argument(
        "--size", type=positive_int, default=192, metavar="PX", help="their side (default 192)"
    )
    _add_max_extent(network)
    network.add_argument("--seed", type=seed, default=0, help="start of the random numbers")
    network.set_defaults(run=pairs)


def _add_common(
    network: argparse.ArgumentParser, data: str = _SHARP, rate: float = 1e-3, warmup: int = 500
) -> None:
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


def _add_restoration(network: argparse.ArgumentParser, reblur: float) -> None:
    network.add_argument(
        "--reblur",
        type=not_negative,
        default=reblur,
        metavar="WEIGHT",
        help=f"weight of the reblur-consistency term (default {reblur:g})",
    )
    _add_max_extent(network)
    network.add_argument(
        "--fields",
        default="true",
        metavar="MODEL",
        help="of pairs: with which to blur; the true ones (default), or those of an estimator",
    )
    network.add_argument(
        "--kernel-size", type=odd, metavar="K", help="side of estimated kernels in pixels"
    )


def _add_max_extent(network: argparse.ArgumentParser) -> None:
    network.add_argument(
        "--max-extent",
        type=positive_number,
        default=17.0,
        metavar="PX",
        help="longest blur that is simulated, in pixels (default 17)",
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


def gradients(options: argparse.Namespace, console: Console) -> None:
    """Train the network that finds sharp edges."""
    settings, source = _prepare(options)
    from blurfield.training.gradients import GradientsTask

    _train(GradientsTask(source, size=options.kernel_size), settings, source, options, console)


def restorer(options: argparse.Namespace, console: Console) -> None:
    """Train our network that restores."""
    settings, source = _prepare(options, pairs=True)
    from blurfield.training.factories import RestorerFactory

    config = {} if options.width is None else {"width": options.width}
    _train_restorer(RestorerFactory(config=config), {}, settings, source, options, console)


def finetune(options: argparse.Namespace, console: Console) -> None:
    """Train a network that restores further, with the reblur-consistency term."""
    settings, source = _prepare(options, pairs=True)
    from blurfield.checkpoints import resolve
    from blurfield.restoration.restorer_network import ARCHITECTURE
    from blurfield.training.factories import OURS, RestorerFactory, find_loss
    from blurfield.training.state import load_state

    config = None
    if options.restorer == OURS and options.resume:
        config = load_state(Path(options.out), source.device)["config"]
    elif options.restorer == OURS:
        weights = resolve(options.start, ARCHITECTURE)
        options.start, config = weights.path, weights.config
    network = RestorerFactory(options.restorer, config)
    loss = {"loss": find_loss(options.loss)} if options.loss else {}
    _train_restorer(network, loss, settings, source, options, console)


def _train_restorer(
    network: RestorerFactory,
    loss: dict[str, Callable[[Tensor, Tensor], Tensor]],
    settings: RunSettings,
    source: Source,
    options: argparse.Namespace,
    console: Console,
) -> None:
    from blurfield.training.pair_samples import PairSamples
    from blurfield.training.pairs import PairFolder
    from blurfield.training.restoration_samples import SimulatedSamples
    from blurfield.training.restorer import RestorerTask

    source.require_multiple(network.multiple)
    samples: RestorationSamples
    if PairFolder(Path(source.data)).exists:
        samples = PairSamples(
            source,
            model=options.fields,
            kernel_size=options.kernel_size,
            say=_speaker(options),
        )
    else:
        samples = SimulatedSamples(source, max_extent=options.max_extent, seed=options.seed)
    task = RestorerTask(samples, network, reblur=options.reblur, **loss)
    _train(task, settings, source, options, console)


def pairs(options: argparse.Namespace, console: Console) -> None:
    """Blur sharp images, as pairs for fine-tuning."""
    from blurfield.training.pairs import PairFolder, make_pairs

    made = make_pairs(
        options.data,
        PairFolder(Path(options.out)),
        count=options.count,
        side=options.size,
        max_extent=options.max_extent,
        seed=options.seed,
    )
    console.result(f"{options.out}: {made} pairs", {"folder": options.out, "pairs": made})


def _prepare(options: argparse.Namespace, pairs: bool = False) -> tuple[RunSettings, Source]:
    """Settings and samples; what can be wrong with the folders is found before anything is read."""
    from blurfield.training.images import read_manifest
    from blurfield.training.pairs import PairFolder
    from blurfield.training.state import require_run

    if not (pairs and PairFolder(Path(options.data)).exists):
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

    trainer = Trainer(
        task,
        settings,
        options.out,
        device=source.device,
        resume=options.resume,
        start=options.start,
        say=_speaker(options),
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


def _speaker(options: argparse.Namespace) -> Callable[[str], None]:
    """Return what prints lines of text for people, where they are wanted."""
    silent = options.quiet or options.json

    def say(line: str) -> None:
        if not silent:
            print(line, flush=True)

    return say
