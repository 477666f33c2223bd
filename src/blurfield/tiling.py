"""How an image is cut into tiles for FFT convolution (overlap-save and its adjoint)."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class TilePlan:
    """Regular tiles that cover an image.

    Attributes
    ----------
    fft : (int, int)
        Size of the transforms: pixels that a tile reads.
    out : (int, int)
        Pixels that a tile writes; smaller than `fft` by the kernel size minus 1.
    count : (int, int)
        Tiles down and across.
    shape : (int, int)
        The image.
    """

    fft: tuple[int, int]
    out: tuple[int, int]
    count: tuple[int, int]
    shape: tuple[int, int]

    @property
    def slack(self) -> tuple[int, int]:
        """Rows and columns by which the tiles reach beyond the image."""
        return (
            self.count[0] * self.out[0] - self.shape[0],
            self.count[1] * self.out[1] - self.shape[1],
        )

    def origins(self) -> list[tuple[int, int]]:
        """First row and column of each tile."""
        return [
            (row * self.out[0], col * self.out[1])
            for row in range(self.count[0])
            for col in range(self.count[1])
        ]

    def block(self, origin: tuple[int, int]) -> tuple[slice, slice]:
        """Pixels of the image that a tile writes."""
        (y, x), (height, width) = origin, self.shape
        return (
            slice(y, min(y + self.out[0], height)),
            slice(x, min(x + self.out[1], width)),
        )


def plan_tiles(shape: tuple[int, int], kernel_size: int, *, cached: bool) -> TilePlan:
    """Choose the cheapest tile size.

    Small tiles waste work on their overlap, large ones fall out of the processor's cache, and any
    size may fit the image badly; two tiles share one complex transform, so an odd number wastes a
    half.

    Parameters
    ----------
    shape : (int, int)
        The image.
    kernel_size : int
        Side of the kernels.
    cached : bool
        Whether small tiles are faster per pixel, as on CPUs (measured on a server CPU with 2 MiB
        of cache a core: each doubling of a tile's area beyond 160×160 costs 12 % more a pixel).
    """
    largest = max(512, 4 * kernel_size)
    lengths = [n for n in _fast_lengths(largest) if n >= kernel_size]
    margin = kernel_size - 1

    def candidates(side: int) -> list[tuple[int, int]]:
        fits = [(n, math.ceil(side / (n - margin))) for n in lengths]
        best: dict[int, int] = {}
        for length, count in fits:
            best.setdefault(count, length)
        return [(length, count) for count, length in best.items()]

    def cost(rows: tuple[int, int], cols: tuple[int, int]) -> float:
        area = rows[0] * cols[0]
        pairs = math.ceil(rows[1] * cols[1] / 2)
        per_pixel = 1 + 0.12 * max(0.0, math.log2(area / 25600)) if cached else 1.0
        return pairs * area * per_pixel

    rows, cols = min(
        ((r, c) for r in candidates(shape[0]) for c in candidates(shape[1])),
        key=lambda pair: cost(*pair),
    )
    return TilePlan(
        fft=(rows[0], cols[0]),
        out=(rows[0] - margin, cols[0] - margin),
        count=(rows[1], cols[1]),
        shape=shape,
    )


def _fast_lengths(largest: int) -> list[int]:
    """Multiples of 8 up to at least `largest` with no prime factor above 5."""
    found = []
    for n in range(16, 2 * largest, 8):
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            found.append(n)
    return found
