"""Restoration by one pass of a trained network, which needs no field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from blurfield.checkpoints import resolve
from blurfield.compute import Reporter
from blurfield.images import DISPLAY_GAMMA, decode, encode
from blurfield.precision import memory_format, network_dtype

from .overlapping_tiles import overlapping_tiles
from .restorer_network import ARCHITECTURE, RestorerNetwork

if TYPE_CHECKING:
    import os

    from blurfield.checkpoints import Checkpoint
    from blurfield.compute import ProgressCallback
    from blurfield.field import KernelField

#: Features at full size that are computed at once; larger images are cut into tiles.
_MOST_FEATURES = 1 << 25


@torch.no_grad()
def restore_end_to_end(
    blurry: Tensor,
    field: KernelField,
    *,
    gamma: float,
    smoothing: float = 1.0,
    progress: ProgressCallback | None = None,
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Restore an image by a network that was trained end to end.

    Parameters
    ----------
    blurry : Tensor
        (C, H, W), linear light, white 1. Unless there are three channels, each is restored alone.
    field : KernelField
        Not used: the network sees the blur itself.
    gamma : float
        Exponent of the display encoding, in which the network sees the image; 2.2 in place of 1.
    smoothing : float
        Not used: the network was trained for one amount.
    progress : callable, optional
        See `blurfield.compute.Reporter`.
    checkpoint : Checkpoint, str or path-like, optional
        Weights, the name of installed ones, or a file; by default those installed.

    Returns
    -------
    sharp : Tensor
        Of the shape, precision and device of `blurry`.
    info : dict
        ``iterations`` (1), ``converged`` and ``weights`` (name and hash).

    Raises
    ------
    ValueError
        If no weights are installed, or they are for another kind of network.
    """
    del field, smoothing
    device, dtype = blurry.device, network_dtype(blurry.device)
    weights = resolve(checkpoint, ARCHITECTURE)
    with torch.device("meta"):
        network = RestorerNetwork(**weights.config)
    exponent = DISPLAY_GAMMA if gamma == 1 else gamma
    batch = encode(blurry, exponent)[None]
    alone = blurry.shape[0] != 3
    if alone:
        batch = batch.transpose(0, 1).expand(-1, 3, -1, -1)
    height, width = blurry.shape[-2:]
    tiles = list(
        overlapping_tiles(
            height,
            width,
            most=_MOST_FEATURES // (len(batch) * network.width),
            overlap=network.window,
            multiple=network.multiple,
        )
    )
    reporter = Reporter(progress, len(tiles), "Restoring")
    network.load_state_dict(weights.load(reporter.poll), assign=True)
    network.to(device, dtype)
    network.to(memory_format=memory_format(device))  # type: ignore[call-overload]
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_pre_hook(lambda *_: reporter.poll())
    sharp = torch.empty_like(batch, memory_format=torch.contiguous_format)
    for seen, inside, written in tiles:
        part = batch[(..., *seen)].to(dtype).contiguous(memory_format=memory_format(device))
        sharp[(..., *written)] = _any_size(network, part)[(..., *inside)].to(sharp)
        reporter.advance()
    if alone:
        sharp = sharp.mean(1, keepdim=True).transpose(0, 1)
    info = {
        "iterations": 1,
        "converged": True,
        "weights": {"name": weights.name, "sha256": weights.sha256},
    }
    return decode(sharp[0], exponent), info


def _any_size(network: RestorerNetwork, images: Tensor) -> Tensor:
    """Run the network on images whose sides are no multiples of what it needs."""
    height, width = images.shape[-2:]
    missing = (0, -width % network.multiple, 0, -height % network.multiple)
    sharp: Tensor = network(functional.pad(images, missing, mode="replicate"))
    return sharp[..., :height, :width]
