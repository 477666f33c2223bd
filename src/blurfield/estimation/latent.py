"""The latent image: an intermediate picture that has few, but strong edges."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from .spectral import divergence_adjoint, gradient, transfer_function

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

#: The coupling starts at this multiple of λ, and the splitting counts as solved when it has reached
#: this.
_FIRST_COUPLING, _LAST_COUPLING = 2.0, 1e5


def sharpen(
    blurry: Tensor,
    spectrum: Tensor,
    laplacian: Tensor,
    optics: Tensor,
    kernels: Tensor,
    strength: Tensor,
    poll: Callable[[], None],
    growth: float = 2.0,
) -> Tensor:
    """Minimise ‖k ∗ u − v‖² + λ‖∇u‖₀ over u by half-quadratic splitting.

    The number of pixels where the gradient is not 0 is penalised (Xu, Zheng, Jia, "Unnatural L0
    sparse representation for natural image deblurring", CVPR 2013; Xu et al., "Image smoothing
    via L0 gradient minimization", 2011, Sec. 3): an auxiliary gradient field is thresholded at
    √(λ/β), the image is solved for in the Fourier domain, and the coupling β grows.

    Parameters
    ----------
    blurry : Tensor
        Periodic blurry images v, (..., H, W).
    spectrum : Tensor
        Their half spectra.
    laplacian : Tensor
        `blurfield.estimation.spectral.laplacian_spectrum` of their shape.
    optics : Tensor
        Half spectrum of a further blur, that of the optics.
    kernels : Tensor
        Point-spread functions k (convolution kernels), (..., K, K).
    strength : Tensor
        λ, broadcast against the images.
    poll : callable
        Called between steps; may raise to stop.
    growth : float
        Factor by which the coupling grows in each step, above 1. Large ones are fast, but cost
        accuracy of the kernels.
    """
    shape = (int(blurry.shape[-2]), int(blurry.shape[-1]))
    transfer = transfer_function(kernels, shape) * optics
    # Arithmetic on interleaved real and imaginary parts, in place: this loop is bound by memory.
    matched = torch.view_as_real(transfer.conj() * spectrum)
    power = _interleaved(transfer.real.square() + transfer.imag.square())
    penalty = _interleaved(laplacian)
    coupling = _FIRST_COUPLING * strength
    steps = math.ceil(math.log(_LAST_COUPLING / float(coupling.min()), growth))
    latent = blurry.expand(*kernels.shape[:-2], *shape)
    for _ in range(steps):
        poll()
        source = _strong_divergence(latent, strength / coupling)
        solution = torch.view_as_real(torch.fft.rfft2(source))
        solution.mul_(coupling[..., None]).add_(matched)
        solution.div_(torch.addcmul(power, penalty, coupling[..., None]))
        latent = torch.fft.irfft2(torch.view_as_complex(solution), s=shape)
        coupling = growth * coupling
    return latent


def _interleaved(values: Tensor) -> Tensor:
    """Each value twice, as real and imaginary parts lie in memory."""
    return values.unsqueeze(-1).expand(*values.shape, 2).contiguous()


def _strong_divergence(latent: Tensor, threshold: Tensor) -> Tensor:
    """Divergence (its adjoint's sign) of the gradients whose square is above a threshold."""
    along_x, along_y = gradient(latent)
    # 1 where the gradient is strong, else 0.
    strong = along_x.square().addcmul_(along_y, along_y).gt_(threshold)
    return divergence_adjoint(along_x.mul_(strong), along_y.mul_(strong))
