"""What there is to know about training the compact estimation network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from blurfield.comparison import kernel_similarity
from blurfield.estimation.compact_network import (
    KERNEL_SIZE,
    TOKEN_STRIDE,
    CompactNetwork,
    Prediction,
)
from blurfield.no_blur import no_blur

from .images import GAMMA
from .losses import absolute, cross_entropy, dissimilarity, gram_distance, mix, reblur_distance
from .samples import STRIDE, Batch, Capture, SampleMaker, sample_maker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .source import Source

#: Samples that validation looks at, and cells of each.
_VALIDATION_SAMPLES, _VALIDATION_CELLS = 96, 16
#: Kernels and camera fields of the validation, and the start of their random numbers.
_VALIDATION_KERNELS, _VALIDATION_SEED = 512, 20210201


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms of the loss.

    Attributes
    ----------
    entropy, absolute, cosine : float
        Cross-entropy, L1 distance and dissimilarity of the kernels of some cells.
    squared : float
        Squared L2 distance of the kernels of all cells, relative to the true kernels' own.
    reblur : float
        Error of the blurry image with the predicted kernels.
    segment_power : float
        A segment of area A counts by A to the power of 1 minus this.
    """

    entropy: float = 0.3
    absolute: float = 1.0
    cosine: float = 2.0
    squared: float = 0.0
    reblur: float = 0.0
    segment_power: float = 0.5


