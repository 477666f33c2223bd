"""Blur by FFT over overlapping tiles: the fast path of `BlurOperator`.

Two real tiles a and b travel as the real and the imaginary part of one complex tile z = a + i·b.
Correlation with a real kernel keeps the parts apart, so one complex transform serves two tiles,
and complex transforms are much faster per pixel than real ones in common libraries. `forward` is
overlap-save; overlap-add on the same tiles is its exact adjoint.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
from torch import Tensor

from . import grid
from ._threads import map_in_order
from .boundary import extend, fold
from .tiling import plan_tiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .field import KernelField

T = TypeVar("T")

#: Complex numbers in one batch of transforms: what fits a core's cache, or fills a GPU.
_BATCH = {"cpu": 2**19, "cuda": 2**25}


class _Group(NamedTuple):
    """Pairs of tiles that are transformed together, and the kernels that they need."""

    first: list[tuple[int, int]]
    second: list[tuple[int, int]]
    kernels: tuple[int, ...]
    pruned: bool


class TileEngine:
    """Applies one field with one boundary; see `BlurOperator` for the parameters."""

    def __init__(
        self, field: KernelField, boundary: str, prune: float, poll: Callable[[], None]
    ) -> None:
        self._basis = field.basis.detach()
        self._mixing = field.mixing.detach()
        self._poll = poll
        self._boundary = boundary
        self._radius = 0 if boundary == "valid" else field.kernel_size // 2
        margin = field.kernel_size - 1 if boundary == "valid" else 0
        self._input_shape = (field.shape[0] + margin, field.shape[1] + margin)
        kind = field.device.type
        self._plan = plan_tiles(field.shape, field.kernel_size, cached=kind != "cuda")
        self._batch = _BATCH.get(kind, _BATCH["cpu"])
        # Correlation multiplies by the conjugate spectrum. The factor belongs to the inverse
        # transform, which is called without scaling.
        spectra = torch.fft.fft2(self._basis, s=self._plan.fft, norm="forward")
        self._spectra: Tensor = spectra.conj().resolve_conj()
        self._groups = self._make_groups(prune)

    # ------------------------------------------------------------ preparation

    def _make_groups(self, prune: float) -> list[_Group]:
        """Put tiles that need the same kernels together, as pairs of tiles."""
        needed = []
        for origin in self._plan.origins():
            weights = self._block(origin).amax((1, 2))
            kernels, pruned = _needed(weights, prune)
            needed.append((kernels, pruned, origin))
        # A stable order by kernels: tiles with like kernels become pairs, others stay neighbours.
        needed.sort(key=lambda entry: (len(entry[0]), entry[0]))
        most = max(len(kernels) for kernels, _, _ in needed)
        area = self._plan.fft[0] * self._plan.fft[1]
        pairs = max(1, self._batch // (4 * most * area))
        groups = []
        for start in range(0, len(needed), 2 * pairs):
            part = needed[start : start + 2 * pairs]
            kernels = tuple(sorted(set().union(*(entry[0] for entry in part))))
            origins = [entry[2] for entry in part]
            half = (len(origins) + 1) // 2
            pruned = any(entry[1] for entry in part)
            groups.append(_Group(origins[:half], origins[half:], kernels, pruned))
        return groups

    def _block(self, origin: tuple[int, int]) -> Tensor:
        return grid.read_block(self._mixing, self._plan.shape, *self._plan.block(origin))

    # ---------------------------------------------------------------- reading

    def _spectrum(self, kernels: tuple[int, ...]) -> Tensor:
        if len(kernels) == len(self._spectra):
            return self._spectra
        return self._spectra[list(kernels)]

    def _chunks(self, group: _Group, channels: int) -> Iterator[slice]:
        """Split the kernels of a group so that a batch of transforms has the wanted size."""
        area = self._plan.fft[0] * self._plan.fft[1]
        length = max(1, self._batch // (len(group.first) * channels * area))
        for start in range(0, len(group.kernels), length):
            yield slice(start, min(start + length, len(group.kernels)))

    def _read_pairs(self, source: Tensor, group: _Group, size: tuple[int, int]) -> Tensor:
        """Tiles of an image as complex pairs, (pairs, channels, *size)."""

        def read(origins: list[tuple[int, int]]) -> list[Tensor]:
            return [source[:, y : y + size[0], x : x + size[1]] for y, x in origins]

        return _join(read(group.first), read(group.second), size)

    def _weights(self, group: _Group) -> tuple[list[Tensor], list[Tensor]]:
        """Mixing coefficients of a group's kernels on its tiles, each (kernels, rows, columns)."""

        def read(origins: list[tuple[int, int]]) -> list[Tensor]:
            blocks = [self._block(origin) for origin in origins]
            if len(group.kernels) == len(self._mixing):
                return blocks
            return [block[list(group.kernels)] for block in blocks]

        return read(group.first), read(group.second)

    def _chunk_maps(self, weights: tuple[list[Tensor], list[Tensor]], chunk: slice) -> Tensor:
        """Weights of some kernels beside each other, (pairs, kernels, rows, columns, 2)."""
        first, second = ([block[chunk] for block in part] for part in weights)
        return torch.view_as_real(_join(first, second, self._plan.out))

    def _kept(self, group: _Group, weights: tuple[list[Tensor], list[Tensor]]) -> Tensor | None:
        """Part of each kernel that pruning kept, (pairs, 1, rows, columns, 2); None if all."""
        if not group.pruned:
            return None
        first, second = ([block.sum(0, keepdim=True) for block in part] for part in weights)
        kept = torch.view_as_real(_join(first, second, self._plan.out))
        return kept.masked_fill(kept == 0, 1)  # off the image

    # ------------------------------------------------------------- operations

    def forward(self, sharp: Tensor) -> Tensor:
        """Blur planes (N, *input shape)."""
        plan, channels = self._plan, sharp.shape[0]
        extended = extend(sharp, self._radius, self._boundary, plan.slack)

        def blur(group: _Group) -> Tensor:
            transform = torch.fft.fft2(self._read_pairs(extended, group, plan.fft))
            weights, spectra = self._weights(group), self._spectrum(group.kernels)
            mixed = sharp.new_zeros(len(group.first), channels, *plan.out, 2)
            for chunk in self._chunks(group, channels):
                blurred = self._correlate(transform, spectra[chunk])
                maps = self._chunk_maps(weights, chunk)
                for kernel in range(maps.shape[1]):
                    mixed.addcmul_(blurred[kernel], maps[:, kernel, None])
            kept = self._kept(group, weights)
            return mixed if kept is None else mixed.div_(kept)

        blurry = sharp.new_empty(channels, *plan.shape)
        for group, mixed in self._map_groups(blur):
            for origin, tile in _split(group, mixed):
                rows, cols = plan.block(origin)
                blurry[:, rows, cols] = tile[:, : rows.stop - rows.start, : cols.stop - cols.start]
        return blurry

    def _map_groups(self, work: Callable[[_Group], T]) -> Iterator[tuple[_Group, T]]:
        """Results of all groups in order, so that sums of them come out the same every time."""
        return map_in_order(work, self._groups, self._mixing.device, self._poll)

    def _correlate(self, transform: Tensor, spectra: Tensor) -> Tensor:
        """Valid correlation of tile pairs with kernels, (kernels, pairs, channels, y, x, 2)."""
        product = transform * spectra[:, None, None]
        blurred = torch.view_as_real(torch.fft.ifft2(product, norm="forward"))
        return blurred[..., : self._plan.out[0], : self._plan.out[1], :]

    def adjoint(self, blurry: Tensor) -> Tensor:
        """Back-project planes (N, *output shape)."""
        plan, channels = self._plan, blurry.shape[0]
        # The adjoint needs the unconjugated spectrum; conjugating the tiles on the way in and the
        # result on the way out comes to the same without a second set of spectra.
        sign = blurry.new_tensor([1.0, -1.0])
        scratch = _Scratch()

        def project(group: _Group) -> Tensor:
            tiles = torch.view_as_real(self._read_pairs(blurry, group, plan.out)) * sign
            weights, spectra = self._weights(group), self._spectrum(group.kernels)
            kept = self._kept(group, weights)
            if kept is not None:
                tiles.div_(kept)
            total = spectra.new_zeros(len(group.first), channels, *plan.fft)
            for chunk in self._chunks(group, channels):
                maps = self._chunk_maps(weights, chunk)
                transform = self._transform_weighted(tiles, maps, scratch)
                for index, spectrum in enumerate(spectra[chunk]):
                    total.addcmul_(transform[index], spectrum)
            return torch.view_as_real(torch.fft.fft2(total)) * sign

        height, width = (size + 2 * self._radius for size in self._input_shape)
        extended = blurry.new_zeros(channels, height + plan.slack[0], width + plan.slack[1])
        for group, result in self._map_groups(project):
            for (y, x), tile in _split(group, result):
                extended[:, y : y + plan.fft[0], x : x + plan.fft[1]] += tile
        return fold(extended, self._input_shape, self._radius, self._boundary).contiguous()

    def _transform_weighted(self, tiles: Tensor, maps: Tensor, scratch: _Scratch) -> Tensor:
        """Unscaled inverse transforms of map × tile, (kernels, pairs, channels, *fft)."""
        shape = (maps.shape[1], maps.shape[0], tiles.shape[1], *self._plan.fft, 2)
        weighted = scratch.zero_margins(shape, like=tiles)
        inner = weighted[..., : self._plan.out[0], : self._plan.out[1], :]
        torch.mul(maps.transpose(0, 1)[:, :, None], tiles, out=inner)
        transform: Tensor = torch.fft.ifft2(torch.view_as_complex(weighted), norm="forward")
        return transform

    def field_gradients(self, sharp: Tensor, blurry: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of ⟨A sharp, blurry⟩ for the basis (B, K, K) and the mixing (B, h, w)."""
        plan, size = self._plan, self._basis.shape[-1]
        extended = extend(sharp, self._radius, self._boundary, plan.slack)
        sign, scratch = blurry.new_tensor([1.0, -1.0]), _Scratch()

        def correlate(group: _Group) -> tuple[Tensor, Tensor]:
            transform = torch.fft.fft2(self._read_pairs(extended, group, plan.fft))
            tiles = torch.view_as_real(self._read_pairs(blurry, group, plan.out))
            weights, spectra = self._weights(group), self._spectrum(group.kernels)
            products, crosses = [], []
            for chunk in self._chunks(group, sharp.shape[0]):
                blurred = self._correlate(transform, spectra[chunk])
                products.append((blurred * tiles).sum(2))
                maps = self._chunk_maps(weights, chunk)
                conjugate = self._transform_weighted(tiles * sign, maps, scratch)
                crosses.append((conjugate * transform).sum((1, 2)))
            return torch.cat(products), torch.cat(crosses)

        cross = torch.zeros_like(self._spectra)
        to_mixing = torch.zeros_like(self._mixing)
        for group, (products, crosses) in self._map_groups(correlate):
            cross[list(group.kernels)] += crosses
            self._add_to_mixing(to_mixing, group, products)
        to_basis = torch.fft.ifft2(cross).real[:, :size, :size].contiguous()
        return to_basis, to_mixing

    def _add_to_mixing(self, to_mixing: Tensor, group: _Group, products: Tensor) -> None:
        """Add per-pixel gradients (kernels, pairs, y, x, 2) to those of the mixing grid."""
        shape, cells, kernels = self._plan.shape, to_mixing.shape[-2:], list(group.kernels)
        for origin, tile in _split(group, products.transpose(0, 1)):
            rows, cols = self._plan.block(origin)
            block = tile[:, : rows.stop - rows.start, : cols.stop - cols.start]
            if tuple(cells) == shape:
                to_mixing[kernels, rows, cols] += block
                continue
            down, y = grid.axis_matrix(rows.start, rows.stop, shape[0], cells[0], block)
            across, x = grid.axis_matrix(cols.start, cols.stop, shape[1], cells[1], block)
            to_mixing[kernels, y, x] += down.T @ block @ across


class _Scratch(threading.local):
    """One reused piece of memory for each thread."""

    def __init__(self) -> None:
        self._memory: Tensor | None = None

    def zero_margins(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Memory that holds zeros, except where the caller wrote before.

        For callers that write the same part of each tile, so that its margin stays 0.
        """
        memory = self._memory
        fits = memory is not None and all(
            have >= want for have, want in zip(memory.shape, shape, strict=True)
        )
        if memory is None or not fits:
            memory = self._memory = like.new_zeros(shape)
        return memory[: shape[0], : shape[1]]


def _join(first: list[Tensor], second: list[Tensor], size: tuple[int, int]) -> Tensor:
    """Pairs of real tiles (..., rows, columns) as complex ones, (pairs, ..., *size).

    Tiles at the image's edge may be smaller, and the last pair may lack the second: zeros there.
    """
    kind = torch.complex(first[0].new_empty(0), first[0].new_empty(0)).dtype
    pairs = first[0].new_empty((len(first), *first[0].shape[:-2], *size), dtype=kind)
    for index, a in enumerate(first):
        b = second[index] if index < len(second) else a[..., :0, :0]
        if a.shape[-2:] == b.shape[-2:] == size:
            torch.complex(a, b, out=pairs[index])
            continue
        pairs[index] = 0
        parts = torch.view_as_real(pairs[index])
        parts[..., : a.shape[-2], : a.shape[-1], 0] = a
        parts[..., : b.shape[-2], : b.shape[-1], 1] = b
    return pairs


def _split(group: _Group, pairs: Tensor) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """Origins of a group's tiles, and the tiles from pairs (pairs, ..., 2)."""
    for part, origins in enumerate((group.first, group.second)):
        for pair, origin in enumerate(origins):
            yield origin, pairs[pair, ..., part]


def _needed(weights: Tensor, prune: float) -> tuple[tuple[int, ...], bool]:
    """Kernels that a tile needs, given their largest weights there, and whether any other is > 0.

    The weakest ones are left out as long as together they are at most `prune` at any pixel.
    """
    order = torch.argsort(weights)
    bound = weights[order].cumsum(0)
    dropped = int((bound <= prune).sum())
    kernels = tuple(sorted(order[dropped:].tolist()))
    return kernels, bool(dropped and bound[dropped - 1] > 0)
