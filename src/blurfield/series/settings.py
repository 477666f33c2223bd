"""What may be asked of a series."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["check_settings", "checked_numbers", "whole_number"]


def check_settings(estimate: Mapping[str, Any], deblur: Mapping[str, Any] | None) -> None:
    """Raise ValueError or TypeError for settings of a series that could be right for no frame."""
    from blurfield.estimation import MODELS
    from blurfield.restoration import choose_method

    model = estimate.get("model", "auto")
    if model not in ("auto", *MODELS):
        raise ValueError(f"the model {model!r} is unknown; known: {', '.join(MODELS)}")
    if deblur is not None:
        general = {"method", "gamma", "device", "strength", "memory"}
        own = {name: value for name, value in deblur.items() if name not in general}
        choose_method(deblur.get("method", "auto"), own)


def checked_numbers(numbers: Sequence[int] | None, count: int) -> tuple[int, ...]:
    """Return the frames that are asked for, of `count`, in order; all of them for None."""
    if numbers is None:
        return tuple(range(count))
    wanted = tuple(sorted({whole_number(number, 0, "frame numbers") for number in numbers}))
    if not wanted:
        raise ValueError("no frame is asked for")
    if wanted[-1] >= count:
        raise ValueError(f"there are {count} frames, from 0; there is no frame {wanted[-1]}")
    return wanted


def whole_number(value: int, least: int, what: str) -> int:
    """Return a number, or raise ValueError unless it is whole and at least so large."""
    if int(value) != value or value < least:
        raise ValueError(f"{what} must be whole numbers from {least}, not {value!r}")
    return int(value)
