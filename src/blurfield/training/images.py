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
#: Exponent from the images' values to linear light.
GAMMA = 2.2
#: Squares begin at places so many pixels apart, give or take half of that.
_STEP = 16
#: Share of an image's squares that are used: those with the most texture; of the rest nothing
#: could be learned.
_TEXTURED = 0.7
#: Squares with less texture than this share of that of the best are not used.
_OF_BEST = 0.25
#: Root mean square of the differences of neighbouring values, in 8-bit steps, that is enough.
_ENOUGH = 12.0


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
    corners : Tensor
        int64 (P, 2): upper left corners of squares with texture, image after image.
    first, count : Tensor
        int64 (M,): which of them are each image's.
    """

    pixels: Tensor
    offsets: Tensor
    heights: Tensor
    widths: Tensor
    masked: Tensor
    corners: Tensor
    first: Tensor
    count: Tensor

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
        draw = torch.rand(7, count, generator=generator, device=device)
        chosen = (draw[0] * len(self)).long().clamp_max(len(self) - 1)
        height, width = self.heights[chosen], self.widths[chosen]
        number = torch.minimum((draw[6] * self.count[chosen]).long(), self.count[chosen] - 1)
        corner = self.corners[self.first[chosen] + number]
        rows = _places(height, side, corner[:, 0], draw[1], draw[2] < 0.5)
        cols = _places(width, side, corner[:, 1], draw[3], draw[4] < 0.5)
        start = self.offsets[chosen][:, None, None]
        index = start + rows[:, :, None] * width[:, None, None] + cols[:, None, :]
        turned = (draw[5] < 0.5)[:, None, None]
        index = torch.where(turned, index.transpose(1, 2), index)
        words = self.pixels[index]
        return words[..., None].view(torch.uint8), self.masked[chosen]


def _places(length: Tensor, side: int, corner: Tensor, shift: Tensor, reverse: Tensor) -> Tensor:
    """Rows (or columns), (count, side), of squares in images of some length."""
    start = corner + (shift * _STEP).long() - _STEP // 2
    start = torch.minimum(start, length - side).clamp_min(0)
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
    rows = read_manifest(data, split)[:limit]
    return pack(_read_all(Path(data), rows, side, scales), side, device)


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
    side: int,
    device: torch.device | str = "cpu",
) -> ImageBank:
    """Pack images into a bank.

    Parameters
    ----------
    images : iterable of (array, array or None)
        uint8 (H, W, 3) values and uint8 (H, W) labels, or None for images without.
    side : int
        Side of the squares that will be cut, in pixels.
    device : torch.device or str
        Where to put them.

    Raises
    ------
    ValueError
        If there are none.
    """
    words, heights, widths, masked, corners = [], [], [], [], []
    for values, labels in images:
        pixels = np.zeros((*values.shape[:2], 4), np.uint8)
        pixels[..., :3] = values
        if labels is not None:
            pixels[..., 3] = labels
        words.append(torch.from_numpy(pixels).view(torch.int32).flatten())
        heights.append(values.shape[0])
        widths.append(values.shape[1])
        masked.append(labels is not None)
        corners.append(textured_corners(values, side))
    if not words:
        raise ValueError("there are no images to pack")
    height, width = torch.tensor(heights), torch.tensor(widths)
    sizes, counts = height * width, torch.tensor([len(places) for places in corners])
    return ImageBank(
        torch.cat(words).to(device),
        (sizes.cumsum(0) - sizes).to(device),
        height.to(device),
        width.to(device),
        torch.tensor(masked).to(device),
        torch.from_numpy(np.concatenate(corners)).to(device),
        (counts.cumsum(0) - counts).to(device),
        counts.to(device),
    )


def textured_corners(values: NDArray[np.uint8], side: int) -> NDArray[np.int64]:
    """Upper left corners (P, 2) of the squares of an image that have texture, at least one.

    Parameters
    ----------
    values : numpy.ndarray
        uint8 (H, W, 3).
    side : int
        Side of the squares in pixels; larger ones than the image are cut from its corner.
    """
    grey = values.mean(2)
    energy = np.zeros_like(grey)
    energy[:-1] += np.diff(grey, axis=0) ** 2
    energy[:, :-1] += np.diff(grey, axis=1) ** 2
    height, width = (min(side, n) for n in grey.shape)
    sums = np.pad(energy.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    rows, cols = (
        np.arange(0, n - m + 1, _STEP) for n, m in zip(grey.shape, (height, width), strict=True)
    )
    top, left = np.ix_(rows, cols)
    inside = sums[top + height, left + width] - sums[top, left + width]
    inside += sums[top, left] - sums[top + height, left]
    texture = np.sqrt(inside.clip(min=0) / (height * width))
    least = min(float(np.quantile(texture, 1 - _TEXTURED)), _ENOUGH)
    chosen = np.argwhere(texture >= max(least, _OF_BEST * float(texture.max())))
    return np.stack([rows[chosen[:, 0]], cols[chosen[:, 1]]], 1).astype(np.int64)
