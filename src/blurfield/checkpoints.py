"""Trained weights: the files that hold them and where they are found.

A checkpoint is a safetensors file with the tensors of a network and, under the key ``blurfield`` of
its header, JSON that says which network it is, how it was made and what light it expects. It holds
no code. Checkpoints that the user imported lie in `user_folder`, those that come with the package
in its folder ``weights``, one for each architecture and named after it.

Importing this module and listing checkpoints do not load PyTorch.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from ._version import __version__
from .files import atomic_write, require_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

__all__ = [
    "DATA_VARIABLE",
    "Checkpoint",
    "find",
    "find_named",
    "installed",
    "read_checkpoint",
    "remove_checkpoint",
    "resolve",
    "user_folder",
    "write_checkpoint",
]

#: Number of the file format that this version writes; it reads all up to this one.
FORMAT = 1
#: Environment variable with the folder for the user's data, in place of the system's custom.
DATA_VARIABLE = "BLURFIELD_DATA"
#: Extension of checkpoint files.
SUFFIX = ".safetensors"
#: Key of a file's header under which the facts stand.
HEADER_KEY = "blurfield"

_BUNDLED = Path(__file__).parent / "weights"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Checkpoint:
    """Trained weights of a network, and the facts about them.

    Attributes
    ----------
    name : str
        Name of the file without its extension.
    architecture : str
        Kind of network: ``"two-heads"``, ``"compact"``, ``"denoiser"``, …
    path : pathlib.Path
        The file.
    config : dict
        Keyword arguments that make the network.
    gamma : float
        Exponent that was applied to the encoded values of the images which the network was trained
        on: 2.2 for networks that work in linear light, 1 for those that take images as stored.
    origin : str
        Where the weights come from, in words.
    sha256 : str
        Hash of the tensors, see `tensors_hash`; identifies the weights whatever their file.
    bundled : bool
        Whether they are a part of this package.
    facts : dict
        What else was recorded, as plain JSON types.
    """

    name: str
    architecture: str
    path: Path
    config: dict[str, Any]
    gamma: float
    origin: str
    sha256: str
    bundled: bool
    facts: dict[str, Any] = field(default_factory=dict)

    def load(
        self, poll: Callable[[], None] | None = None, *, as_stored: bool = False
    ) -> dict[str, Tensor]:
        """Read the tensors.

        Parameters
        ----------
        poll : callable, optional
            Called between tensors; what it raises propagates.
        as_stored : bool
            Leave their precision as it is in the file.

        Returns
        -------
        dict of str to Tensor
            On the CPU, in single precision by default, under the names that the network gives them.

        Raises
        ------
        ValueError
            If the file is damaged.
        OSError
            If it cannot be read.
        """
        import torch

        tensors = {}
        try:
            with safe_open(self.path, framework="pt") as content:
                for name in content.keys():  # noqa: SIM118 - it is not a mapping
                    tensors[name] = content.get_tensor(name)
        except SafetensorError as error:
            raise ValueError(f"cannot read the weights {self.path}: {error}") from error
        if tensors_hash(tensors, poll) != self.sha256:
            raise ValueError(
                f"the weights {self.path} are damaged: their values are not those that were "
                "written; install them again"
            )
        if as_stored:
            return tensors
        return {
            name: values.to(torch.float32) if values.is_floating_point() else values
            for name, values in tensors.items()
        }

    def identity(self) -> dict[str, Any]:
        """What a result says about the weights that made it, as plain JSON types."""
        return {
            "name": self.name,
            "origin": self.origin,
            "sha256": self.sha256,
            "gamma": self.gamma,
        }

    def describe(self) -> dict[str, Any]:
        """All facts as plain JSON types."""
        return {
            "name": self.name,
            "architecture": self.architecture,
            "config": self.config,
            "gamma": self.gamma,
            "origin": self.origin,
            "sha256": self.sha256,
            "bundled": self.bundled,
            "path": str(self.path),
            **self.facts,
        }


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
    for folder in (user_folder(), _BUNDLED):
        for path in _latest_first(folder):
            try:
                checkpoint = read_checkpoint(path)
            except (ValueError, OSError) as error:
                warnings.warn(f"weights are left out: {error}", stacklevel=2)
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


def resolve(wanted: Checkpoint | str | os.PathLike[str] | None, architecture: str) -> Checkpoint:
    """Return the weights to use for a kind of network.

    Parameters
    ----------
    wanted : Checkpoint, str or path-like, optional
        The weights, the name of installed ones, or a checkpoint file; `find` by default.
    architecture : str
        Kind of network.

    Raises
    ------
    ValueError
        If there are none, neither installed nor a file; the file is no checkpoint; or they are for
        another kind of network.
    """
    if isinstance(wanted, Checkpoint):
        chosen = wanted
    elif wanted is None:
        default = find(architecture)
        if default is None:
            raise ValueError(
                f"no weights for {architecture!r} are installed; get a file with them and install "
                "it with: blurfield weights import FILE (docs/weights.md says where they are "
                "published)"
            )
        chosen = default
    elif Path(wanted).is_file():
        chosen = read_checkpoint(wanted)
    else:
        chosen = find_named(str(wanted))
    if chosen.architecture != architecture:
        raise ValueError(
            f"{chosen.path} holds weights for {chosen.architecture!r}, not for {architecture!r}"
        )
    return chosen


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read what a checkpoint file says about itself; its tensors are not read.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no checkpoint, is damaged or was written by a newer version.
    """
    file = require_file(path)
    try:
        with safe_open(file, framework="numpy") as content:
            text = (content.metadata() or {}).get(HEADER_KEY)
    except PermissionError as error:
        raise PermissionError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"cannot read {path} as weights: it is damaged or of another kind ({error})"
        ) from error
    if text is None:
        raise ValueError(
            f"{path} does not say which network it is for; install it with: "
            "blurfield weights import FILE"
        )
    try:
        header = dict(json.loads(text))
        if "architecture" not in header:
            raise ValueError("it holds no weights, but something else of blurfield's")
        number = int(header.pop("format"))
        if number > FORMAT:
            raise ValueError(
                f"it was written by a newer version of blurfield (format {number}, while "
                f"{__version__} reads formats up to {FORMAT}); update blurfield"
            )
        return Checkpoint(
            name=file.stem,
            architecture=str(header.pop("architecture")),
            path=file,
            config=dict(header.pop("config")),
            gamma=float(header.pop("gamma")),
            origin=str(header.pop("origin")),
            sha256=str(header.pop("sha256")),
            bundled=file.resolve().parent == _BUNDLED.resolve(),
            facts=header,
        )
    except (KeyError, TypeError, ValueError) as error:
        reason = f"its header lacks {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"cannot read {path} as weights: {reason}") from error


