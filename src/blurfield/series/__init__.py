"""Time-lapses, focal series and heaps of images: a folder of results, made frame by frame.

Importing this does not load PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .processing import process
from .report import FrameReport
from .store import Series

if TYPE_CHECKING:
    from .shared import median_field

__all__ = ["FrameReport", "Series", "median_field", "process"]


def __getattr__(name: str) -> Any:
    if name == "median_field":
        from .shared import median_field

        return median_field
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
