"""Single blur kernels in files, those of other programs and data sets among them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .files import atomic_write, read_image, require_file, write_image

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from numpy.typing import ArrayLike, NDArray

#: Names that kernels go by, in lower case, when a file holds other arrays too.
_KERNEL_NAMES = {"f", "h", "k", "ker", "kernel", "psf"}

#: What tells a kernel, given its name and values, from the other arrays of a file: it is no
#: number, no list of numbers, and its name.
_LIKELY_KERNELS: tuple[Callable[[str, NDArray[Any]], bool], ...] = (
    lambda _, array: array.size > 1,
    lambda _, array: min(array.shape) > 1,
    lambda name, _: name.lower() in _KERNEL_NAMES,
)

#: Kernels larger than this are photographs given by mistake.
_LARGEST_SIDE = 1025

#: Negative values down to this share of the largest value are rounding.
_ROUNDING = 1e-6

#: Extensions of the files that `write_kernel` writes, in lower case.
KERNEL_SUFFIXES = (".npy", ".tif", ".tiff", ".png", ".csv")

#: What readers raise on damaged files; scipy's own error class derives from Exception alone.
_DAMAGED = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    struct.error,
    zlib.error,
)


def read_kernel(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    psf: bool = True,
    centre: bool = True,
) -> torch.Tensor:
    """Read a blur kernel and bring it into the form that fields need.

    Parameters
    ----------
    path : path-like
        MATLAB file (``.mat``, up to version 7), ``.npy``, ``.npz``, ``.csv``, or a grey image.
    name : str, optional
        Which array of a ``.mat`` or ``.npz`` file to take. By default the only 2-D array, or
        the only one called kernel, ker, k, f, h or psf.
    psf : bool, default True
        Whether the file holds a point-spread function, that is, a kernel to convolve with, as
        those of Levin et al. 2009 and Köhler et al. 2012 do. It is then rotated by 180°, for
        fields hold correlation kernels.
    centre : bool, default True
        Shift the kernel by whole pixels so that its centre of mass is in the middle; the deblurred
        image then stays in place. Otherwise the middle of the array (of the index n // 2 along an
        even side of n pixels) remains the origin.

    Returns
    -------
    torch.Tensor
        (K, K), float32, K odd and at least the longer side of the array; non-negative, sum 1.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file cannot be read or holds no kernel, or several that could be meant.
    """
    file = require_file(path)
    values = _select(_read_arrays(file), name, path)
    kernel = _normalised(values, path)
    height, width = kernel.shape
    if max(height, width) > _LARGEST_SIDE:
        raise ValueError(
            f"{path} holds an array of {height}×{width} pixels; kernels may have up to "
            f"{_LARGEST_SIDE} (is it a photograph?)"
        )
    placed = _place(kernel, _centre_of_mass(kernel) if centre else (height // 2, width // 2))
    if psf:
        placed = placed[::-1, ::-1]
    return torch.from_numpy(placed.astype(np.float32))


def write_kernel(path: str | os.PathLike[str], psf: ArrayLike) -> Path:
    """Write a point-spread function to a file that `read_kernel` reads, completely or not at all.

    Parameters
    ----------
    path : path-like
        The extension decides the format: ``.npy``, ``.tif`` (float32) and ``.csv`` keep the values;
        ``.png`` has 16 bits, of which the largest value takes all, for looking at it.
    psf : array_like, shape (K, K)
        Non-negative: the kernel as people see it, rotated by 180° against that of a field.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ValueError
        If the extension is unknown, or the values are not those of a kernel.
    OSError
        If the file cannot be written.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in KERNEL_SUFFIXES:
        raise ValueError(
            f"cannot write {path}: the extension {suffix!r} is not one of "
            f"{', '.join(KERNEL_SUFFIXES)}"
        )
    values = np.asarray(psf, dtype=np.float32)
    high = float(values.max(initial=0))
    if values.ndim != 2 or not np.isfinite(values).all() or values.min(initial=0) < 0 or high <= 0:
        raise ValueError(
            f"cannot write {path}: a kernel has two axes and values ≥ 0, not all of them 0, unlike "
            f"this array of shape {values.shape}"
        )
    if suffix == ".csv":
        with atomic_write(target) as temporary:
            np.savetxt(temporary, values, delimiter=",", fmt="%.9g")
        return target
    if suffix == ".png":
        levels = np.rint(values * (np.iinfo(np.uint16).max / high))
        return write_image(target, levels.astype(np.uint16))
    return write_image(target, values)


