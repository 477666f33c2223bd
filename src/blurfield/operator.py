"""Blur with a kernel field, its exact adjoint, and the saturation of a sensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import _fft_tiles, _shifts
from .boundary import check_boundary

if TYPE_CHECKING:
    from collections.abc import Callable

    from .field import KernelField

__all__ = ["BlurOperator", "saturate", "saturate_derivative"]

#: Part of a kernel's mass that may be left out at any pixel, by default in single precision.
DEFAULT_PRUNE = 1e-3


class BlurOperator:
    """The linear map A from a sharp image to a blurry one, for one kernel field.

    (A u)(i) = Σ_b m_b(i) Σ_s k_b(s) u(i + s − c): correlate with each basis kernel, then mix
    (Carbajal et al. 2021, Eq. 2). The adjoint multiplies by the mixing coefficients first, then
    correlates with the rotated kernels and folds what falls beyond the edges back to where
    `forward` took it from.

    Parameters
    ----------
    field : KernelField
        Its device and precision are those of the operator.
    boundary : {"reflect", "replicate", "circular", "valid"}
        What lies beyond the edges: a mirror image without repeated edge, the edge pixel, the
        opposite side, or nothing. For "valid" the sharp image is larger than the blurry one by
        K − 1 pixels a side pair, so nothing has to be assumed.
    prune : float, optional
        Basis kernels that weigh little everywhere in a tile are skipped there, as long as at any
        pixel they make up at most this part of the kernel; the others are scaled up to make up
        for it. By default 1e-3 for float32 fields and 0 (skip only what is exactly 0) for float64
        ones and for fields that need gradients. Forward and adjoint stay an exact pair.
    poll : callable, optional
        Called without arguments between tiles. What it raises stops the computation. Kept as
        attribute of that name, for the steps between blurring.

    Raises
    ------
    ValueError
        If the boundary is unknown, or the image is smaller than the kernels.

    Notes
    -----
    Works by FFT over overlapping tiles, two real tiles in one complex transform; kernel spectra
    are computed once. Fields whose basis kernels have one tap (dense per-pixel kernels) are
    shifted and multiplied instead. Peak memory doesn't grow with B·H·W. `forward` and `adjoint`
    are differentiable in the image and in the field's basis and mixing.
    """

    def __init__(
        self,
        field: KernelField,
        *,
        boundary: str = "reflect",
        prune: float | None = None,
        poll: Callable[[], None] | None = None,
    ) -> None:
        check_boundary(boundary)
        size = field.kernel_size
        if min(field.shape) < size:
            raise ValueError(
                f"the image is {field.shape[0]}×{field.shape[1]} pixels, smaller than the "
                f"{size}×{size} kernels; use a larger image or smaller kernels"
            )
        needs_grad = field.basis.requires_grad or field.mixing.requires_grad
        if prune is None:
            exact = needs_grad or field.dtype == torch.float64
            prune = 0.0 if exact else DEFAULT_PRUNE
        if not 0 <= prune < 1:
            raise ValueError(f"prune must be in [0, 1), but is {prune}")
        self.field = field
        self.boundary = boundary
        self.poll: Callable[[], None] = poll or do_nothing
        engine = _shifts.ShiftEngine if field.is_one_tap else _fft_tiles.TileEngine
        with torch.no_grad():
            self._engine = engine(field, boundary, prune, self.poll)
        self._sums: Tensor | None = None

    @property
    def input_shape(self) -> tuple[int, int]:
        """Height and width of the sharp image."""
        margin = self.field.kernel_size - 1 if self.boundary == "valid" else 0
        return (self.field.shape[0] + margin, self.field.shape[1] + margin)

    @property
    def output_shape(self) -> tuple[int, int]:
        """Height and width of the blurry image: those of the field."""
        return self.field.shape

    def forward(self, sharp: Tensor) -> Tensor:
        """Blur an image: A u.

        Parameters
        ----------
        sharp : Tensor, shape (..., H, W)
            Of `input_shape`; leading axes (channels, frames) share the kernels.

        Returns
        -------
        Tensor, shape (..., H, W)
            Of `output_shape`, in the precision of the field.

        Raises
        ------
        ValueError
            If the image has another size.
        """
        planes = self._planes(sharp, self.input_shape)
        blurry: Tensor = _Apply.apply(  # type: ignore[no-untyped-call]
            planes, self.field.basis, self.field.mixing, self._engine
        )
        return blurry.reshape(*sharp.shape[:-2], *self.output_shape)

    def adjoint(self, blurry: Tensor) -> Tensor:
        """Apply the exact adjoint: Aᵀ v, the back-projection of a blurry image.

        Parameters
        ----------
        blurry : Tensor, shape (..., H, W)
            Of `output_shape`.

        Returns
        -------
        Tensor, shape (..., H, W)
            Of `input_shape`.
        """
        planes = self._planes(blurry, self.output_shape)
        sharp: Tensor = _Adjoint.apply(  # type: ignore[no-untyped-call]
            planes, self.field.basis, self.field.mixing, self._engine
        )
        return sharp.reshape(*blurry.shape[:-2], *self.input_shape)

    def normal(self, sharp: Tensor) -> Tensor:
        """Aᵀ A u, the operator of least-squares solvers."""
        return self.adjoint(self.forward(sharp))

    def column_sums(self) -> Tensor:
        """Aᵀ 1, shape (1, H, W) of `input_shape`: how much each sharp pixel is seen.

        Rows of A sum to 1, columns do not where kernels change or the image ends.
        """
        if self._sums is None:
            ones = torch.ones(
                1, *self.output_shape, dtype=self.field.dtype, device=self.field.device
            )
            self._sums = self.adjoint(ones)
        return self._sums

    def _planes(self, image: Tensor, shape: tuple[int, int]) -> Tensor:
        if image.ndim < 2 or tuple(image.shape[-2:]) != shape:
            raise ValueError(
                f"the image has the shape {tuple(image.shape)}, but this operator takes "
                f"(..., {shape[0]}, {shape[1]})"
            )
        if image.is_complex():
            raise TypeError(f"the image must hold real numbers, but has the dtype {image.dtype}")
        return image.to(self.field.device, self.field.dtype).reshape(-1, *shape)


class _Apply(torch.autograd.Function):
    """Differentiable forward; gradients are computed tile by tile, nothing is kept but inputs."""

    @staticmethod
    def forward(ctx: Any, sharp: Tensor, basis: Tensor, mixing: Tensor, engine: _Engine) -> Tensor:
        ctx.save_for_backward(sharp)
        ctx.engine = engine
        return engine.forward(sharp)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (sharp,) = ctx.saved_tensors
        to_sharp = ctx.engine.adjoint(grad) if ctx.needs_input_grad[0] else None
        return to_sharp, *_field_gradients(ctx, sharp, grad), None


class _Adjoint(torch.autograd.Function):
    """Differentiable adjoint: ⟨w, Aᵀ v⟩ = ⟨A w, v⟩, so both gradients are those of `_Apply`."""

    @staticmethod
    def forward(ctx: Any, blurry: Tensor, basis: Tensor, mixing: Tensor, engine: _Engine) -> Tensor:
        ctx.save_for_backward(blurry)
        ctx.engine = engine
        return engine.adjoint(blurry)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (blurry,) = ctx.saved_tensors
        to_blurry = ctx.engine.forward(grad) if ctx.needs_input_grad[0] else None
        return to_blurry, *_field_gradients(ctx, grad, blurry), None


def _field_gradients(ctx: Any, sharp: Tensor, blurry: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of ⟨A sharp, blurry⟩ for the basis and the mixing."""
    if not (ctx.needs_input_grad[1] or ctx.needs_input_grad[2]):
        return None, None
    gradients: tuple[Tensor, Tensor] = ctx.engine.field_gradients(sharp, blurry)
    return gradients


