"""Colour bars on the canvas, for layers whose colours stand for numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .layers import role_of

if TYPE_CHECKING:
    from napari.layers import Layer

_SCALED = frozenset({"mixing", "uncertainty"})


def show_scale(layer: Layer) -> None:
    """Show a colour bar beside a layer as long as it is visible, where napari has such bars."""
    bar = getattr(layer, "colorbar", None)
    if bar is not None and role_of(layer) in _SCALED:
        bar.visible = True


__all__ = ["show_scale"]
