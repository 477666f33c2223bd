"""Blurry windows with one kernel each, or two, as the windowed estimator sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from blurfield.images import decode, encode
from blurfield.simulation import camera_shake_kernels

from .images import GAMMA

if TYPE_CHECKING:
    from .images import ImageBank

#: Share of the windows through which the border of two blurs goes.
_DIVIDED = 0.35
#: The larger part of those covers between this much and all of the window.
_LARGER_PART = 0.5
#: Softness of the border in pixels, at least and at most.
_SOFTNESS = (1.0, 8.0)
#: Most noise of the encoded values, white 1; little noise is more frequent.
_MOST_NOISE = 0.03
#: Range of the factor on the light.
_EXPOSURE = (0.6, 1.6)
#: Kernels are at least this share of the longest.
_SHORTEST = 0.2


@dataclass(frozen=True)
class WindowBatch:
    """Blurry windows.

    Attributes
    ----------
    images : Tensor
        Grey, linear light with white 1, (N, S, S).
    sharp : Tensor
        The same without blur and noise, (N, S, S).
    kernels : Tensor
        The two point-spread functions of each (N, 2, K, K), with sum 1; often the same one twice.
    """

    images: Tensor
    sharp: Tensor
    kernels: Tensor

    def __len__(self) -> int:
        return len(self.images)


class WindowMaker:
    """Makes batches of windows.

    Parameters
    ----------
    bank : ImageBank
        Sharp images.
    size : int
        Side K of the kernels in pixels, odd.
    side : int
        Side S of the windows in pixels.
    batch : int
        Windows in a batch.
    """

    def __init__(self, bank: ImageBank, *, size: int, side: int, batch: int) -> None:
        self._bank, self._size, self._side, self._batch = bank, size, side, batch
        self._device = bank.pixels.device

    def make(self, generator: torch.Generator) -> WindowBatch:
        """Make a batch; the generator is on the device of the images."""
        n, size, side = self._batch, self._size, self._side
        crops, _ = self._bank.crops(n, side + size - 1, generator)
        draw = torch.rand(8, n, 1, 1, generator=generator, device=self._device)
        light = decode(crops[..., :3].permute(0, 3, 1, 2).float() / 255, GAMMA)
        low, high = _EXPOSURE
        light = light * (low * (high / low) ** draw[0][:, None])
        kernels = camera_shake_kernels(
            2 * n, size, max_extent=size, min_extent=max(1, _SHORTEST * size), generator=generator
        ).unflatten(0, (n, 2))
        divided = draw[1] < _DIVIDED
        kernels[:, 1] = torch.where(divided, kernels[:, 1], kernels[:, 0])
        seen = torch.stack([_blur(light, kernels[:, j], side) for j in range(2)], 1)
        share = self._border(draw[2:6])[:, None]
        values = encode(torch.lerp(seen[:, 0], seen[:, 1], share).clamp(0, 1), GAMMA)
        noise = torch.randn(values.shape, generator=generator, device=self._device)
        values = values + _MOST_NOISE * draw[6][:, None].square() * noise
        values = (values.clamp(0, 1) * 255).round() / 255
        middle = slice(size // 2, size // 2 + side)
        # Fields correlate with their kernels, point-spread functions convolve.
        return WindowBatch(
            decode(values, GAMMA).mean(1),
            light[..., middle, middle].mean(1),
            kernels.flip(-2, -1),
        )

    def _border(self, draw: Tensor) -> Tensor:
        """Share of the second kernel in each pixel, (N, S, S), on one side of a line."""
        place = torch.arange(self._side, device=self._device) / self._side - 0.5
        angle = 2 * torch.pi * draw[0]
        across = angle.cos() * place[None, None, :] + angle.sin() * place[None, :, None]
        # So far from the middle of the window that the second part is the smaller one.
        offset = draw[1] * _LARGER_PART
        low, high = _SOFTNESS
        softness = (low + (high - low) * draw[2]) / self._side
        return torch.sigmoid((across - offset) / softness)


def _blur(light: Tensor, kernels: Tensor, side: int) -> Tensor:
    """Correlate (N, 3, W, W) with kernels (N, K, K); the middle (N, 3, side, side)."""
    wide = light.shape[-1]
    spectrum = torch.fft.rfft2(light)
    transfer = torch.fft.rfft2(kernels, s=(wide, wide)).conj()
    whole: Tensor = torch.fft.irfft2(spectrum * transfer[:, None], s=(wide, wide))
    return whole[..., :side, :side]
