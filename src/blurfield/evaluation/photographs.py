"""Photographs of a folder, as evaluation uses them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from blurfield.files import read_image
from blurfield.images import DISPLAY_GAMMA, LinearImage, encode

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

#: Extensions of the images that are looked for in a folder, in lower case.
SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".npy", ".png", ".tif", ".tiff", ".webp"})
#: The table of a folder of training data, and which of its rows are photographs.
MANIFEST = "manifest.csv"
_KINDS = frozenset({"photo", "crop", "zoom"})


def image_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the images that lie directly in a folder, sorted by name.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If it holds no image.
    """
    place = Path(folder)
    if not place.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    files = sorted(path for path in place.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        raise ValueError(f"there are no images in {folder} ({', '.join(sorted(SUFFIXES))})")
    return files


def photograph_files(folder: str | os.PathLike[str], count: int, split: str = "val") -> list[Path]:
    """Choose sharp photographs for evaluation, evenly spread over a folder.

    Parameters
    ----------
    folder : path-like
        Where there is a ``manifest.csv``, the photographs are its rows with this ``split`` and
        ``kind`` photo, crop or zoom, found under ``file``; else all images of the folder.
    count : int
        At most so many, at least 1; the same ones each time.
    split : str
        ``"train"`` to choose constants, ``"val"`` to measure with them.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If `count` is below 1, there are no photographs, or the manifest lacks a column.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    manifest = Path(folder) / MANIFEST
    files = _listed(manifest, split) if manifest.is_file() else image_files(folder)
    chosen = np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int)
    return [files[index] for index in chosen]


def _listed(manifest: Path, split: str) -> list[Path]:
    with manifest.open(newline="", encoding="utf-8") as stream:
        rows = csv.DictReader(stream)
        missing = {"file", "split", "kind"} - set(rows.fieldnames or ())
        if missing:
            raise ValueError(f"{manifest} has no column {', '.join(sorted(missing))}")
        files = [
            manifest.parent / row["file"]
            for row in rows
            if row["split"] == split and row["kind"] in _KINDS
        ]
    if not files:
        raise ValueError(f"{manifest} lists no photographs of the split {split!r}")
    return files


def read_photograph(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read an image as an 8-bit photograph without alpha.

    Parameters
    ----------
    path : path-like
        8-bit images come as they are. Others are taken to be linear light, see
        `blurfield.images.LinearImage.from_array`, and are encoded with gamma 2.2.

    Returns
    -------
    numpy.ndarray
        (H, W) or (H, W, 3), uint8.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not an image.
    """
    image = read_image(path)
    if image.dtype == np.uint8:
        return image if image.ndim == 2 else np.ascontiguousarray(image[..., :3])
    source = LinearImage.from_array(image)
    values = encode(source.planes, DISPLAY_GAMMA).clamp(0, 1).mul(255).round().byte()
    return values.permute(1, 2, 0).squeeze(-1).contiguous().numpy()
