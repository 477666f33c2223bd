"""Half-quadratic splitting: explaining an image alternates with denoising it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blurfield.images import decode, encode

from .chebyshev import solve_by_chebyshev
from .contrast import encoding_slope

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from .data_term import DataTerm
    from .denoisers import Denoiser

__all__ = ["alternate"]

#: Steps of the first part are chosen for eigenvalues from here on, see `solve_by_chebyshev`.
_LEAST_EIGENVALUE = 0.01
#: A denoiser changes no value by more than so many standard deviations. Beyond that it is no noise
#: that it takes away, but what it has never seen, such as edges of a single strong colour.
_MOST_CHANGE = 3.0


def alternate(
    data: DataTerm,
    x: Tensor,
    denoiser: Denoiser,
    sigmas: Sequence[float],
    *,
    encoding: float,
    exposure: float,
    coupling: float,
    steps: int,
    advance: Callable[[], None],
) -> tuple[Tensor, Tensor]:
    """Alternate between the data term and a denoiser, see `plug_and_play`.

    Parameters
    ----------
    data : DataTerm
        Of the blurry image.
    x : Tensor, shape (C, H + K − 1, W + K − 1)
        Image to begin with, linear light ≥ 0; not modified.
    denoiser : Denoiser
        Of encoded images.
    sigmas : sequence of float
        Standard deviations of the noise that it is told, encoded light; one for each alternation.
    encoding : float
        Exponent γ of that encoding.
    exposure : float
        See `blurfield.restoration.contrast.exposure_of`.
    coupling : float
        λ, the weight of the denoiser's result.
    steps : int
        Of Chebyshev's iteration, in each alternation.
    advance : callable
        Called without arguments twice in each alternation.

    Returns
    -------
    x, z : Tensor
        Of the shape of `x`: what explains the blurry image, and what the denoiser made of it.
    """
    z = x
    for sigma in sigmas:
        pull = encoding_slope(z, encoding, exposure).square_().mul_(coupling / sigma**2)
        x = _explain(data, x, z, pull, steps)
        advance()
        z = decode(_denoised(denoiser, encode(x, encoding), sigma), encoding)
        advance()
    return x, z


def _explain(data: DataTerm, x: Tensor, z: Tensor, pull: Tensor, steps: int) -> Tensor:
    """Minimise the data term + ½ Σ pull·(x − z)² over images ≥ 0, beginning with x."""
    data.observe(x)
    change = solve_by_chebyshev(
        lambda direction: data.hessian(direction).addcmul_(pull, direction),
        data.descent().addcmul_(pull, z - x),
        data.row_sums().add_(pull),
        least=_LEAST_EIGENVALUE,
        steps=steps,
    )
    return change.add_(x).clamp_(min=0)


def _denoised(denoiser: Denoiser, noisy: Tensor, sigma: float) -> Tensor:
    most = _MOST_CHANGE * sigma
    return denoiser(noisy, sigma).sub_(noisy).clamp_(-most, most).add_(noisy)
