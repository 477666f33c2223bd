"""Trained weights: which are installed, and where.

Those that the user imported lie in `user_folder`, those that come with the package in its folder
``weights``, one for each kind of network and named after it. The format of the files is that of
`blurfield.checkpoint_files`.

Importing this module and listing checkpoints do not load PyTorch.
"""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

from . import checkpoint_files
from .checkpoint_files import SUFFIX, Checkpoint, read_checkpoint, write_checkpoint

__all__ = [
    "DATA_VARIABLE",
    "Checkpoint",
    "checked_name",
    "find",
    "find_named",
    "installed",
    "locate",
    "read_checkpoint",
    "remove_checkpoint",
    "resolve",
    "user_folder",
    "write_checkpoint",
]

#: Environment variable with the folder for the user's data, in place of the system's custom.
DATA_VARIABLE = "BLURFIELD_DATA"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def user_folder() -> Path:
    """Folder of the weights that the user imported; it may not exist yet.

    It is ``weights`` in the folder that the environment variable ``BLURFIELD_DATA`` names, or else
    in the system's usual folder for data of programs.
    """
    named = os.environ.get(DATA_VARIABLE)
    if named:
        return Path(named).expanduser() / "weights"
    from platformdirs import user_data_path

    return user_data_path("blurfield", appauthor=False) / "weights"


def installed(architecture: str | None = None) -> list[Checkpoint]:
    """Return the weights that can be used here.

    Parameters
    ----------
    architecture : str, optional
        Kind of network; all by default.

    Returns
    -------
    list of Checkpoint
        Imported ones first, the latest before earlier ones, then those of this package.

    Warns
    -----
    UserWarning
        About files among them that cannot be read; they are left out.
    """
    found = []
    for folder in (user_folder(), checkpoint_files.BUNDLED):
        for path in _latest_first(folder):
            try:
                checkpoint = read_checkpoint(path)
            except (ValueError, OSError) as error:
                warnings.warn(
                    f"weights are left out: {error}; install them again, or delete the file",
                    stacklevel=2,
                )
                continue
            if architecture in (None, checkpoint.architecture):
                found.append(checkpoint)
    return found


def find(architecture: str) -> Checkpoint | None:
    """Return the weights that a kind of network uses by default, None if there are none.

    They are the first of `installed`: those imported last, or else those of this package.
    """
    return next(iter(installed(architecture)), None)


def find_named(name: str) -> Checkpoint:
    """Return the installed weights of a name; imported ones come before those of this package.

    Raises
    ------
    ValueError
        If there are none of that name.
    """
    known = {checkpoint.name: checkpoint for checkpoint in reversed(installed())}
    if name not in known:
        raise ValueError(
            f"there are no weights named {name!r}, nor a file; installed: "
            f"{', '.join(sorted(known)) or 'none'}"
        )
    return known[name]


def remove_checkpoint(checkpoint: Checkpoint) -> None:
    """Delete weights that the user imported.

    Raises
    ------
    ValueError
        If they are a part of this package.
    OSError
        If the file cannot be deleted.
    """
    if checkpoint.bundled:
        raise ValueError(
            f"the weights {checkpoint.name!r} are a part of blurfield and cannot be removed"
        )
    checkpoint.path.unlink()


def locate(wanted: Checkpoint | str | os.PathLike[str]) -> Checkpoint:
    """Return weights that are given as such, as a checkpoint file or by the name of installed ones.

    Raises
    ------
    ValueError
        If there are none, neither a file nor installed; or if the file is no checkpoint.
    """
    if isinstance(wanted, Checkpoint):
        return wanted
    return read_checkpoint(wanted) if Path(wanted).is_file() else find_named(str(wanted))


def resolve(wanted: Checkpoint | str | os.PathLike[str] | None, architecture: str) -> Checkpoint:
    """Return the weights to use for a kind of network.

    Parameters
    ----------
    wanted : Checkpoint, str or path-like, optional
        See `locate`; `find` by default.
    architecture : str
        Kind of network.

    Raises
    ------
    ValueError
        If there are none, neither installed nor a file; the file is no checkpoint; or they are for
        another kind of network.
    """
    chosen = find(architecture) if wanted is None else locate(wanted)
    if chosen is None:
        raise ValueError(
            f"no weights for {architecture!r} are installed; get a file with them and install it "
            "with: blurfield weights import FILE (docs/weights.md says where they are published)"
        )
    if chosen.architecture != architecture:
        raise ValueError(
            f"{chosen.path} holds weights for {chosen.architecture!r}, not for {architecture!r}"
        )
    return chosen


def checked_name(name: str) -> str:
    """Return a name for weights, which becomes the name of a file.

    Raises
    ------
    ValueError
        If it is empty or holds more than letters, digits, dots, dashes and underscores.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is no name for weights: use letters, digits, '.', '-' and '_', and begin "
            "with a letter or digit"
        )
    return name


def _latest_first(folder: Path) -> list[Path]:
    """Files of weights in a folder, which may not exist."""
    if not folder.is_dir():
        return []
    files = [file for file in folder.glob(f"*{SUFFIX}") if not file.name.startswith(".")]
    return sorted(files, key=lambda file: (-file.stat().st_mtime_ns, file.name))
