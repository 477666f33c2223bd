"""Blind estimation of one blur kernel for each image of a batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from .evidence import SpectralEvidence
from .kernels import (
    centre,
    narrow_support,
    normal_equations,
    prune,
    resize,
    salient_edges,
    solve,
    weighted_mean,
)
from .latent import sharpen
from .spectral import gradient, laplacian_spectrum, pad_periodic

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from blurfield.compute import Reporter

#: Each scale is smaller than the next finer one by this factor.
_RATIO = math.sqrt(2)
#: Kernels of the coarsest scale are of about this many pixels.
_COARSEST = 3.0


@dataclass(frozen=True)
class Hypothesis:
    """One way to start, of which the best is kept.

    Attributes
    ----------
    extent : float
        Side of the square that the kernel may fill, as a share of the full support.
    strength : float
        λ of the L0 penalty at the coarsest scale of the full support.
    isolation : float
        How strictly isolated taps are removed, see `blurfield.estimation.kernels.prune`.
    """

    extent: float
    strength: float
    isolation: float


@dataclass(frozen=True)
class BlindSettings:
    """Constants of the estimator, for images whose white is 1.

    Attributes
    ----------
    hypotheses : tuple of Hypothesis
        Ways to start.
    iterations : int
        Alternations of latent image and kernel at each scale.
    decay : float
        The L0 strength is divided by this after each alternation …
    least_strength : float
        … down to this.
    ridge : float
        Tikhonov weight γ of the kernel step.
    threshold : float
        Taps below this share of the largest are removed.
    edges : float
        Edges used for each orientation, in units of √(pixels)·K.
    verdict : float
        Scale, relative to the image, at which the less likely hypotheses are dropped.
    survivors : int
        How many go on to the full resolution. The last of them is the mean of all.
    tolerance : float
        Weights of means fall with the `SpectralEvidence` by 1/e for each so much.
    optics : float
        Standard deviation in pixels of the blur that the lens and the sensor add. The edges of the
        latent image are perfectly sharp, so the kernel has this blur as well, unless it is taken
        into account, as it is in the last alternation. (Earlier it would amplify noise.)
    """

    hypotheses: tuple[Hypothesis, ...] = (
        Hypothesis(1.0, 8e-3, 0.05),
        Hypothesis(1.0, 6e-3, 0.1),
        Hypothesis(1.0, 6e-3, 0.2),
    )
    iterations: int = 5
    decay: float = 1.1
    least_strength: float = 1e-4
    ridge: float = 10.0
    threshold: float = 0.02
    edges: float = 0.25
    verdict: float = 0.51
    survivors: int = 2
    tolerance: float = 0.1
    optics: float = 0.5


def estimate_kernels(
    images: Tensor,
    size: int,
    settings: BlindSettings,
    reporter: Reporter,
    guesses: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Estimate the blur kernel of each image, taken to be the same all over that image.

    Alternates, from coarse to fine, between a latent image with sparse gradients and the kernel
    that turns its salient edges into those of the blurry image (Xu, Zheng, Jia 2013; Pan et al.,
    "Deblurring text images via L0-regularized intensity and gradient prior", CVPR 2014, Alg. 2;
    Cho & Lee 2009). Several starts are followed to a middle scale, and the likeliest by
    `SpectralEvidence`, and the mean of all, go on.

    Parameters
    ----------
    images : Tensor
        Grey images in linear light with white 1, (N, H, W).
    size : int
        Side K of the kernels, odd.
    settings : BlindSettings
        Constants.
    reporter : Reporter
        Is told of `work` steps, and polled between steps of some 10 ms.
    guesses : Tensor, optional
        Kernels (N, P, K, K) that compete with those found at the middle scale.

    Returns
    -------
    mean : Tensor
        Point-spread functions (convolution kernels), (N, K, K), non-negative, with sum 1 and the
        centre of mass in the middle: `weighted_mean` of the following.
    kernels : Tensor
        What each of the M survivors came to, (N, M, K, K).
    scores : Tensor
        Their `SpectralEvidence`, (N, M); less is better.
    """
    tracks = _Tracks.start(images, settings.hypotheses)
    for scale in _scales(size):
        side = _odd(size * scale)
        level = _Level(images, scale, side)
        tracks.kernels = resize(tracks.kernels, side)
        for step in range(settings.iterations):
            if scale == 1 and step == settings.iterations - 1:
                level.blur_latent(settings.optics)
            tracks.kernels = level.improve(tracks, settings, reporter.poll)
            reporter.advance(_steps(scale))
            tracks.strength = tracks.strength / settings.decay
            tracks.strength = tracks.strength.clamp_min(settings.least_strength)
        tracks.kernels = centre(tracks.kernels)
        if settings.verdict / _RATIO < scale <= settings.verdict:
            if guesses is not None:
                tracks.join(resize(guesses, side), settings.hypotheses[0])
            tracks.select(SpectralEvidence(level.images), settings)
    scores = SpectralEvidence(images)(tracks.kernels)
    return weighted_mean(tracks.kernels, scores, settings.tolerance), tracks.kernels, scores


