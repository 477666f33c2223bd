"""Which layers belong together: all that show a field, or were made with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .layers import FACTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.layers import Layer


def members(layer: Layer, layers: Iterable[Layer]) -> list[Layer]:
    """Return the layers of the same field as `layer`, itself among them, in their order.

    They find each other by what their metadata tell, whatever they are called, and also after they
    were saved and opened again. A layer that has no field has no group.
    """
    field = _field_of(layer)
    return [] if field is None else [other for other in layers if _field_of(other) == field]


def _field_of(layer: Layer) -> str | None:
    facts = layer.metadata.get(FACTS)
    return facts.get("field") if isinstance(facts, dict) else None


__all__ = ["members"]
