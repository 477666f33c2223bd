"""What happened in some steps of a training run, and how well the device was used."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


class Record:
    """Sums of the figures of some steps, kept on the device so that no step waits for it."""

    def __init__(self) -> None:
        self.steps = 0
        self.sums: dict[str, Tensor] = {}
        self.begun = time.monotonic()
        self.worked = time.process_time()
        self.samples = 0

    def add(self, figures: dict[str, Tensor], samples: int) -> None:
        """Add the figures of a step."""
        self.steps += 1
        self.samples += samples
        for name, value in figures.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def means(self) -> dict[str, float]:
        """Mean of each figure over the steps."""
        return {name: float(value) / self.steps for name, value in self.sums.items()}

    def seconds(self) -> float:
        """Seconds since this record was begun."""
        return max(time.monotonic() - self.begun, 1e-9)


def usage(device: torch.device, record: Record) -> str:
    """How busy the device was during a record, and its largest use of memory, in words."""
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(device) / 2**30
        try:
            busy = f"{torch.cuda.utilization(device)} %"
        except (ModuleNotFoundError, RuntimeError):
            busy = "unknown use"
        return f"[{busy}, {memory:.1f} GiB]"
    import resource

    share = (time.process_time() - record.worked) / record.seconds()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return f"[{share:.0%} of a core, {memory:.1f} GiB]"
