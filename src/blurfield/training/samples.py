"""Blurry images with known kernels, made in batches on the device that trains.

A batch consists of three parts of fixed size, so that shapes never change: samples of up to two
kernels (one for the whole image, or a segment or object on a background), of up to four segments,
and of cameras that turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from blurfield.compute import few_at_a_time
from blurfield.images import decode, encode
from blurfield.no_blur import no_blur

from .images import GAMMA, ImageBank
from .kernels import GRID, bilinear_grid, camera_bank, kernel_bank, turn

if TYPE_CHECKING:
    from .source import Source

#: Pixels along each side of a cell of the mixing maps that the network predicts.
STRIDE = 4
#: Shares of a batch: samples of two kernels and of four; the rest is a turning camera.
_PAIRS, _QUADS = 0.45, 0.25
#: Probability that a sample of two kernels has only one of them.
_UNIFORM = 0.6
#: Probability that a background stands still, and that nothing moves at all.
_STILL, _NO_BLUR = 0.25, 0.04
#: Masks are made at this fraction of the resolution, as bilinear maps.
_MASK_STRIDE = 2


@dataclass(frozen=True)
class Capture:
    """What the simulated camera does.

    Attributes
    ----------
    noise : float
        Largest standard deviation of the noise of encoded values, white = 1; small ones are more
        frequent.
    exposure : (float, float)
        Range of the factor on the light, drawn evenly on a logarithmic scale.
    lamps : float
        Share of images whose bright things are much brighter than white, up to fivefold.
    grey : float
        Share of images without colour.
    """

    noise: float = 0.04
    exposure: tuple[float, float] = (0.5, 1.6)
    lamps: float = 0.15
    grey: float = 0.1


@dataclass(frozen=True)
class Batch:
    """Samples and what is known of them.

    Attributes
    ----------
    seen : Tensor
        Blurry images as a file would hold them, encoded with the exponent 2.2, float32
        (N, 3, S, S) in [0, 1].
    light : Tensor
        Linear light before the blur, (N, 3, S + K − 1, S + K − 1), which may be brighter than 1.
    kernels, mixing : tuple of Tensor
        For each part of the batch, kernels (n, J, K, K) and their coefficients (n, J, h, w) on
        cells of `STRIDE` pixels.
    """

    seen: Tensor
    light: Tensor
    kernels: tuple[Tensor, ...]
    mixing: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.seen)

    @property
    def grey(self) -> Tensor:
        """Mean of `light` over the colours, (N, S + K − 1, S + K − 1)."""
        return self.light.mean(1)

    def targets(self, cells: Tensor) -> Tensor:
        """Mean kernels (N, P, K²) of cells, given by their flat indices (P,)."""
        return torch.cat(
            [
                torch.einsum("njp,njk->npk", mixing.flatten(2)[:, :, cells], kernels.flatten(2))
                for kernels, mixing in zip(self.kernels, self.mixing, strict=True)
            ]
        )

    def segment_weights(self, cells: Tensor, power: float) -> Tensor:
        """Weights (N, P) of cells, of mean about 1: a segment's area to the power −`power`."""
        parts = []
        for mixing in self.mixing:
            flat = mixing.flatten(2)
            if mixing.shape[1] == GRID * GRID:  # the cells of a camera field are no segments
                parts.append(torch.ones_like(flat[:, 0, cells]))
                continue
            area = flat.mean(2, keepdim=True).clamp_min(0.02)
            each = area**-power
            mean = (area * each).sum(1, keepdim=True) / area.sum(1, keepdim=True)
            parts.append((flat[:, :, cells] * each / mean).sum(1))
        return torch.cat(parts)


