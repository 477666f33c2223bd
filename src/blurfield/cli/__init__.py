"""The `blurfield` command.

Nothing here imports PyTorch, so that ``blurfield --help`` and wrong arguments are answered at once;
the commands import what they need when they run.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING

from ._console import Console, error_line, show_warning
from ._parser import build_parser

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

#: Exit statuses: all went well, this program's fault, the input's fault, stopped by Ctrl-C; those
#: of single commands are theirs to return.
OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

#: Set this environment variable to see the traceback of an error.
DEBUG = "BLURFIELD_DEBUG"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the `blurfield` command.

    Parameters
    ----------
    arguments : sequence of str, optional
        Words of the command line after ``blurfield``; those of this process by default.

    Returns
    -------
    int
        0 if all went well, 2 for bad input and 130 after Ctrl-C, each with one line on stderr,
        and 1 for errors that the input did not cause; 3 if a command for many images left some out.
    """
    with warnings.catch_warnings():
        warnings.showwarning = show_warning
        try:
            options = build_parser().parse_args(arguments)
            status = options.run(options, Console(quiet=options.quiet, as_json=options.json))
            # Here and not at exit, where nobody could handle that the reader has gone.
            sys.stdout.flush()
        except KeyboardInterrupt:
            print("blurfield: stopped", file=sys.stderr)
            return INTERRUPTED
        except BrokenPipeError:
            # Whoever read stdout has gone; nothing more can be said there, not even at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
        except Exception as error:
            if os.environ.get(DEBUG):
                raise
            bad_input = isinstance(error, (ValueError, TypeError, OSError))
            print(error_line(error, expected=bad_input), file=sys.stderr)
            return BAD_INPUT if bad_input else FAILED
    return OK if status is None else int(status)
