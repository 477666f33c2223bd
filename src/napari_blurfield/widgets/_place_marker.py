"""A mark on the image at a place that was picked, and the clicks that pick it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Points

from napari_blurfield._lifetime import when_destroyed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari.components import ViewerModel
    from qtpy.QtCore import QObject

    from napari_blurfield._spatial import Placement

#: Diameter of the mark in pixels of the screen, at any zoom.
_SIZE = 15
#: Part of that which the rim takes; what is marked shows through the middle.
_RIM = 0.2
#: Neither in images of one channel nor among the colours of the layers of fields.
_COLOR = "lime"
#: Pixels of the screen by which a hand moves the mouse in a click.
_TREMOR = 3
#: Mode of a layer in which clicks have no other meaning.
_PAN_ZOOM = "pan_zoom"


class PlaceMarker:
    """A layer with one mark, which is there as long as a place is marked.

    Parameters
    ----------
    viewer : ViewerModel
        Where the layer goes.
    owner : QObject
        With this the mark goes away.
    name : str
        Name of the layer.
    """

    def __init__(self, viewer: ViewerModel, owner: QObject, name: str) -> None:
        self._viewer = viewer
        self._name = name
        self._layers: list[Points] = []
        self._place: tuple[float, float, dict[str, Any]] | None = None
        layers, of_viewer = self._layers, viewer.layers
        when_destroyed(owner, lambda: _remove(layers, of_viewer))

    @property
    def is_shown(self) -> bool:
        """Whether the mark is in the viewer: people may have removed its layer."""
        return bool(self._layers) and self._layers[0] in self._viewer.layers

    def show(self, y: float, x: float, placement: Placement) -> None:
        """Mark a pixel of an image that lies at a two-dimensional placement."""
        place = (y, x, placement.to_json())
        if place == self._place and self.is_shown:
            return
        self.hide()
        self._place = place
        active = self._viewer.layers.selection.active
        layer = Points(
            np.array([[y, x]]),
            name=self._name,
            symbol="disc",
            size=_SIZE,
            canvas_size_limits=(_SIZE, _SIZE),
            face_color="transparent",
            border_color=_COLOR,
            border_width=_RIM,
            **placement.to_layer(),
        )
        self._layers.append(layer)
        self._viewer.add_layer(layer)
        self._viewer.layers.selection.active = active

    def hide(self) -> None:
        """Remove the mark."""
        _remove(self._layers, self._viewer.layers)


def _remove(layers: list[Points], from_layers: Any) -> None:
    while layers:
        layer = layers.pop()
        if layer in from_layers:
            from_layers.remove(layer)


def on_click(
    viewer: ViewerModel, owner: QObject, callback: Callable[[Sequence[float]], None]
) -> None:
    """Call a method of `owner` with the world position of each click into the canvas.

    A click is a press and release of the first button at the same place, while the
    active layer is not being painted or edited. `owner` is not held; with it the clicks end.
    """
    method = weakref.WeakMethod(callback)

    def pressed(viewer: ViewerModel, event: Any) -> Iterator[None]:
        active = viewer.layers.selection.active
        if event.button != 1 or (active is not None and str(active.mode) != _PAN_ZOOM):
            return
        position, start = tuple(event.position), np.array(event.pos)
        yield
        while event.type == "mouse_move":
            if np.abs(np.asarray(event.pos) - start).max() > _TREMOR:
                return
            yield
        clicked = method()
        if clicked is not None:
            clicked(position)

    callbacks = viewer.mouse_drag_callbacks
    callbacks.append(pressed)
    when_destroyed(owner, lambda: callbacks.remove(pressed))


__all__ = ["PlaceMarker", "on_click"]
