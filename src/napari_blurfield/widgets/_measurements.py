"""What was measured of the frames of an image: plot, limit, table, and where they go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from blurfield.quantities import QUANTITIES, flag_rows, unusual_from
from napari_blurfield._measuring import axes_of_rows, flagged_words

from ._choices import Choice
from ._figures_table import Column, FiguresTable, figure_columns, percent
from ._plot import BlurPlot, Line
from ._tool import describe, note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from PyQt6.QtCore import pyqtSignal as Signal
    from qtpy.QtGui import QColor

    from blurfield.quantities import Row
else:
    from qtpy.QtCore import Signal

#: Milliseconds in which rows are gathered before they are shown.
_GATHERED = 100
#: What figures are multiplied by to be shown, and their unit, by kind of quantity.
_SHOWN = {"share": (100.0, "%"), "angle": (1.0, "°")}


class Measurements(QWidget):
    """Shows rows of figures as a plot and a table, and flags those beyond a limit.

    Attributes
    ----------
    frame_picked : Signal(int)
        A frame was clicked.
    layer_wanted, save_wanted : Signal(), Signal(str)
        The rows are to become a layer, or a file.
    """

    frame_picked = Signal(int)
    layer_wanted = Signal()
    save_wanted = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rows: list[Row] = []
        self._color_of: Callable[[int], QColor | None] = lambda _: None
        self._limits: dict[str, float] = {}
        #: Quantities of which a person has set the limit.
        self._chosen: set[str] = set()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_GATHERED)
        self._timer.timeout.connect(self.refresh)
        self._make_controls()
        self._lay_out()
        self.quantity.changed.connect(self._on_quantity_changed)
        self.flag.toggled.connect(self._on_flag_toggled)
        self.limit.valueChanged.connect(self._on_limit_changed)
        self.plot.limit_moved.connect(self._on_limit_moved)
        self.plot.picked.connect(self.frame_picked)
        self.only_flagged.toggled.connect(self.refresh)
        self.table.picked.connect(self._on_row_picked)
        self.layer_button.clicked.connect(self.layer_wanted)
        self.save_button.clicked.connect(self._ask_where_to_save)
        self.begin(self._color_of)

    def _make_controls(self) -> None:
        self.quantity = Choice([(what.name, column) for column, what in QUANTITIES.items()])
        describe(self.quantity, "Quantity", "What the plot shows, and what the limit is about.")
        self.flag = QCheckBox("Flag above")
        describe(
            self.flag,
            "Flag frames beyond a limit",
            "Mark the frames that are worse than the limit. At first it lies where figures begin "
            "to be unusual among these frames: three standard deviations from the median.",
        )
        self.limit = QDoubleSpinBox()
        self.limit.setRange(-1e9, 1e9)
        describe(self.limit, "Limit", "Type it here, or drag the dashed line in the plot.")
        self.plot = BlurPlot()
        describe(
            self.plot,
            "Blur over frames",
            "Click to go to a frame; drag the dashed line to set the limit. The dotted line is the "
            "frame that is shown. The table below holds the same figures.",
        )
        self.summary: QLabel = note()
        describe(self.summary, "Flagged frames", "How many frames are flagged, and which.")
        self.only_flagged = QCheckBox("Only flagged frames")
        describe(self.only_flagged, "Only flagged frames", "Leave all other rows out below.")
        self.table = FiguresTable()
        describe(self.table, "Figures of each frame", "Picking a row goes to its frame.")
        self.layer_button = QPushButton("Add as layer")
        describe(
            self.layer_button,
            "Add as layer",
            "Add a Points layer with a mark in each frame, or in each region, which has the table "
            "as its features and can be saved with other layers.",
        )
        self.save_button = QPushButton("Save CSV…")
        describe(self.save_button, "Save CSV", "Save all figures of each frame as a table.")

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Plot", self.quantity)
        form.addRow(self.flag, self.limit)
        buttons = QHBoxLayout()
        buttons.addWidget(self.layer_button)
        buttons.addWidget(self.save_button)
        column = QVBoxLayout()
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(form)
        column.addWidget(self.plot)
        column.addWidget(self.summary)
        column.addWidget(self.only_flagged)
        column.addWidget(self.table)
        column.addLayout(buttons)
        self.setLayout(column)

    # ----------------------------------------------------------------------- rows

    @property
    def rows(self) -> list[Row]:
        """All rows, flagged where there is a limit."""
        return flag_rows(self._rows, self._limit_value, self._flagging)

    @property
    def unit(self) -> str:
        """Unit of extents."""
        return str(self._rows[0].get("unit", "px")) if self._rows else "px"

    def begin(self, color_of: Callable[[int], QColor | None], *, same_image: bool = False) -> None:
        """Start anew.

        Parameters
        ----------
        color_of : callable
            Returns the colour of a label, or None for any other.
        same_image : bool
            Whether rows of the image that was measured before follow, in the same unit: limits that
            a person has set for it stay.
        """
        self._rows = []
        self._color_of = color_of
        self._forget_limits(but=self._chosen if same_image else ())
        self.refresh()

    def _forget_limits(self, but: Iterable[str]) -> None:
        """Let no limit outlive its rows but those for some quantities."""
        self._limits = {column: self._limits[column] for column in but}
        self._chosen = set(self._limits)
        if self.quantity.value in self._limits:
            return
        self.limit.blockSignals(True)
        self.limit.setValue(0)
        self.limit.blockSignals(False)
        self.flag.setChecked(False)  # a limit that suits is offered as soon as it is wanted again

    def add_rows(self, rows: list[Row]) -> None:
        """Add the rows of a frame; they are shown together with others that come soon."""
        self._rows += rows
        if not self._timer.isActive():
            self._timer.start()

    def show_frame(self, frame: int | None) -> None:
        """Mark the frame that the viewer shows."""
        self.plot.set_current(frame)
        numbers = [row["frame"] for row in self._listed]
        self.table.select_row(numbers.index(frame) if frame in numbers else None)

    def refresh(self, *_: object) -> None:
        """Show the rows as they are now."""
        self._timer.stop()
        self.setVisible(bool(self._rows))
        factor, unit = self._scale
        quantity = QUANTITIES[self.quantity.value]
        self.flag.setEnabled(quantity.worse != 0)
        self.flag.setText("Flag below" if quantity.worse < 0 else "Flag above")
        self.limit.setEnabled(self.flag.isChecked() and quantity.worse != 0)
        self.limit.setSuffix(f" {unit}")
        self.plot.set_axes("frame", f"{quantity.name} ({unit})", join=quantity.kind != "angle")
        limit = self._limit_value
        self.plot.set_limit(None if limit is None else limit * factor)
        self.plot.set_lines(self._lines(factor))
        self._show_table()

    def _lines(self, factor: float) -> list[Line]:
        by_label: dict[int, list[Row]] = {}
        for row in sorted(self.rows, key=lambda row: row["frame"]):
            by_label.setdefault(row["label"], []).append(row)
        return [
            Line(
                f"label {label}" if label else "frame",
                [row["frame"] for row in rows],
                [factor * row[self.quantity.value] for row in rows],
                [bool(row.get("flagged")) for row in rows],
                self._color_of(label),
            )
            for label, rows in sorted(by_label.items())
        ]

    def _show_table(self) -> None:
        rows = sorted(self.rows, key=lambda row: (row["frame"], row["label"]))
        self.summary.setText(flagged_words(rows))
        self.summary.setVisible(self._limit_value is not None)
        if self.only_flagged.isChecked() and self._limit_value is not None:
            rows = [row for row in rows if row["flagged"]]
        self._listed = rows
        columns = [
            Column(axis, axis, f"Position of the frame along {axis}, from 0.")
            for axis in axes_of_rows(rows)
        ] or [Column("frame", "Frame", "Number of the frame, from 0.")]
        if any(row["label"] for row in rows):
            columns.append(Column("label", "Label", "Number of the region."))
        columns += figure_columns(self.unit)
        columns.append(
            Column("blurred", "Share\n%", "Share of the pixels that count as blurred.", percent)
        )
        self.table.show_rows(columns, rows, [bool(row.get("flagged")) for row in rows])

    # ---------------------------------------------------------------------- limit

    @property
    def _scale(self) -> tuple[float, str]:
        return _SHOWN.get(QUANTITIES[self.quantity.value].kind, (1.0, self.unit))

    @property
    def _flagging(self) -> str:
        """The quantity that flags frames: one that is neither good nor bad leaves it to extents."""
        column: str = self.quantity.value
        return column if QUANTITIES[column].worse else "extent_median"

    @property
    def _limit_value(self) -> float | None:
        usable = self.flag.isChecked() and QUANTITIES[self.quantity.value].worse
        return self._limits.get(self.quantity.value) if usable else None

    def _on_quantity_changed(self, *_: object) -> None:
        if self.flag.isChecked():
            self._offer_limit()
        self.refresh()

    def _on_flag_toggled(self, checked: bool) -> None:
        if checked:
            self._offer_limit()
        self.refresh()

    def _offer_limit(self) -> None:
        """Begin with the limit set before, or with one that suits the rows."""
        column = self.quantity.value
        if not QUANTITIES[column].worse:
            return
        if column not in self._limits:
            try:
                self._limits[column] = unusual_from(self._rows, column)
            except ValueError:  # no row knows it, the confidence of a simulated field for instance
                return
        self._show_limit()

    def _show_limit(self) -> None:
        factor, _ = self._scale
        value = factor * self._limits[self.quantity.value]
        self.limit.blockSignals(True)
        self.limit.setDecimals(1 if abs(value) >= 10 else 2)
        self.limit.setSingleStep(0.5 if abs(value) >= 10 else 0.1)
        self.limit.setValue(value)
        self.limit.blockSignals(False)

    def _on_limit_changed(self, value: float) -> None:
        self._set_limit(value)
        self.refresh()

    def _on_limit_moved(self, value: float) -> None:
        self._set_limit(value)
        self._show_limit()
        self._timer.start()

    def _set_limit(self, value: float) -> None:
        """Take a limit that a person has set, as it is shown."""
        self._limits[self.quantity.value] = value / self._scale[0]
        self._chosen.add(self.quantity.value)

    # --------------------------------------------------------------------- events

    def _on_row_picked(self, row: int) -> None:
        if row < len(self._listed):
            self.frame_picked.emit(int(self._listed[row]["frame"]))

    def _ask_where_to_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, "Save measurements", "blur.csv", "Tables (*.csv)"
        )
        if path:
            self.save_wanted.emit(path)