class EstimatorTask:
    """Data, network, loss and validation of the estimator.

    Parameters
    ----------
    source : Source
        The samples; their side is a multiple of 32.
    config : mapping, optional
        Parameters of `CompactNetwork`.
    kernels, cameras : int, optional
        Sizes of the banks of kernels and camera fields; by default 20,000 and 2,000 on a CPU, and
        200,000 and 20,000 elsewhere.
    max_extent : float, optional
        Longest blur in pixels; by default the size of the kernels.
    capture : Capture, optional
        What the simulated camera does.
    weights : LossWeights, optional
        Weights of the loss.
    cells : int
        Cells per sample at which kernels are compared.
    seed : int
        Determines the banks.
    """

    architecture = "compact"
    gamma = GAMMA

    def __init__(
        self,
        source: Source,
        *,
        config: Mapping[str, Any] | None = None,
        kernels: int | None = None,
        cameras: int | None = None,
        max_extent: float | None = None,
        capture: Capture | None = None,
        weights: LossWeights | None = None,
        cells: int = 64,
        seed: int = 0,
    ) -> None:
        source.require_multiple(TOKEN_STRIDE)
        self.config = dict(config or {})
        self._device = device = source.device
        self._weights = weights or LossWeights()
        size = KERNEL_SIZE
        extent = float(max_extent or size)
        few = device.type == "cpu"
        self._cells = min(cells, (source.side // STRIDE) ** 2)

        def maker(split: str, kernels: int, cameras: int, seed: int) -> SampleMaker:
            return sample_maker(
                source,
                split,
                size=size,
                max_extent=extent,
                kernels=kernels,
                cameras=cameras,
                seed=seed,
                capture=capture,
            )

        count = kernels or (20_000 if few else 200_000)
        fields = cameras or (2_000 if few else 20_000)
        self._maker = maker("train", count, fields, seed)
        self.mean_kernel = self._maker.mean_kernel
        held = maker("val", _VALIDATION_KERNELS, _VALIDATION_KERNELS // 4, _VALIDATION_SEED)
        generator = torch.Generator(device).manual_seed(_VALIDATION_SEED)
        rounds = max(1, _VALIDATION_SAMPLES // source.batch)
        self._held = [held.make(generator, number % 8) for number in range(rounds)]

    def network(self) -> nn.Module:
        """A new network with random weights."""
        network = CompactNetwork(**self.config)
        self.config = network.config
        return network

    def make(self, generator: torch.Generator, number: int) -> Batch:
        """Make the batch of a step."""
        return self._maker.make(generator, number % 8)

    def losses(
        self, network: nn.Module, batch: Batch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Terms of the loss of a batch, and their weighted sum, ``loss``."""
        prediction: Prediction = network(batch.seen)
        total = prediction.mixing.shape[2] * prediction.mixing.shape[3]
        order = torch.randperm(total, generator=generator, device=self._device)
        cells = order[: self._cells]
        return estimator_losses(prediction, batch, cells, self._weights)

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Kernel similarity on samples that are always the same, and that of two plain guesses.

        Returns
        -------
        dict
            ``similarity`` of the network over all samples, of its parts (``pairs``, ``quads``,
            ``cameras``), and of no blur (``delta``) and of the mean kernel (``mean``) everywhere.
        """
        values: dict[str, list[Tensor]] = {
            name: [] for name in ("pairs", "quads", "cameras", "delta", "mean")
        }
        for batch in self._held:
            prediction: Prediction = network(batch.seen)
            total = prediction.mixing.shape[2] * prediction.mixing.shape[3]
            cells = torch.linspace(0, total - 1, _VALIDATION_CELLS + 2, device=self._device)
            cells = cells.long()[1:-1]
            kernels, mixing = _probabilities(prediction, cells)
            found = mix(kernels, mixing)
            truth = batch.targets(cells)
            size = prediction.kernels.shape[-1]
            found, truth = (k.unflatten(-1, (size, size)) for k in (found, truth))
            scores = kernel_similarity(found, truth)
            parts = scores.split([len(k) for k in batch.kernels])
            for name, part in zip(("pairs", "quads", "cameras"), parts, strict=True):
                values[name].append(part.flatten())
            for name, guess in (
                ("delta", no_blur(size, self._device)),
                ("mean", self.mean_kernel),
            ):
                values[name].append(kernel_similarity(guess, truth).flatten())
        figures = {name: torch.cat(parts) for name, parts in values.items()}
        network_values = torch.cat([figures[name] for name in ("pairs", "quads", "cameras")])
        return {
            "similarity": float(network_values.mean()),
            **{name: float(part.mean()) for name, part in figures.items()},
        }


def _probabilities(prediction: Prediction, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Basis (N, B, K²) and coefficients (N, B, P) at cells."""
    return prediction.kernels.flatten(2).exp(), prediction.mixing.flatten(2)[:, :, cells].exp()


def estimator_losses(
    prediction: Prediction, batch: Batch, cells: Tensor, weights: LossWeights
) -> dict[str, Tensor]:
    """Terms of the loss and their weighted sum, ``loss``.

    Parameters
    ----------
    prediction : Prediction
        What the network says.
    batch : Batch
        The truth.
    cells : Tensor
        Flat indices (P,) of the cells at which kernels are compared.
    weights : LossWeights
        Weights of the terms; those of weight 0 are not computed.
    """
    kernels, mixing = _probabilities(prediction, cells)
    found, truth = mix(kernels, mixing), batch.targets(cells)
    importance = batch.segment_weights(cells, weights.segment_power)
    terms = {
        "entropy": (importance * cross_entropy(found, truth)).mean(),
        "l1": (importance * absolute(found, truth)).mean(),
        "cosine": (importance * dissimilarity(found, truth)).mean(),
    }
    loss = (
        weights.entropy * terms["entropy"]
        + weights.absolute * terms["l1"]
        + weights.cosine * terms["cosine"]
    )
    if weights.squared:
        terms["squared"] = _relative_squares(prediction, batch)
        loss = loss + weights.squared * terms["squared"]
    if weights.reblur:
        errors = reblur_distance(found, truth, batch.grey, cells, STRIDE)
        terms["reblur"] = (importance * errors).mean()
        loss = loss + weights.reblur * terms["reblur"]
    return {"loss": loss, **terms}


def _relative_squares(prediction: Prediction, batch: Batch) -> Tensor:
    """Squared distance of all cells' kernels, divided by the mean square of the true ones."""
    basis, maps = prediction.kernels.flatten(2).exp(), prediction.mixing.flatten(2).exp()
    start, errors, squares = 0, [], []
    for kernels, mixing in zip(batch.kernels, batch.mixing, strict=True):
        part = slice(start, start + len(kernels))
        true, coefficients = kernels.flatten(2), mixing.flatten(2)
        errors.append(gram_distance(basis[part], maps[part], true, coefficients))
        nothing = torch.zeros_like(coefficients[:, :1])
        squares.append(gram_distance(true[:, :1], nothing, true, coefficients))
        start += len(kernels)
    return torch.cat(errors).mean() / torch.cat(squares).mean()
