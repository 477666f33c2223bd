"""L1 distance of kernel fields, up to their common translation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from scipy.fft import next_fast_len
from torch.nn.functional import pad

from blurfield.comparison import grid_axis

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from blurfield.field import KernelField

#: Numbers in one padded batch of kernels (32 MiB of float64).
_BATCH_NUMBERS = 1 << 22


@dataclass(frozen=True)
class KernelDistance:
    """L1 distance of the kernels of two fields.

    Attributes
    ----------
    mean : float
        Mean of `values`.
    values : numpy.ndarray
        (ny, nx), float32, in [0, 2], on a grid centred on the image: Σ_s |κ̂(s + t) − κ(s)|.
    shift : (int, int)
        The translation t, in pixels (y, x), by which all kernels of the first field were moved
        back.
    """

    mean: float
    values: NDArray[np.float32]
    shift: tuple[int, int]


def kernel_l1_distance(
    field: KernelField, truth: KernelField, spacing: float = 16
) -> KernelDistance:
    """Return the L1 distance of the per-pixel kernels of two fields.

    An estimated field is known up to one translation t in common for all its pixels, which the
    sharp image undoes. Here t is the translation by whole pixels that makes the mean squared
    distance of the kernels smallest; a field whose parts are displaced against each other, and
    which hence would distort the image, is not excused as it is by `blurfield.similarity`.

    Parameters
    ----------
    field, truth : KernelField
        Fields of the same image shape; sizes and numbers of kernels may differ.
    spacing : float, default 16
        Pixels between the samples of the grid.

    Returns
    -------
    KernelDistance
        0 for equal kernels, 2 for kernels that do not overlap.

    Raises
    ------
    ValueError
        If the shapes of the fields differ or `spacing` is not above 0.
    """
    if field.shape != truth.shape:
        raise ValueError(
            f"the fields belong to images of different shapes: {field.shape} and {truth.shape}"
        )
    axes = [torch.from_numpy(grid_axis(length, spacing)) for length in field.shape]
    points = torch.cartesian_prod(*axes)
    largest = field.kernel_size + truth.kernel_size - 1
    side = next_fast_len(largest, real=True)
    pairs = _Pairs(field, truth, points, max(1, _BATCH_NUMBERS // side**2))
    correlation = torch.zeros(side, side, dtype=torch.float64)
    for a, b in pairs:
        product = torch.fft.rfft2(b, s=(side, side)).conj() * torch.fft.rfft2(a, s=(side, side))
        correlation += torch.fft.irfft2(product.sum(0), s=(side, side))
    # Squared distances are Σ a² + Σ b² − 2 (correlation), of which only the last depends on t.
    where = divmod(int(correlation.argmax()), side)
    # Counted from the corners of the kernels, of which the larger one's is further out.
    corner = field.kernel_size // 2 - truth.kernel_size // 2
    down, right = ((n if n < field.kernel_size else n - side) - corner for n in where)
    # A frame that holds any kernel at any translation.
    frame = largest // 2 + max(field.kernel_size, truth.kernel_size)
    distances = [
        (_centred(a, frame).roll((-down, -right), (-2, -1)) - _centred(b, frame))
        .abs()
        .sum((-2, -1))
        for a, b in pairs
    ]
    values = torch.cat(distances)
    return KernelDistance(
        mean=float(values.mean()),
        values=values.float().numpy().reshape(len(axes[0]), len(axes[1])),
        shift=(down, right),
    )


@dataclass(frozen=True)
class _Pairs:
    """Kernels of both fields at the same points, float64 on the CPU, some at a time."""

    field: KernelField
    truth: KernelField
    points: Tensor
    batch: int

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for part in torch.split(self.points, self.batch):
            a, b = (f.kernels_at(part).detach() for f in (self.field, self.truth))
            yield a.cpu().double(), b.cpu().double()


def _centred(kernels: Tensor, radius: int) -> Tensor:
    """Continue kernels with zeros to a side of 2·radius + 1."""
    margin = radius - kernels.shape[-1] // 2
    return pad(kernels, (margin, margin, margin, margin))
