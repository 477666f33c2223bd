"""The kernel that leaves an image as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def no_blur(
    size: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Tensor:
    """The kernel (K, K) of no blur: 1 in the middle, else 0.

    Parameters
    ----------
    size : int
        Side K in pixels, odd.
    device : torch.device or str
        Where it will be.
    dtype : torch.dtype
        Type of its numbers.
    """
    kernel = torch.zeros(size, size, device=device, dtype=dtype)
    kernel[size // 2, size // 2] = 1
    return kernel
