"""``blurfield train trust``: the network that judges restored images, and its samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._training import SHARP, add_common, prepare_run, run_training, speaker
from ._values import positive_int, seed

if TYPE_CHECKING:
    import argparse

    from ._console import Console

#: Samples in a step.
_BATCH = 8
#: Estimators whose fields are judged, each as frequent as it is named.
_MODELS = ("combined", "wrong", "combined", "windowed")


def add_parser(
    networks: argparse._SubParsersAction[Any],
    *,
    device: argparse.ArgumentParser,
    spoken: argparse.ArgumentParser,
) -> None:
    """Add the network to those that can be trained."""
    network = networks.add_parser(
        "trust",
        parents=[device, spoken],
        help="the network that judges what was restored with estimated fields",
    )
    add_common(
        network, data="samples that trust-samples has made", rate=2e-3, warmup=50, size=False
    )
    # A few samples and little work: half precision has no advantage.
    network.set_defaults(run=trust, precision="fp32")

    network = networks.add_parser(
        "trust-samples",
        parents=[device, spoken],
        help="estimate and restore photographs with known blur, as samples for trust",
    )
    network.add_argument("--data", metavar="DIR", required=True, help=SHARP)
    network.add_argument("--out", metavar="DIR", required=True, help="folder for the samples")
    network.add_argument(
        "--count",
        type=positive_int,
        default=1000,
        metavar="N",
        help="blurry photographs, of each of which there are two samples (default 1000)",
    )
    network.add_argument(
        "--models",
        nargs="+",
        default=_MODELS,
        metavar="MODEL",
        help="estimators, each as frequent as it is named; wrong for true fields with errors "
        f"(default {' '.join(_MODELS)})",
    )
    network.add_argument("--seed", type=seed, default=0, help="start of the random numbers")
    network.set_defaults(run=trust_samples)


def trust(options: argparse.Namespace, console: Console) -> None:
    """Train the network that judges restored images."""
    settings, device = prepare_run(options, _BATCH)
    from blurfield.training.trust import TrustTask

    task = TrustTask(options.data, settings.batch, device)
    run_training(task, settings, device, options, console)


def trust_samples(options: argparse.Namespace, console: Console) -> None:
    """Make samples of restored photographs."""
    from blurfield.compute import choose_device
    from blurfield.training.trust_samples import make_samples

    made = make_samples(
        options.data,
        Path(options.out),
        count=options.count,
        models=options.models,
        device=choose_device(options.device),
        seed=options.seed,
        say=speaker(options),
    )
    console.result(f"{options.out}: {made} samples", {"folder": options.out, "samples": made})
