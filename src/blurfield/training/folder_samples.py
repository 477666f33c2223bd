"""Samples that are cut from folders of blurry and sharp images, which may be larger than memory."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from blurfield.compute import available_memory

from .images import read_rgb
from .kernels import turn
from .paired_folders import find_pairs
from .restoration_samples import RestorationBatch, RestorationSamples, SimulatedSamples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .paired_folders import Pair
    from .source import Source

#: Every so many-th scene is held out, and of these at most so many pairs.
_HELD_EACH, _MOST_HELD = 8, 64
#: Share of the free memory that decoded images may take.
_SHARE = 0.5


class FolderSamples:
    """Samples cut from pairs of images, without the fields that blurred them.

    Each eighth scene is held out, of its images the middles. Decoded images are kept as long as
    there is room for them.

    Parameters
    ----------
    source : Source
        The folder, see `blurfield.training.paired_folders`, and how many samples of what size a
        batch has.
    memory : int, optional
        Bytes that decoded images may take, by default half of what is free.

    Raises
    ------
    ValueError
        If there are fewer than two pairs or one of them is not complete, or the images of a pair
        differ in size or are smaller than the samples.
    """

    def __init__(self, source: Source, memory: int | None = None) -> None:
        self.side, self.device, self._batch = source.side, source.device, source.batch
        pairs = find_pairs(source.data)[: source.images]
        if len(pairs) < 2:
            raise ValueError(f"{source.data} holds {len(pairs)} pairs; two are the least")
        for pair in pairs:
            _check(pair, self.side)
        self._cache = _Cache(
            memory or int(_SHARE * available_memory(torch.device("cpu"))),
        )
        scenes = list(dict.fromkeys(pair.scene for pair in pairs))
        # A single scene is divided into pairs.
        keys = [pair.scene for pair in pairs] if len(scenes) > 1 else list(range(len(pairs)))
        held_keys = set(list(dict.fromkeys(keys))[1::_HELD_EACH])
        held = [pair for pair, key in zip(pairs, keys, strict=True) if key in held_keys]
        self._pairs = [pair for pair, key in zip(pairs, keys, strict=True) if key not in held_keys]
        middles = [self._middle(pair) for pair in held[:: -(-len(held) // _MOST_HELD)]]
        self.held = [
            self._together(middles[start : start + self._batch])
            for start in range(0, len(middles), self._batch)
        ]

    def make(self, generator: torch.Generator, number: int) -> RestorationBatch:
        """Make the batch of a step."""
        del number
        draw = torch.rand(self._batch, 4, generator=generator, device=generator.device)
        return self._together([self._cut(*row) for row in draw.tolist()])

    def _cut(self, which: float, down: float, right: float, symmetry: float) -> Tensor:
        """A random square of both images; all numbers are in [0, 1)."""
        both = self._cache.read(self._pairs[int(which * len(self._pairs))])
        y, x = (
            int(place * (length - self.side + 1))
            for place, length in zip((down, right), both.shape[-2:], strict=True)
        )
        return turn(self._square(both, y, x), int(symmetry * 8), ((2, 3),))

    def _middle(self, pair: Pair) -> Tensor:
        both = self._cache.read(pair)
        y, x = ((length - self.side) // 2 for length in both.shape[-2:])
        return self._square(both, y, x)

    def _square(self, both: Tensor, y: int, x: int) -> Tensor:
        return both[..., y : y + self.side, x : x + self.side]

    def _together(self, squares: Sequence[Tensor]) -> RestorationBatch:
        blurry, sharp = (torch.stack(list(squares), 1).to(self.device).float() / 255).unbind()
        return RestorationBatch(blurry, sharp, list)


def blurry_samples(source: Source, *, max_extent: float, seed: int = 0) -> RestorationSamples:
    """Samples of what a folder holds: pairs of images, or sharp ones that are blurred as needed.

    Parameters
    ----------
    source : Source
        A folder of sharp images with their ``manifest.csv``, or of pairs, see `FolderSamples`.
    max_extent, seed
        Of simulated blurs, see `SimulatedSamples`.

    Raises
    ------
    ValueError
        See `FolderSamples` and `SimulatedSamples`.
    """
    if (Path(source.data) / "manifest.csv").is_file():
        return SimulatedSamples(source, max_extent=max_extent, seed=seed)
    if not Path(source.data).exists():
        raise ValueError(f"there is no folder {source.data}")
    return FolderSamples(source)


class _Cache:
    """Decoded pairs, of which those go that were not used for longest."""

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._pairs: OrderedDict[Pair, Tensor] = OrderedDict()

    def read(self, pair: Pair) -> Tensor:
        """Both images of a pair, uint8 (2, 3, H, W)."""
        if pair in self._pairs:
            self._pairs.move_to_end(pair)
            return self._pairs[pair]
        images = [torch.tensor(read_rgb(file)) for file in (pair.blurry, pair.sharp)]
        both = torch.stack(images).permute(0, 3, 1, 2)
        self._size += both.numel()
        while self._pairs and self._size > self._limit:
            _, oldest = self._pairs.popitem(last=False)
            self._size -= oldest.numel()
        self._pairs[pair] = both
        return both


def _check(pair: Pair, side: int) -> None:
    """Raise ValueError unless the images of a pair have one size, large enough for samples."""
    sizes = []
    for file in (pair.blurry, pair.sharp):
        try:
            with Image.open(file) as opened:
                sizes.append(opened.size)
        except OSError as error:
            raise ValueError(f"cannot read {file} as an image: {error}") from error
    if sizes[0] != sizes[1] or min(sizes[0]) < side:
        (width, height), (sharp_width, sharp_height) = sizes
        raise ValueError(
            f"the images of a pair must have one size, at least {side}×{side} pixels, but "
            f"{pair.blurry} is {height}×{width} and {pair.sharp} {sharp_height}×{sharp_width}"
        )
