"""Refinement of a kernel field by the image itself: what it blurs must look like the image."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from blurfield.compute import Reporter
from blurfield.field import KernelField
from blurfield.images import to_grey
from blurfield.kernel_prior import KernelPrior, fit_kernels
from blurfield.operator import BlurOperator
from blurfield.restoration.contrast import exposure_of
from blurfield.restoration.data_term import DataTerm
from blurfield.restoration.denoisers import Denoiser
from blurfield.restoration.half_quadratic import alternate
from blurfield.restoration.noise import estimate_noise
from blurfield.restoration.options import check_count, check_not_negative
from blurfield.restoration.richardson_lucy import first_estimate

from .kernels import resize
from .windows import CENTRE_OF_MASS, in_place

if TYPE_CHECKING:
    from torch import Tensor

    from blurfield.compute import ProgressCallback
    from blurfield.restoration.noise import NoiseModel

__all__ = ["refine_field"]

#: Noise levels that the denoiser is told for a sharp image, the last one in each round. They stay
#: high, so that textures which a wrong kernel has made up are gone from it, and edges remain.
_SIGMAS, _LAST_SIGMAS = (0.19, 0.22), (0.15, 0.15, 0.12)
#: Iterations of Richardson-Lucy before, steps of the data term, and weight of the denoiser.
_START, _INNER, _COUPLING = 10, 8, 0.35
#: The encoding in which linear data are denoised.
_ENCODING_OF_LINEAR = 2.0

#: Gradients are compared at this scale (standard deviation of a Gaussian in pixels), where there is
#: less noise.
_SCALE = 1.5
#: Share of the pixels whose gradients are not called edges.
_PLAIN = 0.9
#: Pixels among which that share is found.
_SAMPLE = 100_000
#: Light from which on noise is taken to grow with it.
_DARK = 0.02

#: Pixels between the nodes of the mixing coefficients, at most, and how many times as many nodes a
#: field may have along an axis. Those of networks have one at each pixel, which is averaged.
_STRIDE, _MOST_NODES = 16, 4
#: What is added to coefficients and taps that are 0, which would stay so for ever.
_LEAST_COEFFICIENT, _LEAST_TAP = 1e-3, 1e-5
#: Steps of Adam in each round, the decay of its averages, and the length of its steps.
_STEPS, _DECAY = 12, (0.8, 0.95)
_RATES = {"basis": 0.1, "mixing": 0.2}
#: Weights of the change of the kernels in a round, and of the variation of the mixing.
_RIDGE, _VARIATION = 0.02, 0.05
#: Draws of the noise with which the flow sees kernels.
_DRAWS = 2
#: A round was good if a new sharp image leaves residuals below this part of those before.
_BETTER = 0.98


def refine_field(
    planes: Tensor,
    field: KernelField,
    *,
    gamma: float,
    rounds: int = 3,
    prior: float = 0.0,
    progress: ProgressCallback | None = None,
) -> KernelField:
    """Refine the kernels and the mixing of a field by the image that it was estimated from.

    In each round a sharp image is restored with the field, by half-quadratic splitting with a
    strong denoiser, so that it has edges but hardly any texture or noise. Then basis and mixing,
    as soft maxima over logits, take some steps down the reblur loss (Carbajal et al. 2021,
    Eq. 5): the squared difference of the gradients of image and reblurred sharp image, where there
    are edges. Rounds end when the sharp image that belongs to the new field explains the edges no
    better than the one before; that field is then left out.

    Parameters
    ----------
    planes : Tensor, shape (C, H, W)
        Blurry image in linear light, white 1; not modified.
    field : KernelField
        For images of H×W pixels, on the same device; not modified.
    gamma : float
        Exponent of the display encoding in which images are denoised.
    rounds : int
        At most so many.
    prior : float
        Weight of the negative log-likelihood of the kernels, in nats per tap and as the flow of
        motion kernels sees them: it is added to the loss. Kernels that are larger than those of
        the flow are seen at its size, so smaller than they are. 0, the default, is without.
    progress : callable, optional
        See `blurfield.compute.Reporter`.

    Returns
    -------
    KernelField
        With as many basis kernels, and a mixing grid of at least one node in 16 pixels, and at
        most one in 4: finer ones are averaged. The metadata get ``refined``, the number of rounds
        that were good; with none, it is the field as it was.

    Raises
    ------
    ValueError
        If `rounds` is no whole number of at least 1, `prior` is negative, or the kernels have one
        tap each; if there are no weights of a flow for the prior.
    """
    rounds = check_count("rounds", rounds)
    check_not_negative("prior", prior)
    if field.is_one_tap:
        raise ValueError("a field of kernels with one tap each has no basis to be refined")
    each = _START + 2 * (len(_SIGMAS) + 1)
    reporter = Reporter(progress, (rounds + 1) * each + rounds * _STEPS, "Refining the field")
    plausible = _Plausible.load(prior, planes.device, reporter) if prior else None
    photograph = _Photograph.of(planes, gamma, reporter)
    best, good = field, -1
    edges: _Edges | None = None
    for number in range(rounds + 1):
        candidate = field
        if edges is not None:
            candidate = _improved(best, photograph.grey, edges, plausible, reporter)
        sharp = photograph.restored(candidate, _LAST_SIGMAS[min(number, len(_LAST_SIGMAS) - 1)])
        found = _Edges.of(photograph, sharp, candidate)
        if edges is not None and not found.error < _BETTER * edges.error:
            reporter.advance((rounds - number) * (each + _STEPS))
            break
        best, edges, good = candidate, found, number
    return (_centred(best) if good > 0 else best).with_metadata(refined=good)


@dataclass(frozen=True)
class _Photograph:
    """The blurry image in grey, and all that it takes to restore it."""

    grey: Tensor
    noise: NoiseModel
    exposure: float
    gamma: float
    denoiser: Denoiser
    reporter: Reporter

    @classmethod
    def of(cls, planes: Tensor, gamma: float, reporter: Reporter) -> _Photograph:
        """Prepare an image (C, H, W) in linear light."""
        grey = to_grey(planes)[None]
        denoiser = Denoiser.load(device=grey.device, poll=reporter.poll)
        return cls(
            grey,
            estimate_noise(grey),
            exposure_of(grey),
            gamma if gamma != 1 else _ENCODING_OF_LINEAR,
            denoiser,
            reporter,
        )

    @torch.no_grad()
    def restored(self, field: KernelField, sigma: float) -> Tensor:
        """Return a sharp image of edges, (1, H + K − 1, W + K − 1), linear light."""
        operator = BlurOperator(field, boundary="valid", poll=self.reporter.poll)
        x = first_estimate(
            self.grey,
            operator,
            self.noise,
            gamma=self.gamma,
            smoothing=1,
            saturation=True,
            exposure=self.exposure,
            iterations=_START,
            reporter=self.reporter,
        )
        contrast = self.exposure ** (1 / self.gamma)
        _, z = alternate(
            DataTerm(self.grey, operator, [self.noise], True, self.exposure),
            x,
            self.denoiser,
            [contrast * level for level in (*_SIGMAS, sigma)],
            encoding=self.gamma,
            exposure=self.exposure,
            coupling=_COUPLING,
            steps=_INNER,
            advance=self.reporter.advance,
        )
        return z


@dataclass(frozen=True)
class _Edges:
    """Where the gradients of the blurry image come from edges, and how well they are explained.

    Attributes
    ----------
    sharp : Tensor
        The sharp image (1, H + K − 1, W + K − 1).
    weights : Tensor
        Of each pixel (1, H − 1, W − 1).
    error : float
        Weighted squared difference of the gradients, relative to those of the blurry image.
    """

    sharp: Tensor
    weights: Tensor
    error: float

    @classmethod
    @torch.no_grad()
    def of(cls, photograph: _Photograph, sharp: Tensor, field: KernelField) -> _Edges:
        """Weigh pixels by what part of the gradients within reach of the kernels are edges."""
        blurry, poll = photograph.grey, photograph.reporter.poll
        down, across = _gradients(sharp)
        strength = down.square_().add_(across.square_())
        sample = strength.flatten()[:: max(1, strength.numel() // _SAMPLE)]
        least = torch.quantile(sample, _PLAIN)
        strong = strength.where(strength > least, 0)
        reach = field.kernel_size // 4
        poll()
        edges, total = _around(strong, reach), _around(strength, reach)
        poll()
        tiny = torch.finfo(sharp.dtype).tiny
        share = edges / total.clamp_min(tiny)
        share.mul_(edges).div_((edges + edges.mean()).clamp_min_(tiny))
        radius, (height, width) = field.kernel_size // 2, blurry.shape[-2:]
        weights = share[:, radius : radius + height - 1, radius : radius + width - 1].clone()
        weights.div_(blurry[:, 1:, 1:].clamp(_DARK * photograph.exposure, 1))
        operator = BlurOperator(field, boundary="valid", poll=poll)
        found = cls(sharp, weights, math.inf)
        return replace(found, error=float(found.loss(blurry, operator)))

    def loss(self, blurry: Tensor, operator: BlurOperator) -> Tensor:
        """Return the error of another field; differentiable."""
        residual = total = self.weights.new_zeros(())
        model = _gradients(operator.forward(self.sharp))
        for predicted, seen in zip(model, _gradients(blurry), strict=True):
            residual = residual + (self.weights * (predicted - seen).square()).sum()
            total = total + (self.weights * seen.square()).sum()
        return residual / total.clamp_min(torch.finfo(total.dtype).tiny)


@dataclass(frozen=True)
class _Plausible:
    """The flow of motion kernels, and the weight that it has."""

    flow: KernelPrior
    weight: float

    @classmethod
    def load(cls, weight: float, device: torch.device, reporter: Reporter) -> _Plausible:
        """Load the flow that is installed."""
        return cls(KernelPrior.load(device=device, poll=reporter.poll), weight)

    def loss(self, basis: Tensor) -> Tensor:
        """Mean negative log-likelihood of kernels (B, K, K) per tap of the flow; differentiable."""
        size = self.flow.size
        seen = basis if basis.shape[-1] <= size else resize(basis, size)
        likely = self.flow.log_likelihood(fit_kernels(seen, size)[0], draws=_DRAWS)
        return -self.weight * likely.mean() / size**2


@torch.enable_grad()
def _improved(
    field: KernelField,
    blurry: Tensor,
    edges: _Edges,
    plausible: _Plausible | None,
    reporter: Reporter,
) -> KernelField:
    """Let basis and mixing take some steps down the error of the reblurred edges."""
    mixing = _on_nodes(field)
    logits = {
        "basis": (field.basis + _LEAST_TAP).log(),
        "mixing": (mixing + _LEAST_COEFFICIENT).log(),
    }
    for values in logits.values():
        values.requires_grad_(True)
    steps = torch.optim.Adam(
        [{"params": [values], "lr": _RATES[name]} for name, values in logits.items()],
        betas=_DECAY,
    )

    def current() -> KernelField:
        basis = logits["basis"].flatten(1).softmax(1).reshape(field.basis.shape)
        return KernelField(basis, logits["mixing"].softmax(0), field.shape)

    for _ in range(_STEPS):
        found = current()
        operator = BlurOperator(found, boundary="valid", poll=reporter.poll)
        moved = (found.basis - field.basis).square().sum() / field.basis.square().sum()
        nodes = found.mixing.numel()
        variation = sum(found.mixing.diff(dim=axis).abs().sum() / nodes for axis in (1, 2))
        loss = edges.loss(blurry, operator) + _RIDGE * moved + _VARIATION * variation
        if plausible is not None:
            loss = loss + plausible.loss(found.basis)
        steps.zero_grad()
        loss.backward()
        steps.step()
        reporter.advance()
    with torch.no_grad():
        found = current()
    return KernelField(found.basis, found.mixing, field.shape, field.metadata, field.maps)


def _centred(field: KernelField) -> KernelField:
    """Move all kernels by the same whole pixels, to where their centre of mass is in the middle."""
    kernels = field.basis.flip(-2, -1)
    placed = in_place(kernels, field.mixing.mean((1, 2)), CENTRE_OF_MASS)
    return KernelField(placed.flip(-2, -1), field.mixing, field.shape, field.metadata, field.maps)


def _on_nodes(field: KernelField) -> Tensor:
    """The mixing at as many nodes as are refined, (B, h, w)."""
    given = tuple(field.mixing.shape[1:])
    wanted = (-(-field.shape[0] // _STRIDE), -(-field.shape[1] // _STRIDE))
    if any(n > _MOST_NODES * new for n, new in zip(given, wanted, strict=True)):
        return functional.adaptive_avg_pool2d(field.mixing[None], wanted)[0]
    cells = [max(n, new) for n, new in zip(given, wanted, strict=True)]
    return functional.interpolate(
        field.mixing[None], size=cells, mode="bilinear", align_corners=False
    )[0]


def _around(image: Tensor, reach: int) -> Tensor:
    """Mean over the square of 2·reach + 1 pixels around each one; beyond the edges are zeros."""
    for size, padding in (((2 * reach + 1, 1), (reach, 0)), ((1, 2 * reach + 1), (0, reach))):
        image = functional.avg_pool2d(image, size, stride=1, padding=padding)
    return image


def _gradients(image: Tensor) -> tuple[Tensor, Tensor]:
    """Differences along rows and columns of a smoothed image (1, H, W), each (1, H−1, W−1)."""
    reach = math.ceil(3 * _SCALE)
    offsets = torch.arange(-reach, reach + 1, dtype=image.dtype, device=image.device)
    bell = (-0.5 * (offsets / _SCALE) ** 2).exp()
    bell = bell / bell.sum()
    smooth = functional.conv2d(image[None], bell[None, None, :, None], padding=(reach, 0))
    smooth = functional.conv2d(smooth, bell[None, None, None], padding=(0, reach))[0]
    return smooth.diff(dim=-2)[..., :-1], smooth.diff(dim=-1)[..., :-1, :]
