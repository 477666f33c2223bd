"""The widget that measures blur over time, to sort out bad frames without deblurring anything."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels, Layer
from qtpy.QtCore import QObject
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox

from napari_blurfield._lifetime import Connections
from napari_blurfield._measuring import (
    MeasuringPlan,
    known_fields,
    label_frames_of,
    measure_stack,
    measurement_layer_data,
    stack_of,
)
from napari_blurfield._pixel_size import PixelSize
from napari_blurfield._source import displayed_frame

from ._frames import ALL, CURRENT
from ._image_tool import ImageToolWidget
from ._labels_choice import LabelsChoice
from ._model_rows import ModelRows

if TYPE_CHECKING:
    from collections.abc import Hashable

    from napari.components import ViewerModel
    from PyQt6.QtCore import pyqtSignal as Signal

    from blurfield.quantities import Row
    from napari_blurfield._stack import Stack
    from napari_blurfield._tasks import Outcome
else:
    from qtpy.QtCore import Signal


class _Messenger(QObject):
    """Brings rows from the thread that measures to the main thread."""

    #: Number of the run, and the rows of a frame.
    found = Signal(int, object)


class MeasureWidget(ImageToolWidget):
    """Measure the blur of each frame of an image layer, as a table and a plot.

    Parameters
    ----------
    napari_viewer : ViewerModel
        Where the image comes from.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        from ._measurements import Measurements  # with the plot, only where it is needed

        super().__init__(
            napari_viewer,
            "Measure blur",
            "Estimate how blurred each frame is, without deblurring or changing anything.",
        )
        self.cancel_button.setToolTip("Stop at once; frames that are done stay in the table.")
        self._add_rows()
        self.add_computing_rows()
        self.results = Measurements()
        self.add_below(self.results)
        #: What was measured, and of this, what decides on the figures.
        self._measured: MeasuringPlan | None = None
        self._about: Hashable = None
        self._run = 0
        self._messenger = _Messenger()
        self._messenger.found.connect(self._on_rows)
        self._connections = Connections(self)
        self._connections.add(self.viewer.dims.events.current_step, self._show_frame)
        for event in (self.image.changed, self.image.reshaped):
            event.connect(self._suit_image)
        self.image.reshaped.connect(self._forget)
        self.results.frame_picked.connect(self.go_to_frame)
        self.results.layer_wanted.connect(self.add_layer)
        self.results.save_wanted.connect(self._save)
        self.run_button.clicked.connect(self.run)
        self._suit_image()

    def _add_rows(self) -> None:
        self.add_row("Frames", self.frames, self.frames.which.toolTip())
        self.frames.which.value = ALL
        self.labels = LabelsChoice(self.viewer, ("whole frame", None))
        self.add_row(
            "Measure",
            self.labels,
            "Each frame as a whole, or each label of a Labels layer by itself: one label image "
            "for all frames, or one for each.",
        )
        self.model_rows = ModelRows(self)
        self.min_extent = QDoubleSpinBox()
        self.min_extent.setRange(0, 1e6)
        self.min_extent.setSpecialValueText("automatic")
        self.add_row(
            "Blurred from",
            self.min_extent,
            "Extent from which on a pixel counts as blurred, for the blurred share. Automatic: "
            "kernels whose L2 norm is below 0.25.",
        )
        self.reuse = QCheckBox("Use blur fields that are there")
        self.reuse.setChecked(True)
        self.add_wide_row(
            self.reuse,
            "Use blur fields that are there",
            "Frames whose blur field is in the viewer already are measured by it, whatever the "
            "settings it was estimated with; only the others are estimated.",
        )

    # -------------------------------------------------------------------- actions

    def run(self) -> None:
        """Measure the chosen frames, as the button does; go on where a run was cancelled."""
        with self.explaining():
            layer = self.image.value
            if layer is None:
                raise ValueError("open an image first: there is none in the viewer")
            if self.job is not None:
                raise ValueError("this is running already; cancel it first")
            plan, about = self._new_plan(layer)
            done = {row["frame"] for row in self.results.rows} if about == self._about else set()
            left = tuple(number for number in plan.numbers if number not in done)
            if not done or not left:
                left = plan.numbers
                self.results.begin(self._color_of, same_image=self._is_measured_again(plan))
            self.capture(layer)
            self._measured, self._about = plan, about
            self._run += 1
            tell = partial(self._messenger.found.emit, self._run)
            job = partial(measure_stack, replace(plan, numbers=left), on_frame=tell)
            count = f"{len(left)} frame{'' if len(left) == 1 else 's'}"
            self.start(job, f"Measuring {count} of {plan.stack.name}")

    def go_to_frame(self, number: int) -> None:
        """Let the viewer show a frame that was measured."""
        if self._measured is None:
            return
        stack = self._measured.stack
        place = stack.first.placement
        point = np.zeros(place.ndim)
        point[list(stack.first.axes.frames)] = stack.position(number)
        world = place.to_world(point)
        before = self.viewer.dims.ndim - place.ndim
        for axis in stack.first.axes.frames:
            if before + axis >= 0:
                self.viewer.dims.set_point(before + axis, float(world[axis]))

    def add_layer(self) -> None:
        """Add the table as a Points layer, as the button does."""
        with self.explaining():
            plan, rows = self._known()
            data = measurement_layer_data(plan, rows, self.results.quantity.value)
            active = self.viewer.layers.selection.active
            self.viewer.add_layer(Layer.create(*data))
            self.viewer.layers.selection.active = active

    def save_table(self, path: str) -> None:
        """Write the table as a CSV file.

        Raises
        ------
        ValueError
            If there are no measurements.
        OSError
            If the file cannot be written.
        """
        from blurfield.measurement import write_table

        plan, rows = self._known()
        write_table(path, [{"image": plan.stack.name, **row} for row in rows])
        self.status.setText(f"Saved {len(rows)} rows to {path}.")

    def _known(self) -> tuple[MeasuringPlan, list[Row]]:
        rows = self.results.rows
        if self._measured is None or not rows:
            raise ValueError("there are no measurements yet")
        return self._measured, rows

    # ----------------------------------------------------------------------- plan

    def _new_plan(self, layer: Layer) -> tuple[MeasuringPlan, Hashable]:
        """Return what to measure, and what decides on the figures of a frame."""
        stack = stack_of(layer)
        labels: Labels | None = self.labels.value
        options = {
            **self.model_rows.options,
            "gamma": self.gamma.value,
            "device": self.device.value,
        }
        plan = MeasuringPlan(
            stack,
            self._numbers(layer, stack),
            options,
            labels=None if labels is None else label_frames_of(labels, stack),
            min_extent=self.min_extent.value() or None,
        )
        if self.reuse.isChecked():
            plan = replace(plan, known=known_fields(self.viewer.layers, stack))
        about = (
            stack.identity,
            stack.first.axes,
            None if labels is None else labels.unique_id,
            tuple(sorted(options.items())),
            plan.min_extent,
            plan.pixel,
            self.reuse.isChecked(),
        )
        return plan, about

    def _is_measured_again(self, plan: MeasuringPlan) -> bool:
        """Return whether a plan is about the image that was measured before, in the same unit."""
        before = self._measured
        return (
            before is not None
            and before.stack.identity == plan.stack.identity
            and before.pixel == plan.pixel
        )

    def _numbers(self, layer: Layer, stack: Stack) -> tuple[int, ...]:
        if not stack.sizes:
            return (0,)
        if self.frames.which.value == CURRENT:
            return (stack.number(displayed_frame(layer, self.viewer.dims)),)
        return self.frames.numbers(stack)

    def _color_of(self, label: int) -> QColor | None:
        """Return the colour of a label, which its line shares."""
        labels: Labels | None = self.labels.value
        if labels is None or not label:
            return None
        return QColor.fromRgbF(*(float(part) for part in labels.get_color(label)))

    # ------------------------------------------------------------------ following

    def _suit_image(self, *_: object) -> None:
        """Offer what suits the image: its unit, and frames if it has any."""
        layer = self.image.value
        try:
            stack = None if layer is None else stack_of(layer)
        except ValueError:  # said where the image is described
            stack = None
        pixel = PixelSize() if stack is None else PixelSize.of(stack.first.placement)
        self.min_extent.setSuffix(f" {pixel.unit}")
        self.show_row(self.frames, stack is not None and bool(stack.sizes))
        self._show_frame()

    def _show_frame(self, *_: object) -> None:
        """Mark the frame that the viewer shows in the plot and the table."""
        layer = self.image.value
        stack = None if self._measured is None else self._measured.stack
        frame = None
        if layer is not None and stack is not None and str(layer.unique_id) == stack.identity:
            try:
                frame = stack.number(displayed_frame(layer, self.viewer.dims))
            except ValueError:  # the sliders stand outside the stack
                frame = None
        self.results.show_frame(frame)

    def _forget(self) -> None:
        """Let the next run begin anew: the image is not what it was."""
        self._about = None

    def _on_rows(self, run: int, rows: list[Row]) -> None:
        if run == self._run:  # and not of one that was cancelled, and came to an end since
            self.results.add_rows(rows)

    def _on_succeeded(self, outcome: Outcome) -> None:
        super()._on_succeeded(outcome)
        self.results.refresh()
        self._show_frame()

    def _on_cancelled(self) -> None:
        super()._on_cancelled()
        self.results.refresh()
        wanted = set() if self._measured is None else set(self._measured.numbers)
        done = {row["frame"] for row in self.results.rows} & wanted
        if done:
            self.status.setText(
                f"Cancelled; {len(done)} of {len(wanted)} frames are measured. Run it again to go "
                "on from there."
            )

    def _save(self, path: str) -> None:
        with self.explaining():
            self.save_table(path)
