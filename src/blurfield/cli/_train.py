"""``blurfield train``: train the networks of this package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _train_flow, _train_kernels, _train_trust, _train_ufpnet
from ._training import SHARP, add_common, prepare, run_training, speaker
from ._values import not_negative, odd, positive_int, positive_number, seed

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from torch import Tensor

    from blurfield.training.factories import RestorerFactory
    from blurfield.training.restoration_samples import RestorationSamples
    from blurfield.training.settings import RunSettings
    from blurfield.training.source import Source

    from ._console import Console

#: What training data can be, too.
_SHARP_OR_PAIRS = f"{SHARP}, or pairs"
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
    add_common(network)
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
    add_common(network)
    network.set_defaults(run=denoiser)

    network = networks.add_parser(
        "gradients",
        parents=[device, spoken],
        help="the network that finds sharp edges for the windowed estimator",
    )
    add_common(network, rate=2e-3, warmup=40)
    network.add_argument(
        "--kernel-size",
        type=odd,
        default=33,
        metavar="K",
        help="side of the kernels in pixels, at most half of that of the samples (default 33)",
    )
    network.set_defaults(run=gradients)

    _train_flow.add_parser(networks, device=device, spoken=spoken)
    _train_kernels.add_parser(networks, device=device, spoken=spoken)
    _train_ufpnet.add_parser(networks, device=device, spoken=spoken)
    _train_trust.add_parser(networks, device=device, spoken=spoken)

    network = networks.add_parser(
        "restorer", parents=[device, spoken], help="a small network that restores without a field"
    )
    add_common(network, data=_SHARP_OR_PAIRS)
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
    add_common(network, data=_SHARP_OR_PAIRS, rate=2e-4, warmup=50)
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
    network.add_argument("--data", metavar="DIR", required=True, help=SHARP)
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
    settings, source = prepare(options)
    from blurfield.training.estimator import EstimatorTask

    task = EstimatorTask(
        source,
        kernels=options.kernels,
        max_extent=options.max_extent,
        seed=options.seed,
    )
    run_training(task, settings, source.device, options, console)


def denoiser(options: argparse.Namespace, console: Console) -> None:
    """Train the denoiser."""
    settings, source = prepare(options)
    from blurfield.training.denoiser import DenoiserTask

    run_training(DenoiserTask(source), settings, source.device, options, console)


def gradients(options: argparse.Namespace, console: Console) -> None:
    """Train the network that finds sharp edges."""
    settings, source = prepare(options)
    from blurfield.training.gradients import GradientsTask

    run_training(
        GradientsTask(source, size=options.kernel_size), settings, source.device, options, console
    )


def restorer(options: argparse.Namespace, console: Console) -> None:
    """Train our network that restores."""
    settings, source = prepare(options, pairs=True)
    from blurfield.training.factories import RestorerFactory

    config = {} if options.width is None else {"width": options.width}
    _train_restorer(RestorerFactory(config=config), {}, settings, source, options, console)


def finetune(options: argparse.Namespace, console: Console) -> None:
    """Train a network that restores further, with the reblur-consistency term."""
    settings, source = prepare(options, pairs=True)
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
            say=speaker(options),
        )
    else:
        samples = SimulatedSamples(source, max_extent=options.max_extent, seed=options.seed)
    task = RestorerTask(samples, network, reblur=options.reblur, **loss)
    run_training(task, settings, source.device, options, console)


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
