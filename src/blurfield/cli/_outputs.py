"""Output files are looked at before the long work begins, not after it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


def check_output(name: str, suffixes: Collection[str], inputs: Iterable[str | None] = ()) -> Path:
    """Return the path of an output file after making sure that it can be written.

    Parameters
    ----------
    name : str
        The file to write; an existing one will be replaced.
    suffixes : collection of str
        File name extensions that the command can write, with the dot, in lower case.
    inputs : iterable of str or None
        Files that are read, none of which may be replaced.

    Raises
    ------
    ValueError
        If the extension is not one of `suffixes`, or the output is one of the inputs.
    OSError
        If the folder is missing or cannot be written to.
    """
    path = Path(name)
    if path.suffix.lower() not in suffixes:
        raise ValueError(
            f"cannot write {name}: the extension {path.suffix!r} is not one of "
            f"{', '.join(sorted(suffixes))}"
        )
    require_folder(path.parent, name)
    if path.is_dir():
        raise IsADirectoryError(f"cannot write {name}: it is a folder")
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(f"cannot write {name}: it is write-protected")
    for source in filter(None, inputs):
        if path.exists() and os.path.exists(source) and path.samefile(source):
            raise ValueError(f"cannot write {name}: it is the input; choose another name")
    return path


def require_folder(folder: Path, name: str) -> None:
    """Raise OSError unless files can be made in a folder; `name` is what should go there."""
    if not folder.exists():
        raise FileNotFoundError(f"cannot write {name}: the folder {folder} does not exist")
    if not folder.is_dir():
        raise NotADirectoryError(f"cannot write {name}: {folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"cannot write {name}: no permission to write in {folder}")
