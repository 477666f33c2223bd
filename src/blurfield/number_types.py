"""Number types of images: what they hold, what white is in them, and how to round to them.

Types are described by numpy's, for tensors too, so that one set of rules serves both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Bit depths of sensors; the value of white of a wider integer type is the smallest that fits.
_SENSOR_BITS = (10, 12, 14, 16)

#: Integers that float64 holds exactly.
_EXACT_INTEGER = 1 << 53


def numpy_dtype(dtype: Any) -> np.dtype[Any]:
    """Type of numpy's that holds the values of `dtype`, if they are real numbers."""
    if dtype is torch.bfloat16:  # unknown to numpy; every value of it is one of float32
        return np.dtype(np.float32)
    try:
        if isinstance(dtype, torch.dtype):
            result = torch.empty(0, dtype=dtype).numpy().dtype
        else:
            result = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"{dtype!r} is not a number type that images can have") from None
    if result.kind not in "buif":
        raise TypeError(
            f"images must hold booleans, integers or real floats, not values of type {result}"
        )
    return result


def torch_dtype(dtype: Any) -> torch.dtype:
    """Type of torch's that is the same as `dtype`."""
    if isinstance(dtype, torch.dtype):
        return dtype
    return torch.from_numpy(np.empty(0, dtype=dtype)).dtype


def working_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    """Float type that holds the values of `dtype` (integers: up to 2⁵³)."""
    wide = dtype.itemsize > 4 if dtype.kind == "f" else dtype.itemsize > 2
    return torch.float64 if wide else torch.float32


def to_working(values: torch.Tensor, dtype: np.dtype[Any]) -> torch.Tensor:
    """Return values in the float type that results of type `dtype` are computed in."""
    # MPS has no float64; what is to become a wide type is computed on the CPU there.
    device = torch.device("cpu") if values.device.type == "mps" else values.device
    return values.to(device, working_dtype(dtype))


def copy_as_float(array: NDArray[Any] | torch.Tensor, dtype: np.dtype[Any]) -> torch.Tensor:
    """Return a copy, so that later steps may work in place."""
    if isinstance(array, torch.Tensor):
        copy = to_working(array, dtype)
        return copy.clone() if copy is array else copy
    wide = working_dtype(dtype) == torch.float64
    return torch.from_numpy(array.astype(np.float64 if wide else np.float32, order="C"))


def white_level(dtype: np.dtype[Any], span: float) -> float:
    """Value of white, counted from black, of an image whose values span `span` from there."""
    if dtype.kind == "b":
        return 1.0
    if dtype == np.uint8:
        return 255.0
    if dtype.kind in "ui":
        levels = [2.0**bits - 1 for bits in _SENSOR_BITS]
        return next((level for level in levels if span <= level), span)
    return max(span, 1.0)


def full_range(dtype: np.dtype[Any]) -> float:
    """Value of white of an integer type that an image is converted to."""
    if dtype.kind == "b":
        return 1.0
    return float(min(np.iinfo(dtype).max, 2 ** _SENSOR_BITS[-1] - 1))


def representable(values: torch.Tensor, dtype: np.dtype[Any]) -> torch.Tensor:
    """Round and clip values to those that a number type has."""
    if dtype.kind == "b":
        return values.round().clamp(0, 1)
    if dtype.kind in "ui":
        limits = np.iinfo(dtype)
        low, high = max(limits.min, -_EXACT_INTEGER), min(limits.max, _EXACT_INTEGER)
        return values.round().clamp(low, high)
    if dtype == np.float16:
        largest = float(np.finfo(np.float16).max)
        return values.clamp(-largest, largest)
    return values
