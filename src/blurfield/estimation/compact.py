"""Estimation with the compact network of `blurfield.estimation.compact_network`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from blurfield.checkpoints import resolve
from blurfield.compute import Reporter, available_memory
from blurfield.field import KernelField
from blurfield.grid import axis_weights
from blurfield.images import encode
from blurfield.precision import memory_format, network_dtype
from blurfield.support import cut_off, padded

from .compact_network import MIXING_STRIDE, TOKEN_STRIDE, CompactNetwork

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from torch import Tensor

    from blurfield.checkpoints import Checkpoint
    from blurfield.compute import ProgressCallback

#: Name of the kind of network among checkpoints.
ARCHITECTURE = "compact"
#: Exponent from linear light to the values that the network was trained on.
GAMMA = 2.2
#: Scales at which the image is looked at, from fine to coarse.
SCALES = (1.0, 0.5, 0.25)
#: Bytes of features for each pixel, and the part of the free memory that they may take.
_PIXEL_BYTES, _SHARE = 180, 0.5
#: Kernels with more than this on the rim of their support are taken to be cut off by it.
_CUT_OFF = 0.04
#: Cells of the mixing grid between which scales change smoothly.
_SMOOTH = 8
#: Images are made no smaller than this many pixels a side.
_LEAST_SIDE = 64


def estimate_compact(
    planes: Tensor,
    *,
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    max_kernels: int = 25,
    scales: Sequence[float] = SCALES,
    progress: ProgressCallback | None = None,
) -> KernelField:
    """Estimate a kernel field with the compact network.

    The network knows kernels of 33×33 pixels. Where those that it finds are cut off by that
    support, the image is looked at again at half its size, and so on, and there the field takes
    what was found at the smaller size. An image too large for the memory is looked at only at
    sizes that fit.

    Parameters
    ----------
    planes : Tensor
        Blurry image in linear light with white 1, (C, H, W), at least 32×32 pixels; values below 0
        and above 1 are clipped.
    checkpoint : Checkpoint, str or path-like, optional
        Weights, the name of installed ones, or a file; by default those imported last, else ours.
    max_kernels : int
        Largest number B of basis kernels, at least 1.
    scales : sequence of float
        Sizes in (0, 1] at which the image may be looked at, relative to its own, from fine to
        coarse.
    progress : callable, optional
        See `blurfield.estimate`.

    Returns
    -------
    KernelField
        On the device of `planes`, with a mixing grid of one cell for about 4×4 pixels. Its
        metadata hold ``parameters``, with the scales used, and ``weights`` with the name, origin
        and hash of the checkpoint.

    Raises
    ------
    ValueError
        If no weights are installed, the checkpoint does not exist or is for another network, or an
        option is out of its range.
    """
    if max_kernels < 1:
        raise ValueError(f"max_kernels must be at least 1, got {max_kernels}")
    order = list(scales)
    if not order or not all(0 < s <= 1 for s in order) or order != sorted(set(order), reverse=True):
        raise ValueError(f"scales must be numbers in (0, 1] that fall, got {list(scales)}")
    weights = resolve(checkpoint, ARCHITECTURE)
    shape = (int(planes.shape[-2]), int(planes.shape[-1]))
    used = _fitting(order, shape, planes.device)
    reporter = Reporter(progress, len(used) + 2, "Loading the compact network")
    with torch.no_grad():
        network = load_compact(weights, planes.device, reporter)
        encoded = encode(_colours(planes).clamp(0, 1), GAMMA)
        reporter.advance(1, "Estimating the blur")
        fields = [_look(network, encoded, used[0], shape, max_kernels)]
        for scale in used[1:]:
            reporter.advance()
            if not bool((cut_off(fields[-1]) > _CUT_OFF).any()):
                break
            fields.append(_look(network, encoded, scale, shape, max_kernels))
        reporter.advance(0, "Putting the scales together")
        field = _join(fields)
        reporter.poll()
        if field.num_kernels > max_kernels:
            field = field.compress(max_kernels)
    facts = {"max_kernels": max_kernels, "scales": used[: len(fields)], **weights.config}
    return field.with_metadata(parameters=facts, weights=weights.identity())


def load_compact(
    checkpoint: Checkpoint, device: torch.device, reporter: Reporter | None = None
) -> CompactNetwork:
    """Return the network with trained weights, ready to infer in the number type fastest there."""
    with torch.device("meta"):
        network = CompactNetwork(**checkpoint.config)
    state = checkpoint.load(reporter.poll if reporter else None)
    network.load_state_dict(state, assign=True)
    network.to(device)
    network.to(memory_format=memory_format(device))  # type: ignore[call-overload]
    return network.requires_grad_(False).eval()


def _fitting(scales: list[float], shape: tuple[int, int], device: torch.device) -> list[float]:
    """The scales at which an image is neither too large for the memory nor too small."""
    most = _SHARE * available_memory(device) / _PIXEL_BYTES
    fitting = [
        scale
        for scale in scales
        if scale**2 * shape[0] * shape[1] <= most
        and (scale == scales[0] or scale * min(shape) >= _LEAST_SIDE)
    ]
    # Where not even the smallest fits, one that does.
    return fitting or [min(scales[-1], math.sqrt(most / (shape[0] * shape[1])))]


def _colours(planes: Tensor) -> Tensor:
    return planes if len(planes) == 3 else planes.mean(0, keepdim=True).expand(3, -1, -1)


def _look(
    network: CompactNetwork,
    encoded: Tensor,
    scale: float,
    shape: tuple[int, int],
    max_kernels: int,
) -> KernelField:
    """The field of an image (3, H, W), found at a smaller size; kernels are of the full size."""
    image = encoded[None]
    if scale < 1:
        size = tuple(max(TOKEN_STRIDE, round(n * scale)) for n in shape)
        image = functional.interpolate(image, size=size, mode="bilinear", antialias=True)
    height, width = (int(n) for n in image.shape[-2:])
    below, right = -height % TOKEN_STRIDE, -width % TOKEN_STRIDE
    extended = functional.pad(image, (0, right, 0, below), mode="replicate")
    dtype = network_dtype(encoded.device)
    with torch.autocast(encoded.device.type, dtype, enabled=dtype != torch.float32):
        prediction = network(extended, max_kernels)
    mixing = prediction.mixing[0].float().exp()
    for axis, length, extra in ((1, height, below), (2, width, right)):
        if extra:
            mixing = _without_padding(mixing, axis, length, length + extra)
    kernels = prediction.kernels[0].float().exp()
    field = KernelField(
        kernels / kernels.sum((-2, -1), keepdim=True), mixing / mixing.sum(0), (height, width)
    )
    return field.resize(shape)


def _without_padding(mixing: Tensor, axis: int, length: int, extended: int) -> Tensor:
    """Read a mixing grid over a padded image on a grid over the image alone."""
    cells = math.ceil(length / MIXING_STRIDE)
    centres = (torch.arange(cells, dtype=torch.float64) + 0.5) * (length / cells) - 0.5
    lower, upper, weight = axis_weights(centres, extended, mixing.shape[axis])
    first, second = (mixing.index_select(axis, i.to(mixing.device)) for i in (lower, upper))
    weight = weight.to(mixing)[:, None] if axis == 1 else weight.to(mixing)
    return torch.lerp(first, second, weight)


def _join(fields: list[KernelField]) -> KernelField:
    """One field that takes from each, fine before coarse, where its kernels are not cut off."""
    if len(fields) == 1:
        return fields[0]
    cells = fields[0].mixing.shape[-2:]
    size = max(field.kernel_size for field in fields)
    left = fields[0].mixing.new_ones(1, 1, *cells)
    bases, maps = [], []
    for field in fields:
        bases.append(padded(field.basis, size))
        mixing = functional.interpolate(field.mixing[None], size=cells, mode="bilinear")[0]
        share = left
        if field is not fields[-1]:
            cut = functional.interpolate(cut_off(field)[None, None], size=cells, mode="bilinear")
            fine = (cut <= _CUT_OFF).to(mixing)
            share = left * _smooth(fine)
        left = left - share
        maps.append(mixing * share[0])
    mixing = torch.cat(maps).clamp_min(0)
    return KernelField(torch.cat(bases), mixing / mixing.sum(0), fields[0].shape)


def _smooth(mask: Tensor) -> Tensor:
    """Soft edges of a mask (1, 1, h, w)."""
    rows, cols = (min(_SMOOTH, n - 1) for n in mask.shape[-2:])
    extended = functional.pad(mask, (cols, cols, rows, rows), mode="replicate")
    return functional.avg_pool2d(extended, (2 * rows + 1, 2 * cols + 1), 1)
