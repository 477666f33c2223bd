"""An optimisation that a network has learnt to do in few steps: unrolled linearised ADMM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from blurfield.boundary import extend
from blurfield.operator import saturate, saturate_derivative

from .denoisers import DRUNet, denoise_any_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blurfield.operator import BlurOperator

__all__ = ["ITERATIONS", "UnrolledNetwork"]

#: Iterations, each with a call of the prior, before the last call.
ITERATIONS = 8

#: Added to each step size, so that none is 0.
_LEAST = 1e-6
#: Of the network that chooses the step sizes.
_HIDDEN = 64
#: Residual blocks at each size of the prior.
_BLOCKS = 2
#: Beyond this brightness the sensor's model doesn't change any more.
_BRIGHTEST = 1.5


class UnrolledNetwork(nn.Module):
    """NIMBUSR, the restoration network of J-MKPD.

    Carbajal, Vitoria, Lezama & Musé, "Blind motion deblurring with pixel-wise kernel estimation
    via kernel prediction networks", IEEE TCI 2023; the unrolling is that of Laroche, Almansa &
    Tassano, "Deep model-based super-resolution with non-uniform blur", WACV 2023. Names of
    parameters as in the published weights.

    Linearised ADMM for ½‖z − y‖² + prior(x) with z = A x: in each of `ITERATIONS` iterations

    - d = x − β·Aᵀ(A x − z + u), a gradient step with the exact adjoint;
    - x ← P(d, γ), a residual U-Net that is told how much to smooth;
    - z ← (y + α·(A x + u)) / (1 + α), and u ← u + A x − z;

    then one more gradient step and call of P. A small network makes all α, β and γ from the noise
    level; P is the same in all iterations.

    Parameters
    ----------
    widths : sequence of int
        Channels of P at full size and at each halving of it, as published by default.
    """

    def __init__(self, widths: Sequence[int] = (64, 128, 256, 512)) -> None:
        super().__init__()
        self.config = {"widths": list(widths)}
        self.p = DRUNet(widths=widths, blocks=_BLOCKS)
        self.h = _StepSizes()

    def forward(
        self,
        blurry: Tensor,
        operator: BlurOperator,
        sigma: float = 0.01,
        *,
        saturation: bool = False,
        prior: Callable[[Tensor, Tensor], Tensor] | None = None,
        advance: Callable[[], None] | None = None,
    ) -> Tensor:
        """Restore an image; differentiable in all parameters and in the operator's field.

        Parameters
        ----------
        blurry : Tensor, shape (3, H, W)
            Black 0, white 1.
        operator : BlurOperator
            Its blur. As published, images are on a torus: ``boundary="circular"``. With
            ``"valid"``, the unknown is larger than the image by half a kernel on each side.
        sigma : float
            Standard deviation of the noise in units of white, above 0; 0.01 where published.
        saturation : bool
            Whether the sensor clips: z is then blurred light before clipping, and its step that of
            ½‖R(z) − y‖² linearised at the z before. The same where nothing is bright.
        prior : callable, optional
            Maps an image and γ to an image in place of P, for images of other numbers of channels
            or larger than memory allows.
        advance : callable, optional
            Called after each iteration and at the end.

        Returns
        -------
        Tensor, shape (3, H', W')
            Sharp image, of ``operator.input_shape``.
        """
        prior = prior or self._prior
        alphas, betas, gammas = self.h(sigma).unbind()
        x = blurry
        if operator.boundary == "valid":
            x = extend(blurry, operator.field.kernel_size // 2, "reflect")
        z, multiplier, seen = blurry, torch.zeros_like(blurry), operator.forward(x)
        for alpha, beta, gamma in zip(alphas[:-1], betas[:-1], gammas[:-1], strict=True):
            x = prior(x - beta * operator.adjoint(seen - z + multiplier), gamma)
            seen = operator.forward(x)
            pulled = alpha * (seen + multiplier)
            if saturation:
                slope = saturate_derivative(z)
                target = slope * z.clamp(max=_BRIGHTEST) + slope * (blurry - saturate(z))
                z = (target + pulled) / (slope + alpha)
            else:
                z = (blurry + pulled) / (1 + alpha)
            multiplier = multiplier + seen - z
            if advance is not None:
                advance()
        x = prior(x - betas[-1] * operator.adjoint(seen - z + multiplier), gammas[-1])
        if advance is not None:
            advance()
        return x

    def _prior(self, image: Tensor, gamma: Tensor) -> Tensor:
        return denoise_any_size(self.p, image[None], gamma[None])[0]


class _StepSizes(nn.Module):
    """All α, β and γ for a noise level, (3, ITERATIONS + 1); the last α is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Conv2d(2, _HIDDEN, 1),
            nn.ReLU(),
            nn.Conv2d(_HIDDEN, _HIDDEN, 1),
            nn.ReLU(),
            nn.Conv2d(_HIDDEN, 3 * (ITERATIONS + 1), 1),
        )

    def forward(self, sigma: float) -> Tensor:
        # The second input is the factor of super-resolution, for which the network was invented.
        inputs = next(self.parameters()).new_tensor([sigma, 1.0]).reshape(1, 2, 1, 1)
        sizes: Tensor = functional.softplus(self.mlp(inputs)) + _LEAST
        return sizes.reshape(3, ITERATIONS + 1)
