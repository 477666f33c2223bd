"""What options of all methods have to be, and what is said if they are not."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["check_count", "check_not_negative", "check_positive", "check_variant"]


def check_variant(variant: str, known: Sequence[str]) -> None:
    """Raise ValueError unless a variant is a known one."""
    if variant not in known:
        raise ValueError(f"unknown variant {variant!r}; known: {', '.join(known)}")


def check_positive(name: str, value: Any) -> None:
    """Raise ValueError unless the option of a name is a finite number above 0."""
    if isinstance(value, str) or not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a finite number > 0, but is {value!r}")


def check_not_negative(name: str, value: Any) -> None:
    """Raise ValueError unless the option of a name is a finite number of at least 0."""
    if isinstance(value, str) or not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a finite number ≥ 0, but is {value!r}")


def check_count(name: str, value: Any) -> int:
    """Return the option of a name; raise ValueError unless it is a whole number of at least 1."""
    if isinstance(value, str) or not (math.isfinite(value) and int(value) == value >= 1):
        raise ValueError(f"{name} must be a whole number ≥ 1, but is {value!r}")
    return int(value)
