"""A plot of figures over frames, in the colours of the window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pyqtgraph
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QVBoxLayout, QWidget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PyQt6.QtCore import pyqtSignal as Signal
else:
    from qtpy.QtCore import Signal

#: Height in pixels.
_HEIGHT = 190
#: Hue in degrees of what is flagged.
_FLAG_HUE = 25
#: Degrees between the hues of lines, so that neighbours differ.
_HUE_STEP, _FIRST_HUE = 137.5, 210
#: Part of the lower axis that numbers may fill.
_TICKS = 0.4
#: Diameter in pixels of points, and of flagged ones.
_POINT, _FLAGGED = 7, 11


class Line(NamedTuple):
    """The figures of one region over the frames.

    Attributes
    ----------
    name : str
        For people.
    frames : sequence of int
    values : sequence of float
        One for each frame; NaN leaves a gap.
    flagged : sequence of bool
        Which of them are set off.
    color : QColor or None
        By default, one that differs from those of the lines before.
    """

    name: str
    frames: Sequence[int]
    values: Sequence[float]
    flagged: Sequence[bool]
    color: QColor | None = None


class _FrameAxis(pyqtgraph.AxisItem):  # type: ignore[misc]
    """An axis of whole numbers."""

    def tickSpacing(self, low: float, high: float, size: float) -> list[tuple[float, float]]:
        spacings = super().tickSpacing(low, high, size)
        return [(step, offset) for step, offset in spacings if step >= 1] or [(1.0, 0.0)]


class BlurPlot(QWidget):
    """Lines over frames, a limit that can be dragged, and the frame that is shown.

    Attributes
    ----------
    picked : Signal(int)
        The frame that was clicked, or the nearest one.
    limit_moved : Signal(float)
        Where the limit was dragged to.
    """

    picked = Signal(int)
    limit_moved = Signal(float)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._lines: list[Line] = []
        self._join = True
        self._plot = pyqtgraph.PlotWidget(parent=self, axisItems={"bottom": _FrameAxis("bottom")})
        self._plot.setFrameShape(self._plot.Shape.NoFrame)
        self._plot.setMenuEnabled(False)
        self._plot.setMouseEnabled(x=False, y=False)  # the wheel scrolls the dock
        self._plot.hideButtons()
        self._plot.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._plot.viewport().setAttribute(Qt.WidgetAttribute.WA_AcceptTouchEvents, False)
        self._plot.getAxis("bottom").setStyle(textFillLimits=[(0, _TICKS)])
        for name in ("left", "bottom"):
            self._plot.getAxis(name).enableAutoSIPrefix(False)  # the unit has its own
        self._limit = pyqtgraph.InfiniteLine(angle=0, movable=True)
        self._limit.sigDragged.connect(self._on_dragged)
        self._current = pyqtgraph.InfiniteLine(angle=90)
        for line in (self._limit, self._current):
            line.hide()
            self._plot.addItem(line, ignoreBounds=line is self._current)
        self._plot.scene().sigMouseClicked.connect(self._on_clicked)
        column = QVBoxLayout()
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._plot)
        self.setLayout(column)
        self.setFixedHeight(_HEIGHT)
        self._paint()

    # -------------------------------------------------------------------- content

    @property
    def lines(self) -> list[Line]:
        """What is drawn."""
        return list(self._lines)

    @property
    def limit(self) -> float | None:
        """Where the limit is drawn."""
        return float(self._limit.value()) if self._limit.isVisible() else None

    @property
    def current(self) -> int | None:
        """The frame that is marked."""
        return round(self._current.value()) if self._current.isVisible() else None

    def set_axes(self, across: str, up: str, *, join: bool = True) -> None:
        """Name the axes, and say whether points are joined by lines."""
        self._join = join
        self._plot.setLabel("bottom", across)
        self._plot.setLabel("left", up)

    def set_lines(self, lines: Sequence[Line]) -> None:
        """Replace what is drawn."""
        self._lines = list(lines)
        self._draw()

    def set_limit(self, value: float | None) -> None:
        """Show the limit at a value, or not at all."""
        self._limit.setVisible(value is not None)
        if value is not None:
            self._limit.setValue(value)

    def set_current(self, frame: int | None) -> None:
        """Mark the frame that is shown, or none."""
        self._current.setVisible(frame is not None)
        if frame is not None:
            self._current.setValue(frame)

    # -------------------------------------------------------------------- drawing

    def changeEvent(self, event: QEvent | None) -> None:
        """Take on the colours of another theme."""
        super().changeEvent(event)
        kinds = (QEvent.Type.StyleChange, QEvent.Type.PaletteChange)
        if event is not None and event.type() in kinds and hasattr(self, "_current"):
            self._paint()

    def _paint(self) -> None:
        palette = self.palette()
        text = palette.color(palette.ColorRole.WindowText)
        self._plot.setBackground(palette.color(palette.ColorRole.Window))
        faint = QColor(text)
        faint.setAlphaF(0.5)
        for name in ("left", "bottom"):
            axis = self._plot.getAxis(name)
            axis.setPen(faint)
            axis.setTextPen(text)
        dash, dots = Qt.PenStyle.DashLine, Qt.PenStyle.DotLine
        flag = self._hue(_FLAG_HUE)
        self._limit.setPen(pyqtgraph.mkPen(flag, width=2, style=dash))
        self._limit.setHoverPen(pyqtgraph.mkPen(flag, width=4))
        self._current.setPen(pyqtgraph.mkPen(faint, width=2, style=dots))
        self._draw()

    def _draw(self) -> None:
        for item in self._plot.getPlotItem().listDataItems():
            self._plot.removeItem(item)
        flag = self._hue(_FLAG_HUE)
        for number, line in enumerate(self._lines):
            color = line.color or self._hue(_FIRST_HUE + number * _HUE_STEP)
            self._plot.addItem(
                pyqtgraph.PlotDataItem(
                    list(line.frames),
                    list(line.values),
                    pen=pyqtgraph.mkPen(color, width=1.5) if self._join else None,
                    connect="finite",
                    symbol=["t1" if bad else "o" for bad in line.flagged],
                    symbolSize=[_FLAGGED if bad else _POINT for bad in line.flagged],
                    symbolBrush=[flag if bad else color for bad in line.flagged],
                    symbolPen=None,
                )
            )

    def _hue(self, degrees: float) -> QColor:
        """Return a colour that is easy to tell from the background."""
        palette = self.palette()
        dark = palette.color(palette.ColorRole.Window).lightnessF() < 0.5
        return QColor.fromHslF(degrees / 360 % 1, 0.75, 0.65 if dark else 0.38)

    # --------------------------------------------------------------------- events

    def _on_dragged(self, *_: object) -> None:
        self.limit_moved.emit(float(self._limit.value()))

    def _on_clicked(self, event: Any) -> None:
        frames = sorted({frame for line in self._lines for frame in line.frames})
        box = self._plot.getPlotItem().getViewBox()
        if not frames or not box.sceneBoundingRect().contains(event.scenePos()):
            return
        place = box.mapSceneToView(event.scenePos()).x()
        self.picked.emit(min(frames, key=lambda frame: abs(frame - place)))
