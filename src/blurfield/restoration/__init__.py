"""Sharp images from blurry ones and their kernel field.

Importing this package, and listing the methods, do not load PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .methods import METHODS, Method, choose_method, installed_methods

if TYPE_CHECKING:
    from .deblurring import deblur
    from .reblurring import reblur

__all__ = ["METHODS", "Method", "choose_method", "deblur", "installed_methods", "reblur"]

_HOME = {"deblur": "deblurring", "reblur": "reblurring"}


def __getattr__(name: str) -> Any:
    try:
        home = _HOME[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value  # found directly from now on
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
