"""Results of evaluations as text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Columns of the table of synthetic scenes: heading, key of the figure, factor, decimals.
_COLUMNS = (
    ("similarity", "similarity", 1, 3),
    ("median", "median_similarity", 1, 3),
    ("worst", "worst_similarity", 1, 3),
    ("L1", "l1", 1, 3),
    ("reblur/dB", "reblur_psnr", 1, 2),
    ("gain/dB", "gain", 1, 2),
    ("of true/%", "gain_fraction", 100, 0),
    ("s/image", "seconds", 1, 2),
)

#: The same of ways to deblur, and of restored images of one pair.
_RESTORATION_COLUMNS = (
    ("PSNR/dB", "psnr", 1, 2),
    ("gain/dB", "gain", 1, 2),
    ("worst/dB", "worst_gain", 1, 2),
    ("SSIM", "ssim", 1, 3),
    ("SSIM gain", "ssim_gain", 1, 3),
    ("ringing/%", "ringing", 100, 2),
    ("noise/%", "noise", 100, 2),
    ("s/image", "seconds", 1, 2),
)
_PAIR_COLUMNS = (
    ("PSNR/dB", "psnr", 1, 2),
    ("gain/dB", "gain", 1, 2),
    ("SSIM", "ssim", 1, 4),
    ("s/estimate", "estimation_seconds", 1, 1),
    ("s/deblur", "seconds", 1, 1),
)


def synthetic_table(results: Mapping[str, Any]) -> str:
    """Return the figures of `evaluate_synthetic` as a table for people, one row a field."""
    kinds = dict(results["kinds"])
    if len(kinds) > 1:
        kinds["all"] = results["all"]
    names = [name for figures in kinds.values() for name in figures["fields"]]
    first, second = max(map(len, kinds)) + 2, max(map(len, names)) + 2
    # What was not measured at all needs no column.
    shown = [
        column
        for column in _COLUMNS
        if any(
            row[column[1]] is not None
            for figures in kinds.values()
            for row in figures["fields"].values()
        )
    ]
    lines = [
        f"{'kind':{first}}{'images':>6}  {'field':{second}}"
        + "".join(f"{heading:>11}" for heading, *_ in shown)
    ]
    for kind, figures in kinds.items():
        for position, (name, row) in enumerate(figures["fields"].items()):
            label = f"{kind:{first}}{figures['images']:6}" if position == 0 else " " * (first + 6)
            lines.append(
                f"{label}  {name:{second}}"
                + "".join(_cell(row[key], factor, decimals) for _, key, factor, decimals in shown)
            )
    return "\n".join(line.rstrip() for line in lines)


def restoration_table(results: Mapping[str, Any]) -> str:
    """Return the figures of `evaluate_restoration` as a table for people, one row a method."""
    names = [name for case in results["cases"] for name in case["restorers"]]
    width = max(map(len, names)) + 2
    headings = "".join(f"{heading:>11}" for heading, *_ in _RESTORATION_COLUMNS)
    lines = [f"{'kind':11}{'noise/%':>7}{'images':>8}  {'method':{width}}{headings}"]
    for case in results["cases"]:
        label = f"{case['kind']:11}{100 * case['noise']:7.2g}{case['images']:8}"
        for name, row in case["restorers"].items():
            cells = (
                _cell(row[key], factor, decimals)
                for _, key, factor, decimals in _RESTORATION_COLUMNS
            )
            lines.append(f"{label}  {name:{width}}" + "".join(cells))
            label = " " * len(label)
    return "\n".join(lines)


def pair_table(results: Mapping[str, Any]) -> str:
    """Return the figures of `evaluate_pair` as a table for people, one row a restored image."""
    rows = results["images"]
    first, second = (
        max(len(word), *(len(row[key] or "–") for row in rows)) + 2
        for word, key in (("estimator", "estimator"), ("method", "method"))
    )
    lines = [
        f"{'estimator':{first}}{'method':{second}}"
        + "".join(f"{heading:>11}" for heading, *_ in _PAIR_COLUMNS)
    ]
    lines += [
        f"{row['estimator'] or '–':{first}}{row['method'] or '–':{second}}"
        + "".join(_cell(row[key], factor, decimals) for _, key, factor, decimals in _PAIR_COLUMNS)
        for row in rows
    ]
    return "\n".join(lines)


def mask_table(results: Mapping[str, Any]) -> str:
    """Return the figures of `evaluate_masks` as a table for people, one row an image."""
    rows = [*results["images"], {"name": "mean", **results["mean"]}]
    width = max(len(row["name"]) for row in rows) + 2
    lines = [f"{'image':{width}}{'blur map':>10}{'score':>10}"]
    lines += [f"{row['name']:{width}}{row['map']:10.4f}{row['score']:10.4f}" for row in rows]
    return "\n".join(lines)


def _cell(value: float | None, factor: float, decimals: int) -> str:
    if value is None or not math.isfinite(value):
        return f"{'–':>11}"
    return f"{value * factor:11.{decimals}f}"
