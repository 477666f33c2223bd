"""Measured rows that outlive an interrupted run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

__all__ = ["Rows"]


class Rows:
    """Figures by key, appended to a file of JSON lines as soon as they are known.

    The first line has the settings, each further one a key and its figures. A run that was stopped
    goes on where it was when it is given the same file: what stands there is not measured again.

    Parameters
    ----------
    path : path-like or None
        The file, which need not exist; None keeps the rows in memory only.
    settings : mapping
        Plain JSON types: everything that the figures depend on beside their key.

    Raises
    ------
    ValueError
        If there is such a file, but it has no rows, or rows of other settings.
    OSError
        If the file cannot be read or written.
    """

    def __init__(self, path: str | os.PathLike[str] | None, settings: Mapping[str, Any]) -> None:
        self._path = None if path is None else Path(path)
        self._rows: dict[str, dict[str, Any]] = {}
        if self._path is None:
            return
        head = json.dumps({"settings": settings})
        kept = (
            self._path.read_text("utf-8").splitlines(keepends=True) if self._path.exists() else []
        )
        if kept and not kept[-1].endswith("\n"):
            # The run was stopped while it wrote.
            kept.pop()
            self._path.write_text("".join(kept), "utf-8")
        if not kept:
            self._write(head)
            return
        try:
            found, *rows = (json.loads(line) for line in kept)
            known = found["settings"]
            self._rows = {json.dumps(row["key"]): row["figures"] for row in rows}
        except (json.JSONDecodeError, KeyError, TypeError):
            raise ValueError(f"{path} is no file of measured rows; choose another name") from None
        wanted = json.loads(head)["settings"]
        if known != wanted:
            raise ValueError(
                f"{path} has rows that were measured with the settings {json.dumps(known)}, not "
                f"{json.dumps(wanted)}; choose another name"
            )

    def find(self, *key: str | float) -> dict[str, Any] | None:
        """Return the figures of a key, or None if they are not known yet."""
        return self._rows.get(json.dumps(key))

    def add(self, *key: str | float, figures: dict[str, Any]) -> None:
        """Keep the figures of a key, on disk at once."""
        self._rows[json.dumps(key)] = figures
        if self._path is not None:
            self._write(json.dumps({"key": key, "figures": figures}))

    def _write(self, line: str) -> None:
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")
