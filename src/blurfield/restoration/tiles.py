"""Restoration of images that do not fit into memory: in overlapping tiles, without seams."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch

from .noise import block_step, resolve_noise
from .overlapping_tiles import Tile, faded, overlapping_tiles
from .pilot import pilot_part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from blurfield.compute import ProgressCallback
    from blurfield.field import KernelField
    from blurfield.image_parts import ImageParts

    from .methods import Solver
    from .pilot import Part

__all__ = ["bytes_needed", "deblur_in_tiles", "least_bytes"]

#: Kernel sides, and pixels in addition, by which tiles overlap. What lies beyond the edge of a tile
#: changes its result near the edge: with 1 % noise by 1e-3 up to five kernels from it, and without
#: noise, where many iterations pay, up to nine.
_OVERLAP, _LEAST_OVERLAP = 8, 48
#: Kernel sides on each side of a border over which one tile goes over into the next.
_FEATHER = 1
#: Tiles begin at multiples of this, as networks that halve images need it.
_MULTIPLE = 16
#: Float numbers for each pixel and channel that solvers hold at once.
_NUMBERS = 20
#: Steps of progress for all tiles.
_STEPS = 1000


def bytes_needed(shape: tuple[int, int], channels: int) -> int:
    """Memory that a solver takes for an image of a shape, in addition to the image."""
    return 4 * shape[0] * shape[1] * channels * _NUMBERS


def least_bytes(field: KernelField, channels: int) -> int:
    """Memory below which tiles of an image with this field don't get smaller."""
    height, width = (min(length, 3 * _overlap(field)) for length in field.shape)
    return int(height * width * _bytes_per_pixel(field, channels))


def _overlap(field: KernelField) -> int:
    return _OVERLAP * field.kernel_size + _LEAST_OVERLAP


def _bytes_per_pixel(field: KernelField, channels: int) -> int:
    # The part of a field that is cut out has mixing coefficients for each pixel.
    return bytes_needed((1, 1), channels) + 4 * field.num_kernels


