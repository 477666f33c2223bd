"""What the values of a kernel field have to be."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

#: How far the sum of a kernel or of mixing coefficients may be from 1.
SUM_TOLERANCE = 1e-3

#: Below this a weight is noise of the softmax, and on CPUs arithmetic with it is many times slower.
_SMALLEST_NORMAL = torch.finfo(torch.float32).tiny


def as_float_tensor(values: Tensor | ArrayLike, name: str) -> Tensor:
    """Return real numbers in single or double precision; tensors that are so as they are."""
    if isinstance(values, Tensor):
        tensor = values
    else:
        import numpy as np

        array = np.asarray(values)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{name} must hold real numbers, but has the dtype {array.dtype}")
        tensor = torch.tensor(array if array.dtype != np.longdouble else array.astype(float))
    if tensor.is_complex():
        raise TypeError(f"{name} must hold real numbers, but has the dtype {tensor.dtype}")
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def check_shapes(basis: Tensor, mixing: Tensor) -> None:
    """Raise ValueError unless there are square kernels of an odd side and a map for each."""
    if basis.ndim != 3 or basis.shape[-1] != basis.shape[-2] or basis.shape[-1] % 2 == 0:
        raise ValueError(
            f"basis must have the shape (B, K, K) with K odd, but has {tuple(basis.shape)}"
        )
    if mixing.ndim != 3 or 0 in mixing.shape:
        raise ValueError(
            f"mixing must have the shape (B, h, w), none of them 0, but has {tuple(mixing.shape)}"
        )
    if basis.shape[0] != mixing.shape[0]:
        raise ValueError(
            f"there are {basis.shape[0]} basis kernels but {mixing.shape[0]} mixing maps; "
            "each kernel needs its own map"
        )


def check_convex(values: Tensor, what: str, dims: tuple[int, ...]) -> None:
    """Raise ValueError unless values are finite, ≥ 0 and sum to 1 over `dims`."""
    values = values.detach()
    low, high = values.aminmax()
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = torch.nonzero(~torch.isfinite(values))
        raise ValueError(
            f"{what}: {len(bad)} values are NaN or infinite, the first at {bad[0].tolist()}"
        )
    if low < -1e-6:
        where = torch.nonzero(values == low)[0].tolist()
        raise ValueError(f"{what}: negative value {low:.3g} at {where}; values must be ≥ 0")
    sums = values.sum(dims)
    worst = (sums - 1).abs().argmax()
    if abs(sums.flatten()[worst] - 1) > SUM_TOLERANCE:
        where = list(torch.unravel_index(worst, sums.shape))
        index = [int(i) for i in where]
        raise ValueError(
            f"{what} {index}: sum is {sums.flatten()[worst]:.6g}, but must be 1 within "
            f"{SUM_TOLERANCE:g}; divide by the sum"
        )


def without_denormals(mixing: Tensor) -> Tensor:
    """Return mixing coefficients with 0 in place of those that only slow arithmetic down."""
    # Map by map: masks of all maps of a dense field would take much memory.
    if not any(bool(_denormal(values).any()) for values in mixing.detach()):
        return mixing
    return mixing.masked_fill(_denormal(mixing.detach()), 0.0)


def _denormal(values: Tensor) -> Tensor:
    return (values < _SMALLEST_NORMAL) & (values != 0)


def checked_maps(maps: Mapping[str, Tensor | ArrayLike], like: Tensor) -> dict[str, Tensor]:
    """Return maps (h, w) of what is known of each pixel, of the dtype and device of `like`.

    Raises
    ------
    ValueError
        If a map is empty, has other axes or holds values that are not finite.
    TypeError
        If a name is no text, or values are complex.
    """
    checked = {}
    for name, values in maps.items():
        if not isinstance(name, str):
            raise TypeError(f"the names of maps must be text, but one is {name!r}")
        tensor = as_float_tensor(values, f"the map {name!r}").to(like.device, like.dtype)
        if tensor.ndim != 2 or 0 in tensor.shape:
            raise ValueError(
                f"the map {name!r} must have the shape (h, w), neither of them 0, but has "
                f"{tuple(tensor.shape)}"
            )
        finite = torch.isfinite(tensor.detach())
        if not bool(finite.all()):
            bad = torch.nonzero(~finite)
            raise ValueError(
                f"the map {name!r}: {len(bad)} values are NaN or infinite, the first at "
                f"{bad[0].tolist()}"
            )
        checked[name] = tensor
    return checked


def plain_json(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of metadata, or raise TypeError if they are not plain JSON types."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(metadata), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(f"metadata must be plain JSON types: {error}") from None
    return plain
