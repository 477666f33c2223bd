"""Least squares for noisy images of sensors that clip: the data term of restoration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from blurfield.operator import saturate, saturate_derivative

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from blurfield.operator import BlurOperator

    from .noise import NoiseModel

__all__ = ["DataTerm"]

#: Least standard deviation of noise, which bounds the weights: a third of a step of 8 bits at mid
#: brightness.
_LEAST_NOISE = 1e-3


class DataTerm:
    """½ Σ w_i (y_i − R((A x)_i))², where w_i is the inverse variance of the noise of a pixel.

    R is the smooth response of a sensor that saturates (Whyte, Sivic & Zisserman 2014, Sec. 4): a
    clipped pixel only tells that at least so much light fell on it, and counts as long as the
    estimate is darker than that. The term is minimised by quadratic ones, each of which has the
    same gradient at the estimate that `observe` was given: with the weights w_i R′((A x)_i).

    Parameters
    ----------
    blurry : Tensor, shape (C, H, W)
        The image y in linear light, black 0, white 1.
    operator : BlurOperator
        A, with the boundary "valid": the unknown image is larger by K − 1 pixels.
    noise : sequence of NoiseModel
        Of each channel.
    saturation : bool
        Whether the sensor saturates; if not, clipped pixels are taken at their brightness.
    exposure : float
        How dark the image is, see `blurfield.restoration.contrast.exposure_of`.
    """

    def __init__(
        self,
        blurry: Tensor,
        operator: BlurOperator,
        noise: Sequence[NoiseModel],
        saturation: bool,
        exposure: float = 1.0,
    ) -> None:
        self._blurry = blurry
        self._operator = operator
        self._noise = noise
        self._saturation = saturation
        self._least_variance = (_LEAST_NOISE * exposure) ** 2
        #: The estimate blurred, A x, as observed last.
        self.seen = blurry
        self._residual = torch.zeros_like(blurry)
        self._weights = torch.ones_like(blurry)

    def observe(self, x: Tensor) -> None:
        """Take the quadratic term of an estimate (C, H + K − 1, W + K − 1); renews `seen`."""
        self.seen = self._operator.forward(x)
        self._residual = torch.empty_like(self._blurry)
        self._weights = torch.empty_like(self._blurry)
        for channel, noise in enumerate(self._noise):
            self._operator.poll()
            model = self.seen[channel].clamp_min(0)
            if self._saturation:
                slope = saturate_derivative(model)
                self._operator.poll()
                model = saturate(model)
            torch.sub(self._blurry[channel], model, out=self._residual[channel])
            self._operator.poll()
            variance = noise.variance(model.clamp_(max=1)).add_(self._least_variance)
            weights = torch.reciprocal(variance, out=self._weights[channel])
            if self._saturation:
                weights.mul_(slope)

    def descent(self) -> Tensor:
        """Minus the gradient at the estimate observed last: Aᵀ W (y − R(A x))."""
        return self._operator.adjoint(self._residual * self._weights)

    def hessian(self, direction: Tensor) -> Tensor:
        """Aᵀ W A times a direction, (C, H + K − 1, W + K − 1)."""
        return self._operator.adjoint(self._operator.forward(direction).mul_(self._weights))

    def row_sums(self) -> Tensor:
        """Sums of the rows of AᵀWA, (C, H + K − 1, W + K − 1): those of A itself are 1."""
        return self._operator.adjoint(self._weights).clamp_(min=0)
