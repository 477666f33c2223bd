"""Samples that are cut from a folder of pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from blurfield.field import KernelField

from .images import read_rgb
from .kernels import turn
from .pairs import TRUE, PairFolder, read_field
from .restoration_samples import RestorationBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .source import Source

#: Every so many-th pair is held out.
_HELD_EACH = 8


class _Pair(NamedTuple):
    """Images (3, H, W), uint8, and the field of the blurry one."""

    blurry: Tensor
    sharp: Tensor
    field: KernelField


class _Cut(NamedTuple):
    """A square of a pair, flipped or turned."""

    pair: _Pair
    y: int
    x: int
    symmetry: int = 0


class PairSamples:
    """Samples cut from a folder of pairs; each eighth pair is held out, of these the middle.

    Parameters
    ----------
    source : Source
        The folder, and how many samples of what size a batch has.
    model : str
        Whose fields to use, ``"true"`` or that of an estimator, see `PairFolder.estimate_fields`:
        they are estimated here if that has not happened yet.
    kernel_size : int, optional
        Side of estimated kernels in pixels, for models that leave it open.
    say : callable
        Called with lines of text for people.

    Raises
    ------
    ValueError
        If the folder has fewer than two pairs, the images of a pair differ in size or are smaller
        than the samples, the samples are too small for the kernels, or the fields cannot be had.
    """

    def __init__(
        self,
        source: Source,
        *,
        model: str = TRUE,
        kernel_size: int | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.side, self.device, self._batch = source.side, source.device, source.batch
        folder = PairFolder(Path(source.data))
        names = folder.names()[: source.images]
        if len(names) < 2:
            raise ValueError(f"{folder.path} holds {len(names)} pairs; two are the least")
        folder.estimate_fields(model, device=source.device, kernel_size=kernel_size, say=say)
        pairs = [self._read(folder, name, model) for name in names]
        held = [self._middle(pair) for pair in pairs[1::_HELD_EACH]]
        self._pairs = [pair for number, pair in enumerate(pairs) if number % _HELD_EACH != 1]
        self.held = [
            self._together(held[start : start + self._batch])
            for start in range(0, len(held), self._batch)
        ]

    def make(self, generator: torch.Generator, number: int) -> RestorationBatch:
        """Make the batch of a step."""
        del number
        draw = torch.rand(self._batch, 4, generator=generator, device=generator.device)
        return self._together([self._cut(*row) for row in draw.tolist()])

    def _cut(self, which: float, down: float, right: float, symmetry: float) -> _Cut:
        """A random cut; all numbers are in [0, 1)."""
        pair = self._pairs[int(which * len(self._pairs))]
        height, width = (n - self.side + 1 for n in pair.field.shape)
        return _Cut(pair, int(down * height), int(right * width), int(symmetry * 8))

    def _middle(self, pair: _Pair) -> _Cut:
        y, x = ((n - self.side) // 2 for n in pair.field.shape)
        return _Cut(pair, y, x)

    def _read(self, folder: PairFolder, name: str, model: str) -> _Pair:
        images = [read_rgb(path) for path in (folder.blurry(name), folder.sharp(name))]
        shape = images[0].shape[:2]
        if images[1].shape[:2] != shape or min(shape) < self.side:
            raise ValueError(
                f"the images of a pair must have one size, at least {self.side}×{self.side} "
                f"pixels, but {name} is {shape} blurry and {images[1].shape[:2]} sharp"
            )
        field = read_field(folder, name, model, (shape[0], shape[1]))
        if self.side < 2 * field.kernel_size - 1:
            raise ValueError(
                f"samples of {self.side} pixels are too small for kernels of {field.kernel_size} "
                f"({name}): they need at least {2 * field.kernel_size - 1}"
            )
        blurry, sharp = (
            torch.from_numpy(image.copy()).permute(2, 0, 1).to(self.device) for image in images
        )
        return _Pair(blurry, sharp, field.to(self.device, torch.float32))

    def _together(self, cuts: Sequence[_Cut]) -> RestorationBatch:
        side = self.side

        def stack(images: Sequence[Tensor]) -> Tensor:
            squares = [
                turn(image[:, cut.y : cut.y + side, cut.x : cut.x + side], cut.symmetry, ((1, 2),))
                for image, cut in zip(images, cuts, strict=True)
            ]
            return torch.stack(squares).float() / 255

        return RestorationBatch(
            stack([cut.pair.blurry for cut in cuts]),
            stack([cut.pair.sharp for cut in cuts]),
            lambda: [_field(cut, side) for cut in cuts],
        )


def _field(cut: _Cut, side: int) -> KernelField:
    """The field of a cut: what flips an image flips its kernels."""
    field = cut.pair.field.crop((cut.y, cut.x), (side, side))
    basis, mixing = (
        turn(values, cut.symmetry, ((1, 2),)) for values in (field.basis, field.mixing)
    )
    return KernelField(basis, mixing, field.shape)