def saturate(x: Tensor, ceiling: float = 1.0) -> Tensor:
    """Smooth clipping of a sensor, R(x).

    Close to x below the ceiling and to the ceiling above it, and never below `ceiling` − 1
    (Whyte, Sivic, Zisserman 2014, Sec. 4; a = 50).

    Parameters
    ----------
    x : Tensor
        Intensities in linear light.
    ceiling : float
        The value that the sensor cannot exceed: 1 for images in [0, 1], 0.5 for images that were
        centred by −0.5.

    Returns
    -------
    Tensor
        A new tensor; `x` is not changed.
    """
    bounded = x.clamp(max=ceiling + 0.5)
    softened = bounded - torch.nn.functional.softplus(_STEEPNESS * (bounded - ceiling)) / _STEEPNESS
    return torch.relu(softened + (1 - ceiling)) - (1 - ceiling)


def saturate_derivative(x: Tensor, ceiling: float = 1.0) -> Tensor:
    """Derivative R′(x) of `saturate` for inputs above its floor: from 1 in the dark to 0."""
    return torch.sigmoid(_STEEPNESS * (ceiling - x.clamp(max=ceiling + 0.5)))


_STEEPNESS = 50.0

_Engine = _shifts.ShiftEngine | _fft_tiles.TileEngine


def do_nothing() -> None:
    """Poll nobody."""
