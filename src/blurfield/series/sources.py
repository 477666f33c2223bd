"""Which image files there are, and names for what is made of them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from blurfield.files import IMAGE_SUFFIXES

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["distinct_names", "image_files"]

#: Extensions of the files that are taken out of folders; others can be named one by one.
_SUFFIXES = {*IMAGE_SUFFIXES, ".bmp", ".webp"}
#: Names of files that a folder of results has of its own.
_TAKEN = ("images", "fields", "series", "shared", "summary")


def image_files(inputs: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Return the image files among files and folders, each once.

    Parameters
    ----------
    inputs : iterable of path-like
        Files, and folders, of which the image files are taken that lie directly in them and are
        not hidden, in the order of their names with numbers read as such.

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder, or a folder has no image file.
    """
    found: dict[Path, Path] = {}
    for name in map(Path, inputs):
        if not name.exists():
            raise FileNotFoundError(f"there is no file or folder {name}")
        files = [name]
        if name.is_dir():
            files = sorted(filter(_is_image, name.iterdir()), key=_natural)
            if not files:
                raise FileNotFoundError(
                    f"the folder {name} has no image files ({', '.join(sorted(_SUFFIXES))})"
                )
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def distinct_names(files: Sequence[Path]) -> list[str]:
    """Return a name for each file: its own without extension, and more where several are alike.

    The name depends on which files there are, but not on their order: ``a``; or ``a_png`` beside
    ``a_tif``; or ``left_a_png`` for those of different folders.
    """
    ways: list[Callable[[Path], str]] = [
        lambda file: file.stem,
        lambda file: file.name.replace(".", "_"),
        lambda file: "_".join([file.resolve().parent.name, file.name.replace(".", "_")]),
        lambda file: "_".join(file.resolve().parts[1:]).replace(".", "_"),
    ]
    names = [ways[0](file) for file in files]
    for way in ways[1:]:
        # File systems may not tell capitals from small letters.
        count = Counter([name.casefold() for name in names] + list(_TAKEN))
        names = [
            way(file) if count[name.casefold()] > 1 else name
            for file, name in zip(files, names, strict=True)
        ]
    return names


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key by which ``a2`` comes before ``a10``."""
    return [
        (int(part), "") if part.isdigit() else (0, part.casefold())
        for part in re.split(r"([0-9]+)", path.name)
    ]
