"""True fields with errors as estimators make them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from blurfield.field import KernelField
from blurfield.simulation import camera_shake_kernels

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

__all__ = ["wrong_field"]

#: Frequencies of the errors, which are independent of each other.
_OFTEN, _SELDOM = 0.4, 0.2
#: Standard deviations of angles in radians, and of the logarithms of scales, at most.
_TURNED, _STRETCHED = 0.5, 0.3
#: Most that another kernel takes part in one.
_OTHER = 0.7
#: Size of the kernels of images without blur, and the shortest blur, in pixels.
_SIZE, _SHORTEST = 33, 2.0


def wrong_field(truth: KernelField, draw: np.random.Generator) -> KernelField:
    """Return a field that is wrong, as estimates are: more or less.

    Kernels are turned and stretched, mixed with others, too smooth or too thin, their mirror
    images, or the same everywhere. Images without blur get one.

    Parameters
    ----------
    truth : KernelField
        The true field; not modified.
    draw : numpy.random.Generator
        Source of all random numbers.

    Returns
    -------
    KernelField
        Which passes for an estimated one.
    """
    size = max(truth.kernel_size, _SIZE)
    generator = torch.Generator().manual_seed(int(draw.integers(2**31)))

    def others(count: int) -> Tensor:
        longest = float(draw.uniform(_SHORTEST, size))
        return camera_shake_kernels(count, size, max_extent=longest, generator=generator)

    metadata = {"model": "windowed"}
    if truth.is_one_tap:
        return KernelField.uniform(others(1)[0], truth.shape, metadata)
    kernels, mixing = truth.basis.cpu().float(), truth.mixing.cpu().float()
    beyond = (size - truth.kernel_size) // 2
    kernels = functional.pad(kernels, (beyond, beyond, beyond, beyond))
    if draw.random() < _SELDOM:
        kernels = torch.einsum("bij,b->ij", kernels, mixing.mean((1, 2)))[None]
        mixing = torch.ones_like(mixing[:1])
    severity = draw.random()
    if draw.random() < _OFTEN:
        turned, *stretched = severity * draw.normal(size=3)
        kernels = _warped(kernels, turned * _TURNED, stretched)
    if draw.random() < _OFTEN:
        kernels = torch.lerp(kernels, others(len(kernels)), _OTHER * severity)
    if draw.random() < _SELDOM:
        kernels = kernels.flip(-2, -1)
    if draw.random() < _SELDOM:
        kernels = functional.avg_pool2d(kernels[:, None], 3, stride=1, padding=1)[:, 0]
    if draw.random() < _SELDOM:
        kernels = kernels ** (1 + severity)
    kernels = kernels / kernels.sum((-2, -1), keepdim=True)
    return KernelField(kernels, mixing / mixing.sum(0), truth.shape, metadata)


def _warped(kernels: Tensor, angle: float, stretched: list[float]) -> Tensor:
    """Turn and stretch kernels (B, K, K) about their middles."""
    down, across = (math.exp(-_STRETCHED * value) for value in stretched)
    cos, sin = math.cos(angle), math.sin(angle)
    matrix = torch.tensor([[cos * across, -sin * across, 0.0], [sin * down, cos * down, 0.0]])
    places = functional.affine_grid(
        matrix.expand(len(kernels), 2, 3),
        [len(kernels), 1, *kernels.shape[1:]],
        align_corners=False,
    )
    warped: Tensor = functional.grid_sample(kernels[:, None], places, align_corners=False)[:, 0]
    return warped
