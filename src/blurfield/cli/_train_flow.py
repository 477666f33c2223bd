"""``blurfield train flow``: the flow of motion kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._training import add_common, prepare_run, run_training
from ._values import odd, positive_int

if TYPE_CHECKING:
    import argparse

    from ._console import Console

#: Samples per step, weight decay and learning rate of Liang et al. 2021.
_BATCH, _DECAY, _RATE = 100, 1e-6, 1e-4


def add_parser(
    networks: argparse._SubParsersAction[Any],
    *,
    device: argparse.ArgumentParser,
    spoken: argparse.ArgumentParser,
) -> None:
    """Add the network to those that can be trained."""
    network = networks.add_parser(
        "flow", parents=[device, spoken], help="the flow of motion kernels, which needs no data"
    )
    add_common(network, data=None, rate=_RATE, warmup=100)
    for option, default, what in (
        ("hidden", 25, "width of the hidden layers"),
        ("blocks", 5, "number of couplings"),
        ("kernels", 100_000, "kernels that are made up front"),
    ):
        network.add_argument(
            f"--{option}",
            type=positive_int,
            default=default,
            metavar="N",
            help=f"{what} (default {default})",
        )
    network.add_argument(
        "--kernel-size",
        type=odd,
        default=19,
        metavar="K",
        help="side of the kernels in pixels (default 19)",
    )
    # Densities suffer from bfloat16.
    network.set_defaults(run=flow, precision="fp32")


def flow(options: argparse.Namespace, console: Console) -> None:
    """Train the flow of motion kernels."""
    settings, device = prepare_run(options, _BATCH, decay=_DECAY, betas=(0.9, 0.999))
    from blurfield.checkpoints import resolve
    from blurfield.estimation.flow import ARCHITECTURE
    from blurfield.training.flow import FlowTask

    config = {name: getattr(options, name) for name in ("kernel_size", "hidden", "blocks")}
    if options.start:
        config = resolve(options.start, ARCHITECTURE).config
    task = FlowTask(
        device,
        settings.batch,
        config=config,
        kernels=options.kernels,
        seed=options.seed,
    )
    run_training(task, settings, device, options, console, task.settle_file)
