"""What there is to know about training the network that finds sharp edges."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from blurfield.comparison import kernel_similarity
from blurfield.estimation.blind import BlindSettings, odd, scales, start_kernels
from blurfield.estimation.kernels import (
    centre,
    narrow_support,
    normal_equations,
    prune,
    resize,
    salient_edges,
    solve,
)
from blurfield.estimation.learned_gradients import (
    ARCHITECTURE,
    GROWTH,
    GradientNetwork,
    clues,
    edges_from,
    is_coarse,
)
from blurfield.estimation.level import Level
from blurfield.estimation.spectral import gradient, moved, pad_periodic

from .images import GAMMA
from .kernel_step import kernel_losses, offsets
from .window_samples import WindowMaker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .source import Source
    from .window_samples import WindowBatch

#: Side K of the kernels in pixels, unless another one is wanted.
KERNEL_SIZE = 33
#: Alternations at each scale in training; the estimator makes more, each of which changes less.
_ITERATIONS = 4
#: Weight of the error of the edges, relative to their sum.
_EDGES = 0.3
#: Sharp windows have gradients of at least about this, relative to white.
_TEXTURELESS = 0.005
#: The loss of a batch changes by at most about so much if all edges change by their unit.
_MOST_CHANGE = 0.03
#: Windows of the validation, how many of them at a time, and the start of random numbers.
_HELD, _HELD_BATCH, _HELD_SEED = 16, 4, 20161107


class GradientsTask:
    """Data, network, loss and validation of the network that finds sharp edges.

    Each sample is a window in which the estimator is followed from the coarsest scale up, with the
    network as it is: so it learns from its own kernels, right and wrong ones. The loss is that of
    the kernels, 1 − similarity, through the least squares that give them.

    Parameters
    ----------
    source : Source
        The samples.
    size : int
        Side K of the kernels in pixels, odd.
    config : mapping, optional
        Parameters of `GradientNetwork`.

    Raises
    ------
    ValueError
        If the samples are smaller than twice the kernels, these are so small that no scale is
        coarse, or there are no images.
    """

    architecture = ARCHITECTURE
    #: The network sees linear light.
    gamma = GAMMA

    def __init__(
        self,
        source: Source,
        *,
        size: int = KERNEL_SIZE,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        if source.side < 2 * size:
            raise ValueError(
                f"samples of {source.side} pixels are too small for kernels of {size}: they need "
                f"at least {2 * size}"
            )
        self.config = GradientNetwork(**(config or {})).config
        self._size, self._device = size, source.device
        self._settings = BlindSettings()
        if not self._coarse:
            raise ValueError(f"kernels of {size} pixels are too small to need the network")
        wide = source.side + size - 1
        self._train = WindowMaker(
            source.bank("train", wide), size=size, side=source.side, batch=source.batch
        )
        held = WindowMaker(
            source.bank("val", wide, (1.0,)), size=size, side=source.side, batch=_HELD_BATCH
        )
        generator = torch.Generator(self._device).manual_seed(_HELD_SEED)
        self._held = [held.make(generator) for _ in range(_HELD // _HELD_BATCH)]

    def network(self) -> nn.Module:
        """A new network, which lets the salient edges through, and little else."""
        return GradientNetwork(**self.config)

    def make(self, generator: torch.Generator, number: int) -> WindowBatch:
        """Make the batch of a step."""
        del number
        return self._train.make(generator)

    def losses(
        self, network: nn.Module, batch: WindowBatch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Errors of kernels and edges, means over scales, and the similarity at the last scale."""
        path = _Path(batch, self._size, self._settings, generator)
        terms = path.follow(network, self._coarse, graded=True)
        kernels, edges = torch.stack(terms).mean(0)
        return {
            "loss": kernels + _EDGES * edges,
            "kernels": kernels,
            "edges": edges,
            "similarity": path.similarity().mean(),
        }

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Mean similarity in held-out windows, with the network and with L0 edges."""
        return {"similarity": self._validated(network), "similarity_l0": self._plain}

    @property
    def _ladder(self) -> list[float]:
        return scales(self._size)

    @property
    def _coarse(self) -> list[float]:
        return [scale for scale in self._ladder if is_coarse(scale, odd(self._size * scale))]

    @cached_property
    def _plain(self) -> float:
        return self._validated(None)

    def _validated(self, network: nn.Module | None) -> float:
        found = []
        for number, batch in enumerate(self._held):
            generator = torch.Generator(self._device).manual_seed(_HELD_SEED + number)
            path = _Path(batch, self._size, self._settings, generator)
            path.follow(network, self._ladder, graded=False)
            found.append(path.similarity())
        return float(torch.cat(found).mean())


class _Path:
    """The kernels of a batch of windows, from scale to scale; one start for each."""

    def __init__(
        self,
        batch: WindowBatch,
        size: int,
        settings: BlindSettings,
        generator: torch.Generator,
    ) -> None:
        self._batch, self._size, self._settings = batch, size, settings
        self._generator = generator
        starts = settings.hypotheses
        which = (self.draw((len(batch), 1)) * len(starts)).long().clamp_max(len(starts) - 1)
        self._strength, self._isolation, self._extent = (
            batch.images.new_tensor([getattr(start, name) for start in starts])[which]
            for name in ("strength", "isolation", "extent")
        )
        self.kernels = start_kernels((len(batch), 1), batch.images)

    def draw(self, shape: tuple[int, ...]) -> Tensor:
        """Random numbers in [0, 1)."""
        device = self._batch.images.device
        return torch.rand(shape, generator=self._generator, device=device)

    def similarity(self) -> Tensor:
        """Of the kernels to the true ones of their windows, the better one counting, (N,)."""
        truth = resize(self._batch.kernels, self.kernels.shape[-1])
        return kernel_similarity(self.kernels, truth).amax(1)

    def follow(
        self, network: nn.Module | None, ladder: list[float], *, graded: bool
    ) -> list[Tensor]:
        """Go through scales, and return the loss at each if `graded`; None stands for L0 edges."""
        iterations = _ITERATIONS if graded else self._settings.iterations
        # As much in all as in the estimator.
        decay = self._settings.decay ** (self._settings.iterations / iterations)
        terms = []
        for scale in ladder:
            level = Level(self._batch.images, scale, odd(self._size * scale))
            self.kernels = resize(self.kernels, level.side)
            truth = resize(self._batch.kernels, level.side)
            used = network if is_coarse(scale, level.side) else None
            losses = []
            for step in range(iterations):
                if scale == 1 and step == iterations - 1:
                    level.blur_latent(self._settings.optics)
                before = self.kernels
                solved, edges, auto, cross = self._solve(used, level, graded)
                self.kernels = prune(solved, self._settings.threshold, self._isolation)
                if graded:
                    kept = self.kernels > 0
                    ridge = self._settings.ridge
                    error = kernel_losses(solved, kept, truth, auto, cross, ridge).mean()
                    shifted = self._errors(edges, level, offsets(before, truth)).mean()
                    losses.append(torch.stack([error, shifted]))
                self._strength = self._strength / decay
                self._strength = self._strength.clamp_min(self._settings.least_strength)
            if losses:
                terms.append(torch.stack(losses).mean(0))
            self.kernels = centre(self.kernels)
        return terms

    def _errors(self, edges: tuple[Tensor, Tensor], level: Level, shift: Tensor) -> Tensor:
        """Relative errors of edges (N, 1, P, Q), moved to where the kernels put the sharp image."""
        sharp = pad_periodic(level.resized(self._batch.sharp), level.side + 4)[:, None]
        true = gradient(moved(sharp, shift))
        total = _TEXTURELESS * level.inside.sum()
        error = torch.zeros(())
        for found, wanted in zip(edges, true, strict=True):
            # The kernels explain a sharp image behind the optics.
            seen = torch.fft.irfft2(torch.fft.rfft2(found) * level.optics, s=found.shape[-2:])
            error = error + ((seen - wanted).abs() * level.inside).sum((-2, -1))
            total = total + (wanted.abs() * level.inside).sum((-2, -1))
        return error / total

    def _solve(
        self, network: nn.Module | None, level: Level, graded: bool
    ) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor, Tensor]:
        """Kernels, not normalised; edges and normal equations, with gradients if `graded`."""
        count = level.edge_count(self._settings.edges)
        if network is None:
            latent = level.sharpen(self.kernels, self._strength, _go_on)
            edges = salient_edges(*gradient(latent), count, level.inside)
        else:
            latent = level.sharpen(self.kernels, self._strength, _go_on, GROWTH)
            seen, rough, unit = clues(level, self.kernels, latent, count)
            with torch.set_grad_enabled(graded):
                sharp = edges_from(network, seen, rough, unit) * level.inside
                if graded:
                    sharp.register_hook(lambda slope: _limited(slope, unit[..., None]))
                edges = sharp[:, :, 0], sharp[:, :, 1]
        with torch.set_grad_enabled(graded):
            auto, cross = normal_equations(edges, level.slopes, level.optics, level.side)
        support = narrow_support(level.side, self._extent, self.kernels)
        with torch.no_grad():
            ridge = self._settings.ridge
            solved = solve(auto, cross, self.kernels, ridge, support, _go_on)
        return solved, edges, auto, cross


def _limited(slope: Tensor, unit: Tensor) -> Tensor:
    """Derivatives with respect to edges (N, M, 2, P, Q), with outliers made smaller.

    Windows without edges have kernels that anything would change.
    """
    pixels = slope.shape[-1] * slope.shape[-2]
    change = slope.square().mean((-3, -2, -1), keepdim=True).sqrt() * unit * pixels
    return slope / (change / _MOST_CHANGE).clamp_min(1)


def _go_on() -> None:
    """Nobody can stop a step of the training."""
