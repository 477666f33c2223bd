"""How sparse the gradients of images are: few and strong ones, or many and weak ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["gradient_spread"]


def gradient_spread(images: Tensor, weights: Tensor) -> Tensor:
    """Logarithm of mean magnitude over root mean square of the gradients of images.

    A normalised measure of sparsity (Krishnan, Tay, Fergus 2011): less is sparser. Other than the
    mean magnitude alone, it doesn't prefer blurry images; waves beside edges raise it.

    Parameters
    ----------
    images : Tensor, shape (..., H, W)
        Grey images.
    weights : Tensor, shape (H, W)
        How much each pixel counts.

    Returns
    -------
    Tensor, shape (...)
        At most 0; the mean of the differences down and across.
    """
    total = images.new_zeros(images.shape[:-2])
    for axis in (-2, -1):
        step = images.diff(dim=axis)
        part = weights.narrow(axis, 0, step.shape[axis])
        mean = (step.abs() * part).sum((-2, -1))
        square = (step.square() * part).sum((-2, -1))
        total += (mean.square() / (square * part.sum()).clamp_min(1e-30)).clamp_min(1e-30).log()
    return total / 4
