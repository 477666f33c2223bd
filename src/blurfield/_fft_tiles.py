"""Blur by FFT over overlapping tiles: the fast path of `BlurOperator`.

Two real tiles a and b travel as the real and the imaginary part of one complex tile z = a + i·b.
Correlation with a real kernel keeps the parts apart, so one complex transform serves two tiles,
and complex transforms are much faster per pixel than real ones in common libraries. `forward` is
overlap-save; overlap-add on the same tiles is its exact adjoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from . import grid
from .boundary import extend, fold
from .tiling import plan_tiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .field import KernelField

#: Complex numbers in one batch of transforms: what fits a core's cache, or fills a GPU.
_BATCH = {"cpu": 2**19, "cuda": 2**25}

#: Bytes of tile-ordered mixing maps that are kept from one call to the next.
_MAP_CACHE = {"cpu": 40 << 20, "cuda": 1 << 30}


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
        self._cache_left = _MAP_CACHE.get(kind, _MAP_CACHE["cpu"])
        # Correlation multiplies by the conjugate spectrum. The factor belongs to the inverse
        # transform, which is called without scaling.
        spectra = torch.fft.fft2(self._basis, s=self._plan.fft, norm="forward")
        self._spectra: Tensor = spectra.conj().resolve_conj()
        self._groups = self._make_groups(prune)
        self._maps: dict[int, Tensor] = {}

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

    def _group_maps(self, number: int) -> Tensor:
        """Mixing maps of a group, (pairs, kernels, tile rows, tile columns, 2), 0 off the image."""
        if number in self._maps:
            return self._maps[number]
        group = self._groups[number]
        maps = self._mixing.new_zeros(len(group.first), len(group.kernels), *self._plan.out, 2)
        every = len(group.kernels) == len(self._mixing)
        for part, origins in enumerate((group.first, group.second)):
            for pair, origin in enumerate(origins):
                block = self._block(origin)
                if not every:
                    block = block[list(group.kernels)]
                if group.pruned:
                    block = block / block.sum(0)
                maps[pair, :, : block.shape[1], : block.shape[2], part] = block
        size = maps.numel() * maps.element_size()
        if size <= self._cache_left:
            self._cache_left -= size
            self._maps[number] = maps
        return maps

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
        pairs = source.new_zeros(len(group.first), source.shape[0], *size, 2)
        for part, origins in enumerate((group.first, group.second)):
            for pair, (y, x) in enumerate(origins):
                tile = source[:, y : y + size[0], x : x + size[1]]
                pairs[pair, :, : tile.shape[1], : tile.shape[2], part] = tile
        return torch.view_as_complex(pairs)

    # ------------------------------------------------------------- operations

    def forward(self, sharp: Tensor) -> Tensor:
        """Blur planes (N, *input shape)."""
        plan = self._plan
        extended = extend(sharp, self._radius, self._boundary, plan.slack)
        blurry = sharp.new_empty(sharp.shape[0], *plan.shape)
        for number, group in enumerate(self._groups):
            self._poll()
            transform = torch.fft.fft2(self._read_pairs(extended, group, plan.fft))
            maps, spectra = self._group_maps(number), self._spectrum(group.kernels)
            mixed = maps.new_zeros(len(group.first), sharp.shape[0], *plan.out, 2)
            for chunk in self._chunks(group, sharp.shape[0]):
                blurred = self._correlate(transform, spectra[chunk])
                for index, kernel in enumerate(range(chunk.start, chunk.stop)):
                    mixed.addcmul_(blurred[index], maps[:, kernel, None])
            for part, origins in enumerate((group.first, group.second)):
                for pair, origin in enumerate(origins):
                    rows, cols = plan.block(origin)
                    tile = mixed[pair, ..., part]
                    blurry[:, rows, cols] = tile[
                        :, : rows.stop - rows.start, : cols.stop - cols.start
                    ]
        return blurry

    def _correlate(self, transform: Tensor, spectra: Tensor) -> Tensor:
        """Valid correlation of tile pairs with kernels, (kernels, pairs, channels, y, x, 2)."""
        product = transform * spectra[:, None, None]
        blurred = torch.view_as_real(torch.fft.ifft2(product, norm="forward"))
        return blurred[..., : self._plan.out[0], : self._plan.out[1], :]

    def adjoint(self, blurry: Tensor) -> Tensor:
        """Back-project planes (N, *output shape)."""
        plan, channels = self._plan, blurry.shape[0]
        height, width = (size + 2 * self._radius for size in self._input_shape)
        extended = blurry.new_zeros(channels, height + plan.slack[0], width + plan.slack[1])
        # The adjoint needs the unconjugated spectrum; conjugating the tiles on the way in and the
        # result on the way out comes to the same without a second set of spectra.
        sign = blurry.new_tensor([1.0, -1.0])
        buffer = blurry.new_empty(0)
        for number, group in enumerate(self._groups):
            self._poll()
            tiles = torch.view_as_real(self._read_pairs(blurry, group, plan.out)) * sign
            maps, spectra = self._group_maps(number), self._spectrum(group.kernels)
            total = spectra.new_zeros(len(group.first), channels, *plan.fft)
            buffer = self._weighted_buffer(buffer, group, channels)
            for chunk in self._chunks(group, channels):
                transform = self._transform_weighted(tiles, maps[:, chunk], buffer)
                for index, kernel in enumerate(range(chunk.start, chunk.stop)):
                    total.addcmul_(transform[index], spectra[kernel])
            result = torch.view_as_real(torch.fft.fft2(total)) * sign
            for part, origins in enumerate((group.first, group.second)):
                for pair, (y, x) in enumerate(origins):
                    target = extended[:, y : y + plan.fft[0], x : x + plan.fft[1]]
                    target += result[pair, ..., part]
        return fold(extended, self._input_shape, self._radius, self._boundary).contiguous()

    def _weighted_buffer(self, buffer: Tensor, group: _Group, channels: int) -> Tensor:
        """Zeros for the weighted tiles of a chunk: `buffer`, if it is large enough.

        Only the part of a tile that is written is ever overwritten, the margin stays 0.
        """
        length = max(chunk.stop - chunk.start for chunk in self._chunks(group, channels))
        shape = (length, len(group.first), channels, *self._plan.fft, 2)
        if buffer.ndim == len(shape) and all(
            have >= want for have, want in zip(buffer.shape, shape, strict=True)
        ):
            return buffer
        return self._basis.new_zeros(shape)

    def _transform_weighted(self, tiles: Tensor, maps: Tensor, buffer: Tensor) -> Tensor:
        """Unscaled inverse transforms of map × tile, (kernels, pairs, channels, *fft)."""
        weighted = buffer[: maps.shape[1], : maps.shape[0]]
        inner = weighted[..., : self._plan.out[0], : self._plan.out[1], :]
        torch.mul(maps.transpose(0, 1)[:, :, None], tiles, out=inner)
        transform: Tensor = torch.fft.ifft2(torch.view_as_complex(weighted), norm="forward")
        return transform

    def field_gradients(self, sharp: Tensor, blurry: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of ⟨A sharp, blurry⟩ for the basis (B, K, K) and the mixing (B, h, w)."""
        plan, size = self._plan, self._basis.shape[-1]
        extended = extend(sharp, self._radius, self._boundary, plan.slack)
        cross = torch.zeros_like(self._spectra)
        to_mixing = torch.zeros_like(self._mixing)
        sign, buffer = blurry.new_tensor([1.0, -1.0]), blurry.new_empty(0)
        for number, group in enumerate(self._groups):
            self._poll()
            transform = torch.fft.fft2(self._read_pairs(extended, group, plan.fft))
            tiles = torch.view_as_real(self._read_pairs(blurry, group, plan.out))
            maps, spectra = self._group_maps(number), self._spectrum(group.kernels)
            buffer = self._weighted_buffer(buffer, group, sharp.shape[0])
            for chunk in self._chunks(group, sharp.shape[0]):
                kernels = list(group.kernels[chunk])
                blurred = self._correlate(transform, spectra[chunk])
                self._add_to_mixing(to_mixing, group, kernels, (blurred * tiles).sum(2))
                conjugate = self._transform_weighted(tiles * sign, maps[:, chunk], buffer)
                cross[kernels] += (conjugate * transform).sum((1, 2))
        to_basis = torch.fft.ifft2(cross).real[:, :size, :size].contiguous()
        return to_basis, to_mixing

    def _add_to_mixing(
        self, to_mixing: Tensor, group: _Group, kernels: list[int], products: Tensor
    ) -> None:
        """Add per-pixel gradients (kernels, pairs, y, x, 2) to those of the mixing grid."""
        shape, cells = self._plan.shape, to_mixing.shape[-2:]
        for part, origins in enumerate((group.first, group.second)):
            for pair, origin in enumerate(origins):
                rows, cols = self._plan.block(origin)
                block = products[:, pair, : rows.stop - rows.start, : cols.stop - cols.start, part]
                if tuple(cells) == shape:
                    to_mixing[kernels, rows, cols] += block
                    continue
                down, y = grid.axis_matrix(rows.start, rows.stop, shape[0], cells[0], block)
                across, x = grid.axis_matrix(cols.start, cols.stop, shape[1], cells[1], block)
                to_mixing[kernels, y, x] += down.T @ block @ across


def _needed(weights: Tensor, prune: float) -> tuple[tuple[int, ...], bool]:
    """Kernels that a tile needs, given their largest weights there, and whether any other is > 0.

    The weakest ones are left out as long as together they are at most `prune` at any pixel.
    """
    order = torch.argsort(weights)
    bound = weights[order].cumsum(0)
    dropped = int((bound <= prune).sum())
    kernels = tuple(sorted(order[dropped:].tolist()))
    return kernels, bool(dropped and bound[dropped - 1] > 0)
