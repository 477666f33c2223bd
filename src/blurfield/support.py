"""The square that a kernel has to itself, its support: other sizes of it, and what it cuts off."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

    from blurfield.field import KernelField

__all__ = ["cut_off", "padded"]

#: Taps at each side of a kernel of the usual size that are its rim, and that size.
_RIM, _USUAL = 2, 33


def padded(kernels: Tensor, size: int) -> Tensor:
    """Kernels (…, K, K) in the middle of squares of another odd side, with zeros around.

    For a side less than K, what is outside is lost.
    """
    return functional.pad(kernels, ((size - kernels.shape[-1]) // 2,) * 4)


def cut_off(field: KernelField) -> Tensor:
    """How much of each cell's kernel lies on the rim of its support, (h, w), from 0 to 1.

    Where that is not next to nothing, the kernel is longer than its support, which has cut it off.
    """
    size = field.kernel_size
    # Of a field that was resized, the rim is as much wider.
    rim = max(_RIM, math.ceil(_RIM * size / _USUAL))
    inner = field.basis[:, rim : size - rim, rim : size - rim].sum((-2, -1))
    return torch.einsum("b,bhw->hw", 1 - inner, field.mixing)
