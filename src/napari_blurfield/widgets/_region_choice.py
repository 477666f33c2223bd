"""A choice of what part of an image to work on: what a layer of shapes or labels marks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Labels, Shapes

from napari_blurfield._lifetime import Connections

from ._choices import Choice

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from qtpy.QtWidgets import QWidget

    from napari_blurfield._regions import Region
    from napari_blurfield._source import Source


class RegionChoice(Choice):
    """The whole image, the shapes of a Shapes layer, or the selected label of a Labels layer.

    Parameters
    ----------
    viewer : ViewerModel
        The viewer.
    """

    is_setting = False

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self._viewer = viewer
        self._connections = Connections(self)
        events = viewer.layers.events
        for emitter in (events.inserted, events.removed, events.reordered, events.renamed):
            self._connections.add(emitter, self._refresh)
        self._refresh()

    def regions(self, source: Source) -> list[Region]:
        """Return the chosen parts of an image; none for the whole of it.

        Raises
        ------
        ValueError
            If the chosen layer marks nothing on the image.
        """
        layer = self.value
        if layer is None:
            return []
        from napari_blurfield._regions import regions_of

        return regions_of(layer, source, self._viewer.dims.point)

    def _refresh(self, *_: object) -> None:
        entries: list[tuple[str, Any]] = [("whole image", None)]
        for layer in reversed(list(self._viewer.layers)):
            if isinstance(layer, Shapes):
                entries.append((f"{layer.name} (shapes)", layer))
            elif isinstance(layer, Labels):
                entries.append((f"{layer.name} (selected label)", layer))
        self.fill(entries)
