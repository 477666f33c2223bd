"""Layers of a series in a viewer: there after the first frame, and kept up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QObject, QTimer

from napari_blurfield.layers import role_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Layer
    from PyQt6.QtCore import pyqtSignal as Signal

    from napari_blurfield._series_layers import SeriesLayers
else:
    from qtpy.QtCore import Signal

#: Milliseconds between two updates, which take longer the more frames there are.
_INTERVAL = 1000


class SeriesView(QObject):
    """Tells a widget when to add the layers of a series, and keeps them up to date.

    Attributes
    ----------
    ready : Signal(object)
        The `SeriesLayers` have their first frame; whoever adds them says so to `follow`.
    frames : int
        Number of frames that are done.
    """

    ready = Signal(object)
    _reported = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.frames = 0
        self._made: SeriesLayers | None = None
        self._layers: list[Layer] = []
        self._most_kernels = 0
        self._stopped = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_INTERVAL)
        self._timer.timeout.connect(self.update)
        self._reported.connect(self._on_reported)

    def tell(self, made: SeriesLayers, number: int) -> None:
        """Report a frame from the thread that does the work."""
        self._reported.emit(made)

    def follow(self, layers: Sequence[Layer]) -> None:
        """Keep these layers up to date."""
        self._layers = list(layers)

    def stop(self) -> None:
        """Bring the layers up to date for the last time."""
        if self._timer.isActive():
            self._timer.stop()
            self.update()
        self._stopped = True

    def update(self) -> None:
        """Bring the layers up to date."""
        if self._made is None:
            return
        grown = self._made.most_kernels > self._most_kernels
        self._most_kernels = self._made.most_kernels
        for layer in self._layers:
            role = role_of(layer)
            if role == "vectors":
                _set_vectors(layer, self._made)
            elif role in ("mixing", "basis") and grown:
                layer.data = self._made.picture(role)
            elif layer.visible:
                layer.refresh()

    def _on_reported(self, made: SeriesLayers) -> None:
        if self._stopped:
            return
        self.frames = made.frames
        if self._made is None:
            self._made = made
            self._most_kernels = made.most_kernels
            self.ready.emit(made)
        elif not self._timer.isActive():
            self._timer.start()


def _set_vectors(layer: Layer, made: SeriesLayers) -> None:
    vectors, look = made.vectors()
    if np.array_equal(vectors, layer.data):
        return
    layer.data = vectors
    layer.features = look["features"]
    layer.edge_contrast_limits = look["edge_contrast_limits"]
    layer.refresh_colors()
