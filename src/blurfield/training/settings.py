"""What can be chosen about a training run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Schedule:
    """How the weights are changed.

    Attributes
    ----------
    rate : float
        Learning rate of AdamW after the warm-up.
    warmup : int
        Steps over which the rate rises from 0.
    decay : float
        Weight decay.
    betas : (float, float)
        Averaging of gradients and of their squares.
    clip : float
        Largest norm of the gradient; longer ones are shortened.
    average : float
        Decay of the moving average of the weights, which is what is validated and exported.
    cooldown : float
        Last share, in [0, 1), of this call over which the rate falls to 0. What a call with a
        cool-down exports is better; what it saves to be continued is the state before it.
    """

    rate: float = 1e-3
    warmup: int = 500
    decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    average: float = 0.999
    cooldown: float = 0.0


@dataclass(frozen=True)
class RunSettings:
    """Where, how long and how fast to train.

    Attributes
    ----------
    batch : int
        Samples per step and process.
    side : int
        Side of the samples in pixels.
    steps : int or None
        Stop when so many steps have been made in all.
    minutes : float or None
        Stop after this time.
    seed : int
        Determines the initial weights and all samples.
    precision : str
        "auto", "bf16" or "fp32".
    compile : str
        "auto" (on CUDA), "on" or "off".
    checkpoint_minutes, validation_minutes, report_seconds : float
        Time between two of each.
    schedule : Schedule
    """

    batch: int = 32
    side: int = 128
    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    precision: str = "auto"
    compile: str = "auto"
    checkpoint_minutes: float = 10.0
    validation_minutes: float = 5.0
    report_seconds: float = 20.0
    schedule: Schedule = field(default_factory=Schedule)

    def plain(self) -> dict[str, Any]:
        """As plain types, for a file."""
        return asdict(self)
