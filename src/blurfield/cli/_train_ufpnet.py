"""``blurfield train ufpnet``: UFPNet's network that restores, given kernels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._training import SHARP, add_common, prepare_run, run_training
from ._values import not_negative, positive_int, positive_number

if TYPE_CHECKING:
    import argparse

    import torch

    from blurfield.estimation.ufp_network import KernelEstimator

    from ._console import Console

#: Of the published training.
_RATE, _DECAY, _BETAS, _CLIP = 1e-3, 1e-3, (0.9, 0.9), 0.01
#: Of the published network.
_WIDTH, _BLOCKS = 64, (1, 1, 1, 28)


def add_parser(
    networks: argparse._SubParsersAction[Any],
    *,
    device: argparse.ArgumentParser,
    spoken: argparse.ArgumentParser,
) -> None:
    """Add the network to those that can be trained."""
    network = networks.add_parser(
        "ufpnet",
        parents=[device, spoken],
        help="UFPNet's network that restores, given the kernels that another one estimates",
    )
    add_common(
        network, data=f"{SHARP}, or pairs in the layout of GoPro, HIDE or RealBlur", rate=_RATE
    )
    network.add_argument(
        "--kernels",
        metavar="WEIGHTS",
        help="the trained network for kernels, which stays as it is: a file, or the name of "
        "installed weights (default: those installed)",
    )
    network.add_argument(
        "--width",
        type=positive_int,
        default=_WIDTH,
        metavar="N",
        help=f"channels at full size (default {_WIDTH}, as published)",
    )
    network.add_argument(
        "--blocks",
        type=positive_int,
        nargs="+",
        default=_BLOCKS,
        metavar="N",
        help="blocks at full size and at each halving of it; sizes with exactly one are told the "
        f"kernels (default {' '.join(map(str, _BLOCKS))}, as published)",
    )
    network.add_argument(
        "--reblur",
        type=not_negative,
        default=0.01,
        metavar="WEIGHT",
        help="weight of the reblur term (default 0.01)",
    )
    network.add_argument(
        "--reblur-gamma",
        type=positive_number,
        default=2.2,
        metavar="G",
        help="exponent to the values that blur adds up: 2.2 for linear light (default), 1 for the "
        "values as they are stored, as published; as in the training of the kernels",
    )
    network.add_argument(
        "--raw-sums",
        action="store_true",
        help="reblur with kernels of the sums that they have, as published; default: of sum 1",
    )
    network.add_argument(
        "--noise",
        action="store_true",
        help="mix codes with noise as far as they are uncertain, as published",
    )
    network.add_argument(
        "--max-extent",
        type=positive_number,
        metavar="PX",
        help="longest simulated blur in pixels (default: as long as kernels can hold)",
    )
    network.set_defaults(run=ufpnet)


def ufpnet(options: argparse.Namespace, console: Console) -> None:
    """Train UFPNet's network that restores."""
    settings, device = prepare_run(options, decay=_DECAY, betas=_BETAS, clip=_CLIP)
    from blurfield.training.folder_samples import blurry_samples
    from blurfield.training.source import Source
    from blurfield.training.ufpnet import UFPNetTask

    config, estimator = _estimator(options, device)
    samples = blurry_samples(
        Source(options.data, settings.side, settings.batch, device),
        max_extent=options.max_extent or estimator.config["kernel_size"],
        seed=options.seed,
    )
    task = UFPNetTask(
        samples,
        estimator,
        config=config,
        reblur=options.reblur,
        reblur_gamma=options.reblur_gamma,
        raw_sums=options.raw_sums,
        noise=options.noise,
    )
    run_training(task, settings, device, options, console)


def _estimator(
    options: argparse.Namespace, device: torch.device
) -> tuple[dict[str, Any], KernelEstimator]:
    """Parameters of the network without those of the estimator, and the estimator.

    Both are those of the run or of the weights that are continued, if there are any.
    """
    from blurfield.checkpoints import resolve
    from blurfield.estimation.ufp import find_weights, load_estimator
    from blurfield.restoration.ufpnet_network import ARCHITECTURE, UFPNet
    from blurfield.training.state import load_state

    if options.resume:
        state = load_state(Path(options.out), device)
        config = dict(state["config"])
        network = UFPNet(**config)
        network.load_state_dict(state["network"])
        estimator = network.estimator.to(device)
    elif options.start:
        weights = resolve(options.start, ARCHITECTURE)
        options.start, config = weights.path, dict(weights.config)
        estimator = load_estimator(weights, device)
    else:
        blocks = list(options.blocks)
        config = {"width": options.width, "encoder": blocks, "decoder": [1] * len(blocks)}
        estimator = load_estimator(find_weights(options.kernels), device)
    config.pop("estimator", None)
    return config, estimator
