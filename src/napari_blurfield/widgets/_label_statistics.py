"""The blur under each label of a layer: a table in the dock that is also a file."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from ._figures_table import Column, FiguresTable, figure_columns, short_number
from ._tool import describe, note

if TYPE_CHECKING:
    from napari.layers import Labels
    from PyQt6.QtCore import pyqtSignal as Signal
else:
    from qtpy.QtCore import Signal

_STALE = "These are the figures from before the last change: press 'Update statistics'."


class LabelStatistics(QWidget):
    """Shows the features of a Labels layer that are statistics of blur.

    Attributes
    ----------
    update_wanted : Signal()
        The button was pressed.
    save_wanted : Signal(str)
        The table is to be written to this file.
    """

    update_wanted = Signal()
    save_wanted = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layer: weakref.ref[Labels] | None = None
        self.note: QLabel = note()
        describe(self.note, "About the statistics", "Which layer they are about.")
        self.table = FiguresTable()
        describe(
            self.table,
            "Statistics of each label",
            "The blur under each label; the layer's features hold these figures and more. "
            "Picking a row selects its label.",
        )
        self.update_button = QPushButton("Update statistics")
        describe(
            self.update_button,
            "Update statistics",
            "Measure the blur under each label anew, for instance after painting.",
        )
        self.save_button = QPushButton("Save CSV…")
        describe(self.save_button, "Save CSV", "Save all figures of each label as a table.")
        buttons = QHBoxLayout()
        buttons.addWidget(self.update_button)
        buttons.addWidget(self.save_button)
        column = QVBoxLayout()
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.note)
        column.addWidget(self.table)
        column.addLayout(buttons)
        self.setLayout(column)
        self.update_button.clicked.connect(self.update_wanted)
        self.save_button.clicked.connect(self._ask_where_to_save)
        self.table.picked.connect(self._select_label)
        self.show_layer(None)

    def show_layer(self, layer: Labels | None, *, stale: bool = False) -> None:
        """Show the features of a layer; with None, nothing at all."""
        self._layer = None if layer is None else weakref.ref(layer)
        self.setVisible(layer is not None)
        if layer is None:
            return
        self.note.setText(f"{layer.name}. {_STALE}" if stale else f"{layer.name}:")
        rows = layer.features.to_dict("records")
        unit = rows[0].get("unit", "px") if rows else "px"
        columns = [
            Column("region", "Label", "What the label stands for."),
            Column("area", f"Area\n{unit}²", "Area under the label.", short_number),
            *figure_columns(unit),
        ]
        self.table.show_rows(columns, rows)

    def _select_label(self, row: int) -> None:
        layer = None if self._layer is None else self._layer()
        if layer is not None and row < len(layer.features):
            layer.selected_label = int(layer.features["index"].iloc[row])

    def _ask_where_to_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save statistics", "blur.csv", "Tables (*.csv)")
        if path:
            self.save_wanted.emit(path)