def deblur_in_tiles(
    image: ImageParts,
    field: KernelField,
    solve: Solver,
    *,
    memory: int,
    device: torch.device,
    dtype: Any = None,
    progress: ProgressCallback | None = None,
    options: Mapping[str, Any],
) -> tuple[Any, dict[str, Any]]:
    """Deblur an image in tiles that fit into memory.

    What depends on the whole image is found for the whole image: black and white, and the noise.
    Solvers which decide from step to step how to go on do so on a small part of an image of any
    size, see `pilot_part`. That part is restored first, and what was decided there is repeated in
    all tiles. The field of each tile is cut from that of the image.

    Tiles see more than eight kernels beyond their borders. Where two meet, one goes over into the
    other within one kernel of the border, so that nothing is used from within seven kernels of the
    edge of what is seen. The result differs from that of the whole image by less than 1e-3.

    Parameters
    ----------
    image : ImageParts
        Blurry image.
    field : KernelField
        Its blur.
    solve : callable
        A solver, see `blurfield.restoration.methods.Method`.
    memory : int
        Bytes that a tile may take. Tiles are never so small that they hardly see more than their
        overlap.
    device : torch.device
        Where to compute.
    dtype : numpy.dtype or torch.dtype, optional
        Number type of the result, by default that of the image.
    progress : callable, optional
        Told about all tiles together.
    options : mapping
        What the solver takes in addition to image, field and progress.

    Returns
    -------
    result : numpy.ndarray or torch.Tensor
        As the image.
    info : dict
        What the solver tells of the first part that it restored, the number of ``tiles``, and
        ``unexplained`` of all of them.
    """
    overlap = _overlap(field)
    most = memory // _bytes_per_pixel(field, image.channels)
    tiles = list(overlapping_tiles(*image.shape, most=most, overlap=overlap, multiple=_MULTIPLE))
    taken = inspect.signature(solve).parameters
    common = dict(options)
    if "noise" in taken:
        common["noise"] = _noise_of_the_whole(image, common.get("noise", "auto"))
    if "noisy" in taken:
        common["noisy"] = image.sparse_blocks(block_step(image.channels, *image.shape)).to(device)
    parts = [tile.seen for tile in tiles]
    decides = "pilot" in taken
    if decides:

        def look(part: Part) -> Tensor:
            if progress is not None:
                progress(0, _STEPS, "Looking at the image")
            return image.read(*part).planes

        pilot = pilot_part(image.shape, look)
        parts.insert(0, _widened(pilot, image.shape, overlap))
    work = _Work([_pixels(part) for part in parts], progress)

    def restore(part: Part, **repeated: Any) -> tuple[Tensor, dict[str, Any]]:
        rows, cols = part
        shape = rows.stop - rows.start, cols.stop - cols.start
        local = field.crop((rows.start, cols.start), shape).to(device)
        local = local.with_metadata(origin=[rows.start, cols.start])
        planes = image.read(rows, cols, device).planes
        return solve(planes, local, progress=work.next(), **{**common, **repeated})

    facts: dict[str, Any] = {}
    repeated: dict[str, Any] = {}
    if decides:
        inside = tuple(
            slice(s.start - around.start, s.stop - around.start)
            for s, around in zip(pilot, parts[0], strict=True)
        )
        _, facts = restore(parts[0], pilot=inside)
        repeated = facts.pop("repeat")
    result = image.new_result(dtype)
    unexplained = 0.0
    smallest = min(s.stop - s.start for tile in tiles for s in tile.written)
    rows = _Rows(image, result, dtype, min(_FEATHER * field.kernel_size, smallest // 2))
    for tile in tiles:
        sharp, info = restore(tile.seen, **repeated)
        facts = facts or info
        unexplained += info.get("unexplained", 0.0) * _pixels(tile.written)
        rows.add(tile, sharp.cpu())
    rows.finish()
    if "unexplained" in facts:
        height, width = image.shape
        facts["unexplained"] = unexplained / (height * width)
    return result, {**facts, "tiles": len(tiles)}


def _noise_of_the_whole(image: ImageParts, noise: Any) -> list[tuple[float, float]]:
    """Gain and read noise of each channel, from the same pixels as if the image were one tile."""
    together = 1 if noise == "per-channel" else image.channels
    sample = image.sparse_blocks(block_step(together, *image.shape))
    return [(model.gain, model.floor**0.5) for model in resolve_noise(noise, sample)]


def _pixels(part: Part) -> int:
    rows, cols = part
    return int(rows.stop - rows.start) * int(cols.stop - cols.start)


def _widened(part: Part, shape: tuple[int, int], margin: int) -> Part:
    """Return a part and what is around it, as far as the image goes."""
    rows, cols = (
        slice(max(0, (s.start - margin) // _MULTIPLE * _MULTIPLE), min(length, s.stop + margin))
        for s, length in zip(part, shape, strict=True)
    )
    return rows, cols


class _Work:
    """Tells how far all parts together are."""

    def __init__(self, sizes: list[int], progress: ProgressCallback | None) -> None:
        self._sizes, self._progress = sizes, progress
        self._begun = 0

    def next(self) -> ProgressCallback | None:
        """Return the progress callback of the next part."""
        number, self._begun = self._begun, self._begun + 1
        if self._progress is None:
            return None
        progress, total = self._progress, sum(self._sizes)
        before, own = sum(self._sizes[:number]), self._sizes[number]
        where = f"part {number + 1} of {len(self._sizes)}"

        def tell(done: int, steps: int, message: str) -> None:
            progress(int(_STEPS * (before + own * done / steps) / total), _STEPS, where)

        return tell


class _Rows:
    """Joins tiles, which come row by row, and writes the rows of pixels that are complete."""

    def __init__(self, image: ImageParts, result: Any, dtype: Any, feather: int) -> None:
        self._image, self._result, self._dtype = image, result, dtype
        self._feather = feather
        self._first = 0
        self._sums = torch.zeros(image.channels, 0, image.shape[1])

    def add(self, tile: Tile, sharp: Tensor) -> None:
        """Add the planes of what a tile sees, weighted so that it goes over into the next ones."""
        (rows, down), (cols, across) = (
            faded(written, length, self._feather)
            for written, length in zip(tile.written, self._image.shape, strict=True)
        )
        if rows.stop > self._first + self._sums.shape[1]:
            self._move(rows)
        down_seen, across_seen = (
            slice(used.start - seen.start, used.stop - seen.start)
            for used, seen in zip((rows, cols), tile.seen, strict=True)
        )
        weighted = sharp[:, down_seen, across_seen] * down[:, None] * across
        self._sums[:, rows.start - self._first : rows.stop - self._first, cols] += weighted

    def finish(self) -> None:
        """Write what is left."""
        height = self._image.shape[0]
        self._move(slice(height, height))

    def _move(self, rows: slice) -> None:
        """Write the rows before these, and make room for them."""
        ready = rows.start - self._first
        if ready:
            done = slice(self._first, rows.start)
            self._image.write(self._result, done, self._sums[:, :ready], self._dtype)
        kept = self._sums[:, ready:]
        self._first = rows.start
        self._sums = kept.new_zeros(kept.shape[0], rows.stop - rows.start, kept.shape[2])
        self._sums[:, : kept.shape[1]] = kept
