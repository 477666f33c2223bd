"""The two-headed network on images of any size, within the memory that there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from blurfield.compute import available_memory, usable_share
from blurfield.precision import memory_format

from .two_heads_network import SteppedConv2d, pool, total

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from blurfield.compute import Reporter

    from .two_heads_network import TwoHeads

#: Steps of progress from the image to the field.
STEPS = 1000
#: Least side of a tile in pixels.
LEAST_SIDE = 64

#: Sides of the tiles that are tried where memory is too small for the whole image.
_SIDES = (2048, 1024, 512, 256)
#: Pixels around a tile on which its maps depend through features at strides 1 and 2: 15, rounded
#: up so that features at stride 4 can be cut.
_HALO = 16
#: Numbers held at once for each pixel of a tile and, at strides 4 to 32, of the whole image.
_TILE_NUMBERS = 340
_COARSE_NUMBERS = 110

#: Pixels along a side for one cell of the features of each part, by the stage that computes it.
_ENCODER = {"inc_rgb": 1, "down1": 1, "down2": 2}
_BOTTLENECK = {"down3": 4, "down4": 8, "down5": 16, "feat": 32, "up1": 16, "up2": 8, "up3": 4}
_MAPS = {"up4": 2, "up5": 1, "masks_end": 1}


class _Box(NamedTuple):
    """The part [top, bottom) × [left, right) of an image, in pixels."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def pixels(self) -> int:
        return (self.bottom - self.top) * (self.right - self.left)

    def of(self, features: Tensor, stride: int = 1, within: _Box | None = None) -> Tensor:
        """Cut this part from features of the image, or of a box within it, that have a stride."""
        y, x = (within.top, within.left) if within else (0, 0)
        rows = slice((self.top - y) // stride, (self.bottom - y) // stride)
        return features[..., rows, (self.left - x) // stride : (self.right - x) // stride]


def run_within_memory(
    network: TwoHeads,
    image: Tensor,
    reporter: Reporter,
    side: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Run the network in the largest tiles for which there is memory, see `run_in_tiles`.

    Parameters
    ----------
    network, image, reporter
        See `run_in_tiles`.
    side : int, optional
        Side of the tiles in pixels; chosen by default.

    Returns
    -------
    kernels, maps : Tensor
        See `run_in_tiles`.

    Raises
    ------
    MemoryError
        If it is too little even for the smallest tiles.
    """
    height, width = (int(n) for n in image.shape[2:])
    free = available_memory(image.device)
    limit = usable_share(image.device) * free
    whole = max(height, width)
    sides = [side] if side else [whole, *(size for size in _SIDES if size < whole)]
    for size in sides:
        if not side and _needed(network, image, size) > limit:
            continue
        try:
            return run_in_tiles(network, image, size, reporter)
        except torch.OutOfMemoryError:
            # The estimate was too low, or other programs use the GPU.
            torch.cuda.empty_cache()
    raise MemoryError(
        f"estimating the blur of {height}×{width} pixels with the two-headed network takes at "
        f"least {_needed(network, image, sides[-1]) / 2**30:.1f} GiB of memory, of which "
        f"{free / 2**30:.1f} GiB are free; make the image smaller"
        + (", or use device='cpu'" if image.device.type != "cpu" else "")
    )


def run_in_tiles(
    network: TwoHeads, image: Tensor, side: int, reporter: Reporter
) -> tuple[Tensor, Tensor]:
    """Run the network with its finest features in tiles.

    Features at strides 1 and 2 take most of the memory. They are computed tile by tile, once for
    their means and what follows at stride 4, and again for the maps. The result is that of the
    whole image up to rounding, since the tiles overlap by what they depend on.

    Parameters
    ----------
    network : TwoHeads
        Ready to infer.
    image : Tensor
        (1, C, H, W), what the network takes.
    side : int
        Side of the tiles in pixels. Where one is enough, nothing is computed twice.
    reporter : Reporter
        Told `STEPS` steps.

    Returns
    -------
    kernels : Tensor
        (B, K, K), in the precision of the part of the network that makes them.
    maps : Tensor
        (B, H, W), in single precision at least.
    """
    height, width = (int(n) for n in image.shape[2:])
    tiles = list(_tiles(height, width, side))
    work = _work(network, tiles)
    done, told = 0.0, 0
    reporter.advance(0, "Estimating kernels and their mixture")

    def tick(multiplications: float) -> None:
        nonlocal done, told
        if image.is_cuda:  # or else it would tell what waits to be computed
            torch.cuda.synchronize(image.device)
        done += multiplications
        steps = int(STEPS * min(done / work, 1)) - told
        reporter.advance(steps)
        told += steps

    network.on_step(tick)
    try:
        result = _run(network, image, tiles)
    finally:
        network.on_step(None)
    reporter.advance(STEPS - told)
    return result


def _run(network: TwoHeads, image: Tensor, tiles: list[tuple[_Box, _Box]]) -> tuple[Tensor, Tensor]:
    height, width = (int(n) for n in image.shape[2:])
    pooled = image.new_empty(1, network.down2.channels, height // 4, width // 4)
    pooled = pooled.to(memory_format=memory_format(image.device))
    sums = [image.new_zeros(1, 1, 1, 1, dtype=torch.float32)] * 2
    for core, outer in tiles:
        x1, x2 = network.encode(outer.of(image))
        sums[0] = sums[0] + total(core.of(x1, 1, outer))
        sums[1] = sums[1] + total(core.of(x2, 2, outer))
        core.of(pooled, 4)[:] = core.of(pool(x2), 4, outer)
    coarse, means = network.bottleneck(pooled)
    pixels = height * width, (height // 2) * (width // 2)
    means = [*(sum_ / n for sum_, n in zip(sums, pixels, strict=True)), *means]

    maps = image.new_empty(
        network.num_kernels, height, width, dtype=torch.promote_types(image.dtype, torch.float32)
    )
    for core, outer in tiles:
        if len(tiles) > 1:
            x1, x2 = network.encode(outer.of(image))
        logits = network.map_logits(outer.of(coarse, 4), x2, x1)
        core.of(maps)[:] = torch.softmax(core.of(logits, 1, outer)[0], 0, dtype=maps.dtype)
    return network.kernels(means)[0], maps


def _tiles(height: int, width: int, side: int) -> Iterator[tuple[_Box, _Box]]:
    """Cut an image into parts; each comes with what it depends on."""
    side = -(-side // 4) * 4
    for top in range(0, height, side):
        for left in range(0, width, side):
            core = _Box(top, min(top + side, height), left, min(left + side, width))
            outer = _Box(
                max(core.top - _HALO, 0),
                min(core.bottom + _HALO, height),
                max(core.left - _HALO, 0),
                min(core.right + _HALO, width),
            )
            yield core, outer


def _work(network: TwoHeads, tiles: list[tuple[_Box, _Box]]) -> float:
    """Multiplications in the steps that the network tells."""

    def per_pixel(strides: dict[str, int]) -> float:
        return sum(
            step.weight.numel() / stride**2
            for part, stride in strides.items()
            for step in network.get_submodule(part).modules()
            if isinstance(step, SteppedConv2d)
        )

    passes = 2 if len(tiles) > 1 else 1
    fine = passes * per_pixel(_ENCODER) + per_pixel(_MAPS)
    inside = sum(core.pixels for core, _ in tiles)
    with_halo = sum(outer.pixels for _, outer in tiles)
    return fine * with_halo + per_pixel(_BOTTLENECK) * inside


def _needed(network: TwoHeads, image: Tensor, side: int) -> int:
    """Bytes that `run_in_tiles` takes beyond the network and the image."""
    height, width = (int(n) for n in image.shape[2:])
    outer = min(height, side + 2 * _HALO) * min(width, side + 2 * _HALO)
    features = outer * _TILE_NUMBERS + height * width * _COARSE_NUMBERS
    maps = height * width * network.num_kernels * 4
    return int(features * image.element_size() + maps)
