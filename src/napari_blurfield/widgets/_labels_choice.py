"""A choice among the Labels layers of a viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Labels

from napari_blurfield._lifetime import Connections

from ._choices import Choice

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from qtpy.QtWidgets import QWidget


class LabelsChoice(Choice):
    """The Labels layers of a viewer, after an entry for none of them.

    Parameters
    ----------
    viewer : ViewerModel
        The viewer.
    first : (words, value)
        What is chosen at first.
    """

    is_setting = False

    def __init__(
        self, viewer: ViewerModel, first: tuple[str, Any], parent: QWidget | None = None
    ) -> None:
        super().__init__([first], parent=parent)
        self._viewer = viewer
        self._first = first
        self._connections = Connections(self)
        events = viewer.layers.events
        for emitter in (events.inserted, events.removed, events.reordered, events.renamed):
            self._connections.add(emitter, self._refresh)
        self._refresh()

    def _refresh(self, *_: object) -> None:
        layers = [layer for layer in self._viewer.layers if isinstance(layer, Labels)]
        self.fill([self._first, *((layer.name, layer) for layer in reversed(layers))])
