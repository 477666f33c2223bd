"""How a network that restores is told the blur of each pixel: attention by kernels.

Fang et al., "Self-supervised non-uniform kernel estimation with flow-based motion prior for blind
image deblurring", CVPR 2023, Sec. 3.3; the names of parameters are those of the published weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .naf import NAFBlock

if TYPE_CHECKING:
    from collections.abc import Callable


class KernelAttention(nn.Module):
    """Adds to features a part of themselves which kernels decide.

    Parameters
    ----------
    width : int
        Channels of the features.
    taps : int
        Channels of the maps of kernels: the taps of each.
    """

    def __init__(self, width: int, taps: int) -> None:
        super().__init__()
        self.conv_1 = nn.Sequential(_conv(width, width), nn.GELU())
        self.conv_kernel = nn.Sequential(
            _conv(taps, width), nn.GELU(), _conv(width, width), nn.GELU()
        )
        self.conv_2 = nn.Sequential(_conv(2 * width, width), nn.Sigmoid())

    def forward(self, x: Tensor, kernels: Tensor) -> Tensor:
        """Transform features (N, C, H, W), given maps of kernels (N, K², H, W)."""
        found = self.conv_1(x)
        weights = self.conv_2(torch.cat([found, self.conv_kernel(kernels)], 1))
        result: Tensor = x + found * weights
        return result


class KernelBlock(NAFBlock):
    """A NAF block whose features kernels attend to first.

    Parameters
    ----------
    width, window
        See `NAFBlock`.
    taps : int
        Channels of the maps of kernels.
    """

    #: Three convolutions of kernels, then that of the block.
    reach = 4

    def __init__(self, width: int, window: int, taps: int) -> None:
        super().__init__(width, window)
        self.kernel_atttion = KernelAttention(width, taps)  # sic, in published weights

    def gated(self, x: Tensor, *given: Tensor) -> Tensor:
        """Features for channel attention to weigh, given the maps of kernels (N, K², H, W)."""
        return super().gated(self.kernel_atttion(x, *given))


def kernel_block(taps: int) -> Callable[[int, int], KernelBlock]:
    """Return what makes blocks for maps of kernels of so many taps."""
    return lambda width, window: KernelBlock(width, window, taps)


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
