"""Values on the command line: text to numbers, with errors that say what is accepted."""

from __future__ import annotations

import argparse
import math
import re
import sys


def number(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a number, but is {text!r}")
    return value


def positive_number(text: str) -> float:
    """A number above 0."""
    value = number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be a number above 0, but is {text!r}")
    return value


def gamma(text: str) -> float | str:
    """``"auto"`` or a number above 0."""
    if text == "auto":
        return text
    try:
        return positive_number(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"must be 'auto' or a number above 0, but is {text!r}"
        ) from None


def noise(text: str) -> str | tuple[float, float]:
    """``"auto"``, ``"per-channel"``, or two numbers from 0 with a comma between them."""
    if text in ("auto", "per-channel"):
        return text
    try:
        gain, read_noise = (not_negative(part) for part in text.split(","))
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(
            f"must be 'auto', 'per-channel' or GAIN,READ with numbers from 0, but is {text!r}"
        ) from None
    return gain, read_noise


def not_negative(text: str) -> float:
    """A number from 0."""
    value = number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, but is {text!r}")
    return value


def dial(text: str) -> float:
    """A number from 0 to 1."""
    value = number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1, but is {text!r}")
    return value


def fraction(text: str) -> float:
    """A number between 0 and 1, both excluded."""
    value = number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 1, but is {text!r}")
    return value


def positive_int(text: str) -> int:
    """A whole number from 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, but is {text!r}")
    return int(text)


def not_negative_int(text: str) -> int:
    """A whole number from 0."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"must be a whole number from 0, but is {text!r}")
    return int(text)


def seed(text: str) -> int:
    """A whole number from 0 that fits 63 bits."""
    value = not_negative_int(text)
    if value >= 1 << 63:
        raise argparse.ArgumentTypeError(f"must be below 2^63, but is {text!r}")
    return value


def odd(text: str) -> int:
    """An odd whole number from 1."""
    value = positive_int(text)
    if value % 2 == 0:
        raise argparse.ArgumentTypeError(f"must be odd, but is {text!r}")
    return value


def frame_ranges(text: str) -> tuple[range, ...]:
    """Frame numbers: ``7``, ``0-99``, ``20-`` (to the end), ``0-99:10`` (each tenth), or several.

    Those to the end have a stop beyond any number of frames.
    """
    ranges = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)(?:(-)(\d*)(?::([1-9]\d*))?)?", part.strip(), re.ASCII)
        if found is None:
            raise argparse.ArgumentTypeError(
                f"must be numbers and ranges such as 0-9,15,20- or 0-99:10, but is {text!r}"
            )
        first, dash, last, step = found.groups()
        end = int(last) if last else sys.maxsize - 1 if dash else int(first)
        ranges.append(range(int(first), end + 1, int(step or 1)))
    return tuple(ranges)