def _read_arrays(file: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of a file by name; a file with one array has the name ''."""
    suffix = file.suffix.lower()
    try:
        if suffix == ".mat":
            return _read_mat(file)
        if suffix == ".csv":
            return {"": np.loadtxt(file, delimiter=",", ndmin=2)}
        if suffix in {".npy", ".npz"}:
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                return {"": content}
            with content:
                return {key: content[key] for key in content.files}
    except PermissionError as error:
        raise PermissionError(f"cannot read {file}: {error.strerror or error}") from error
    except _DAMAGED as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"cannot read kernels from {file}: {reason}") from error
    image = read_image(file)
    return {"": image if image.ndim == 2 else image[..., :3].mean(axis=-1)}


def _read_mat(file: Path) -> dict[str, NDArray[Any]]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content: Mapping[str, Any] = loadmat(file)
    except NotImplementedError:  # how scipy refuses files of version 7.3
        raise ValueError(
            "it is a MATLAB 7.3 (HDF5) file; save it with -v7 in MATLAB, or as .npy"
        ) from None
    except MatReadError as error:
        raise ValueError(str(error)) from error
    return {key: np.asarray(value) for key, value in content.items() if not key.startswith("__")}


def _select(
    arrays: dict[str, NDArray[Any]], name: str | None, path: str | os.PathLike[str]
) -> NDArray[Any]:
    """Return the array that is meant."""
    listing = ", ".join(
        f"{key or 'an array'} {array.shape} {array.dtype}" for key, array in arrays.items()
    )
    if name is not None:
        if name not in arrays:
            raise ValueError(f"{path} has no array named {name!r}; it holds {listing or 'none'}")
        arrays = {name: arrays[name]}
    kernels = {
        key: array
        for key, array in arrays.items()
        if array.ndim == 2 and array.dtype.kind in "buif" and array.size > 0
    }
    for is_likely in _LIKELY_KERNELS:
        if len(kernels) > 1:
            likely = {key: array for key, array in kernels.items() if is_likely(key, array)}
            kernels = likely or kernels
    if not kernels:
        raise ValueError(f"{path} holds no 2-D array of real numbers, but {listing or 'nothing'}")
    if len(kernels) > 1:
        raise ValueError(
            f"{path} holds several arrays that could be the kernel: {', '.join(kernels)}; "
            "choose one by name="
        )
    return next(iter(kernels.values()))


def _normalised(values: NDArray[Any], path: str | os.PathLike[str]) -> NDArray[np.float64]:
    kernel: NDArray[np.float64] = values.astype(np.float64)
    if not np.isfinite(kernel).all():
        raise ValueError(f"the kernel in {path} has values that are NaN or infinite")
    low, high = kernel.min(), kernel.max()
    if low < -_ROUNDING * max(high, 0):
        raise ValueError(f"the kernel in {path} has negative values, down to {low:.3g}")
    if high <= 0:
        raise ValueError(f"the kernel in {path} is zero everywhere")
    kernel = kernel.clip(min=0) / high  # first by the largest value, so that the sum is finite
    result: NDArray[np.float64] = kernel / kernel.sum()
    return result


def _centre_of_mass(kernel: NDArray[np.float64]) -> tuple[int, int]:
    rows, cols = (np.arange(n) @ kernel.sum(1 - axis) for axis, n in enumerate(kernel.shape))
    return int(np.floor(rows + 0.5)), int(np.floor(cols + 0.5))


def _place(kernel: NDArray[np.float64], origin: tuple[int, int]) -> NDArray[np.float64]:
    """Put a kernel into an odd square with `origin` in its middle, without losing anything."""
    light = np.nonzero(kernel)
    reach = max(int(abs(index - middle).max()) for index, middle in zip(light, origin, strict=True))
    half = max(max(kernel.shape) // 2, reach)
    placed = np.zeros((2 * half + 1, 2 * half + 1))
    rows, cols = (index - middle + half for index, middle in zip(light, origin, strict=True))
    placed[rows, cols] = kernel[light]
    return placed
