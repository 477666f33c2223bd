"""Figures over several images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are known, or None where none is."""
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None
