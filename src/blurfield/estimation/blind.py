"""Blind estimation of one blur kernel for each image of a batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from .evidence import Evidence
from .kernels import (
    centre,
    prune,
    resize,
    salient_edges,
    weighted_mean,
)
from .learned_gradients import is_coarse
from .level import Level
from .spectral import gradient

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from blurfield.compute import Reporter

    from .learned_gradients import LearnedGradients

#: Each scale is smaller than the next finer one by this factor.
RATIO = math.sqrt(2)
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
    learned : tuple of Hypothesis
        Further ways, if there is a network: at coarse scales it finds the sharp edges for these.
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
        Weights of means fall with the `Evidence` by 1/e for each so much.
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
    learned: tuple[Hypothesis, ...] = (
        Hypothesis(1.0, 6e-3, 0.05),
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
    learned: LearnedGradients | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Estimate the blur kernel of each image, taken to be the same all over that image.

    Alternates, from coarse to fine, between a latent image with sparse gradients and the kernel
    that turns its salient edges into those of the blurry image (Xu, Zheng, Jia 2013; Pan et al.,
    "Deblurring text images via L0-regularized intensity and gradient prior", CVPR 2014, Alg. 2;
    Cho & Lee 2009). Several starts are followed to a middle scale, and the likeliest by
    `Evidence`, and the mean of all, go on.

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
    learned : LearnedGradients, optional
        A network that finds sharp edges. What it leads to competes with what the L0 latent image
        leads to.

    Returns
    -------
    mean : Tensor
        Point-spread functions (convolution kernels), (N, K, K), non-negative, with sum 1 and the
        centre of mass in the middle: `weighted_mean` of the following.
    kernels : Tensor
        What each of the M survivors came to, (N, M, K, K).
    scores : Tensor
        Their `Evidence`, (N, M); less is better.
    """
    tracks = _Tracks.start(images, settings.hypotheses)
    if learned is not None:
        tracks.begin(settings.learned)
    for scale in scales(size):
        side = odd(size * scale)
        level = Level(images, scale, side)
        tracks.kernels = resize(tracks.kernels, side)
        for step in range(settings.iterations):
            if scale == 1 and step == settings.iterations - 1:
                level.blur_latent(settings.optics)
            tracks.kernels = _improve(level, tracks, settings, learned, reporter.poll)
            reporter.advance(scale_steps(scale))
            tracks.strength = tracks.strength / settings.decay
            tracks.strength = tracks.strength.clamp_min(settings.least_strength)
        tracks.kernels = centre(tracks.kernels)
        if settings.verdict / RATIO < scale <= settings.verdict:
            if guesses is not None:
                tracks.join(resize(guesses, side), settings.hypotheses[0])
            tracks.select(Evidence(level.images, reporter.poll), settings)
    scores = Evidence(images, reporter.poll)(tracks.kernels)
    return weighted_mean(tracks.kernels, scores, settings.tolerance), tracks.kernels, scores


@dataclass
class _Tracks:
    """What is followed from scale to scale, for N images and M hypotheses each."""

    kernels: Tensor
    strength: Tensor
    extent: Tensor
    isolation: Tensor
    #: How many of the last ones the network looks after at coarse scales.
    learned: int = 0

    @classmethod
    def start(cls, images: Tensor, hypotheses: tuple[Hypothesis, ...]) -> _Tracks:
        """Start with the hypotheses, and short horizontal blurs."""
        shape = (len(images), len(hypotheses))
        kernels = start_kernels(shape, images)
        strength, extent, isolation = (
            images.new_tensor([getattr(h, name) for h in hypotheses]).expand(shape)
            for name in ("strength", "extent", "isolation")
        )
        return cls(kernels, strength, extent, isolation)

    def begin(self, hypotheses: tuple[Hypothesis, ...]) -> None:
        """Follow further hypotheses, with a network."""
        others = _Tracks.start(self.kernels[:, 0], hypotheses)
        for name in ("kernels", "strength", "extent", "isolation"):
            both = torch.cat([getattr(self, name), getattr(others, name)], dim=1)
            setattr(self, name, both)
        self.learned = len(hypotheses)

    def join(self, kernels: Tensor, hypothesis: Hypothesis) -> None:
        """Follow further kernels (N, P, K, K) from here on."""
        shape = kernels.shape[:2]
        self.kernels = torch.cat([self.kernels, kernels], dim=1)
        self.learned = 0  # the finer scales go without the network
        # They are as far as the others.
        strength = self.strength[:, :1].expand(shape)
        extent = torch.full_like(strength, hypothesis.extent)
        isolation = torch.full_like(strength, hypothesis.isolation)
        self.strength = torch.cat([self.strength, strength], dim=1)
        self.extent = torch.cat([self.extent, extent], dim=1)
        self.isolation = torch.cat([self.isolation, isolation], dim=1)

    def select(self, evidence: Evidence, settings: BlindSettings) -> None:
        """Keep the likeliest of each image, and the mean of all in the place of the last one."""
        self.learned = 0
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
    return settings.iterations * sum(scale_steps(scale) for scale in scales(size))


def scale_steps(scale: float) -> int:
    """Steps that are reported for one alternation at a scale."""
    return max(1, round(20 * scale**2))


def start_kernels(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Short horizontal blurs (*shape, 3, 3): from no blur at all, nothing would ever change."""
    kernels = like.new_zeros(*shape, 3, 3)
    kernels[..., 1, :] = like.new_tensor([0.25, 0.5, 0.25])
    return kernels


def scales(size: int) -> list[float]:
    """Scales at which kernels of K = `size` pixels are estimated, from coarse to fine."""
    count = max(0, round(math.log(size / _COARSEST, RATIO)))
    return [RATIO**-step for step in range(count, -1, -1)]


def odd(length: float) -> int:
    """Side of kernels, at least 3, for a length in pixels."""
    return max(3, 2 * int(length / 2) + 1)


def _improve(
    level: Level,
    tracks: _Tracks,
    settings: BlindSettings,
    learned: LearnedGradients | None,
    poll: Callable[[], None],
) -> Tensor:
    """One alternation: sharp edges from kernels (N, M, K, K), and kernels from them."""
    kernels, strength = tracks.kernels, tracks.strength
    count = level.edge_count(settings.edges)
    coarse = learned is not None and is_coarse(level.scale, level.side)
    plain = slice(kernels.shape[1] - (tracks.learned if coarse else 0))
    latent = level.sharpen(kernels[:, plain], strength[:, plain], poll)
    edges = salient_edges(*gradient(latent), count, level.inside)
    if learned is not None and coarse and tracks.learned:
        rest = slice(plain.stop, None)
        more = learned(level, kernels[:, rest], strength[:, rest], count, poll)
        edges = torch.cat([edges[0], more[0]], 1), torch.cat([edges[1], more[1]], 1)
    poll()
    found = level.kernels(edges, kernels, tracks.extent, settings.ridge, poll)
    return prune(found, settings.threshold, tracks.isolation)
