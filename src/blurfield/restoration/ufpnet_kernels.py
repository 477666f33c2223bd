"""The maps of kernels that UFPNet's deblurring network is told, in little memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from blurfield.boundary import source_index
from blurfield.checkpoints import installed
from blurfield.estimation.ufp import KERNEL_SUM, WEIGHTS, code_parts
from blurfield.grid import read_block
from blurfield.precision import memory_format
from blurfield.support import padded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from blurfield.checkpoints import Checkpoint
    from blurfield.compute import Reporter
    from blurfield.estimation.ufp_network import KernelEstimator
    from blurfield.field import KernelField

#: Numbers in a band of maps that is worked on in single precision.
_BAND = 1 << 23
#: Largest part of a kernel that may lie outside of the support that the network knows.
_MOST_LOST = 0.1


def own_kernels(estimator: KernelEstimator, image: Tensor, reporter: Reporter) -> Tensor:
    """Estimate the raw kernels of all pixels, part by part, into half precision.

    Parameters
    ----------
    estimator : KernelEstimator
        The network.
    image : Tensor, shape (3, H, W)
        As the network takes it, with sides that are multiples of 16.
    reporter : Reporter
        Advanced by 2·H·W.

    Returns
    -------
    Tensor, shape (1, K², H, W)
        float16.
    """
    shape = (int(image.shape[-2]), int(image.shape[-1]))
    side = estimator.kernel_extra.stride
    taps = estimator.kernel_extra.kernel_size**2
    maps = _empty((1, taps, shape[0] // side, shape[1] // side), image)
    for code, sigma, rows, cols in code_parts(estimator, image, reporter):
        maps[:, :, rows, cols] = estimator.kernels(code, sigma, poll=reporter.poll)
    if side == 1:
        return maps
    fine = _empty((1, taps, *shape), image)
    for rows in _bands(fine):
        reporter.poll()
        # As the deblurring network saw them in training: interpolated between their cells.
        fine[0, :, rows] = read_block(maps[0].float(), shape, rows, slice(0, shape[1]))
    return fine


def field_kernels(
    field: KernelField, part: tuple[slice, slice], size: int, multiple: int, reporter: Reporter
) -> Tensor:
    """Raw kernels of all pixels of a part of an image according to a field.

    Where the field knows the sums that its kernels had, they get them back; else they sum to 1.

    Parameters
    ----------
    field : KernelField
        For the whole image.
    part : (slice, slice)
        H rows and W columns.
    size : int
        Side K of the kernels; those of the field are cut or get zeros around.
    multiple : int
        Both sides of the maps are made multiples of this, by reflection at the right and below.
    reporter : Reporter
        Polled.

    Returns
    -------
    Tensor, shape (1, K², H', W')
        float16.

    Raises
    ------
    ValueError
        If more than a tenth of the kernel of a pixel lies outside of K×K pixels.
    """
    basis = padded(field.basis.float(), size)
    kept = torch.einsum("b,bhw->hw", basis.sum((1, 2)), field.mixing.float())
    if float(kept.min()) < 1 - _MOST_LOST:
        raise ValueError(
            f"the network knows kernels of {size}×{size} pixels, but {1 - float(kept.min()):.0%} "
            f"of a kernel of this field lies outside; use kernels='own', or make the image and its "
            "field smaller"
        )
    taps, (rows, cols) = basis.flatten(1).T, part
    height, width = rows.stop - rows.start, cols.stop - cols.start
    sums = field.maps.get(KERNEL_SUM, basis.new_ones(1, 1)).float()
    maps = _empty((1, size**2, height + -height % multiple, width + -width % multiple), basis)
    for band in _bands(maps[:, :, :height]):
        reporter.poll()
        seen = slice(rows.start + band.start, rows.start + band.stop)
        raw = torch.einsum("tb,bhw->thw", taps, field.mixing_block(seen, cols).float())
        scale = read_block(sums[None], field.shape, seen, cols)[0]
        maps[0, :, band, :width] = raw * (scale / raw.sum(0))
    for axis, length in ((3, width), (2, height)):
        beyond = source_index(length, maps.shape[axis], length, "reflect").to(maps.device)
        rest = maps.narrow(axis, length, maps.shape[axis] - length)
        rest.copy_(maps.index_select(axis, beyond))
    return maps


def is_own(field: KernelField, weights: Checkpoint, state: Mapping[str, Tensor]) -> bool:
    """Whether a field holds the kernels that a deblurring network's own estimator finds.

    Parameters
    ----------
    field : KernelField
        The field.
    weights : Checkpoint
        Those of the deblurring network.
    state : mapping of str to Tensor
        Its tensors.
    """
    metadata = field.metadata
    if metadata.get("model") != "ufp" or KERNEL_SUM not in field.maps:
        return False
    name = metadata.get("weights", {}).get("sha256")
    if name == weights.sha256:
        return True
    others = (other for kind in WEIGHTS for other in installed(kind) if other.sha256 == name)
    return any(
        all(torch.equal(state[key], value) for key, value in other.load().items() if key in state)
        for other in others
    )


def _empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    order = memory_format(like.device)
    return torch.empty(shape, dtype=torch.float16, device=like.device, memory_format=order)


def _bands(maps: Tensor) -> Iterator[slice]:
    _, taps, height, width = maps.shape
    tall = max(1, _BAND // (taps * width))
    return (slice(start, min(start + tall, height)) for start in range(0, height, tall))
