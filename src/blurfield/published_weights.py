"""Files of weights as their authors publish them: read without running code, recognised, installed.

Which network a file is for is decided by the names and shapes of its tensors. `LAYOUTS` lists the
networks that are known; a further one is a further entry.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from .checkpoint_files import SUFFIX, read_checkpoint, write_checkpoint
from .checkpoints import checked_name, user_folder
from .files import require_file
from .tensor_files import HEADER_KEY, open_tensors

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from .checkpoint_files import Checkpoint

    Shapes = dict[str, tuple[int, ...]]

__all__ = ["LAYOUTS", "Layout", "import_weights", "read_tensors", "recognise"]

#: Keys under which published files hold the tensors, if not at the top.
_WRAPPERS = ("params", "state_dict")
#: What parallel training puts before each name.
_PREFIX = "module."
#: Share of equal names and shapes from which on a file is taken for a network's.
_ALIKE = 0.5
#: So many tensors are named in a message.
_NAMED = 3


class Layout(NamedTuple):
    """A network whose published weights can be installed.

    Attributes
    ----------
    title : str
        The network in words.
    architecture : str
        Its kind, see `blurfield.checkpoints.Checkpoint`.
    config : dict
        Keyword arguments that make it.
    gamma : float
        Exponent that its authors applied to stored values, see `Checkpoint`.
    network : callable
        Imports and returns the class of the network.
    """

    title: str
    architecture: str
    config: dict[str, Any]
    gamma: float
    network: Callable[[], type[nn.Module]]

    def shapes(self) -> Shapes:
        """Shapes of all tensors by their names."""
        with torch.device("meta"):
            network = self.network()(**self.config)
        return {name: tuple(values.shape) for name, values in network.state_dict().items()}


def import_weights(
    path: str | os.PathLike[str], name: str | None = None, gamma: float | None = None
) -> Checkpoint:
    """Install a file of weights in the user's folder, as safetensors.

    Parameters
    ----------
    path : path-like
        A PyTorch pickle, which is read without running code, or a safetensors file: the tensors by
        name, or such a dictionary under ``params`` or ``state_dict``, with or without ``module.``
        before each name. A checkpoint that this package wrote is taken as it is.
    name : str, optional
        What to call the weights; the file's name by default.
    gamma : float, optional
        Exponent that was applied to stored values in training; what the authors of the recognised
        network used by default.

    Returns
    -------
    Checkpoint
        The installed weights.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file asks for code to be run, is damaged, is of no known network or not complete;
        and if other weights of that name are installed.
    """
    file = require_file(path)
    name = checked_name(name if name is not None else _name_from(file))
    target = user_folder() / f"{name}{SUFFIX}"
    if target.exists():
        raise ValueError(
            f"weights named {name!r} are installed already; choose another name with --name, or "
            f"remove them with: blurfield weights remove {name}"
        )
    own = _own_checkpoint(file)
    if own is not None:
        tensors = own.load(as_stored=True)
        facts: dict[str, Any] = {
            "architecture": own.architecture,
            "config": own.config,
            "gamma": own.gamma,
            "origin": own.origin,
            **own.facts,
        }
    else:
        tensors = read_tensors(file)
        layout = recognise(tensors, str(path))
        facts = {
            "architecture": layout.architecture,
            "config": layout.config,
            "gamma": layout.gamma,
            "origin": f"{layout.title}, imported from {file.name}",
        }
    facts["source"] = {"file": file.name, "sha256": _file_hash(file)}
    if gamma is not None:
        facts["gamma"] = gamma
    target.parent.mkdir(parents=True, exist_ok=True)
    return write_checkpoint(target, tensors, **facts)


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the tensors of a published file, without running code that it may hold.

    Parameters
    ----------
    path : path-like
        See `import_weights`.

    Returns
    -------
    dict of str to Tensor
        On the CPU, in the precision of the file, at most single; names without ``module.``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file asks for code to be run, is damaged, or holds something else.
    """
    file = require_file(path)
    content = _read_safetensors(file) if file.suffix == SUFFIX else _read_pickle(file)
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} holds no tensors by name, but {_kind(content)}")
    for name, values in content.items():
        if not isinstance(name, str) or not isinstance(values, Tensor):
            raise ValueError(
                f"{path} holds more than tensors by name: under {name!r} there is {_kind(values)}"
            )
    if all(name.startswith(_PREFIX) for name in content):
        content = {name.removeprefix(_PREFIX): values for name, values in content.items()}
    # Copies, because tensors may share memory in a pickle, which safetensors files cannot hold.
    return {
        name: (values.float() if values.dtype == torch.float64 else values).detach().clone()
        for name, values in content.items()
    }


