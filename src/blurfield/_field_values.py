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
    values = mixing.detach()
    tiny = (values < _SMALLEST_NORMAL) & (values != 0)
    return mixing.masked_fill(tiny, 0.0) if bool(tiny.any()) else mixing


def plain_json(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of metadata, or raise TypeError if they are not plain JSON types."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(metadata), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(f"metadata must be plain JSON types: {error}") from None
    return plain
