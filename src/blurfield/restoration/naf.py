"""Blocks of networks without activation functions (NAFNet).

Chen et al., "Simple baselines for image restoration", 2022, Sec. 3; the names of parameters are
those of published weights. The mean that channel attention takes is local in images that are larger
than its window, as Chu et al., "Improving image restoration by revisiting global information
aggregation", 2022, Sec. 3.2, propose, so that a place looks alike in a crop and in the image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Added to the variance of features.
_EPSILON = 1e-6


def local_mean(features: Tensor, window: tuple[int, int]) -> Tensor:
    """Return means over the window around each pixel.

    Parameters
    ----------
    features : Tensor
        (..., H, W).
    window : (int, int)
        Height and width in pixels; along an axis that is not longer, the mean is over all of it.

    Returns
    -------
    Tensor
        (..., H or 1, W or 1), 1 where the window holds the whole axis. Where a window would reach
        beyond an edge, the mean is that of the nearest one which does not.
    """
    result = features
    for axis, side in zip((-2, -1), window, strict=True):
        length = features.shape[axis]
        if side >= length:
            result = result.mean(axis, keepdim=True)
            continue
        sums = result.to(torch.promote_types(result.dtype, torch.float32)).cumsum(axis)
        # Window i ends with pixel i + side - 1; the first has nothing to subtract.
        ends = sums.narrow(axis, side - 1, length - side + 1)
        before = functional.pad(
            sums.narrow(axis, 0, length - side), (0, 0, 1, 0) if axis == -2 else (1, 0)
        )
        places = torch.arange(length, device=features.device) - (side - 1) // 2
        means = ((ends - before) / side).to(features)
        result = means.index_select(axis, places.clamp(0, length - side))
    return result


class ChannelNorm(nn.Module):
    """Normalises the channels of each pixel, then scales and shifts them.

    Parameters
    ----------
    width : int
        Number of channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise features (N, C, H, W)."""
        pixels = x.permute(0, 2, 3, 1)
        shape = (x.shape[1],)
        pixels = functional.layer_norm(pixels, shape, self.weight, self.bias, _EPSILON)
        return pixels.permute(0, 3, 1, 2)


class NAFBlock(nn.Module):
    """A residual block of depthwise convolution, gates and channel attention.

    Parameters
    ----------
    width : int
        Number of channels.
    window : int
        Side in pixels of the window over which the attention takes its mean.
    """

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm1, self.norm2 = ChannelNorm(width), ChannelNorm(width)
        self.conv1 = nn.Conv2d(width, 2 * width, 1)
        self.conv2 = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        # The first entry stands for the mean, so that parameters have their published names.
        self.sca = nn.Sequential(nn.Identity(), nn.Conv2d(width, width, 1))
        self.conv3 = nn.Conv2d(width, width, 1)
        self.conv4 = nn.Conv2d(width, 2 * width, 1)
        self.conv5 = nn.Conv2d(width, width, 1)
        self.beta = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Transform features (N, C, H, W)."""
        y = _gate(self.conv2(self.conv1(self.norm1(x))))
        y = self.conv3(y * self.sca(local_mean(y, (self.window, self.window))))
        x = x + self.beta * y
        result: Tensor = x + self.gamma * self.conv5(_gate(self.conv4(self.norm2(x))))
        return result


def _gate(x: Tensor) -> Tensor:
    one, two = x.chunk(2, dim=1)
    return one * two
