"""What training minimises: distances between predicted and true fields of kernels."""

from __future__ import annotations

import torch
from torch import Tensor

#: Added to probabilities before their logarithm is taken.
_TINY = 1e-8


def mix(kernels: Tensor, mixing: Tensor) -> Tensor:
    """Kernels of pixels, (N, P, K²), from a basis (N, B, K²) and coefficients (N, B, P)."""
    return mixing.transpose(1, 2) @ kernels


def cross_entropy(predicted: Tensor, target: Tensor) -> Tensor:
    """Mixture cross-entropy −Σ κ log κ̂ of kernels (…, K²), shape (…)."""
    return -(target * (predicted + _TINY).log()).sum(-1)


def absolute(predicted: Tensor, target: Tensor) -> Tensor:
    """L1 distance of kernels (…, K²), in [0, 2], shape (…)."""
    return (predicted - target).abs().sum(-1)


def dissimilarity(predicted: Tensor, target: Tensor) -> Tensor:
    """1 − cosine of kernels (…, K²), in [0, 1] for non-negative ones, shape (…)."""
    product = (predicted * target).sum(-1)
    # Sums of squares without a copy of the squares.
    norms = torch.linalg.vector_norm(predicted, dim=-1) * torch.linalg.vector_norm(target, dim=-1)
    distance: Tensor = 1 - product / norms.clamp_min(_TINY)
    return distance


def gram_distance(kernels: Tensor, mixing: Tensor, true_kernels: Tensor, true: Tensor) -> Tensor:
    """Squared L2 distance of two fields of kernels at every pixel, without making them.

    With z = [m; −g] and the Gram matrix G of all kernels of both fields, the distance
    ‖Σ_b m_b k_b − Σ_j g_j h_j‖² is zᵀGz: exact, at a cost that does not depend on the size of the
    kernels times the number of pixels (specification §3.3).

    Parameters
    ----------
    kernels, mixing : Tensor
        Basis (N, B, K²) and coefficients (N, B, P).
    true_kernels, true : Tensor
        Those of the true field, (N, J, K²) and (N, J, P).

    Returns
    -------
    Tensor
        (N, P), non-negative.
    """
    everything = torch.cat([kernels, true_kernels], 1).float()
    z = torch.cat([mixing, -true], 1).float()
    gram = everything @ everything.transpose(1, 2)
    distance: Tensor = (z * (gram @ z)).sum(1).clamp_min(0)
    return distance


def reblur_distance(
    predicted: Tensor, target: Tensor, sharp: Tensor, cells: Tensor, stride: int
) -> Tensor:
    """Squared difference that wrong kernels make to the blurry image.

    Parameters
    ----------
    predicted, target : Tensor
        Kernels (N, P, K²) of some cells.
    sharp : Tensor
        Sharp images (N, S + K − 1, S + K − 1) in linear light.
    cells : Tensor
        Flat indices (P,) of these cells among the (S / stride)² of an image.
    stride : int
        Side of a cell in pixels. The pixel after the middle of the cell is blurred.

    Returns
    -------
    Tensor
        (N, P).
    """
    size = round(predicted.shape[-1] ** 0.5)
    patches = sharp.unfold(1, size, 1).unfold(2, size, 1)
    columns = patches.shape[2] // stride
    rows = (cells // columns) * stride + stride // 2
    cols = (cells % columns) * stride + stride // 2
    seen = patches[:, rows, cols].flatten(2)
    return ((predicted - target) * seen).sum(-1).square()