def recognise(tensors: Mapping[str, Tensor], path: str = "the file") -> Layout:
    """Return the network that tensors are for.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        All tensors of the network, and no others.
    path : str
        What to call them in messages.

    Raises
    ------
    ValueError
        If they are of no known network; or of one, but some are missing, of other shapes or
        unknown, of which the first few are named.
    """
    found = {name: tuple(values.shape) for name, values in tensors.items()}
    candidates = [(layout, layout.shapes()) for layout in LAYOUTS]
    layout, expected = max(candidates, key=lambda candidate: _likeness(found, candidate[1]))
    if _likeness(found, expected) < _ALIKE:
        titles = "; ".join(layout.title for layout in LAYOUTS)
        raise ValueError(
            f"{path} holds {len(found)} tensors, from {min(found)!r} to {max(found)!r}, of no "
            f"known network; known: {titles}"
        )
    faults = []
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    reshaped = [
        f"{name} of shape {found[name]} instead of {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    for fault, names in (("lacks", missing), ("has unknown", unknown), ("has", reshaped)):
        if names:
            more = ", …" if len(names) > _NAMED else ""
            faults.append(f"{fault} {len(names)}: {', '.join(names[:_NAMED])}{more}")
    if faults:
        raise ValueError(
            f"{path} looks like weights of {layout.title}, but of its tensors it "
            + "; it ".join(faults)
        )
    return layout


def _likeness(found: Shapes, expected: Shapes) -> float:
    """Share of names with equal shapes among all names of either."""
    equal = sum(expected.get(name) == shape for name, shape in found.items())
    return equal / len(found.keys() | expected.keys())


def _two_heads() -> type[nn.Module]:
    from .estimation.two_heads_network import TwoHeads

    return TwoHeads


def _drunet() -> type[nn.Module]:
    from .restoration.denoisers import DRUNet

    return DRUNet


def _unrolled() -> type[nn.Module]:
    from .restoration.unrolled_network import UnrolledNetwork

    return UnrolledNetwork


def _ufpnet() -> type[nn.Module]:
    from .restoration.ufpnet_network import UFPNet

    return UFPNet


def _flow() -> type[nn.Module]:
    from .estimation.flow import KernelFlow

    return KernelFlow


#: All networks whose published weights are recognised.
LAYOUTS: tuple[Layout, ...] = (
    Layout("the two-headed network", "two-heads", {}, 2.2, _two_heads),
    Layout(
        "the two-headed network for kernels of 65 pixels",
        "two-heads",
        {"kernel_size": 65},
        2.2,
        _two_heads,
    ),
    Layout(
        "the two-headed network of the first version of the paper",
        "two-heads",
        {"generation": "A"},
        1.0,
        _two_heads,
    ),
    Layout(
        "the denoiser DRUNet for colours",
        "denoiser",
        {"channels": 3, "widths": [64, 128, 256, 512], "blocks": 4},
        1.0,
        _drunet,
    ),
    Layout(
        "the denoiser DRUNet for grey images",
        "denoiser",
        {"channels": 1, "widths": [64, 128, 256, 512], "blocks": 4},
        1.0,
        _drunet,
    ),
    Layout(
        "the unrolled restoration network NIMBUSR of J-MKPD",
        "unrolled",
        {"widths": [64, 128, 256, 512]},
        2.2,
        _unrolled,
    ),
    Layout("UFPNet", "ufpnet", {}, 1.0, _ufpnet),
    Layout("the flow of motion kernels of UFPNet", "flow", {}, 1.0, _flow),
)


def _own_checkpoint(file: Path) -> Checkpoint | None:
    """What this package wrote into a file, None if another wrote it."""
    if file.suffix != SUFFIX:
        return None
    try:
        with open_tensors(file, "weights") as content:
            is_own = HEADER_KEY in (content.metadata() or {})
    except (ValueError, OSError):
        return None  # what is wrong with it is told where it is read
    return read_checkpoint(file) if is_own else None


def _read_safetensors(file: Path) -> Any:
    with open_tensors(file, "weights") as content:
        return {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118


def _read_pickle(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise PermissionError(f"cannot read {file}: {error.strerror or error}") from error
    except Exception as error:
        # Unpickling what is damaged, or no pickle at all, can raise anything.
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        if wanted:
            raise ValueError(
                f"{file} is refused: it is a pickle that asks to run {wanted[1]}, and weights need "
                "no code; ask for a file of tensors only, or a safetensors file"
            ) from None
        if "weights_only" in str(error):
            raise ValueError(
                f"{file} is refused: it holds more than tensors, which cannot be read without "
                "running code; ask for a file of tensors only, or a safetensors file"
            ) from None
        raise ValueError(
            f"cannot read {file} as weights: it is damaged or of another kind"
        ) from error


def _name_from(file: Path) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).strip("-._") or "weights"


def _file_hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _kind(value: object) -> str:
    return (
        "nothing" if value is None or value == {} else f"an object of type {type(value).__name__}"
    )
