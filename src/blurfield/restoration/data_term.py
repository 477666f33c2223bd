"""Least squares for noisy images of sensors that clip: the data term of restoration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from blurfield.boundary import extend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from blurfield.operator import BlurOperator

    from .noise import NoiseModel

__all__ = ["CLIPPED", "DataTerm"]

#: Pixels from this brightness on may be clipped: those of an 8-bit photograph above 252.
CLIPPED = 0.98

#: Least standard deviation of noise, which bounds the weights: a third of a step of 8 bits at mid
#: brightness.
_LEAST_NOISE = 1e-3


class DataTerm:
    """½ Σ w_i (y_i − (A x)_i)², where w_i is the inverse variance of the noise of a pixel.

    A clipped pixel only tells that at least so much light fell on it. It counts as long as the
    estimate is darker than that, and has no weight otherwise: the one-sided likelihood of a
    censored observation (Tobin 1958), by an active set that `observe` renews.

    Parameters
    ----------
    blurry : Tensor, shape (C, H, W)
        The image y in linear light, black 0, white 1.
    operator : BlurOperator
        A, with the boundary "valid": the unknown image is larger by K − 1 pixels.
    noise : sequence of NoiseModel
        Of each channel.
    saturation : bool
        Whether clipped pixels are treated as such, or are taken at their brightness.
    """

    def __init__(
        self,
        blurry: Tensor,
        operator: BlurOperator,
        noise: Sequence[NoiseModel],
        saturation: bool,
    ) -> None:
        self._blurry = blurry
        self._operator = operator
        self._noise = noise
        self._clipped = blurry >= CLIPPED if saturation else None
        # Of a pixel that is seen by one kernel only, AᵀA has the kernel's energy on the diagonal.
        self._energy = float(operator.field.mean_kernel().square().sum())
        #: The estimate blurred, A x, as observed last.
        self.seen = blurry
        self._weights = torch.ones_like(blurry)

    @property
    def clips(self) -> bool:
        """Whether there are clipped pixels that are treated as such."""
        return self._clipped is not None and bool(self._clipped.any())

    def observe(self, x: Tensor, *, first: bool = False) -> None:
        """Weigh pixels as an estimate (C, H + K − 1, W + K − 1) has it; renews `seen`.

        If it is the first one, made of the blurry image, it has no light beyond white, so that all
        clipped pixels are left out.
        """
        self.seen = self._operator.forward(x)
        self._weights = self._inverse_variance(self.seen.clamp(0, 1))
        if self._clipped is not None:
            explained = self._clipped if first else self._clipped & (self.seen >= self._blurry)
            self._weights.masked_fill_(explained, 0)

    def descent(self) -> Tensor:
        """Minus the gradient at the estimate observed last: Aᵀ W (y − A x)."""
        return self._operator.adjoint((self._blurry - self.seen).mul_(self._weights))

    def hessian(self, direction: Tensor) -> Tensor:
        """Aᵀ W A times a direction, (C, H + K − 1, W + K − 1)."""
        return self._operator.adjoint(self._operator.forward(direction).mul_(self._weights))

    def diagonal(self) -> Tensor:
        """About the diagonal of the Hessian, (C, H + K − 1, W + K − 1)."""
        radius = self._operator.field.kernel_size // 2
        weights = extend(self._weights, radius, "replicate")
        return weights.mul_(self._operator.column_sums().clamp(min=0)).mul_(self._energy)

    def _inverse_variance(self, light: Tensor) -> Tensor:
        variances = [
            model.variance(plane).add_(_LEAST_NOISE**2)
            for plane, model in zip(light, self._noise, strict=True)
        ]
        return torch.stack(variances).reciprocal_()