@dataclass
class _Tracks:
    """What is followed from scale to scale, for N images and M hypotheses each."""

    kernels: Tensor
    strength: Tensor
    extent: Tensor
    isolation: Tensor

    @classmethod
    def start(cls, images: Tensor, hypotheses: tuple[Hypothesis, ...]) -> _Tracks:
        """Short horizontal blurs: from no blur at all, nothing would ever change."""
        shape = (len(images), len(hypotheses))
        kernels = images.new_zeros(*shape, 3, 3)
        kernels[..., 1, :] = images.new_tensor([0.25, 0.5, 0.25])
        strength, extent, isolation = (
            images.new_tensor([getattr(h, name) for h in hypotheses]).expand(shape)
            for name in ("strength", "extent", "isolation")
        )
        return cls(kernels, strength, extent, isolation)

    def join(self, kernels: Tensor, hypothesis: Hypothesis) -> None:
        """Follow further kernels (N, P, K, K) from here on."""
        shape = kernels.shape[:2]
        self.kernels = torch.cat([self.kernels, kernels], dim=1)
        # They are as far as the others.
        strength = self.strength[:, :1].expand(shape)
        extent = torch.full_like(strength, hypothesis.extent)
        isolation = torch.full_like(strength, hypothesis.isolation)
        self.strength = torch.cat([self.strength, strength], dim=1)
        self.extent = torch.cat([self.extent, extent], dim=1)
        self.isolation = torch.cat([self.isolation, isolation], dim=1)

    def select(self, evidence: SpectralEvidence, settings: BlindSettings) -> None:
        """Keep the likeliest of each image, and the mean of all in the place of the last one."""
        scores = evidence(self.kernels)
        mean = weighted_mean(self.kernels, scores, settings.tolerance)
        best = scores.argsort(dim=1)[:, : settings.survivors]
        self.kernels = self.kernels.take_along_dim(best[..., None, None], dim=1)
        self.kernels[:, -1] = mean
        self.strength = self.strength.take_along_dim(best, dim=1)
        self.extent = self.extent.take_along_dim(best, dim=1).clone()
        self.extent[:, -1] = 1
        self.isolation = self.isolation.take_along_dim(best, dim=1)


def work(size: int, settings: BlindSettings) -> int:
    """Steps that `estimate_kernels` reports as done, in units of about equal time."""
    return settings.iterations * sum(_steps(scale) for scale in _scales(size))


def _steps(scale: float) -> int:
    return max(1, round(20 * scale**2))


def _scales(size: int) -> list[float]:
    count = max(0, round(math.log(size / _COARSEST, _RATIO)))
    return [_RATIO**-step for step in range(count, -1, -1)]


def _odd(length: float) -> int:
    return max(3, 2 * int(length / 2) + 1)


class _Level:
    """The images at one scale, with all that stays the same there."""

    def __init__(self, images: Tensor, scale: float, side: int) -> None:
        height, width = (max(round(n * scale), side + 2) for n in images.shape[-2:])
        if (height, width) == images.shape[-2:]:
            self.images = images
        else:
            self.images = functional.interpolate(
                images[:, None], size=(height, width), mode="bilinear", antialias=True
            )[:, 0]
        self._side = side
        self._blurry = pad_periodic(self.images, side + 4)[:, None]
        shape = (int(self._blurry.shape[-2]), int(self._blurry.shape[-1]))
        self._spectrum = torch.fft.rfft2(self._blurry)
        self._laplacian = laplacian_spectrum(shape, images)
        self._optics = torch.ones_like(self._laplacian)
        self._gradient = gradient(self._blurry)
        border = side // 2
        self._inside = images.new_zeros(shape)
        self._inside[border : height - border, border : width - border] = 1
        self._edge_unit = math.sqrt(height * width) * side

    def blur_latent(self, sigma: float) -> None:
        """Let the picture behind the motion blur be a latent image blurred by a Gaussian."""
        self._optics = (-0.5 * sigma**2 * self._laplacian).exp()

    def improve(
        self,
        tracks: _Tracks,
        settings: BlindSettings,
        poll: Callable[[], None],
    ) -> Tensor:
        """One alternation: latent images from kernels (N, M, K, K), and kernels from them."""
        kernels = tracks.kernels
        latent = sharpen(
            self._blurry,
            self._spectrum,
            self._laplacian,
            self._optics,
            kernels,
            tracks.strength[..., None, None],
            poll,
        )
        edges = salient_edges(
            *gradient(latent), int(settings.edges * self._edge_unit), self._inside
        )
        poll()
        auto, cross = normal_equations(edges, self._gradient, self._optics, self._side)
        support = narrow_support(self._side, tracks.extent, kernels)
        return prune(
            solve(auto, cross, kernels, settings.ridge, support, poll),
            settings.threshold,
            tracks.isolation,
        )
