"""The napari plugin: layers in, layers out. All mathematics is in `blurfield`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._reblurring import reblur_layer, residual_layer, simulate_layer
    from .functions import deblur_layer, estimate_layers, mask_layer
    from .layers import field_layers, find_field

__all__ = [
    "deblur_layer",
    "estimate_layers",
    "field_layers",
    "find_field",
    "mask_layer",
    "reblur_layer",
    "residual_layer",
    "simulate_layer",
]

_HOME = {
    "deblur_layer": "functions",
    "estimate_layers": "functions",
    "field_layers": "layers",
    "find_field": "layers",
    "mask_layer": "functions",
    "reblur_layer": "_reblurring",
    "residual_layer": "_reblurring",
    "simulate_layer": "_reblurring",
}


def __getattr__(name: str) -> Any:
    try:
        home = _HOME[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
