"""Devices, memory, progress and cancellation: what every long computation shares."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

    #: Called as ``progress(done, total, message)``. Whatever it raises stops the computation.
    ProgressCallback = Callable[[int, int, str], None]

#: Seconds between two reports of an unchanged state; short enough to feel like an immediate cancel.
_HEARTBEAT = 0.2
#: Images of a batch that are transformed together on a CPU.
_FEW_IMAGES = 2
#: Steps of progress of one of several computations.
_PART = 1000


class Cancelled(Exception):
    """Raise this from a progress callback to stop a computation."""


class Reporter:
    """Tells a progress callback how far a computation is, and lets it stop the computation.

    Parameters
    ----------
    progress : callable or None
        Called as ``progress(done, total, message)``. An exception that it raises, usually
        `Cancelled`, propagates out of the computation.
    total : int
        Number of steps.
    message : str
        What is being done, in words for a person.
    """

    def __init__(self, progress: ProgressCallback | None, total: int, message: str = "") -> None:
        self._progress = progress
        self._total = max(int(total), 1)
        self._message = message
        self._done = 0
        self._reported_at = -float("inf")
        self._report()

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(min(self._done, self._total), self._total, self._message)
            self._reported_at = time.monotonic()

    def advance(self, n: int = 1, message: str | None = None) -> None:
        """Count `n` more steps as done and report, with a new message if one is given."""
        self._done += n
        if message is not None:
            self._message = message
        self._report()

    def poll(self) -> None:
        """Report the present state again if the last report is a fifth of a second old.

        Inner loops call this so that a cancellation is noticed between two steps.
        """
        if self._progress is not None and time.monotonic() - self._reported_at >= _HEARTBEAT:
            self._report()


def part_of(
    progress: ProgressCallback | None, number: int, parts: int, span: int = 1
) -> ProgressCallback | None:
    """Return a progress callback for one of several computations, in parts of about equal time.

    Parameters
    ----------
    progress : callable or None
        Is told about all of them as about one.
    number, parts : int
        Which part, from 0, of how many.
    span : int
        How many parts the computation takes, from that one on.
    """
    if progress is None:
        return None

    def tell(done: int, total: int, message: str) -> None:
        progress(number * _PART + span * _PART * done // total, parts * _PART, message)

    return tell


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device to compute on.

    Parameters
    ----------
    device : str or torch.device
        ``"auto"`` takes CUDA, then MPS, then the CPU; otherwise a name that PyTorch knows
        (``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``).

    Raises
    ------
    ValueError
        If the name is unknown or this machine has no such device.
    """
    import torch

    if str(device) == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(
            f"unknown device {device!r}; use 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'"
        ) from None
    if chosen.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise ValueError(
                f"device {device!r} asked for, but PyTorch {torch.__version__} finds no CUDA GPU; "
                "use device='auto' or 'cpu', or install a CUDA build of PyTorch"
            )
        if chosen.index is not None and chosen.index >= count:
            raise ValueError(f"device {device!r} asked for, but there are only {count} CUDA GPUs")
    elif chosen.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"device {device!r} asked for, but this machine has no MPS; use 'cpu'")
    elif chosen.type not in {"cpu", "cuda", "mps"}:
        raise ValueError(f"device {device!r} is not supported; use 'auto', 'cpu', 'cuda' or 'mps'")
    return chosen


def few_at_a_time(batch: torch.Tensor) -> Iterator[slice]:
    """Parts of a batch: on a CPU, with so few images that their spectra stay in its cache."""
    few = _FEW_IMAGES if batch.device.type == "cpu" else max(1, len(batch))
    return (slice(start, start + few) for start in range(0, len(batch), few))


def usable_share(device: torch.device) -> float:
    """Part of `available_memory` to use: all programs share main memory, few share a GPU's."""
    return 0.9 if device.type == "cuda" else 0.6


def available_memory(device: torch.device) -> int:
    """Bytes that a computation on `device` may count on now."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        # Unlike the pages that are free, this counts those that only keep files at hand.
        with open("/proc/meminfo", encoding="ascii") as lines:
            figures = dict(line.split(":") for line in lines)
        return int(figures["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        # No such figure but on Linux: a size that any machine able to run PyTorch has.
        return 4 << 30


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that a device has no memory left."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # The CPU's allocator, those of other devices, and the FFT library have no type of their own.
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        words in text for words in ("can't allocate memory", "out of memory", "bad_alloc")
    )


def release_memory(device: torch.device) -> None:
    """Give memory that is kept for later back to the device."""
    import torch

    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