def write_checkpoint(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    *,
    architecture: str,
    config: Mapping[str, Any],
    gamma: float,
    origin: str,
    **facts: Any,
) -> Checkpoint:
    """Write weights to a file, completely or not at all.

    Parameters
    ----------
    path : path-like
        The file, ``NAME.safetensors``. An existing one is replaced.
    tensors : mapping of str to Tensor
        A network's state; in half precision where that is what they are.
    architecture, config, gamma, origin
        See `Checkpoint`.
    **facts
        More to record, as plain JSON types: samples seen, scores, the file they come from, …

    Returns
    -------
    Checkpoint
        The same as `read_checkpoint` gives for the file.

    Raises
    ------
    ValueError
        If there are no tensors, values are not finite, or gamma is not a number above 0.
    TypeError
        If `config` or a fact is not plain JSON.
    OSError
        If the file cannot be written.
    """
    from safetensors.torch import save_file

    target = Path(path)
    if target.suffix != SUFFIX:
        raise ValueError(f"files of weights end in {SUFFIX}, but this is {path}")
    if not tensors:
        raise ValueError("there are no tensors to write")
    if not (math.isfinite(gamma) and gamma > 0):
        raise ValueError(f"gamma must be a number above 0, but is {gamma!r}")
    plain = {name: values.detach().cpu().contiguous() for name, values in tensors.items()}
    for name, values in plain.items():
        if values.is_floating_point() and not bool(values.isfinite().all()):
            raise ValueError(f"the tensor {name} holds values that are not finite")
    header = {
        "format": FORMAT,
        "version": __version__,
        "architecture": architecture,
        "config": dict(config),
        "gamma": float(gamma),
        "origin": origin,
        "sha256": tensors_hash(plain),
        **facts,
    }
    text = json.dumps(header, ensure_ascii=False, allow_nan=False)
    with atomic_write(target) as temporary:
        try:
            save_file(plain, temporary, {HEADER_KEY: text})
        except SafetensorError as error:
            raise OSError(f"{error}") from error
    return read_checkpoint(target)


def tensors_hash(tensors: Mapping[str, Tensor], poll: Callable[[], None] | None = None) -> str:
    """Hash of the names, types, shapes and values of tensors on the CPU, in hexadecimal.

    The same tensors have the same hash whatever the order and the file in which they are stored.
    `poll` is called between tensors.
    """
    import torch

    found = hashlib.sha256()
    for name in sorted(tensors):
        if poll is not None:
            poll()
        values = tensors[name].detach().contiguous()
        found.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        found.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


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
