"""Batches that are made while the one before is trained on."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable


class Ahead:
    """Makes the next batch while the present one is trained on, where the device can do both."""

    def __init__(
        self, make: Callable[[int], tuple[Any, torch.Generator]], device: torch.device, step: int
    ) -> None:
        self._make, self._number = make, step
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._ready: deque[Any] = deque()

    def next(self) -> Any:
        """Return the next batch."""
        if self._stream is None:
            made = self._make(self._number)
            self._number += 1
            return made
        if not self._ready:
            self._prepare(self._stream)
        made, event = self._ready.popleft()
        torch.cuda.current_stream().wait_event(event)
        self._prepare(self._stream)
        return made

    def _prepare(self, stream: torch.cuda.Stream) -> None:
        # The memory of the batch before the present one is free for this one, but only after the
        # step that was made with it.
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            made = self._make(self._number)
            event = stream.record_event()
        self._ready.append((made, event))
        self._number += 1
