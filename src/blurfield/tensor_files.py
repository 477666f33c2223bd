"""Safetensors files with a header of ours: what fields and weights are stored in.

Under the key ``blurfield`` of a file's header stands JSON that says what the file holds. Importing
this module does not load PyTorch.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from ._version import __version__
from .files import atomic_write, require_file

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from torch import Tensor

#: Key of a file's header under which the JSON stands.
HEADER_KEY = "blurfield"


@contextmanager
def open_tensors(path: str | os.PathLike[str], what: str, framework: str = "pt") -> Iterator[Any]:
    """Open a file for reading.

    Parameters
    ----------
    path : path-like
        The file.
    what : str
        What it should hold, in words that can follow "cannot read the file as".
    framework : {"pt", "numpy"}
        Kind of the tensors that are read; ``"numpy"`` does not load PyTorch.

    Yields
    ------
    safetensors.safe_open
        The open file.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If there is no such file.
    PermissionError
        If it may not be read.
    ValueError
        If it is damaged or no safetensors file, which may show while it is read.
    """
    file = require_file(path)
    try:
        with safe_open(file, framework=framework) as content:
            yield content
    except PermissionError as error:
        raise PermissionError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"cannot read {path} as {what}: it is damaged or of another kind ({error})"
        ) from error


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], header: Mapping[str, Any]
) -> None:
    """Write a file, completely or not at all.

    Parameters
    ----------
    path : path-like
        The file; an existing one is replaced.
    tensors : mapping of str to Tensor
        Contiguous and on the CPU.
    header : mapping
        What the file says about itself, as plain JSON types.

    Raises
    ------
    ValueError, TypeError
        If the header is not plain JSON.
    OSError
        If the file cannot be written.
    """
    from safetensors.torch import save_file

    text = json.dumps(header, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as temporary:
        try:
            save_file(dict(tensors), temporary, {HEADER_KEY: text})
        except SafetensorError as error:
            raise OSError(f"{error}") from error


def require_known_format(path: str | os.PathLike[str], number: int, newest: int) -> None:
    """Raise ValueError if a file has a format that only later versions of blurfield read."""
    if number > newest:
        raise ValueError(
            f"{path} was written by a newer version of blurfield (format {number}, while this "
            f"version, {__version__}, reads formats up to {newest}); update blurfield to open it"
        )
