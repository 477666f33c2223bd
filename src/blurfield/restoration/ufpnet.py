"""Restoration with UFPNet, a network that is told the kernel of each pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from blurfield.checkpoints import resolve
from blurfield.compute import Reporter, available_memory, usable_share
from blurfield.estimation.two_heads_network import SteppedConv2d
from blurfield.images import DISPLAY_GAMMA, decode, encode
from blurfield.precision import memory_format, network_dtype

from .naf import NAFBlock
from .overlapping_tiles import faded, overlapping_tiles
from .strips import Strips
from .ufpnet_kernels import field_kernels, is_own, own_kernels
from .ufpnet_network import ARCHITECTURE, UFPNet, pad_to_multiple

if TYPE_CHECKING:
    import os

    from blurfield.checkpoints import Checkpoint
    from blurfield.compute import ProgressCallback
    from blurfield.field import KernelField

    from .overlapping_tiles import Tile

__all__ = ["ARCHITECTURE", "KERNELS", "POOLING", "restore_with_kernels"]

#: Whose kernels the network may be told, and over what its channel attention may average.
KERNELS, POOLING = ("auto", "field", "own"), ("local", "global")

#: A window that is larger than all images.
_EVERYTHING = 1 << 30
#: Pixels by which tiles overlap, at least, and in addition to half of the window of the attention.
_LEAST_OVERLAP = 96
#: Numbers for each pixel and channel at full size that are held at once.
_FEATURES = 6
#: Pixels on each side of a border over which one tile goes over into the next.
_FEATHER = 32
#: Part of the work that estimating kernels is, and all of the rest, for each pixel.
_ESTIMATE, _RESTORE = 2, 4


@torch.no_grad()
def restore_with_kernels(
    blurry: Tensor,
    field: KernelField,
    *,
    gamma: float,
    smoothing: float = 1.0,
    memory: int | None = None,
    progress: ProgressCallback | None = None,
    kernels: str = "auto",
    pooling: str = "local",
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Restore an image by UFPNet (Fang et al. 2023).

    The network estimates a kernel for each pixel itself, of a sum that means something to it, and
    these kernels tell it where and how to sharpen. A field that its own estimator made (model
    ``"ufp"``, with the same weights) holds them already; other fields are only used if that is
    asked for.

    The whole image is restored at once, as far as memory allows: features go through the network
    in strips, which makes no difference to the result. Larger images are cut into tiles that
    overlap by half the window of the channel attention and more. Where two meet, one goes over
    into the other, so that nothing shows. How far features of a tile differ from those of the
    whole depends on what lies beyond it, as always where attention looks at windows.

    Parameters
    ----------
    blurry : Tensor, shape (C, H, W)
        Blurry image in linear light, white 1; not modified. Images of three channels are restored
        as colours, the channels of others each alone, with the kernels of their mean.
    field : KernelField
        For images of H×W pixels. See `kernels`.
    gamma : float
        Exponent of the display encoding, in which the network sees the image; 2.2 in place of 1.
    smoothing : float
        Not used: the network was trained for one amount.
    memory : int, optional
        Bytes that may be used beside the weights, by default most of what is free.
    progress : callable, optional
        See `blurfield.compute.Reporter`.
    kernels : {"auto", "field", "own"}
        Whose kernels the network is told. ``"own"``: those that it estimates. ``"field"``: those
        of the field, which are brought to the network's kernel size, with the sums that the map
        ``"kernel_sum"`` of the field holds, or sum 1. ``"auto"``: those of the field if they are
        the network's own, else own ones.
    pooling : {"local", "global"}
        Over what channel attention averages: windows of 1.5 times the size of the crops of the
        training, as the authors test, or the whole image (or tile).
    checkpoint : Checkpoint, str or path-like, optional
        Weights, the name of installed ones, or a file; by default those installed.

    Returns
    -------
    sharp : Tensor, shape (C, H, W)
        In linear light, from 0 to 1, or to the blurry value where that is more.
    info : dict
        ``iterations`` (1), ``converged``, ``kernels`` (``"field"`` or ``"own"``), ``pooling``,
        ``parts`` (number of tiles), and name and origin of the ``weights``.

    Raises
    ------
    ValueError
        If no weights are installed, they are for another kind of network, an option is none of
        these, or the field's kernels are too large.
    """
    del smoothing
    for name, value, known in (("kernels", kernels, KERNELS), ("pooling", pooling, POOLING)):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, but is {value!r}")
    weights = resolve(checkpoint, ARCHITECTURE)
    reporter = Reporter(progress, 1, "Loading UFPNet")
    state = weights.load(reporter.poll)
    if kernels == "auto":
        kernels = "field" if is_own(field, weights, state) else "own"
    network = _network(weights, state, pooling, blurry.device)
    exponent = (DISPLAY_GAMMA if gamma == 1 else gamma) / weights.gamma
    stored = encode(blurry, exponent)
    if memory is None:
        memory = int(usable_share(blurry.device) * available_memory(blurry.device))
    tiles = _tiles(network, stored, memory)
    passes = 1 if len(stored) == 3 else len(stored)
    total = (_ESTIMATE + _RESTORE * passes) * sum(_area(tile) for tile in tiles)
    reporter = Reporter(progress, total, "Restoring with UFPNet")
    _listen(network, reporter)
    sharp = torch.zeros_like(stored)
    feather = min(_FEATHER, *((s.stop - s.start) // 2 for tile in tiles for s in tile.written))
    for tile in tiles:
        part = pad_to_multiple(stored[(..., *tile.seen)].clamp(0, 1)[None], network.multiple)[0]
        if kernels == "field":
            size = network.estimator.kernel_extra.kernel_size
            maps = field_kernels(field, tile.seen, size, network.multiple, reporter)
            reporter.advance(_ESTIMATE * _area(tile))
        else:
            maps = own_kernels(network.estimator, _colours(part), reporter)
        _add(sharp, _restored(network, part, maps, reporter), tile, feather)
    # What is brighter than white was not shown to the network.
    sharp += stored - stored.clamp(0, 1)
    info = {
        "iterations": 1,
        "converged": True,
        "kernels": kernels,
        "pooling": pooling,
        "parts": len(tiles),
        "weights": weights.identity(),
    }
    return decode(sharp, exponent), info


def _network(
    weights: Checkpoint, state: dict[str, Tensor], pooling: str, device: torch.device
) -> UFPNet:
    """The network with its weights, ready to infer; takes them out of the dictionary."""
    changes = {"window": _EVERYTHING} if pooling == "global" else {}
    with torch.device("meta"):
        network = UFPNet(**{**weights.config, **changes})
    order = memory_format(device)
    for name in list(state):
        values = state.pop(name)
        kept = order if values.ndim == 4 else torch.preserve_format
        # Copied: what is left of the file would keep all of it in memory.
        state[name] = values.to(device, memory_format=kept, copy=True)
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(False).eval()


def _listen(network: UFPNet, reporter: Reporter) -> None:
    """Let a reporter be polled whenever a convolution begins or has done a part of its work."""
    for layer in network.modules():
        if isinstance(layer, SteppedConv2d):
            layer.tick = lambda _: reporter.poll()
        elif isinstance(layer, nn.Conv2d):
            layer.register_forward_pre_hook(lambda *_: reporter.poll())


def _tiles(network: UFPNet, image: Tensor, memory: int) -> list[Tile]:
    """One tile, or as many as make memory suffice."""
    height, width = image.shape[-2:]
    taps = network.estimator.kernel_extra.kernel_size**2
    # Two levels of maps in half precision, features of some layers in single precision.
    each = 3 * taps + 4 * _FEATURES * network.width
    overlap = network.window // 2 if network.window < _EVERYTHING else 0
    return list(
        overlapping_tiles(
            height,
            width,
            most=memory // each,
            overlap=overlap + _LEAST_OVERLAP,
            multiple=network.multiple,
        )
    )


def _area(tile: Tile) -> int:
    rows, cols = tile.seen
    return int(rows.stop - rows.start) * int(cols.stop - cols.start)


def _colours(image: Tensor) -> Tensor:
    return image if len(image) == 3 else image.mean(0, keepdim=True).expand(3, -1, -1)


def _restored(network: UFPNet, image: Tensor, maps: Tensor, reporter: Reporter) -> Tensor:
    """The sharp image (C, H, W) of a blurry one and its maps of kernels, from 0 to 1."""
    dtype, order = network_dtype(image.device), memory_format(image.device)
    work = _RESTORE * image[0].numel()
    blocks = sum(isinstance(module, NAFBlock) for module in network.modules())
    run = Strips(advance=lambda: reporter.advance(work // blocks))
    results = []
    for colours in [image] if len(image) == 3 else image[:, None].expand(-1, 3, -1, -1):
        with torch.autocast(image.device.type, dtype, enabled=dtype != torch.float32):
            found = network(colours[None].contiguous(memory_format=order), maps, run)[0]
        reporter.advance(work % blocks)
        results.append(found.float().clamp(0, 1))
    return results[0] if len(image) == 3 else torch.stack([found.mean(0) for found in results])


def _add(sharp: Tensor, restored: Tensor, tile: Tile, feather: int) -> None:
    """Add what a tile contributes to an image."""
    (rows, down), (cols, across) = (
        faded(written, length, feather)
        for written, length in zip(tile.written, sharp.shape[-2:], strict=True)
    )
    inside = (
        slice(used.start - seen.start, used.stop - seen.start)
        for used, seen in zip((rows, cols), tile.seen, strict=True)
    )
    weight = (down[:, None] * across).to(sharp)
    sharp[:, rows, cols] += restored[(slice(None), *inside)].to(sharp) * weight
