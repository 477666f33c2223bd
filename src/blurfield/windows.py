"""Windows of equal size on an image, and how what was found in them becomes a map."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from .grid import axis_weights

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Windows"]


@dataclass(frozen=True)
class Windows:
    """Windows of equal size on a regular grid that spans an image.

    Attributes
    ----------
    shape : (int, int)
        Height and width of the image.
    size : (int, int)
        Height and width of the windows.
    rows, columns : tuple of int
        First row, or column, of the windows in each row, or column, of windows.
    """

    shape: tuple[int, int]
    size: tuple[int, int]
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    @classmethod
    def on(cls, shape: tuple[int, int], side: int, stride: int, most: int) -> Windows:
        """Lay windows of `side` pixels every `stride` pixels or less.

        More than `most` of them are thinned out. Axes shorter than `side` get one window of their
        length.
        """
        size = (min(side, shape[0]), min(side, shape[1]))
        step = float(stride)
        while True:
            counts = [math.ceil((n - s) / step) + 1 for n, s in zip(shape, size, strict=True)]
            if counts[0] * counts[1] <= most:
                break
            step *= 1.1
        rows, columns = (
            tuple(round(i * (n - s) / max(count - 1, 1)) for i in range(count))
            for n, s, count in zip(shape, size, counts, strict=True)
        )
        return cls(shape, size, rows, columns)

    @classmethod
    def every(
        cls, shape: tuple[int, int], side: int, stride: int, origin: tuple[int, int] = (0, 0)
    ) -> Windows:
        """Lay windows of `side` pixels exactly every `stride` pixels.

        If the image is a part of a larger one, with its first pixel at `origin`, its windows are
        among those of the larger one. Pixels at its ends may lie in none. Axes shorter than `side`
        get one window of their length.
        """
        size = (min(side, shape[0]), min(side, shape[1]))
        rows, columns = (
            tuple(range(-first % stride, length - extent + 1, stride)) or (0,)
            for first, length, extent in zip(origin, shape, size, strict=True)
        )
        return cls(shape, size, rows, columns)

    def cut(self, image: Tensor) -> Tensor:
        """Return the windows of an image (H, W), row by row: (N, height, width)."""
        height, width = self.size
        return torch.stack(
            [image[y : y + height, x : x + width] for y in self.rows for x in self.columns]
        )

    def centres(self) -> list[tuple[float, float]]:
        """Coordinates (y, x) of the middles of the windows, row by row."""
        down, across = ((n - 1) / 2 for n in self.size)
        return [(y + down, x + across) for y in self.rows for x in self.columns]

    def grid(self, values: Tensor) -> Tensor:
        """Return values (N, C) of the windows as maps (C, rows, columns)."""
        return values.T.reshape(-1, len(self.rows), len(self.columns))

    def on_pixels(self, values: Tensor) -> Tensor:
        """Interpolate values (N, C) of the windows between their middles, (C, H, W).

        Windows have to be equidistant. Beyond the outermost middles the values are constant.
        """
        down, across = (
            _between_middles(first, size, length, values)
            for first, size, length in zip(
                (self.rows, self.columns), self.size, self.shape, strict=True
            )
        )
        return down @ self.grid(values) @ across.T

    def on_cells(self, values: Tensor, stride: int) -> Tensor:
        """Interpolate values (N, C) of the windows on a grid of cells over the image, (C, h, w).

        The cells are as `blurfield.grid` reads them: they tile the image, of about `stride`
        pixels each. Beyond the outermost centres of windows the values are constant.
        """
        maps = self.grid(values)
        down, across = (
            _between(first, size, length, max(1, round(length / stride)), values)
            for first, size, length in zip(
                (self.rows, self.columns), self.size, self.shape, strict=True
            )
        )
        return down @ maps @ across.T


def _between_middles(first: tuple[int, ...], size: int, length: int, like: Tensor) -> Tensor:
    """Matrix that interpolates from equidistant windows to pixels, (pixels, windows)."""
    count = len(first)
    step = first[1] - first[0] if count > 1 else 1
    places = (torch.arange(length, dtype=torch.float64) - first[0] - (size - 1) / 2) / step
    distance = places.clamp(0, count - 1)[:, None] - torch.arange(count, dtype=torch.float64)
    return (1 - distance.abs()).clamp_min(0).to(like)


def _between(first: tuple[int, ...], size: int, length: int, cells: int, like: Tensor) -> Tensor:
    """Matrix that interpolates from equidistant windows to cells, (cells, windows)."""
    count = len(first)
    centres = (torch.arange(cells, dtype=torch.float64) + 0.5) * (length / cells) - 0.5
    step = (length - size) / max(count - 1, 1) or 1.0
    # In a coordinate in which the centres of the windows are half-integers.
    places = (centres + 0.5 - size / 2) / step
    lower, upper, weight = axis_weights(places, count, count)
    matrix = torch.zeros(cells, count, dtype=torch.float64)
    index = torch.arange(cells)
    matrix[index, lower] += 1 - weight
    matrix[index, upper] += weight
    return matrix.to(like)
