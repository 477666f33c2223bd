"""Sharp training images, held on the device as one tensor from which crops are gathered."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

#: Each image is kept at these sizes: what is seen from further away is sharper and busier.
SCALES = (1.0, 0.71, 0.5)
#: Exponent from the images' values to linear light, and its table for 8 bits.
GAMMA = 2.2


@dataclass(frozen=True)
class ImageBank:
    """Images of all sizes packed into one tensor, a pixel a word.

    Attributes
    ----------
    pixels : Tensor
        int32 (N,): bytes red, green, blue and label of each pixel, image after image.
    offsets, heights, widths : Tensor
        int64 (M,): where each image begins, and its size.
    masked : Tensor
        bool (M,): whether the labels mean anything.
    """

    pixels: Tensor
    offsets: Tensor
    heights: Tensor
    widths: Tensor
    masked: Tensor

    def __len__(self) -> int:
        return len(self.offsets)

    def crops(self, count: int, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Cut random squares, each flipped and turned at random.

        Images smaller than the square are continued by reflection.

        Parameters
        ----------
        count : int
            Number of squares.
        side : int
            Their side in pixels.
        generator : torch.Generator
            Source of all random numbers, on the device of the bank.

        Returns
        -------
        values : Tensor
            uint8 (count, side, side, 4): red, green, blue and label.
        masked : Tensor
            bool (count,): whether the labels mean anything.
        """
        device = self.pixels.device
        draw = torch.rand(6, count, generator=generator, device=device)
        chosen = (draw[0] * len(self)).long().clamp_max(len(self) - 1)
        height, width = self.heights[chosen], self.widths[chosen]
        rows = _places(height, side, draw[1], draw[2] < 0.5)
        cols = _places(width, side, draw[3], draw[4] < 0.5)
        start = self.offsets[chosen][:, None, None]
        index = start + rows[:, :, None] * width[:, None, None] + cols[:, None, :]
        turned = (draw[5] < 0.5)[:, None, None]
        index = torch.where(turned, index.transpose(1, 2), index)
        words = self.pixels[index]
        return words[..., None].view(torch.uint8), self.masked[chosen]


def _places(length: Tensor, side: int, where: Tensor, reverse: Tensor) -> Tensor:
    """Rows (or columns), (count, side), of squares in images of some length."""
    start = (where * (length - side + 1).clamp_min(1)).long()
    steps = torch.arange(side, device=length.device)
    steps = torch.where(reverse[:, None], steps.flip(0), steps)
    place = start[:, None] + steps
    # Beyond the far edge, back again; as often as it takes.
    period = (2 * (length - 1)).clamp_min(1)[:, None]
    place = place % period
    return torch.minimum(place, period - place)


def read_manifest(data: str | os.PathLike[str], split: str) -> list[dict[str, str]]:
    """Rows of ``manifest.csv`` in a folder of images that belong to a split.

    Parameters
    ----------
    data : path-like
        Folder with ``manifest.csv``, which has the columns ``file``, ``mask``, ``split`` and
        ``kind``; paths are relative to the folder.
    split : str
        ``"train"`` or ``"val"``.

    Raises
    ------
    ValueError
        If the folder has no such manifest, or the manifest no such rows.
    """
    path = Path(data) / "manifest.csv"
    if not path.is_file():
        raise ValueError(
            f"{data} is no folder of training images: it has no manifest.csv with the columns "
            "file, mask, split and kind"
        )
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    missing = {"file", "mask", "split", "kind"} - set(rows[0] if rows else ())
    if missing:
        raise ValueError(f"{path} lacks the columns {', '.join(sorted(missing))}")
    chosen = [row for row in rows if row["split"] == split]
    if not chosen:
        raise ValueError(f"{path} has no rows with split={split}")
    return chosen


def read_rgb(path: Path, factor: float = 1.0) -> NDArray[np.uint8]:
    """Read an image as uint8 (H, W, 3), made smaller by a factor in (0, 1]."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    if factor < 1:
        size = (round(picture.width * factor), round(picture.height * factor))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return np.asarray(picture)


def load_images(
    data: str | os.PathLike[str],
    *,
    split: str = "train",
    side: int = 160,
    scales: Sequence[float] = SCALES,
    limit: int | None = None,
    device: torch.device | str = "cpu",
) -> ImageBank:
    """Read the images of a split into a bank.

    Parameters
    ----------
    data : path-like
        See `read_manifest`.
    split : str
        Which rows of the manifest.
    side : int
        Side of the squares that will be cut, in pixels: images are made smaller only as far as
        such a square fits.
    scales : sequence of float
        Sizes at which to keep each image, 1 being its own.
    limit : int, optional
        At most so many images.
    device : torch.device or str
        Where to put them.

    Raises
    ------
    ValueError
        If there are none, or a mask has not the size of its image.
    OSError
        If a file cannot be read.
    """
    return pack(_read_all(Path(data), read_manifest(data, split)[:limit], side, scales), device)


def _read_all(
    folder: Path, rows: list[dict[str, str]], side: int, scales: Sequence[float]
) -> Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8] | None]]:
    for row in rows:
        full = read_rgb(folder / row["file"])
        mask = None
        if row["mask"]:
            with Image.open(folder / row["mask"]) as opened:
                mask = np.asarray(opened.convert("L"))
            if mask.shape != full.shape[:2]:
                raise ValueError(
                    f"the mask {row['mask']} is {mask.shape}, its image {full.shape[:2]}"
                )
        for scale in scales:
            if scale < 1 and scale * min(full.shape[:2]) < side:
                continue
            picture = full if scale == 1 else read_rgb(folder / row["file"], scale)
            labels = None
            if mask is not None:
                rows_, cols = (
                    ((np.arange(n) + 0.5) * m / n).astype(np.intp)
                    for n, m in zip(picture.shape[:2], mask.shape, strict=True)
                )
                labels = mask[np.ix_(rows_, cols)]
            yield picture, labels


def pack(
    images: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8] | None]],
    device: torch.device | str = "cpu",
) -> ImageBank:
    """Pack images into a bank.

    Parameters
    ----------
    images : iterable of (array, array or None)
        uint8 (H, W, 3) values and uint8 (H, W) labels, or None for images without.
    device : torch.device or str
        Where to put them.

    Raises
    ------
    ValueError
        If there are none.
    """
    words, heights, widths, masked = [], [], [], []
    for values, labels in images:
        pixels = np.zeros((*values.shape[:2], 4), np.uint8)
        pixels[..., :3] = values
        if labels is not None:
            pixels[..., 3] = labels
        words.append(torch.from_numpy(pixels).view(torch.int32).flatten())
        heights.append(values.shape[0])
        widths.append(values.shape[1])
        masked.append(labels is not None)
    if not words:
        raise ValueError("there are no images to pack")
    height, width = torch.tensor(heights), torch.tensor(widths)
    sizes = height * width
    return ImageBank(
        torch.cat(words).to(device),
        (sizes.cumsum(0) - sizes).to(device),
        height.to(device),
        width.to(device),
        torch.tensor(masked).to(device),
    )
