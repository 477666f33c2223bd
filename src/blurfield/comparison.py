"""How alike two kernels, or two kernel fields, are, whatever their translation.

Blind estimation fixes a kernel only up to a translation, which the sharp image undoes. The measure
used throughout is therefore the maximum of the normalised cross-correlation over all shifts: 1 for
equal shapes, and never below 0 for non-negative kernels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.fft import next_fast_len

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .field import KernelField

#: Elements of one padded batch in `similarity`; bounds its memory to some 100 MiB.
_BATCH_ELEMENTS = 1 << 22


@dataclass(frozen=True)
class Similarity:
    """Kernel similarity of two fields, sampled at points of the image.

    Attributes
    ----------
    mean : float
        Mean of `values`.
    values : numpy.ndarray
        float32, in [0, 1]: (ny, nx) on a grid, (N,) at given points.
    points : numpy.ndarray
        float32 pixel positions (y, x), of shape ``(*values.shape, 2)``.
    """

    mean: float
    values: NDArray[np.float32]
    points: NDArray[np.float32]


def grid_axis(length: int, spacing: float) -> NDArray[np.float64]:
    """Positions every `spacing` pixels along an axis of `length` pixels, centred on that axis.

    An axis shorter than `spacing` gets its centre only.

    Raises
    ------
    ValueError
        If `spacing` is not a finite number above 0.
    """
    if not (math.isfinite(spacing) and spacing > 0):
        raise ValueError(f"spacing must be a number of pixels above 0, not {spacing!r}")
    count = max(1, int(length // spacing))
    offsets = np.arange(count, dtype=np.float64) - (count - 1) / 2
    return (length - 1) / 2 + spacing * offsets


def kernel_similarity(a: Any, b: Any) -> torch.Tensor:
    """Return the maximum over all shifts of the normalised cross-correlation of kernels.

    Computes ``max_t Σ_s a(s) b(s + t) / (‖a‖₂ ‖b‖₂)`` with zeros outside the supports.

    Parameters
    ----------
    a : torch.Tensor or array_like
        Kernels, (..., K, L).
    b : torch.Tensor or array_like
        Kernels, (..., K', L'); other sizes than those of `a` are fine. The leading axes of `a`
        and `b` broadcast, so ``kernel_similarity(a[:, None], b)`` compares all pairs.

    Returns
    -------
    torch.Tensor
        Similarities, of the broadcast leading shape; at most 1, at least 0 for non-negative
        kernels, and 0 where a kernel vanishes. On the device of `a`, at least float32.

    Raises
    ------
    ValueError
        If `a` or `b` has fewer than two axes or an empty one, or the leading axes do not
        broadcast.
    """
    a = _as_kernels(a, "a")
    b = _as_kernels(b, "b").to(a.device)
    try:
        np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise ValueError(
            f"the leading axes of kernels of shapes {tuple(a.shape)} and {tuple(b.shape)} "
            "do not broadcast"
        ) from None
    dtype = torch.promote_types(a.dtype, b.dtype)
    size = [
        next_fast_len(m + n - 1, real=True) for m, n in zip(a.shape[-2:], b.shape[-2:], strict=True)
    ]
    spectrum_a, spectrum_b = (
        torch.fft.rfft2(_unit_norm(kernels.to(dtype)), s=size) for kernels in (a, b)
    )
    correlation: torch.Tensor = torch.fft.irfft2(spectrum_a.conj() * spectrum_b, s=size)
    return correlation.amax(dim=(-2, -1)).clamp(max=1.0)  # above 1 by rounding only


def _as_kernels(kernels: Any, name: str) -> torch.Tensor:
    tensor = torch.as_tensor(kernels)
    if tensor.ndim < 2 or 0 in tensor.shape[-2:]:
        raise ValueError(
            f"{name} must hold kernels of shape (..., K, K), not {tuple(tensor.shape)}"
        )
    if tensor.dtype not in {torch.float32, torch.float64}:
        tensor = tensor.float()
    return tensor


def _unit_norm(kernels: torch.Tensor) -> torch.Tensor:
    norm: torch.Tensor = torch.linalg.vector_norm(kernels, dim=(-2, -1), keepdim=True)
    return kernels / norm.clamp_min(torch.finfo(kernels.dtype).tiny)


def similarity(
    field: KernelField,
    truth: KernelField,
    spacing: float = 16,
    points: Any = None,
) -> Similarity:
    """Compare the per-pixel kernels of two fields.

    Parameters
    ----------
    field, truth : KernelField
        Fields of the same image shape; kernel sizes, numbers of kernels, mixing grids and
        devices may differ.
    spacing : float, default 16
        Pixels between the samples of a grid that is centred on the image.
    points : array_like, optional
        Positions (N, 2) in pixels (y, x) to compare at, instead of the grid.

    Returns
    -------
    Similarity
        Mean, values and points; see `kernel_similarity` for the measure.

    Raises
    ------
    ValueError
        If the shapes of the fields differ, `spacing` is not above 0, or `points` is empty or not
        (N, 2).
    """
    if tuple(field.shape) != tuple(truth.shape):
        raise ValueError(
            f"the fields belong to images of different shapes: {tuple(field.shape)} and "
            f"{tuple(truth.shape)}"
        )
    if points is None:
        axes = [grid_axis(length, spacing) for length in field.shape]
        where = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.float32)
    else:
        where = np.asarray(points, dtype=np.float32)
        if where.ndim != 2 or where.shape[1] != 2 or len(where) == 0:
            raise ValueError(f"points must have shape (N, 2) with N ≥ 1, not {where.shape}")
    flat = torch.from_numpy(where.reshape(-1, 2))
    padded = (field.kernel_size + truth.kernel_size) ** 2
    values = torch.cat(
        [
            kernel_similarity(field.kernels_at(part), truth.kernels_at(part)).cpu()
            for part in torch.split(flat, max(1, _BATCH_ELEMENTS // padded))
        ]
    )
    return Similarity(
        mean=float(values.double().mean()),
        values=values.float().numpy().reshape(where.shape[:-1]),
        points=where,
    )
