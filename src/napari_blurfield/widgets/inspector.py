"""The widget that shows the kernel under the cursor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QPushButton, QWidget

from napari_blurfield._lifetime import Connections
from napari_blurfield._spatial import PIXEL
from napari_blurfield.layers import field_placement, source_name

from ._choices import FieldChoice
from ._kernel_view import KernelView
from ._place_marker import PlaceMarker, on_click
from ._tool import ToolWidget, describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel

    from blurfield.inspection import KernelFacts
    from napari_blurfield._spatial import Placement

#: Milliseconds between two readings while the cursor moves: more than thirty a second.
_INTERVAL = 25
#: Anisotropy below which a kernel is as good as round.
_ROUND = 0.1
_HINT = "Move the mouse over the image."
#: Rows of facts, with what they mean.
_ROWS = {
    "place": ("Pixel", "Row and column in the image."),
    "support": ("Support", "Height and width of the picture, in pixels of the image."),
    "extent": (
        "Extent",
        "How far the blur reaches along its principal direction, in pixels and in the unit of the "
        "layer's scale: 1 px for no blur.",
    ),
    "direction": (
        "Direction",
        "The principal direction, counter-clockwise from horizontal. Anisotropy is 1 for a "
        "straight line and 0 for a round kernel, which has no direction.",
    ),
    "norm": ("L2 norm", "1 for no blur, 1/√L for a straight line of L pixels."),
    "uncertainty": (
        "Uncertainty",
        "0 % where the image tells the kernel, 100 % where it says nothing.",
    ),
}
_FORMATS = "Array (*.npy);;TIFF, 32 bit (*.tif);;PNG, 16 bit (*.png);;Table (*.csv)"


class InspectorWidget(ToolWidget):
    """Show the kernel under the cursor as a point-spread function, and what there is to say of it.

    Parameters
    ----------
    napari_viewer : ViewerModel
        Where the field comes from.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__(
            napari_viewer, "Pin", "Keep showing this place, and mark it; a click does the same."
        )
        #: What is shown, None if there is nothing to show.
        self.facts: KernelFacts | None = None
        self._pinned: tuple[float, ...] | None = None
        self._marker = PlaceMarker(self.viewer, self, "inspected place")
        self._add_rows()
        self._add_buttons()
        self.restore_button.hide()  # nothing is set here

        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_INTERVAL)
        self._timer.timeout.connect(self.refresh)
        self._connections = Connections(self)
        self._connections.add(self.viewer.cursor.events.position, self._on_cursor)
        self._connections.add(self.viewer.layers.events.removed, self._on_removed)
        self._connections.add(self.viewer.dims.events.current_step, self._on_cursor)
        on_click(self.viewer, self, self._on_clicked)
        self.field.changed.connect(self._on_field)
        self.run_button.clicked.connect(self.run)
        self.refresh()

    # -------------------------------------------------------------------- actions

    def run(self) -> None:
        """Pin the place that is shown, or unpin it, as the button does."""
        with self.explaining():
            if self.field.value is None:
                raise ValueError(
                    "there is no blur field in the viewer: run 'Estimate blur field' or open a "
                    ".blurfield file first"
                )
            if self.is_pinned:
                self.unpin()
            else:
                self.pin(self.viewer.cursor.position)

    @property
    def is_pinned(self) -> bool:
        """Whether a place is pinned."""
        return self._pinned is not None

    def pin(self, position: Sequence[float]) -> None:
        """Keep showing a place in the world, and mark it; off the image nothing happens."""
        facts = self._read(position)
        placement = self._placement()
        if facts is None or placement is None:
            self.status.setText("There is no kernel at this place to pin.")
            return
        self._pinned = tuple(position)
        self._marker.show(facts.y, facts.x, placement)
        self.status.clear()
        self.refresh()

    def unpin(self) -> None:
        """Follow the cursor again."""
        self._pinned = None
        self._marker.hide()
        self.refresh()

    def copy_array(self) -> None:
        """Copy the point-spread function as a NumPy expression."""
        with self.explaining():
            psf = self._shown().psf
            with np.printoptions(threshold=psf.size + 1, floatmode="unique"):
                text = repr(psf).replace("dtype=", "dtype=np.")
            _copy(f"np.{text}")
            height, width = psf.shape
            self.status.setText(f"Copied the {height} × {width} values that are shown.")

    def copy_place(self) -> None:
        """Copy the pixel, as arguments of `KernelField.kernel_at`."""
        with self.explaining():
            facts = self._shown()
            _copy(f"y={facts.y}, x={facts.x}")
            self.status.setText("Copied the place, as arguments of field.kernel_at().")

    def export(self, path: str | Path) -> None:
        """Write the point-spread function to a file; see `blurfield.kernel_files.write_kernel`."""
        with self.explaining():
            from blurfield.kernel_files import write_kernel

            self.status.setText(f"Saved {write_kernel(path, self._shown().psf).name}.")

    def refresh(self, *_: object) -> None:
        """Show the kernel of the pinned place, or else of that under the cursor."""
        self.facts = self._read(self._pinned or self.viewer.cursor.position)
        words = _HINT if self.field.value is not None else "No blur field in the viewer."
        self.view.show_kernel(None if self.facts is None else self.facts.psf, words)
        for name, text in self._texts().items():
            self._values[name].setText(text)
        self.show_row(self._values["uncertainty"], self._knows_uncertainty())
        self.run_button.setText("Unpin" if self.is_pinned else "Pin")
        for button in self._buttons:
            button.setEnabled(self.facts is not None)

    def cancel(self) -> None:
        """Let go of the pinned place, as napari wants when it removes the dock."""
        if self.is_pinned:
            self.unpin()
        super().cancel()

    # -------------------------------------------------------------------- reading

    def _placement(self) -> Placement | None:
        field = self.field.value
        return None if field is None else field_placement(field).last(2)

    def _read(self, position: Sequence[float]) -> KernelFacts | None:
        """Return the kernel at a place in the world, None off the image."""
        field, placement = self.field.value, self._placement()
        if field is None or placement is None:
            return None
        from blurfield.inspection import inspect_kernel

        y, x = placement.to_data(np.asarray(position, dtype=float)[-2:])
        try:
            return inspect_kernel(field, y, x)
        except ValueError:
            return None

    def _shown(self) -> KernelFacts:
        if self.facts is None:
            raise ValueError("there is no kernel to be seen: move the mouse over the image first")
        return self.facts

    def _knows_uncertainty(self) -> bool:
        return self.facts is not None and self.facts.uncertainty is not None

    def _texts(self) -> dict[str, str]:
        """Return what to say of the kernel, by the names of the rows."""
        facts = self.facts
        if facts is None:
            return dict.fromkeys(self._values, "–")
        height, width = facts.psf.shape
        uncertainty = "–" if facts.uncertainty is None else f"{facts.uncertainty:.0%}"
        return {
            "place": f"row {facts.y}, column {facts.x}",
            "support": f"{height} × {width} px",
            "extent": f"{facts.extent:.1f} px{self._physical(facts)}",
            "direction": _direction(facts),
            "norm": f"{facts.norm:.3f}",
            "uncertainty": uncertainty,
        }

    def _physical(self, facts: KernelFacts) -> str:
        """Return the extent in the layer's unit, if it has one."""
        placement = self._placement()
        if placement is None or len(set(placement.units)) > 1 or placement.units[0] == PIXEL:
            return ""
        height, width = (float(side) for side in placement.scale)
        return f" = {facts.physical_extent((height, width)):.3g} {_symbol(placement.units[0])}"

    # ------------------------------------------------------------------ following

    def _on_cursor(self, *_: object) -> None:
        # Movements until the timer fires are one: the newest place is read then.
        if not self.is_pinned and not self._timer.isActive() and self.isVisible():
            self._timer.start()

    def _on_clicked(self, position: Sequence[float]) -> None:
        if not self.isVisible():  # behind another dock
            return
        if self.is_pinned:
            self.unpin()
        else:
            self.pin(position)

    def _on_removed(self, *_: object) -> None:
        if self.is_pinned and not self._marker.is_shown:
            self.unpin()

    def _on_field(self, *_: object) -> None:
        """Read the pinned place in the other field, which is off it or at another pixel perhaps."""
        if self._pinned is None:
            self.refresh()
        elif self._read(self._pinned) is None:
            self.unpin()
        else:
            self.pin(self._pinned)

    # ---------------------------------------------------------------------- parts

    def _add_rows(self) -> None:
        self.field = FieldChoice(self.viewer)
        self.add_row(
            "Blur field",
            self.field,
            "The field to read; selecting any of its layers chooses it. 'Estimate blur field' "
            "makes one.",
        )
        self.view = KernelView()
        self.add_wide_row(
            self.view,
            "Kernel",
            "What becomes of a point of light at this place: the point-spread function. White is "
            "its largest value; marks point at the middle.",
        )
        self._values = {name: QLabel() for name in _ROWS}
        for name, (label, tooltip) in _ROWS.items():
            self.add_row(label, self._values[name], tooltip)

    def _add_buttons(self) -> None:
        actions = (
            ("Copy array", "Copy what is shown as np.array(…).", self.copy_array),
            ("Copy place", "Copy row and column, for a script.", self.copy_place),
            (
                "Export…",
                "Save what is shown: as .npy, .tif or .csv with all its digits, as .png with 16 "
                "bits. 'Reblur / simulate' opens such files.",
                self._ask_for_file,
            ),
        )
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        self._buttons = []
        for name, tooltip, action in actions:
            button = QPushButton(name)
            describe(button, name, tooltip)
            button.clicked.connect(action)
            row.addWidget(button)
            self._buttons.append(button)
        holder = QWidget()
        holder.setLayout(row)
        self._form.addRow(holder)

    def _ask_for_file(self) -> None:
        field, facts = self.field.value, self.facts
        if field is None or facts is None:
            return
        name = f"{source_name(field)} kernel y{facts.y} x{facts.x}.npy"
        path, chosen = QFileDialog.getSaveFileName(self, "Export kernel", name, _FORMATS)
        if path:
            usual = chosen.partition("*")[2].rstrip(")")
            self.export(path if Path(path).suffix else f"{path}{usual}")


def _direction(facts: KernelFacts) -> str:
    if facts.anisotropy < _ROUND:
        return "none: it is round"
    return f"{round(facts.angle) % 180}° (anisotropy {facts.anisotropy:.2f})"


def _symbol(unit: str) -> str:
    """Return the symbol of a unit, as napari's scale bar does."""
    from pint import application_registry

    return f"{application_registry.Unit(unit):~P}"


def _copy(text: str) -> None:
    clipboard = QGuiApplication.clipboard()
    if clipboard is None:
        raise ValueError("there is no clipboard to copy to")
    clipboard.setText(text)


__all__ = ["InspectorWidget"]
