"""Least squares with a gradient prior: a sharper image within seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from blurfield.boundary import extend
from blurfield.compute import Reporter
from blurfield.operator import BlurOperator

from .chebyshev import solve_by_chebyshev
from .contrast import MID_LEVEL, encoding_slope, exposure_of
from .data_term import DataTerm
from .noise import mean_noise, resolve_noise
from .options import check_count, check_positive
from .trust import UNFINISHED, give_back

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from blurfield.compute import ProgressCallback
    from blurfield.field import KernelField

    from .noise import NoiseOption

__all__ = ["tikhonov"]

#: Standard deviation of the differences of neighbours in encoded light that is assumed where an
#: image is flat. Where the blurry image has edges, their differences are added.
_FLAT = 0.08
#: How much larger differences of the sharp image are than those of the blurry one.
_SHARPER = 2.0

#: Steps are chosen for eigenvalues from here on, see `solve_by_chebyshev`.
_LEAST_EIGENVALUE = 0.02


@torch.no_grad()
def tikhonov(
    blurry: Tensor,
    field: KernelField,
    *,
    gamma: float = 1.0,
    smoothing: float = 1.0,
    iterations: int = 10,
    noise: NoiseOption = "auto",
    saturation: bool = True,
    noisy: Tensor | None = None,
    progress: ProgressCallback | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Deblur by linear least squares with squared gradients (Tikhonov 1963).

    Minimises Σ w (y − A x)² + λ Σ ‖e′ ∇x‖² / τ² by Chebyshev's iteration. The weights
    w are inverse variances of the noise, and clipped pixels are taken as such, see `DataTerm`; so
    the balance of both terms follows from the noise. Gradients count in encoded light, of which e′
    is the slope, and less where the blurry image has edges: τ grows with its own gradients. The
    unknown image is larger than the blurry one by half a kernel on each side.

    Where residuals far greater than noise remain, the field cannot be right, and the blurry image
    is given back; estimated fields are trusted by degrees, see `blurfield.restoration.trust`.

    Parameters
    ----------
    blurry : Tensor, shape (C, H, W)
        Blurry image in linear light, black 0, white 1; not modified.
    field : KernelField
        For images of H×W pixels.
    gamma : float
        Exponent of the display encoding in which contrast counts.
    smoothing : float
        λ, a factor to the automatic amount of smoothing, above 0.
    iterations : int
        Steps, at least 1. Each applies the operator and its adjoint once.
    noise : "auto", "per-channel", pair of float or sequence of pairs
        See `blurfield.restoration.noise.resolve_noise`.
    saturation : bool
        Whether clipped pixels are treated as such, or are taken at their brightness.
    noisy : Tensor, shape (C, h, w), optional
        Planes that tell how dark the image is, by default the blurry image.
    progress : callable, optional
        See `blurfield.compute.Reporter`.

    Returns
    -------
    sharp : Tensor, shape (C, H, W)
        In linear light, ≥ 0.
    info : dict
        ``iterations`` run, ``converged`` (never: their number is fixed), ``noise`` (standard
        deviation at mid brightness, linear light) and ``unexplained`` (part of the image given
        back as it was, because the field cannot explain it).

    Raises
    ------
    ValueError
        If an option is out of range or the image is smaller than the kernels.
    """
    check_positive("smoothing", smoothing)
    iterations = check_count("iterations", iterations)
    reporter = Reporter(progress, iterations + 1, "Preview")
    models = resolve_noise(noise, blurry)
    field = field.to(blurry.device, blurry.dtype)
    operator = BlurOperator(field, boundary="valid", poll=reporter.poll)
    reporter.poll()
    exposure = exposure_of(blurry if noisy is None else noisy)
    data = DataTerm(blurry, operator, models, saturation, exposure)
    radius, (height, width) = field.kernel_size // 2, field.shape
    x = extend(blurry, radius, "reflect").clamp_(min=0)
    reporter.poll()
    prior = _GradientPrior(x, gamma, smoothing, exposure, reporter.poll)
    # Which clipped pixels count is decided anew half way.
    for steps in (iterations - iterations // 2, iterations // 2):
        if steps:
            data.observe(x)
            change = solve_by_chebyshev(
                lambda direction: data.hessian(direction).add_(prior.hessian(direction)),
                data.descent().sub_(prior.hessian(x)),
                data.row_sums().add_(prior.diagonal(), alpha=2),
                least=_LEAST_EIGENVALUE,
                steps=steps,
                poll=reporter.advance,
            )
            x = change.add_(x).clamp_(min=0)
    data.observe(x)
    reporter.advance()
    overall = mean_noise(models)
    sharp, unexplained = give_back(
        x[:, radius : radius + height, radius : radius + width],
        blurry,
        data.seen,
        overall,
        field,
        UNFINISHED,
        smoothing=smoothing,
        exposure=exposure,
        poll=reporter.poll,
    )
    return sharp, {
        "iterations": iterations,
        "converged": False,
        "noise": overall.std(MID_LEVEL),
        "unexplained": unexplained,
    }


class _GradientPrior:
    """½ Σ down·(∂x/∂row)² + across·(∂x/∂column)², with weights as an image suggests them."""

    def __init__(
        self,
        image: Tensor,
        gamma: float,
        strength: float,
        exposure: float,
        poll: Callable[[], None],
    ) -> None:
        self._poll = poll
        slope = encoding_slope(image.mean(0, keepdim=True), gamma, exposure)
        poll()
        self._flat = _FLAT * exposure ** (1 / gamma)
        self._down = self._weights(image, slope, strength, -2)
        self._across = self._weights(image, slope, strength, -1)

    def _weights(self, image: Tensor, slope: Tensor, strength: float, axis: int) -> Tensor:
        """slope²/τ² between neighbours along an axis."""
        length = slope.shape[axis]
        slope = (slope.narrow(axis, 1, length - 1) + slope.narrow(axis, 0, length - 1)).div_(2)
        self._poll()
        edges = image.diff(dim=axis).square_().mean(0, keepdim=True).mul_(slope.square())
        return slope.square_().mul_(strength).div_(edges.mul_(_SHARPER**2).add_(self._flat**2))

    def hessian(self, x: Tensor) -> Tensor:
        """The prior's Hessian times an image (C, H, W)."""
        self._poll()
        out = torch.zeros_like(x)
        down = x.diff(dim=-2).mul_(self._down)
        out[..., :-1, :] -= down
        out[..., 1:, :] += down
        self._poll()
        across = x.diff(dim=-1).mul_(self._across)
        out[..., :-1] -= across
        out[..., 1:] += across
        return out

    def diagonal(self) -> Tensor:
        """Its diagonal, (1, H, W)."""
        rows, cols = self._across.shape[-2], self._down.shape[-1]
        out = self._down.new_zeros(1, rows, cols)
        out[..., :-1, :] += self._down
        out[..., 1:, :] += self._down
        out[..., :-1] += self._across
        out[..., 1:] += self._across
        return out
