"""A control to correct what the axes of an image are taken for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_blurfield._axes import CHANNELS, FRAMES, Axes, is_named
from napari_blurfield._lifetime import Connections
from napari_blurfield._picked_axes import picks, stored_shape

from ._choices import Choice

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

    from ._choices import ImageChoice


class AxesChoice(Choice):
    """Which axis before rows and columns holds channels, if one does; the others are frames.

    What is picked holds for the layer in all widgets, until napari is closed. `is_open` says
    whether there is anything to pick.

    Parameters
    ----------
    image : ImageChoice
        Which image.
    """

    is_setting = False

    def __init__(self, image: ImageChoice, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self._image = image
        self._filling = False
        self._connections = Connections(self)
        self._connections.add(picks.changed, self._refresh)
        image.changed.connect(self._refresh)
        image.reshaped.connect(self._refresh)
        self.changed.connect(self._pick)
        self._refresh()

    @property
    def is_open(self) -> bool:
        """Whether the image has axes before rows and columns, and no colours."""
        return len(self.values) > 1

    def _refresh(self, *_: object) -> None:
        layer = self._image.value
        entries: list[tuple[str, int | None]] = [("none", None)]
        chosen = None
        if layer is not None and not layer.rgb:
            try:
                chosen = picks.of(layer).channels
            except ValueError:  # said where the image is described
                pass
            else:
                sizes = zip(layer.axis_labels, stored_shape(layer)[:-2], strict=False)
                entries += [
                    (f"{label if is_named(label) else f'axis {axis}'} ({size})", axis)
                    for axis, (label, size) in enumerate(sizes)
                ]
        self._filling = True
        self.fill(entries)
        self.setCurrentIndex(0 if chosen is None else chosen + 1)
        self._filling = False

    def _pick(self, axis: int | None) -> None:
        layer = self._image.value
        if self._filling or layer is None:
            return
        axes = Axes((FRAMES,) * (layer.ndim - 2))
        picks.pick(layer, axes if axis is None else axes.with_role(axis, CHANNELS))
