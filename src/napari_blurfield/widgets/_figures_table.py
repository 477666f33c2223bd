"""A small table of figures for a narrow dock."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem, QWidget

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from PyQt6.QtCore import pyqtSignal as Signal
else:
    from qtpy.QtCore import Signal

#: Rows that are visible without scrolling, at most.
_MOST_ROWS = 8
#: What stands where a figure is not known.
_UNKNOWN = "–"


class Column(NamedTuple):
    """One column of the table.

    Attributes
    ----------
    key : str
        Of the figure in each row.
    head : str
        What stands above it.
    tooltip : str
        The same as a sentence.
    words : callable
        Turns a figure into text.
    """

    key: str
    head: str
    tooltip: str
    words: Callable[[Any], str] = str


class FiguresTable(QTableWidget):
    """Figures in rows, for reading and picking; nothing can be edited.

    Attributes
    ----------
    picked : Signal(int)
        The number of the row that was clicked or reached with the arrow keys.
    """

    picked = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setTabKeyNavigation(False)
        header = self.verticalHeader()
        if header is not None:
            header.hide()
            header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self._shown = False
        self.currentCellChanged.connect(self._on_current_changed)

    def show_rows(
        self,
        columns: Sequence[Column],
        rows: Sequence[Mapping[str, Any]],
        marked: Sequence[bool] = (),
    ) -> None:
        """Replace everything.

        Parameters
        ----------
        columns : sequence of Column
        rows : sequence of mapping
            Figures by the keys of the columns.
        marked : sequence of bool
            Which rows are set off, in bold type; none by default.
        """
        place = self.verticalScrollBar().value()  # type: ignore[union-attr]
        self.blockSignals(True)
        try:
            self.setColumnCount(len(columns))
            self.setRowCount(len(rows))
            for index, column in enumerate(columns):
                head = QTableWidgetItem(column.head)
                head.setToolTip(column.tooltip)
                self.setHorizontalHeaderItem(index, head)
            for number, row in enumerate(rows):
                bold = bool(marked) and marked[number]
                for index, column in enumerate(columns):
                    self.setItem(number, index, _cell(column, row, bold))
        finally:
            self.blockSignals(False)
        self.resizeColumnsToContents()
        self._fit_height()
        self.verticalScrollBar().setValue(place)  # type: ignore[union-attr]

    def select_row(self, number: int | None) -> None:
        """Show a row as the current one, without `picked`."""
        self.blockSignals(True)
        try:
            if number is None:
                self.clearSelection()
            else:
                self.setCurrentCell(number, 0)
        finally:
            self.blockSignals(False)

    def _fit_height(self) -> None:
        header, bar = self.horizontalHeader(), self.horizontalScrollBar()
        height = 2 * self.frameWidth()
        height += header.sizeHint().height() if header is not None else 0
        height += bar.sizeHint().height() if bar is not None else 0
        height += sum(self.rowHeight(row) for row in range(min(self.rowCount(), _MOST_ROWS)))
        self.setFixedHeight(height)

    def _on_current_changed(self, row: int, *_: int) -> None:
        if row >= 0:
            self.picked.emit(row)


def _cell(column: Column, row: Mapping[str, Any], bold: bool) -> QTableWidgetItem:
    value = row.get(column.key)
    unknown = value is None or (isinstance(value, float) and math.isnan(value))
    item = QTableWidgetItem(_UNKNOWN if unknown else column.words(value))
    item.setToolTip(column.tooltip)
    if not isinstance(value, str):
        item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    if bold:
        font = item.font()
        font.setBold(True)
        item.setFont(font)
    return item


def figure_columns(unit: str) -> list[Column]:
    """Return the columns of `blurfield.blur_statistics` that are shown, for a unit of lengths."""
    return [
        Column(
            "extent_median",
            f"Blur\n{unit}",
            "Median of how far the blur reaches along its direction.",
            short_number,
        ),
        Column("extent_95", f"95 %\n{unit}", "95 % of the pixels have no more blur.", short_number),
        Column("angle", "Dir.\n°", "Direction of the motion, counter-clockwise.", _whole),
        Column("confidence", "Conf.\n%", "How well independent estimates agree.", percent),
    ]


def short_number(value: float) -> str:
    """Return a figure with two decimals where they mean something."""
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _whole(value: float) -> str:
    return f"{value:.0f}"


def percent(value: float) -> str:
    """Return a share in percent, without the sign."""
    return f"{100 * value:.0f}"
