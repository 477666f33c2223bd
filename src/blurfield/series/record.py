"""What is noted about a series in its folder: where frames come from and what is made of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from blurfield._version import __version__
from blurfield.files import DAMAGED, atomic_write

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from blurfield.frames import Frames

__all__ = ["OtherSettingsError", "Record", "describe_source"]

#: Number of the format that this version writes; it reads all up to this one.
_FORMAT = 1
#: Settings that say where and with how much memory to compute, rather than what.
_WHERE = frozenset({"device", "memory"})


class OtherSettingsError(ValueError):
    """A folder has results that were made with other settings."""


@dataclass(frozen=True)
class Record:
    """What stands in the JSON file of a series.

    Attributes
    ----------
    source : dict
        See `describe_source`.
    estimate : dict
        Arguments of `blurfield.estimate`.
    deblur : dict or None
        Arguments of `blurfield.deblur`; None if frames are only estimated.
    shared : bool
        Whether all frames are deblurred with their median field.
    threads : int
        PyTorch threads for each frame, on which the last bits of results depend.
    numbers : tuple of int
        Frames that are asked for.
    metadata : dict
        What the caller adds.
    version : str
        Version of this package that began the series.
    """

    source: dict[str, Any]
    estimate: dict[str, Any]
    deblur: dict[str, Any] | None
    shared: bool
    threads: int
    numbers: tuple[int, ...]
    metadata: dict[str, Any]
    version: str = __version__

    def plain(self) -> Record:
        """Return the record as it is when it has been written and read, or raise TypeError."""
        try:
            return _from_json(json.loads(_to_json(self)))
        except (TypeError, ValueError) as error:
            raise TypeError(f"settings and metadata must be plain JSON types: {error}") from None

    def continued(self, now: Record, folder: Path, name: str | None) -> Record:
        """Return what to note when this series is to be continued as `now` says.

        Parameters
        ----------
        now : Record
            What is to be made now.
        folder : pathlib.Path
            Where the results are.
        name : str or None
            Name of the files of a single image.

        Raises
        ------
        OtherSettingsError
            If that would mix results of different settings.
        ValueError
            If that would mix results of different images.
        """
        # Without the record alone, results that stay would be of nobody knows which settings.
        rest = f"the whole folder {folder}" if name is None else f"all files {name}.* in {folder}"
        advice = f"choose another folder, or remove {rest}"
        found = list(_differences(self._what(), now._what()))
        if self.shared and now.shared and self.numbers != now.numbers:
            found.append("other frames share the field")
        if found:
            raise OtherSettingsError(
                f"{folder} holds results of other settings ({'; '.join(found)}): {advice}"
            )
        found = list(_differences(self.source, now.source))
        if found:
            raise ValueError(
                f"{folder} holds results of other images ({'; '.join(found)}): {advice}"
            )
        return replace(now, version=self.version)

    def _what(self) -> dict[str, Any]:
        """Settings that must be the same for all results in a folder."""

        def what(settings: dict[str, Any] | None) -> dict[str, Any] | None:
            if settings is None:
                return None
            return {name: value for name, value in settings.items() if name not in _WHERE}

        return {
            "estimate": what(self.estimate),
            "deblur": what(self.deblur),
            "shared": self.shared,
            "threads": self.threads,
        }

    def write(self, path: Path) -> None:
        """Write the file, completely or not at all."""
        with atomic_write(path) as temporary:
            temporary.write_text(_to_json(self) + "\n", encoding="utf-8")

    @staticmethod
    def read(path: Path) -> Record:
        """Read the file.

        Raises
        ------
        FileNotFoundError
            If there is none.
        ValueError
            If it is damaged, or was written by a newer version.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            newest = int(content["format"]) <= _FORMAT
            record = _from_json(content)
        except FileNotFoundError:
            raise FileNotFoundError(f"there is no series of results: {path} is missing") from None
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} does not describe a series of results: {error!r}") from error
        if not newest:
            raise ValueError(f"{path} was written by a newer version of blurfield; update it")
        return record


def describe_source(frames: Frames) -> dict[str, Any]:
    """Return what tells one source from another: axes, sizes, types, and what the ends hold."""
    digest = hashlib.sha256()
    for number in sorted({0, len(frames) - 1}):
        try:
            digest.update(np.ascontiguousarray(frames[number]).view(np.uint8).data)
        except DAMAGED:
            digest.update(b"unreadable")
    return {
        "axes": list(frames.axes),
        "sizes": list(frames.sizes),
        "shape": list(frames.shape),
        "dtype": frames.dtype.name,
        "channel_axis": frames.channel_axis,
        "first and last frame": digest.hexdigest()[:16],
    }


def _to_json(record: Record) -> str:
    entries = {"format": _FORMAT, **asdict(record)}
    return json.dumps(entries, indent=1, allow_nan=False, ensure_ascii=False)


def _from_json(content: dict[str, Any]) -> Record:
    entries = {name: value for name, value in content.items() if name != "format"}
    return Record(**{**entries, "numbers": tuple(entries["numbers"])})


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """What is unlike in two nested dictionaries, in words."""
    for name in dict.fromkeys([*old, *new]):
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after, f"{where}{name}: ")
        elif before != after:
            yield f"{where}{name} {before!r} there, {after!r} now"
