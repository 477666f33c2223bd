"""What colours and slices of the layers in view mean: a scale of extents, and kernels by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QRect, Qt
from qtpy.QtGui import QColor, QLinearGradient, QPainter
from qtpy.QtWidgets import QGridLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_blurfield._lifetime import Connections
from napari_blurfield._pixel_size import PixelSize
from napari_blurfield._spatial import Placement
from napari_blurfield.layers import FACTS, role_of

from ._tool import describe, note

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer, Vectors
    from napari.utils.events import Event
    from qtpy.QtGui import QPaintEvent

#: Changes of layers that change what there is to say.
_EVENTS = frozenset(
    ("inserted", "removed", "reordered", "visible", "edge_color", "scale", "units", "features")
)
#: Colours between which the bar fades.
_STOPS = 16
_BAR_HEIGHT = 12


class Legend(QWidget):
    """A scale for the vectors in view, and the name of the kernel whose weights are in view.

    Nothing is shown where there are neither.

    Parameters
    ----------
    viewer : ViewerModel
        Its topmost visible layers of vectors and of kernels are explained.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self.extent = ExtentScale()
        self.kernel: QLabel = note()
        describe(self.kernel, "Kernel in view", "Which of the basis kernels the slider has chosen.")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 6, 0, 0)
        column.addWidget(self.extent)
        column.addWidget(self.kernel)
        self._connections = Connections(self)
        self._connections.add(viewer.layers.events, self._on_event)
        self._connections.add(viewer.dims.events.current_step, self.follow)
        self.follow()

    def follow(self, *_: object) -> None:
        """Explain what is in view now."""
        vectors = self._topmost("vectors")
        self.extent.setVisible(vectors is not None)
        if vectors is not None:
            self.extent.explain(vectors)
        kernels = self._topmost("mixing") or self._topmost("basis")
        words = "" if kernels is None else self._kernel_words(kernels)
        self.kernel.setText(words)
        self.kernel.setVisible(bool(words))

    def _on_event(self, event: Event) -> None:
        if event.type in _EVENTS:
            self.follow()

    def _topmost(self, role: str) -> Layer | None:
        layers = reversed(list(self._viewer.layers))
        return next((layer for layer in layers if layer.visible and role_of(layer) == role), None)

    def _kernel_words(self, layer: Layer) -> str:
        names = layer.metadata[FACTS].get("names", [])
        axis = self._viewer.dims.ndim - layer.ndim
        number = round(float(layer.world_to_data(self._viewer.dims.point)[0])) if axis >= 0 else -1
        return names[number] if 0 <= number < len(names) else ""


class ExtentScale(QWidget):
    """A bar of the colours of vectors, with extents in pixels and in the unit of the image."""

    def __init__(self) -> None:
        super().__init__()
        describe(
            self,
            "Scale of the vectors",
            "What the colours of the vectors mean: how far the blur reaches along the motion.",
        )
        self._bar = _Bar()
        self.pixels = [QLabel() for _ in range(3)]
        self.physical = [QLabel() for _ in range(3)]
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(1)
        grid.addWidget(QLabel("Extent of the blur"), 0, 0, 1, 3)
        grid.addWidget(self._bar, 1, 0, 1, 3)
        places = (
            Qt.AlignmentFlag.AlignLeft,
            Qt.AlignmentFlag.AlignHCenter,
            Qt.AlignmentFlag.AlignRight,
        )
        for row, labels in ((2, self.pixels), (3, self.physical)):
            for column, (label, place) in enumerate(zip(labels, places, strict=True)):
                grid.addWidget(label, row, column, place)

    def explain(self, vectors: Vectors) -> None:
        """Show the colours of a layer, and what they mean."""
        low, high = vectors.edge_contrast_limits or (0.0, 1.0)
        extents = np.array([low, (low + high) / 2, high])
        self._bar.colors = vectors.edge_colormap.map(np.linspace(0, 1, _STOPS))
        self._bar.update()
        _write(self.pixels, extents, "px")
        pixel = PixelSize.of(Placement.of_layer(vectors))
        for label in self.physical:
            # Where pixels are not square, a colour is not one length in the unit.
            label.setVisible(pixel.is_physical and pixel.is_square)
        _write(self.physical, extents * pixel.side, pixel.unit)


class _Bar(QWidget):
    """A strip that fades from one colour to the next."""

    def __init__(self) -> None:
        super().__init__()
        self.colors = np.zeros((2, 4))
        self.setFixedHeight(_BAR_HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the strip."""
        gradient = QLinearGradient(0, 0, self.width(), 0)
        for place, color in zip(np.linspace(0, 1, len(self.colors)), self.colors, strict=True):
            gradient.setColorAt(float(place), QColor.fromRgbF(*map(float, color)))
        painter = QPainter(self)
        painter.fillRect(QRect(0, 0, self.width(), self.height()), gradient)
        painter.end()


def _write(labels: list[QLabel], values: np.ndarray, unit: str) -> None:
    """Write values under the bar, with as many digits as it takes to tell them apart."""
    digits = max(0, 1 - int(np.floor(np.log10(max(float(values[-1] - values[0]), 1e-9)))))
    for label, value in zip(labels, values, strict=True):
        label.setText(f"{value:.{min(digits, 6)}f}")
    labels[-1].setText(f"{labels[-1].text()} {unit}")


__all__ = ["ExtentScale", "Legend"]
