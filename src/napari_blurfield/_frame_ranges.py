"""Frames as people write them: ``0-9, 12``."""

from __future__ import annotations

import re

_RANGE = re.compile(r"(\d+)(?:\s*[-–:]\s*(\d+))?")


def read_ranges(text: str, count: int) -> tuple[int, ...]:
    """Return the numbers that a text such as ``0-9, 12`` names, in ascending order.

    Parameters
    ----------
    text : str
        Numbers and ranges, both ends included, with commas between them.
    count : int
        How many there are, from 0.

    Raises
    ------
    ValueError
        If the text is not of this form, or names something that isn't there.
    """
    found: set[int] = set()
    for part in (part.strip() for part in text.split(",")):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise ValueError(
                f"frames are written like '0-9, 12', from 0 to {count - 1}, not {text!r}"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last >= count:
            raise ValueError(f"there are frames from 0 to {count - 1}, but not {part!r}")
        found.update(range(first, last + 1))
    return tuple(sorted(found))


def write_ranges(numbers: tuple[int, ...]) -> str:
    """Return the shortest text that `read_ranges` reads as these numbers."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
