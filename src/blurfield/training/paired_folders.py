"""Which blurry image belongs to which sharp one, in the folders of the usual data sets.

These layouts are recognised:

- ``blurry/NAME`` and ``sharp/NAME``, which ``blurfield train pairs`` writes;
- GoPro (Nah et al. 2017): ``train/SEQUENCE/blur/NAME`` and ``train/SEQUENCE/sharp/NAME``;
- HIDE (Shen et al. 2019): ``train/NAME``, in folders within or not, and ``GT/NAME``;
- RealBlur (Rim et al. 2020): list files ``*train*.txt`` with the paths of a sharp image and its
  blurry one in each line; or one such file.

Only images for training are found: those for testing have to remain unseen.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from blurfield.training.pairs import PairFolder

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

__all__ = ["Pair", "find_pairs"]

#: Endings of the files that are taken for images.
_IMAGES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
#: What there should be, in words for people.
_KNOWN = (
    "blurry/ and sharp/ with the same names, train/SEQUENCE/blur/ and sharp/ (GoPro), train/ and "
    "GT/ (HIDE), or a list file *train*.txt of sharp and blurry images (RealBlur)"
)


class Pair(NamedTuple):
    """A blurry image and the sharp one.

    Attributes
    ----------
    blurry, sharp : pathlib.Path
        Their files.
    scene : str
        What was photographed: pairs of one scene look alike.
    """

    blurry: Path
    sharp: Path
    scene: str


def find_pairs(data: str | os.PathLike[str]) -> list[Pair]:
    """Find the pairs for training in a folder.

    Parameters
    ----------
    data : path-like
        A folder of one of the layouts above, or a list file.

    Returns
    -------
    list of Pair
        Sorted by scene and name. There are such files, but they have not been opened.

    Raises
    ------
    ValueError
        If the layout is not recognised, or an image of a pair is missing; the message names it.
    """
    path = Path(data)
    for find in (_ours, _lists, _gopro, _hide):
        pairs = sorted(find(path), key=lambda pair: (pair.scene, pair.blurry))
        if pairs:
            break
    else:
        raise ValueError(
            f"{data} has neither a manifest.csv of sharp images nor pairs of blurry and sharp "
            f"ones, which should be {_KNOWN}"
        )
    for pair in pairs:
        for image, what, other in (
            (pair.blurry, "blurry", pair.sharp),
            (pair.sharp, "sharp", pair.blurry),
        ):
            if not image.is_file():
                raise ValueError(f"{image} is missing, the {what} image that belongs to {other}")
    return pairs


def _ours(path: Path) -> Iterator[Pair]:
    folder = PairFolder(path)
    if folder.exists:
        for name in folder.names():
            yield Pair(folder.blurry(name), folder.sharp(name), name)


def _lists(path: Path) -> Iterator[Pair]:
    files = [path] if path.is_file() else sorted(path.glob("*train*.txt"))
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            names = line.split()
            if not names:
                continue
            if len(names) != 2:
                raise ValueError(
                    f"line {number} of {file} should hold the paths of a sharp and a blurry image, "
                    f"but is {line!r}"
                )
            sharp, blurry = (file.parent / name for name in names)
            yield Pair(blurry, sharp, _scene(blurry))


def _scene(blurry: Path) -> str:
    # Images lie in SCENE/blur/NAME.
    return str(blurry.parent.parent)


def _gopro(path: Path) -> Iterator[Pair]:
    train = path / "train"
    for folder in (train if train.is_dir() else path).glob("*/blur"):
        for blurry in _images(folder):
            yield Pair(blurry, folder.parent / "sharp" / blurry.name, _scene(blurry))


def _hide(path: Path) -> Iterator[Pair]:
    if (path / "GT").is_dir():
        for blurry in _images(path / "train", "**/*"):
            yield Pair(blurry, path / "GT" / blurry.name, blurry.name)


def _images(folder: Path, pattern: str = "*") -> Iterator[Path]:
    return (file for file in folder.glob(pattern) if file.suffix.lower() in _IMAGES)
