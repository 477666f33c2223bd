"""What a command says: results on stdout, progress and complaints on stderr."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from blurfield.compute import ProgressCallback


class Console:
    """Where a command's results and its progress go.

    Parameters
    ----------
    quiet : bool
        No progress bar and no text; JSON is printed all the same.
    as_json : bool
        Print results as one JSON object instead of text.
    """

    def __init__(self, *, quiet: bool = False, as_json: bool = False) -> None:
        self._quiet = quiet
        self._json = as_json

    def result(self, text: str, figures: Mapping[str, Any]) -> None:
        """Print what a command made: `text` for people or `figures` for machines."""
        if self._json:
            print(json.dumps(_jsonable(figures), ensure_ascii=False))
        elif not self._quiet:
            print(text)

    def note(self, text: str) -> None:
        """Say something by the way, on stderr."""
        if not self._quiet:
            print(f"blurfield: {text}", file=sys.stderr)

    @contextlib.contextmanager
    def progress(self, *, foretell: bool = False) -> Iterator[ProgressCallback | None]:
        """Give a progress callback that draws a bar, or None if nobody would see one.

        Parameters
        ----------
        foretell : bool
            Whether steps take about equal time, so that the bar can say how much is left.
        """
        if self._quiet or not sys.stderr.isatty():
            yield None
            return
        from tqdm import tqdm

        form = _BAR + " (left: {remaining})" * foretell
        with tqdm(total=1, leave=False, file=sys.stderr, bar_format=form) as bar:

            def show(done: int, total: int, message: str) -> None:
                bar.total = total
                if message != bar.desc:
                    bar.set_description_str(message, refresh=False)
                    bar.n = done
                    bar.refresh()
                else:
                    bar.update(done - bar.n)

            yield show


_BAR = "{desc} {percentage:3.0f}%|{bar}| {elapsed}"


def error_line(error: Exception, *, expected: bool) -> str:
    """Return one line that says what went wrong.

    Parameters
    ----------
    error : Exception
        What was raised.
    expected : bool
        Whether the message was written for users; if not, the line says how to see more.
    """
    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        said = f"{error.filename}: {error.strerror}"
    if expected or isinstance(error, MemoryError):
        return f"blurfield: error: {said}"
    return (
        f"blurfield: error: unexpected {type(error).__name__}: {said} "
        "(BLURFIELD_DEBUG=1 shows where)"
    )


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning as one line; has the signature of `warnings.showwarning`."""
    del category, filename, lineno, line  # where it comes from means nothing to the reader
    print("blurfield: warning: " + " ".join(str(message).split()), file=file or sys.stderr)


def _jsonable(value: Any) -> Any:
    """Turn paths into text and numbers that JSON lacks into null."""
    if isinstance(value, dict):
        return {str(key): _jsonable(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
