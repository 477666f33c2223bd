"""Merging of neighbouring areas of a grid whose mean values are alike."""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int32]

__all__ = ["merged_areas", "neighbours"]


def merged_areas(
    values: Floats, areas: Ints, tolerance: float, least: float, min_cells: float = 0
) -> Ints:
    """Merge areas that are alike, the most similar ones first, and then those that are too small.

    Parameters
    ----------
    values : ndarray, shape (h, w, n)
        A vector for each cell of the grid; areas are compared by their means.
    areas : ndarray of int, shape (h, w)
        Number of each cell's area, from 1; 0 for cells in no area.
    tolerance : float
        Neighbours are alike if they differ by less than this, as a share of the longer vector.
    least : float
        Length that is taken for that of shorter vectors.
    min_cells : float
        Smaller areas become part of the neighbour that is most similar to them.

    Returns
    -------
    ndarray of int, shape (h, w)
        The areas that are left, under the numbers of one of their parts each.
    """
    graph = _Graph(values, areas, least)
    graph.merge_similar(tolerance)
    graph.merge_small(min_cells)
    result: Ints = graph.owner[areas]
    return result


def neighbours(areas: Ints) -> Iterator[tuple[int, int]]:
    """Give the pairs of areas that touch at a side of a cell, some of them twice."""
    for first, second in ((areas[1:], areas[:-1]), (areas[:, 1:], areas[:, :-1])):
        meet = (first != second) & (first > 0) & (second > 0)
        pairs = np.unique(np.stack([first[meet], second[meet]], axis=1), axis=0)
        yield from ((int(a), int(b)) for a, b in pairs)


class _Graph:
    """Areas, their means, and which lie beside which.

    Attributes
    ----------
    owner : ndarray of int
        For each number, that of the area of which it has become part.
    """

    def __init__(self, values: Floats, areas: Ints, least: float) -> None:
        flat = areas.ravel()
        self._least = least
        self._cells = np.bincount(flat).astype(float)
        sums = [np.bincount(flat, part) for part in values.reshape(flat.size, -1).T]
        self._mean = np.stack(sums, axis=1) / np.maximum(self._cells, 1)[:, None]
        self.owner = np.arange(self._cells.size, dtype=np.int32)
        self._beside: list[set[int]] = [set() for _ in self._cells]
        self._merges = [0] * self._cells.size
        for a, b in neighbours(areas):
            self._beside[a].add(b)
            self._beside[b].add(a)

    def merge_similar(self, tolerance: float) -> None:
        """Merge the most similar neighbours until all neighbours differ."""
        pairs = [(a, b) for a, others in enumerate(self._beside) for b in others if a < b]
        queue = [self._entry(*pair) for pair in pairs]
        heapq.heapify(queue)
        while queue and queue[0][0] < tolerance:
            _, a, b, merges = heapq.heappop(queue)
            if merges != self._merges[a] + self._merges[b]:
                continue  # one of them is no longer what it was
            self._merge(a, b)
            for c in self._beside[a]:
                heapq.heappush(queue, self._entry(min(a, c), max(a, c)))

    def merge_small(self, min_cells: float) -> None:
        """Merge areas of fewer cells, the smallest first, into what is most similar beside them."""
        sizes = [(self._cells[a], a) for a in range(1, self.owner.size) if self._is_alive(a)]
        for _, a in sorted(sizes):
            while self._is_alive(a) and self._cells[a] < min_cells and self._beside[a]:
                _, b = min((self._difference(a, b), b) for b in self._beside[a])
                self._merge(b, a)

    def _is_alive(self, a: int) -> bool:
        return bool(self.owner[a] == a)

    def _entry(self, a: int, b: int) -> tuple[float, int, int, int]:
        return self._difference(a, b), a, b, self._merges[a] + self._merges[b]

    def _difference(self, a: int, b: int) -> float:
        first, second = self._mean[a], self._mean[b]
        return _length(first - second) / max(_length(first), _length(second), self._least)

    def _merge(self, a: int, b: int) -> None:
        """Make b a part of a."""
        total = self._cells[a] + self._cells[b]
        self._mean[a] += (self._mean[b] - self._mean[a]) * (self._cells[b] / total)
        self._cells[a] = total
        self.owner[self.owner == b] = a
        for c in self._beside[b] - {a}:
            self._beside[c].discard(b)
            self._beside[c].add(a)
            self._beside[a].add(c)
        self._beside[a].discard(b)
        self._beside[b] = set()
        self._merges[a] += 1
        self._merges[b] += 1


def _length(vector: Floats) -> float:
    return math.sqrt(float(vector @ vector))
