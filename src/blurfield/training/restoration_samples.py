"""Blurry and sharp images, with the fields that turn the latter into the former."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from blurfield.field import KernelField
from blurfield.images import encode

from .images import GAMMA
from .samples import Capture, sample_maker

if TYPE_CHECKING:
    from collections.abc import Callable

    from .samples import Batch
    from .source import Source

#: Held-out samples, and where the random numbers of their banks and of themselves begin.
_HELD, _HELD_SEED = 64, 20220301
_HELD_KERNELS, _HELD_CAMERAS = 512, 128
#: Blurs are hidden by much less noise than where an estimator has to be robust against it.
_CAPTURE = Capture(noise=0.01, lamps=0.0)


@dataclass(frozen=True)
class RestorationBatch:
    """Samples for a network that restores.

    Attributes
    ----------
    blurry, sharp : Tensor
        (N, 3, S, S), encoded for display (exponent 2.2), white 1.
    fields : callable
        Makes the fields of the samples; few trainings need them.
    """

    blurry: Tensor
    sharp: Tensor
    fields: Callable[[], list[KernelField]]

    def __len__(self) -> int:
        return len(self.blurry)


class RestorationSamples(Protocol):
    """Where the samples for a network that restores come from."""

    side: int
    device: torch.device
    held: list[RestorationBatch]

    def make(self, generator: torch.Generator, number: int) -> RestorationBatch:
        """Make the batch of a step."""


class SimulatedSamples:
    """Samples that are simulated as they are needed, no two of them alike.

    Parameters
    ----------
    source : Source
        The sharp images, and how many samples of what size a batch has.
    max_extent : float
        Longest blur in pixels, at least 3.
    kernels : int, optional
        Size of the bank of kernels, by default 10,000 on a CPU and 100,000 elsewhere; there are a
        tenth as many camera fields.
    seed : int
        Determines the banks.
    capture : Capture, optional
        What the simulated camera does.

    Raises
    ------
    ValueError
        If the samples are too small for such blurs.
    """

    def __init__(
        self,
        source: Source,
        *,
        max_extent: float,
        kernels: int | None = None,
        seed: int = 0,
        capture: Capture | None = None,
    ) -> None:
        # The smallest odd side that holds them.
        size = 2 * math.ceil((max(max_extent, 3) - 1) / 2) + 1
        if source.side < 2 * size - 1:
            raise ValueError(
                f"samples of {source.side} pixels are too small for blurs of {max_extent:g}: they "
                f"need at least {2 * size - 1}"
            )
        self.side, self.device = source.side, source.device
        count = kernels or (10_000 if source.device.type == "cpu" else 100_000)
        capture = capture or _CAPTURE
        self._train = sample_maker(
            source,
            "train",
            size=size,
            max_extent=max_extent,
            kernels=count,
            cameras=max(count // 10, 1),
            seed=seed,
            capture=capture,
        )
        held = sample_maker(
            source,
            "val",
            size=size,
            max_extent=max_extent,
            kernels=_HELD_KERNELS,
            cameras=_HELD_CAMERAS,
            seed=_HELD_SEED,
            capture=capture,
        )
        generator = torch.Generator(source.device).manual_seed(_HELD_SEED)
        rounds = max(1, _HELD // source.batch)
        self.held = [_as_pairs(held.make(generator, number % 8)) for number in range(rounds)]

    def make(self, generator: torch.Generator, number: int) -> RestorationBatch:
        """Make the batch of a step."""
        return _as_pairs(self._train.make(generator, number % 8))


def _as_pairs(batch: Batch) -> RestorationBatch:
    side = batch.seen.shape[-1]
    margin = (batch.light.shape[-1] - side) // 2
    middle = batch.light[..., margin : margin + side, margin : margin + side]

    def fields() -> list[KernelField]:
        return [
            KernelField(basis / basis.sum((1, 2), keepdim=True), weights, (side, side))
            for kernels, mixing in zip(batch.kernels, batch.mixing, strict=True)
            for basis, weights in zip(kernels, mixing, strict=True)
        ]

    return RestorationBatch(batch.seen, encode(middle.clamp(0, 1), GAMMA), fields)
