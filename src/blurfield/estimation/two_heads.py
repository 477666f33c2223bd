"""Estimation with the published network of `blurfield.estimation.two_heads_network`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from blurfield.checkpoints import resolve
from blurfield.compute import Reporter
from blurfield.field import KernelField
from blurfield.precision import memory_format, network_dtype

from .two_heads_network import TwoHeads
from .two_heads_tiles import LEAST_SIDE, STEPS, run_within_memory

if TYPE_CHECKING:
    import os

    from torch import Tensor

    from blurfield.checkpoints import Checkpoint
    from blurfield.compute import ProgressCallback

#: Name of the kind of network among checkpoints.
ARCHITECTURE = "two-heads"
#: Exponent from the values of 8-bit images to linear light.
DISPLAY_GAMMA = 2.2

_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def estimate_two_heads(
    planes: Tensor,
    *,
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    progress: ProgressCallback | None = None,
    precision: str = "auto",
    tile: int | None = None,
) -> KernelField:
    """Estimate a kernel field with the two-headed network.

    The network was trained on values v^γ − 0.5 of images with stored values v from 0 to 1. The
    checkpoint records this γ. 2.2 stands for linear light, which `planes` hold whatever exponent
    led to it; 1 stands for images as they are stored, so that linear light is first raised to
    1/2.2, in general to γ/2.2. Kernels of a network with γ = 1 mix stored values, while the field
    is applied to linear light: an approximation that is worst at strong edges.

    Parameters
    ----------
    planes : Tensor
        Blurry image in linear light with white 1, (C, H, W), at least 32×32 pixels; values below 0
        and above 1 are clipped. One channel goes through the network's branch for grey images and
        three through that for colours; of any other number the mean is taken.
    checkpoint : Checkpoint, str or path-like, optional
        Weights, the name of installed ones, or a file; those imported last by default.
    progress : callable, optional
        See `blurfield.estimate`.
    precision : {"auto", "float32", "bfloat16"}
        Type of features and weights. By default bfloat16 where the device is fast at it. What
        makes the kernels costs little and is always computed in single precision.
    tile : int, optional
        Side in pixels, at least 64, of the parts in which the finest features are computed, with
        the same result. By default the whole image, or as much of it as memory allows.

    Returns
    -------
    KernelField
        On the device of `planes`: 25 kernels of 33×33 pixels (or 65×65, with weights for that) and
        maps with a coefficient for each pixel. Its metadata hold ``parameters``, and ``weights``
        with the name, origin, hash and γ of the checkpoint.

    Raises
    ------
    ValueError
        If no weights are installed, the checkpoint does not exist or is for another network, or an
        option is out of its range.
    MemoryError
        If the image is too large for the memory even in the smallest tiles.
    """
    if precision != "auto" and precision not in _PRECISIONS:
        raise ValueError(f"precision must be 'auto', 'float32' or 'bfloat16', but is {precision!r}")
    if tile is not None and tile < LEAST_SIDE:
        raise ValueError(f"tile must be at least {LEAST_SIDE} pixels, got {tile}")
    dtype = _PRECISIONS.get(precision) or network_dtype(planes.device)
    weights = resolve(checkpoint, ARCHITECTURE)
    reporter = Reporter(progress, STEPS, "Loading the two-headed network")
    with torch.no_grad():
        network = load_two_heads(weights, planes.device, dtype, reporter)
        image = network_input(planes, weights.gamma)
        image = image.to(dtype, memory_format=memory_format(planes.device))
        kernels, maps = run_within_memory(network, image, reporter, tile)
    facts = {**weights.config, "precision": str(dtype).removeprefix("torch.")}
    return KernelField(kernels, maps, metadata={"parameters": facts, "weights": weights.identity()})


def load_two_heads(
    checkpoint: Checkpoint,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    reporter: Reporter | None = None,
) -> TwoHeads:
    """Return the network with trained weights, ready to infer.

    Parameters
    ----------
    checkpoint : Checkpoint
        Its weights.
    device : torch.device
        Where it runs.
    dtype : torch.dtype
        Type of everything but what makes the kernels, which is in single precision.
    reporter : Reporter, optional
        Polled meanwhile.
    """
    with torch.device("meta"):
        network = TwoHeads(**checkpoint.config)
    state = checkpoint.load(reporter.poll if reporter else None)
    for name in list(state):
        values = state.pop(name)
        order = memory_format(device) if values.ndim == 4 else torch.preserve_format
        kind = torch.float32 if name.startswith("kernel") else dtype
        # Copied even if nothing changes: what is left of the file would keep all of it in memory.
        state[name] = values.to(device, kind, memory_format=order, copy=True)
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(False).eval()


def network_input(planes: Tensor, gamma: float) -> Tensor:
    """Return what a network takes for an image, (1, 1 or 3, H, W).

    Parameters
    ----------
    planes : Tensor
        (C, H, W), linear light with white 1.
    gamma : float
        Exponent from stored values to those that the network was trained on.
    """
    light = (planes if len(planes) in (1, 3) else planes.mean(0, keepdim=True)).clamp(0, 1)
    if gamma != DISPLAY_GAMMA:
        light = light ** (gamma / DISPLAY_GAMMA)
    return light[None] - 0.5
