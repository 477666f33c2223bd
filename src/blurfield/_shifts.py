"""Blur with one-tap basis kernels (dense per-pixel kernels) by shifting and multiplying."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import grid
from .boundary import extend, fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .field import KernelField

#: Numbers of the largest temporary: a band of rows has at most this many mixing coefficients.
_BAND = 2**23


class ShiftEngine:
    """Applies one one-tap field with one boundary; see `BlurOperator` for the parameters.

    A one-tap kernel's value is 1, so correlating with it is a shift. Nothing is pruned.
    """

    def __init__(
        self, field: KernelField, boundary: str, prune: float, poll: Callable[[], None]
    ) -> None:
        del prune  # all taps take part: to skip one would save no transform
        self._mixing = field.mixing.detach()
        self._poll = poll
        self._boundary = boundary
        self._size = field.kernel_size
        self._shape = field.shape
        self._radius = 0 if boundary == "valid" else field.kernel_size // 2
        margin = field.kernel_size - 1 if boundary == "valid" else 0
        self._input_shape = (field.shape[0] + margin, field.shape[1] + margin)
        positions = field.basis.detach().flatten(1).argmax(1).tolist()
        self._taps = [divmod(position, self._size) for position in positions]

    def _bands(self) -> Iterator[tuple[slice, Tensor]]:
        height, width = self._shape
        rows = max(1, min(64, _BAND // (len(self._taps) * width)))
        for start in range(0, height, rows):
            self._poll()
            band = slice(start, min(start + rows, height))
            yield band, grid.read_block(self._mixing, self._shape, band, slice(0, width))

    def _shifted(self, extended: Tensor, band: slice, tap: tuple[int, int]) -> Tensor:
        dy, dx = tap
        return extended[:, band.start + dy : band.stop + dy, dx : dx + self._shape[1]]

    def forward(self, sharp: Tensor) -> Tensor:
        """Blur planes (N, *input shape)."""
        extended = extend(sharp, self._radius, self._boundary)
        blurry = sharp.new_zeros(sharp.shape[0], *self._shape)
        for band, mixing in self._bands():
            target = blurry[:, band]
            for tap, weight in zip(self._taps, mixing, strict=True):
                target.addcmul_(self._shifted(extended, band, tap), weight)
        return blurry

    def adjoint(self, blurry: Tensor) -> Tensor:
        """Back-project planes (N, *output shape)."""
        height, width = (size + 2 * self._radius for size in self._input_shape)
        extended = blurry.new_zeros(blurry.shape[0], height, width)
        for band, mixing in self._bands():
            source = blurry[:, band]
            for tap, weight in zip(self._taps, mixing, strict=True):
                self._shifted(extended, band, tap).addcmul_(source, weight)
        return fold(extended, self._input_shape, self._radius, self._boundary).contiguous()

    def field_gradients(self, sharp: Tensor, blurry: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of ⟨A sharp, blurry⟩ for the basis (B, K, K) and the mixing (B, h, w).

        The gradient of the basis is that of the taps it has; the zeros of a one-tap kernel are
        its structure.
        """
        extended = extend(sharp, self._radius, self._boundary)
        to_mixing = torch.zeros_like(self._mixing)
        to_basis = self._mixing.new_zeros(len(self._taps), self._size, self._size)
        cells = to_mixing.shape[-2:]
        for band, mixing in self._bands():
            down, y = grid.axis_matrix(band.start, band.stop, self._shape[0], cells[0], mixing)
            across, x = grid.axis_matrix(0, self._shape[1], self._shape[1], cells[1], mixing)
            for number, (dy, dx) in enumerate(self._taps):
                product = (self._shifted(extended, band, (dy, dx)) * blurry[:, band]).sum(0)
                to_basis[number, dy, dx] += (product * mixing[number]).sum()
                if tuple(cells) == self._shape:
                    to_mixing[number, band] += product
                else:
                    to_mixing[number, y, x] += down.T @ product @ across
        return to_basis, to_mixing
