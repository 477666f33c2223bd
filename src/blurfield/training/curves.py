"""Figures of a training run over time, in a CSV file and, where it is installed, TensorBoard."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: Columns of the file: one figure a row, so that new figures need no new columns.
COLUMNS = ("kind", "step", "samples", "seconds", "name", "value")


class Curves:
    """Collects the figures of a run.

    Parameters
    ----------
    folder : pathlib.Path
        Where ``curve.csv`` is, or will be made.
    step : int
        The step from which the run goes on: what the file has from later ones, which a run that
        was killed had not saved, is dropped.
    """

    def __init__(self, folder: Path, step: int) -> None:
        path = folder / "curve.csv"
        kept = [row for row in read_curves(path) if step and int(row["step"]) <= step]
        self._file = path.open("w", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._file, COLUMNS)
        self._writer.writeheader()
        self._writer.writerows(kept)
        self._file.flush()
        self._board = _tensorboard(folder, step)

    def add(
        self, kind: str, step: int, samples: int, seconds: float, figures: Mapping[str, float]
    ) -> None:
        """Append the figures of one moment; `kind` is ``"train"`` or ``"validation"``."""
        for name, value in figures.items():
            self._writer.writerow(
                dict(
                    zip(
                        COLUMNS,
                        (kind, step, samples, f"{seconds:.1f}", name, f"{value:.6g}"),
                        strict=True,
                    )
                )
            )
            if self._board is not None:
                self._board.add_scalar(f"{kind}/{name}", value, step)
        self._file.flush()

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_curves(path: Path) -> list[dict[str, str]]:
    """Rows of a ``curve.csv``; none if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step or None)
