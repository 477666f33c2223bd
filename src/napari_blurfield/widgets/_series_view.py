"""Layers of a series in a viewer: there after the first frame, and kept up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer

from napari_blurfield._spatial import Placement
from napari_blurfield.layers import FACTS, FIELDS, fields_of_stack, role_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari.layers import Layer
    from PyQt6.QtCore import pyqtSignal as Signal

    from napari_blurfield._series_layers import SeriesLayers
    from napari_blurfield.layers import LayerData
else:
    from qtpy.QtCore import Signal

#: Roles of layers whose data change when a frame has more kernels than those before.
_BY_KERNEL = frozenset({"mixing", "basis"})
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
        if self._made is None or not self._made.frames:
            return
        grown = self._made.most_kernels > self._most_kernels
        self._most_kernels = self._made.most_kernels
        for layer in self._layers:
            role = role_of(layer)
            if role == "vectors":
                _set_vectors(layer, self._made)
            elif role in _BY_KERNEL and grown:
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


def renewed(layers: Iterable[Layer], made: SeriesLayers) -> tuple[list[Layer], list[LayerData]]:
    """Bring layers of the same folder, of an earlier run, up to date.

    Parameters
    ----------
    layers : iterable of Layer
        Those of the viewer.
    made : SeriesLayers
        The layers of the folder.

    Returns
    -------
    kept : list of Layer
        Those that show the folder, one for each of its layers that there is.
    new : list of LayerData
        What there is no layer of yet.
    """
    folder = made.fields.series.folder
    known: dict[str | None, Layer] = {}
    for layer in layers:
        fields = fields_of_stack(layer)
        if fields is not None and fields.series.folder == folder:
            if not known:
                made.adopt(fields)
            known.setdefault(role_of(layer), layer)
    new: list[LayerData] = []
    kept: list[Layer] = []
    for data, attributes, kind in made.layers():
        layer = known.get(attributes["metadata"][FACTS]["role"])
        if layer is None:
            new.append((data, attributes, kind))
        else:
            kept.append(layer)
            _renew(layer, made, attributes)
    return kept, new


def _renew(layer: Layer, made: SeriesLayers, attributes: dict[str, Any]) -> None:
    """Let a layer show what is in its folder now; it keeps its look."""
    role, source = role_of(layer), made.fields.facts["source"]
    if layer.metadata[FACTS]["source"] != source:  # which was moved or renamed since
        for name in Placement.of_pixels().to_layer():
            setattr(layer, name, attributes[name])
    layer.metadata[FACTS] = {**layer.metadata[FACTS], "source": source}
    layer.metadata[FIELDS] = made.fields
    if role == "vectors":
        _set_vectors(layer, made)
    elif role in _BY_KERNEL:
        layer.data = made.picture(role)
    else:
        layer.refresh()


def _set_vectors(layer: Layer, made: SeriesLayers) -> None:
    """Show the vectors of the frames that were asked for, beside those of others."""
    vectors, look = made.vectors()
    others = made.is_of_other_frames(layer.data)
    features = {
        name: np.concatenate([values, layer.features[name][others]])
        for name, values in look["features"].items()
    }
    vectors = np.concatenate([vectors, layer.data[others]])
    if np.array_equal(vectors, layer.data):
        return
    layer.data = vectors
    layer.features = features
    layer.edge_contrast_limits = look["edge_contrast_limits"]
    layer.refresh_colors()
