"""A picture of one kernel, as large as the dock allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.utils.colormaps import ensure_colormap
from qtpy.QtCore import QPoint, QRect, QSize, Qt
from qtpy.QtGui import QImage, QPainter
from qtpy.QtWidgets import QSizePolicy, QWidget

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qtpy.QtGui import QPaintEvent

#: How values become colours: as in the layer of basis kernels.
_COLORMAP, _GAMMA = "inferno", 0.5
_COLORS = 256
#: Sides of the square in pixels: at least, and when there is room.
_LEAST, _USUAL = 120, 210
#: Length in pixels of the marks that point at the middle.
_MARK = 5


class KernelView(QWidget):
    """Shows a point-spread function, its brightest value as white, with marks at its middle."""

    def __init__(self) -> None:
        super().__init__()
        self._picture: QImage | None = None
        self._words = ""
        colors = ensure_colormap(_COLORMAP).map(np.linspace(0, 1, _COLORS) ** _GAMMA)
        self._colors = np.rint(colors[:, :3] * 255).astype(np.uint8)
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.MinimumExpanding)
        self.setSizePolicy(policy)

    def show_kernel(self, psf: NDArray[np.float32] | None, words: str = "") -> None:
        """Show a kernel, or without one say why there is none."""
        self._words = words
        self._picture = None if psf is None else self._drawn(psf)
        self.update()

    @property
    def is_empty(self) -> bool:
        """Whether there is no kernel to see."""
        return self._picture is None

    def sizeHint(self) -> QSize:
        """Return the size that is good to look at."""
        return QSize(_USUAL, _USUAL)

    def minimumSizeHint(self) -> QSize:
        """Return the least size at which pixels can be told apart."""
        return QSize(_LEAST, _LEAST)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the kernel, each value as a square of whole pixels."""
        painter = QPainter(self)
        if self._picture is None:
            flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(self.rect(), int(flags), self._words)
            return
        # Without fractions of pixels, so that all values are seen equally large.
        count = self._picture.width()
        side = max(1, (min(self.width(), self.height()) - 2 * _MARK) // count) * count
        square = QRect(0, 0, side, side)
        square.moveCenter(self.rect().center())
        painter.drawImage(square, self._picture)
        painter.setPen(self.palette().color(self.foregroundRole()))
        middle = square.center()
        for x in (square.left() - _MARK, square.right() + 2):
            painter.drawLine(QPoint(x, middle.y()), QPoint(x + _MARK - 2, middle.y()))
        for y in (square.top() - _MARK, square.bottom() + 2):
            painter.drawLine(QPoint(middle.x(), y), QPoint(middle.x(), y + _MARK - 2))

    def _drawn(self, psf: NDArray[np.float32]) -> QImage:
        levels = np.rint(psf * ((_COLORS - 1) / float(psf.max()))).astype(int)
        height, width = levels.shape
        pixels = self._colors[levels].tobytes()
        picture = QImage(pixels, width, height, 3 * width, QImage.Format.Format_RGB888)
        return QImage(picture.copy())  # the bytes go away
