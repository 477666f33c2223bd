"""Blur with a kernel of its own for each pixel, without a field: for networks and their training.

The same map as a `blurfield.operator.BlurOperator` of a one-tap field, for batches of images with
their kernels as plain tensors, of any sums.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["blur_per_pixel"]


def blur_per_pixel(image: Tensor, kernels: Tensor) -> Tensor:
    """Blur images with a kernel for each pixel.

    The result at pixel i is Σ_s k_i(s) x(i + s − c), with c the middle of the kernel and the edge
    pixels repeated beyond the edges (Fang et al. 2023, reblurring).

    Parameters
    ----------
    image : Tensor, shape (N, C, H, W)
        Any number of images and channels.
    kernels : Tensor, shape (N, K², H, W)
        Correlation kernels by output pixel, K odd; channel row·K + column holds a tap. All
        channels of an image share them. Sums other than 1 are taken as they are.

    Returns
    -------
    Tensor, shape (N, C, H, W)
        In the precision of `image` and `kernels` together, at least single. Differentiable in both.

    Raises
    ------
    ValueError
        If the shapes do not fit each other, or K is not odd.

    Notes
    -----
    Goes through the taps one after the other, forward and backward, so that memory beyond the
    tensors themselves and their gradients is a small multiple of the image's.
    """
    if image.ndim != 4 or kernels.ndim != 4:
        raise ValueError(
            f"image and kernels must have the shapes (N, C, H, W) and (N, K², H, W), but have "
            f"{tuple(image.shape)} and {tuple(kernels.shape)}"
        )
    size = math.isqrt(kernels.shape[1])
    if size**2 != kernels.shape[1] or size % 2 == 0:
        raise ValueError(f"kernels must have K² channels with K odd, but have {kernels.shape[1]}")
    if len(image) != len(kernels) or image.shape[-2:] != kernels.shape[-2:]:
        raise ValueError(
            f"there must be a kernel for each pixel, but images have the shape "
            f"{tuple(image.shape)} and kernels {tuple(kernels.shape)}"
        )
    padded = functional.pad(image, (size // 2,) * 4, mode="replicate")
    # Tap after tap: other orders are slow to read.
    blurry: Tensor = _Taps.apply(padded, kernels.contiguous())  # type: ignore[no-untyped-call]
    return blurry


class _Taps(torch.autograd.Function):
    """Sum over the taps of shifted images times kernel maps; keeps nothing but its inputs."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, kernels: Tensor) -> Tensor:
        ctx.save_for_backward(padded, kernels)
        dtype = torch.promote_types(padded.dtype, kernels.dtype)
        dtype = torch.promote_types(dtype, torch.float32)  # hundreds of taps add up
        shape = (*padded.shape[:2], *kernels.shape[-2:])
        blurry = torch.zeros(shape, dtype=dtype, device=padded.device)
        for tap, window in _windows(padded, kernels):
            blurry.addcmul_(window.to(dtype), kernels[:, tap : tap + 1].to(dtype))
        return blurry

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        padded, kernels = ctx.saved_tensors
        to_padded = torch.zeros_like(padded) if ctx.needs_input_grad[0] else None
        to_kernels = torch.empty_like(kernels) if ctx.needs_input_grad[1] else None
        for tap, window in _windows(padded, kernels):
            if to_kernels is not None:
                to_kernels[:, tap] = (window * grad).sum(1)
            if to_padded is not None:
                part = (grad * kernels[:, tap : tap + 1]).to(padded.dtype)
                _window(to_padded, kernels, tap).add_(part)
        return to_padded, to_kernels


def _windows(padded: Tensor, kernels: Tensor) -> Any:
    """Each tap with the part of the padded images that it reads."""
    return ((tap, _window(padded, kernels, tap)) for tap in range(kernels.shape[1]))


def _window(padded: Tensor, kernels: Tensor, tap: int) -> Tensor:
    height, width = kernels.shape[-2:]
    y, x = divmod(tap, math.isqrt(kernels.shape[1]))
    return padded[..., y : y + height, x : x + width]
