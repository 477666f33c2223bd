"""Options of glibc's memory allocator.

Large tensors are mapped one by one, and given back to the system when they are freed. The next one
of the same size is then made of fresh pages, each of which the system fills with zeros: work that
can take a third of all time.
"""

from __future__ import annotations

import ctypes
import os
import sys

#: Options by the names of their environment variables, ``MALLOC_…_``.
_NUMBERS = {"TRIM_THRESHOLD": -1, "TOP_PAD": -2, "MMAP_THRESHOLD": -3, "MMAP_MAX": -4}


def set_allocator(**options: int) -> None:
    """Set options of glibc's allocator for this process.

    Nothing is changed where the environment sets an option, and where there is no glibc.

    Parameters
    ----------
    **options : int
        Values by name, see ``mallopt(3)``: `TRIM_THRESHOLD`, `TOP_PAD`, `MMAP_THRESHOLD`,
        `MMAP_MAX`.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    for name, value in options.items():
        if mallopt is not None and f"MALLOC_{name}_" not in os.environ:
            mallopt(_NUMBERS[name], value)


def keep_freed_memory() -> None:
    """Let this process use the memory of freed tensors again, and never give any back."""
    set_allocator(MMAP_MAX=0, TRIM_THRESHOLD=(1 << 31) - 1, TOP_PAD=64 << 20)
