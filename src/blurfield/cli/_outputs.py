"""Output files are looked at before the long work begins, not after it."""

from __future__ import annotations

import errno
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
        known = ", ".join(sorted(suffixes))
        seen = repr(path.suffix) if path.suffix else "none"
        raise ValueError(f"{name}: cannot write files with the extension {seen}; use {known}")
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder; give the name of a file", name)
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder to write to", str(path.parent))
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise PermissionError(errno.EACCES, "cannot be written", name)
    for source in filter(None, inputs):
        if path.exists() and os.path.exists(source) and path.samefile(source):
            raise ValueError(f"{name}: is the input; give the output another name")
    return path
