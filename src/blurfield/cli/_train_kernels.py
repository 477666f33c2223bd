"""``blurfield train kernels``: UFPNet's network that gives each pixel a kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._training import SHARP, add_common, prepare_run, run_training
from ._values import not_negative, odd, positive_int, positive_number

if TYPE_CHECKING:
    import argparse

    from ._console import Console

#: Channels of the published network.
_WIDTHS = (64, 128, 256)


def add_parser(
    networks: argparse._SubParsersAction[Any],
    *,
    device: argparse.ArgumentParser,
    spoken: argparse.ArgumentParser,
) -> None:
    """Add the network to those that can be trained."""
    network = networks.add_parser(
        "kernels",
        parents=[device, spoken],
        help="the network that gives each pixel a kernel, from pairs of sharp and blurry images",
    )
    add_common(network, data=f"{SHARP}, or pairs in the layout of GoPro, HIDE or RealBlur")
    network.add_argument(
        "--prior",
        choices=("flow+uncertainty", "flow", "none"),
        default="flow+uncertainty",
        help="what stands between network and kernels (default flow+uncertainty)",
    )
    network.add_argument(
        "--flow", metavar="WEIGHTS", help="the trained flow: a file, or the name of installed ones"
    )
    network.add_argument(
        "--widths",
        type=positive_int,
        nargs=3,
        default=_WIDTHS,
        metavar="N",
        help="channels at full, half and quarter size (default 64 128 256)",
    )
    network.add_argument(
        "--stride",
        type=int,
        choices=(1, 2, 4),
        default=1,
        help="pixels along each side of the cells that get a kernel (default 1)",
    )
    network.add_argument(
        "--kernel-size",
        type=odd,
        default=19,
        metavar="K",
        help="side of the kernels without a flow, which has its own (default 19)",
    )
    network.add_argument(
        "--max-extent",
        type=positive_number,
        metavar="PX",
        help="longest simulated blur in pixels (default: as long as kernels can hold)",
    )
    network.add_argument(
        "--reblur-gamma",
        type=positive_number,
        default=2.2,
        metavar="G",
        help="exponent to the values that blur adds up: 2.2 for linear light (default), 1 for the "
        "values as they are stored, as published",
    )
    network.add_argument(
        "--uncertainty",
        type=not_negative,
        default=1e-3,
        metavar="WEIGHT",
        help="of the reward for uncertainty (default 0.001); 0 as published",
    )
    network.add_argument(
        "--raw-sums",
        action="store_true",
        help="leave the sums of kernels as they are, as published",
    )
    network.set_defaults(run=kernels)


def kernels(options: argparse.Namespace, console: Console) -> None:
    """Train the network that gives each pixel a kernel."""
    from blurfield.training.folder_samples import blurry_samples
    from blurfield.training.kernel_codes import KernelTask, load_flow
    from blurfield.training.source import Source

    settings, device = prepare_run(options)
    flow = None if options.prior == "none" else load_flow(options.flow)
    size = options.kernel_size if flow is None else flow.side
    samples = blurry_samples(
        Source(options.data, settings.side, settings.batch, device),
        max_extent=options.max_extent or size,
        seed=options.seed,
    )
    task = KernelTask(
        samples,
        flow,
        prior=options.prior,
        config={"widths": options.widths, "stride": options.stride},
        reblur_gamma=options.reblur_gamma,
        uncertainty=options.uncertainty,
        raw_sums=options.raw_sums,
        kernel_size=size,
    )
    run_training(task, settings, device, options, console)