class SampleMaker:
    """Makes batches for the estimator.

    Parameters
    ----------
    images : ImageBank
        Sharp images.
    kernels : Tensor
        Kernels (M, K, K), on the same device.
    cameras : Tensor
        Camera fields (F, GRID, GRID, K, K), on the same device.
    side : int
        Side S of the samples in pixels, a multiple of 4.
    batch : int
        Samples in a batch, at least 3.
    capture : Capture
        What the simulated camera does.
    """

    def __init__(
        self,
        images: ImageBank,
        kernels: Tensor,
        cameras: Tensor,
        *,
        side: int,
        batch: int,
        capture: Capture | None = None,
    ) -> None:
        if side % STRIDE or batch < 3:
            raise ValueError(
                f"samples need a side that is a multiple of {STRIDE} and batches of 3 or more, "
                f"got {side} and {batch}"
            )
        self._images, self._kernels, self._cameras = images, kernels, cameras
        self.side, self.batch = side, batch
        self.kernel_size = int(kernels.shape[-1])
        self._capture = capture or Capture()
        self._device = kernels.device
        pairs, quads = max(1, round(_PAIRS * batch)), max(1, round(_QUADS * batch))
        self._parts = (pairs, quads, batch - pairs - quads)
        self._read_grid = bilinear_grid(GRID, side).to(self._device)
        self._read_cells = functional.avg_pool2d(self._read_grid[None], STRIDE)[0]
        self._delta = no_blur(self.kernel_size, self._device)
        self.mean_kernel = kernels.float().mean(0)

    def make(self, generator: torch.Generator, symmetry: int) -> Batch:
        """Make a batch.

        Parameters
        ----------
        generator : torch.Generator
            Source of all random numbers, on the device of the images.
        symmetry : int
            Which of the eight symmetries of the square to apply to all kernels.
        """
        wide = self.side + self.kernel_size - 1
        crops, masked = self._images.crops(self.batch, wide, generator)
        light = decode(crops[..., :3].permute(0, 3, 1, 2).float() / 255, GAMMA)
        light = self._expose(light, generator)
        labels = crops[..., 3]
        pairs, quads, cameras = self._parts
        seen, kernels, mixing = [], [], []
        for start, stop, count in ((0, pairs, 2), (pairs, pairs + quads, 4)):
            part = slice(start, stop)
            k = self._draw_kernels(stop - start, count, symmetry, generator)
            slots = self._slots(labels[part], masked[part], count, generator)
            full, cells = self._soft(slots, k)
            seen.append(_blur(light[part], k, full))
            kernels.append(k)
            mixing.append(cells)
        k = self._draw_cameras(cameras, symmetry, generator)
        seen.append(_blur_on_grid(light[pairs + quads :], k, self._read_grid))
        kernels.append(k)
        mixing.append(self._read_cells.expand(cameras, -1, -1, -1).contiguous())
        return Batch(
            self._photograph(torch.cat(seen), generator),
            light,
            tuple(kernels),
            tuple(mixing),
        )

    def _rand(self, *shape: int, generator: torch.Generator) -> Tensor:
        return torch.rand(shape, generator=generator, device=self._device)

    def _expose(self, light: Tensor, generator: torch.Generator) -> Tensor:
        """Change the brightness of all images, the lamps and the colour of some, in place."""
        draw = self._rand(2, len(light), 1, 1, 1, generator=generator)
        low, high = self._capture.exposure
        # Bright images would become plain white.
        light *= torch.minimum(
            low * (high / low) ** draw[0], 0.6 / light.mean((1, 2, 3), keepdim=True)
        )
        # Every so many samples, so that the number is always the same.
        some = _some(self._capture.lamps)
        lit = light[some]
        peak = 4 * draw[1, some]
        lit *= 1 + peak * ((lit.amax(1, keepdim=True) - 0.6) / 0.3).clamp(0, 1)
        faded = light[_some(self._capture.grey)]
        faded.copy_(faded.mean(1, keepdim=True).expand_as(faded))
        return light

    def _draw_kernels(
        self, n: int, count: int, symmetry: int, generator: torch.Generator
    ) -> Tensor:
        index = (self._rand(n, count, generator=generator) * len(self._kernels)).long()
        kernels = turn(self._kernels[index.clamp_max(len(self._kernels) - 1)], symmetry, ((2, 3),))
        draw = self._rand(n, generator=generator)
        nothing = (draw < _NO_BLUR)[:, None].expand(-1, count).clone()
        nothing[:, 0] |= draw < _NO_BLUR + _STILL
        return torch.where(nothing[:, :, None, None], self._delta, kernels.float())

    def _draw_cameras(self, n: int, symmetry: int, generator: torch.Generator) -> Tensor:
        index = (self._rand(n, generator=generator) * len(self._cameras)).long()
        fields = self._cameras[index.clamp_max(len(self._cameras) - 1)]
        return turn(fields, symmetry, ((1, 2), (3, 4))).float().flatten(1, 2)

    def _slots(
        self, labels: Tensor, masked: Tensor, count: int, generator: torch.Generator
    ) -> Tensor:
        """Which kernel holds where, (n, h, w), at the resolution of masks."""
        n = len(labels)
        side = labels.shape[-1] // _MASK_STRIDE
        noise = torch.randn(n, count, 5, 5, generator=generator, device=self._device)
        bias = torch.randn(n, count, 1, 1, generator=generator, device=self._device)
        blobs = functional.interpolate(noise, (side, side), mode="bicubic") + 0.4 * bias
        random = _highest(blobs)
        table = (self._rand(n, 256, generator=generator) * count).long()
        table[:, 0] = 0  # the background may stand still
        coarse = labels[:, 1::_MASK_STRIDE, 1::_MASK_STRIDE]
        drawn = table.gather(1, coarse.flatten(1).long()).view_as(coarse)
        draw = self._rand(2, n, 1, 1, generator=generator)
        slots = torch.where(masked[:, None, None] & (draw[0] < 0.7), drawn, random)
        if count == 2:
            # All of the image in slot 1, whose kernel is a moving one.
            slots = torch.where(draw[1] < _UNIFORM, 1, slots)
        return slots

    def _soft(self, slots: Tensor, kernels: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients of pixels (n, J, S, S) and cells: masks blurred with their own kernels."""
        count = kernels.shape[1]
        masks = functional.one_hot(slots, count).permute(0, 3, 1, 2).float()
        # A border moves with its kernel, seen at the resolution of the masks.
        small = functional.avg_pool2d(
            functional.pad(kernels, (0, 1, 0, 1)), _MASK_STRIDE, divisor_override=1
        )
        size = slots.shape[-1]
        spectrum = torch.fft.rfft2(masks) * torch.fft.rfft2(small, s=(size, size)).conj()
        soft = torch.fft.irfft2(spectrum, s=(size, size))
        inner = self.side // _MASK_STRIDE
        soft = soft[..., :inner, :inner].clamp_min(0) + 1e-6
        soft = soft / soft.sum(1, keepdim=True)
        full = functional.interpolate(soft, scale_factor=_MASK_STRIDE, mode="bilinear")
        return full, functional.avg_pool2d(full, STRIDE)

    def _photograph(self, light: Tensor, generator: torch.Generator) -> Tensor:
        values = encode(light.clamp(0, 1), GAMMA)
        draw = self._rand(len(values), 1, 1, 1, generator=generator)
        noise = torch.randn(values.shape, generator=generator, device=self._device)
        values = values + self._capture.noise * draw.square() * noise
        return (values.clamp(0, 1) * 255).round() / 255


def sample_maker(
    source: Source,
    split: str,
    *,
    size: int,
    max_extent: float,
    kernels: int,
    cameras: int,
    seed: int,
    capture: Capture | None = None,
) -> SampleMaker:
    """Make what makes the batches of a split, with banks of kernels that a seed determines.

    Parameters
    ----------
    source : Source
        The images, and how many samples of what size a batch has.
    split : str
        ``"train"`` or ``"val"``.
    size : int
        Side K of the kernels in pixels, odd.
    max_extent : float
        Most pixels that a kernel covers, in [3, size].
    kernels, cameras : int
        Sizes of the banks of kernels and camera fields.
    seed : int
        Determines the banks.
    capture : Capture, optional
        What the simulated camera does.
    """
    generator = torch.Generator(source.device).manual_seed(seed)
    bank = source.bank(split, source.side + size - 1)
    shakes = kernel_bank(kernels, size, max_extent=max_extent, generator=generator)
    turns = camera_bank(cameras, size, side=source.side, max_extent=max_extent, generator=generator)
    return SampleMaker(bank, shakes, turns, side=source.side, batch=source.batch, capture=capture)


def _some(share: float) -> slice:
    """Places of about this share of all samples; none for 0."""
    step = max(1, round(1 / share)) if share > 0 else 1 << 30
    return slice(step // 2, None, step)


def _highest(values: Tensor) -> Tensor:
    """Index of the greatest along the second axis, along which `argmax` is slow."""
    best, index = values[:, 0], torch.zeros_like(values[:, 0], dtype=torch.int64)
    for number in range(1, values.shape[1]):
        index = index.masked_fill(values[:, number] > best, number)
        best = torch.maximum(best, values[:, number])
    return index


def _blur(light: Tensor, kernels: Tensor, mixing: Tensor) -> Tensor:
    """Blur images (n, C, N, N) with kernels (n, J, K, K) and their maps (n, J, S, S)."""
    wide, side = light.shape[-1], mixing.shape[-1]
    result = light.new_zeros(*light.shape[:2], side, side)
    for part in few_at_a_time(light):
        spectrum = torch.fft.rfft2(light[part])
        for kernel, share in zip(kernels[part].unbind(1), mixing[part].unbind(1), strict=True):
            transfer = torch.fft.rfft2(kernel, s=(wide, wide)).conj()
            blurry = torch.fft.irfft2(spectrum * transfer[:, None], s=(wide, wide))
            result[part].addcmul_(blurry[..., :side, :side], share[:, None])
    return result.clamp_min_(0)


def _blur_on_grid(light: Tensor, kernels: Tensor, mixing: Tensor) -> Tensor:
    """Blur images (n, C, N, N) with grids of kernels (n, J, K, K), read by `bilinear_grid`.

    Each kernel of a grid has to do with a square of two cells a side only, mixing (J, S, S).
    """
    side, margin = mixing.shape[-1], kernels.shape[-1] - 1
    reach = -(-2 * side // GRID)
    wide = reach + margin
    firsts = [
        min(max(0, (2 * cell - 1) * side // (2 * GRID)), side - reach) for cell in range(GRID)
    ]
    result = light.new_zeros(*light.shape[:2], side, side)
    for part in few_at_a_time(light):
        for index, (top, left) in enumerate(product(firsts, firsts)):
            tile = light[part, :, top : top + wide, left : left + wide]
            transfer = torch.fft.rfft2(kernels[part, index], s=(wide, wide)).conj()
            spectrum = torch.fft.rfft2(tile) * transfer[:, None]
            blurry = torch.fft.irfft2(spectrum, s=(wide, wide))[..., :reach, :reach]
            here = (slice(top, top + reach), slice(left, left + reach))
            result[part, :, *here].addcmul_(blurry, mixing[index, *here])
    return result.clamp_min_(0)
