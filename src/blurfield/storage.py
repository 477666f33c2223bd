"""Files of kernel fields: ``.blurfield``, and single kernels of other programs.

A ``.blurfield`` file is a safetensors file with the tensors ``basis``, ``mixing`` and, for each of
the field's maps, ``map:NAME``. Under the key ``blurfield`` of its header it has JSON with
``format``, ``shape`` and ``metadata``. It holds no code and is read without copying. Other tensors
are ignored, as those of maps are by earlier versions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ._version import __version__
from .field import KernelField
from .kernel_files import read_kernel
from .tensor_files import HEADER_KEY, open_tensors, require_known_format, write_tensors

if TYPE_CHECKING:
    import os

__all__ = ["FORMAT", "import_kernels", "load_field", "read_kernel", "save_field"]

#: Number of the file format that this version writes; it reads all up to this one.
FORMAT = 1

#: What stands before the name of a map.
_MAP = "map:"
_DTYPES = {"float16": torch.float16, "float32": torch.float32}


def save_field(field: KernelField, path: str | os.PathLike[str], dtype: str = "float32") -> Path:
    """Write a field to a file, completely or not at all.

    Parameters
    ----------
    field : KernelField
        What to write; fields in double precision are rounded.
    path : path-like
        The file, by custom ``NAME.blurfield``. An existing one is replaced.
    dtype : {"float32", "float16"}, default "float32"
        Precision of the file. ``"float16"`` halves it, at relative errors of 5e-4.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ValueError
        If `dtype` is neither of the two.
    OSError
        If the file cannot be written.
    """
    if dtype not in _DTYPES:
        raise ValueError(f"dtype must be 'float32' or 'float16', not {dtype!r}")
    header = {
        "format": FORMAT,
        "version": __version__,
        "shape": list(field.shape),
        "metadata": field.metadata,
    }
    values = {"basis": field.basis, "mixing": field.mixing}
    values |= {_MAP + name: grid for name, grid in field.maps.items()}
    tensors = {
        name: tensor.detach().to("cpu", _DTYPES[dtype]).contiguous()
        for name, tensor in values.items()
    }
    write_tensors(path, tensors, header)
    return Path(path)


def load_field(path: str | os.PathLike[str]) -> KernelField:
    """Read a field from a file that `save_field` wrote, in this or an earlier version.

    Parameters
    ----------
    path : path-like
        A ``.blurfield`` file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a kernel field, is damaged, was written by a newer version, or holds values
        that no field can have, such as NaN.
    """
    with open_tensors(path, "a kernel field") as content:
        header = _checked_header(content.metadata(), path)
        tensors = {name: content.get_tensor(name) for name in ("basis", "mixing")}
        maps = {
            name.removeprefix(_MAP): content.get_tensor(name)
            for name in content.keys()  # noqa: SIM118
            if name.startswith(_MAP)
        }
    for name, values in {**tensors, **maps}.items():
        if not values.is_floating_point():
            raise ValueError(f"{path} is damaged: {name} has the type {values.dtype}")
    try:
        if tensors["basis"].dtype == torch.float16:
            tensors = _renormalised(tensors)
        return KernelField(**tensors, shape=header["shape"], metadata=header["metadata"], maps=maps)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no valid kernel field: {error}") from error


def import_kernels(
    path: str | os.PathLike[str],
    shape: tuple[int, int],
    *,
    name: str | None = None,
    psf: bool = True,
    centre: bool = True,
) -> KernelField:
    """Read a kernel and make it the blur of a whole image.

    Parameters
    ----------
    path : path-like
        The file with the kernel; see `read_kernel` for this and the options.
    shape : (int, int)
        Height and width in pixels of the image.
    name, psf, centre
        See `read_kernel`.

    Returns
    -------
    KernelField
        The same kernel everywhere, with its source in the metadata.
    """
    kernel = read_kernel(path, name=name, psf=psf, centre=centre)
    metadata = {
        "model": "imported",
        "version": __version__,
        "source": Path(path).name,
        "parameters": {"name": name, "psf": psf, "centre": centre},
    }
    return KernelField.uniform(kernel, shape, metadata)


def _checked_header(
    metadata: dict[str, str] | None, path: str | os.PathLike[str]
) -> dict[str, Any]:
    text = (metadata or {}).get(HEADER_KEY)
    if text is None:
        raise ValueError(f"{path} is a safetensors file, but holds no kernel field of blurfield")
    try:
        header = json.loads(text)
        number, _, _ = int(header["format"]), header["shape"], dict(header["metadata"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: its header cannot be read ({error!r})") from error
    require_known_format(path, number, FORMAT)
    checked: dict[str, Any] = header
    return checked


def _renormalised(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Undo the drift of sums that rounding to half precision causes."""
    basis, mixing = tensors["basis"].float(), tensors["mixing"].float()
    return {
        "basis": basis / basis.sum((-2, -1), keepdim=True),
        "mixing": mixing / mixing.sum(0, keepdim=True),
    }
