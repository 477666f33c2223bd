"""Files of trained weights.

A checkpoint is a safetensors file with the tensors of a network and, under the key ``blurfield`` of
its header, JSON that says which network it is, how it was made and what light it expects. It holds
no code.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .tensor_files import HEADER_KEY, open_tensors, require_known_format, write_tensors

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from torch import Tensor

#: Number of the file format that this version writes; it reads all up to this one.
FORMAT = 1
#: Extension of checkpoint files.
SUFFIX = ".safetensors"
#: Folder of the weights that come with the package.
BUNDLED = Path(__file__).parent / "weights"


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

        with open_tensors(self.path, "weights") as content:
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
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


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read what a checkpoint file says about itself; its tensors are not read.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no checkpoint, is damaged or was written by a newer version.
    """
    with open_tensors(path, "weights", framework="numpy") as content:
        text = (content.metadata() or {}).get(HEADER_KEY)
    file = Path(path)
    if text is None:
        raise ValueError(
            f"{path} does not say which network it is for; install it with: "
            "blurfield weights import FILE"
        )
    try:
        header = dict(json.loads(text))
        if "architecture" not in header:
            raise ValueError("it holds no weights, but something else of blurfield's")
        require_known_format(path, int(header.pop("format")), FORMAT)
        return Checkpoint(
            name=file.stem,
            architecture=str(header.pop("architecture")),
            path=file,
            config=dict(header.pop("config")),
            gamma=float(header.pop("gamma")),
            origin=str(header.pop("origin")),
            sha256=str(header.pop("sha256")),
            bundled=file.resolve().parent == BUNDLED.resolve(),
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
    write_tensors(target, plain, header)
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
