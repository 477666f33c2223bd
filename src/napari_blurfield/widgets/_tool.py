"""What all dock widgets share: a form, a button that runs a job, its progress and its end."""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari.layers import Layer
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QEvent, QSize, Qt
from qtpy.QtWidgets import (
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_blurfield._commands import copy_script
from napari_blurfield._jobs import Job, explain
from napari_blurfield._lifetime import behind_proxy, when_destroyed
from napari_blurfield._scales import show_scale
from napari_blurfield._settings import defaults
from napari_blurfield._stack_mask import keep_from_painting

from ._controls import is_setting, set_value, value_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari.components import ViewerModel

    from napari_blurfield._settings import Defaults
    from napari_blurfield._tasks import Outcome
    from napari_blurfield.layers import LayerData

#: Width of the dock at first, in pixels.
_WIDTH = 300
#: Pixels that a dock above or below leaves to the widget.
_LEAST_HEIGHT = 220


class ToolWidget(QWidget):
    """A form with one action that runs as a job.

    Subclasses add rows with `add_row`, connect `run_button` to a method that calls `start` within
    `explaining`.

    Parameters
    ----------
    napari_viewer : ViewerModel
        Where layers come from and go to.
    action : str
        What the button does.
    tooltip : str
        The same as a sentence.
    """

    def __init__(self, napari_viewer: ViewerModel, action: str, tooltip: str) -> None:
        super().__init__()
        self.viewer: ViewerModel = behind_proxy(napari_viewer)
        self.job: Job | None = None
        self._held: list[Job] = []  # shared with the callback below, which must not hold this
        self._source: weakref.ref[Layer] | None = None
        self._initial: dict[QWidget, Callable[[], Any]] = {}
        self._made: weakref.ref[Layer] | None = None

        self._form = QFormLayout()
        self._form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.run_button = QPushButton(action)
        describe(self.run_button, action, tooltip)
        #: Buttons that start a job, and have to wait while there is one.
        self.starting_buttons = [self.run_button]
        self.cancel_button = QPushButton("Cancel")
        describe(self.cancel_button, "Cancel", "Stop at once; no layer is added.")
        self.cancel_button.clicked.connect(self.cancel)
        self.progress_bar = QProgressBar()
        describe(self.progress_bar, "Progress", "How far the work is.")
        self.progress_bar.setTextVisible(False)
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        describe(self.status, "Status", "What is being done, or how the last run ended.")

        self.copy_button = QPushButton("Copy as Python")
        describe(
            self.copy_button,
            "Copy as Python",
            "Copy a script that makes the last result again, outside napari.",
        )
        self.copy_button.clicked.connect(self.copy_script)
        self.copy_button.hide()
        self.restore_button = QPushButton("Restore defaults")
        describe(
            self.restore_button,
            "Restore defaults",
            "Set all controls to what they start with: the plugin's settings in napari's "
            "Preferences, and the usual values.",
        )
        self.restore_button.clicked.connect(self.restore_defaults)

        buttons = QHBoxLayout()
        buttons.addWidget(self.run_button, 1)
        buttons.addWidget(self.cancel_button)
        after = QHBoxLayout()
        after.addWidget(self.copy_button)
        after.addStretch(1)
        after.addWidget(self.restore_button)
        self._column = column = QVBoxLayout()
        column.addLayout(self._form)
        column.addLayout(buttons)
        column.addWidget(self.progress_bar)
        column.addWidget(self.status)
        column.addLayout(after)
        column.addStretch(1)
        self._inner = QWidget()
        self._inner.setLayout(column)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(self._inner)
        scroll.setMinimumHeight(_LEAST_HEIGHT)
        layout = QVBoxLayout()
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(scroll)
        self.setLayout(layout)
        self._show_busy(False)

        held = self._held
        when_destroyed(self, lambda: _abandon(held))

    # ------------------------------------------------------------- for subclasses

    def add_row(self, label: str, widget: QWidget, tooltip: str) -> None:
        """Add a labelled control to the form."""
        describe(widget, label, tooltip)
        self._remember(widget)
        caption = QLabel(label)
        caption.setToolTip(tooltip)
        caption.setBuddy(widget)
        self._form.addRow(caption, widget)

    def add_wide_row(self, widget: QWidget, name: str, tooltip: str) -> None:
        """Add a control that needs no label, or has its own."""
        describe(widget, name, tooltip)
        self._remember(widget)
        self._form.addRow(widget)

    def add_below(self, widget: QWidget) -> None:
        """Add something that shows results, below everything else."""
        self._column.insertWidget(self._column.count() - 1, widget)  # before the empty rest

    def show_row(self, control: QWidget, visible: bool) -> None:
        """Show or hide a control that was added, and its label."""
        control.setVisible(visible)
        caption = self._form.labelForField(control)
        if caption is not None:
            caption.setVisible(visible)

    def start_with(self, control: QWidget, setting: Callable[[Defaults], Any]) -> None:
        """Let a control that was added start with a setting of the plugin, and return to it."""
        self._initial[control] = lambda: setting(defaults())
        set_value(control, setting(defaults()))

    def restore_defaults(self) -> None:
        """Set all controls to what they start with, as the button does."""
        for control, initial in self._initial.items():
            set_value(control, initial())

    def capture(self, layer: Layer | None) -> None:
        """Remember the layer that the job works on, to notice if it goes away."""
        self._source = None if layer is None else weakref.ref(layer)

    # -------------------------------------------------------------------- running

    def start(self, function: Callable[..., Any], description: str) -> None:
        """Run ``function(progress=callback)`` as a job, and add the layers of its `Outcome`."""
        if self.job is not None:
            raise ValueError("this is running already; cancel it first")
        self.job = Job(function, description)
        self._held.append(self.job)
        self.job.progressed.connect(self._on_progressed)
        self.job.succeeded.connect(self._on_succeeded)
        self.job.failed.connect(self._on_failed)
        self.job.cancelled.connect(self._on_cancelled)
        self.job.again.connect(self._start_again)
        self._show_busy(True)
        self.status.setText(f"{description} …")
        self.job.start()

    def _start_again(self, function: Callable[..., Any], description: str) -> None:
        with self.explaining():
            self.start(function, description)

    def cancel(self) -> None:
        """Stop the job, as the button does."""
        if self.job is not None:
            self.job.cancel()

    def copy_script(self) -> None:
        """Copy a script that makes the last result again, as the button does."""
        layer = self._made() if self._made is not None else None
        with self.explaining():
            if layer is None:
                raise ValueError("the last result is gone; run again first")
            copy_script(layer)

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Say in words why something cannot be done."""
        try:
            yield
        except (ValueError, TypeError, OSError) as error:
            text = explain(error)
            self.status.setText(text)
            show_error(text)

    def sizeHint(self) -> QSize:
        """Return a size at which labels and controls fit side by side and nothing scrolls."""
        return self._inner.sizeHint().expandedTo(QSize(_WIDTH, 0))

    def event(self, event: QEvent | None) -> bool:
        """Stop when napari removes the dock; the widget itself may live on a while."""
        if event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.cancel()
        return super().event(event)

    def _remember(self, control: QWidget) -> None:
        if is_setting(control):
            value = value_of(control)
            self._initial[control] = lambda: value

    def _show_busy(self, busy: bool) -> None:
        for button in self.starting_buttons:
            button.setEnabled(not busy)
        self.cancel_button.setVisible(busy)
        self.progress_bar.setVisible(busy)
        self.progress_bar.setRange(0, 0)  # moving, until the first report

    def _settle(self, text: str) -> None:
        self.job = None
        self._held.clear()
        self._show_busy(False)
        self.status.setText(text)

    def _on_progressed(self, done: int, total: int, message: str) -> None:
        self.progress_bar.setRange(0, total)
        self.progress_bar.setValue(done)
        self.status.setText(message)

    def _on_succeeded(self, outcome: Outcome) -> None:
        self._settle(outcome.summary)
        self._add_layers(outcome.layers)

    def offer_script(self, layer: Layer) -> None:
        """Offer a script that makes this result again."""
        self._made = weakref.ref(layer)
        self.copy_button.show()

    def _add_layers(self, layers: Sequence[LayerData]) -> None:
        """Add layers on top, never in place of others, and select the source layer again."""
        if not layers:  # those of a series were added while it ran
            return
        made = [Layer.create(data, dict(attributes), kind) for data, attributes, kind in layers]
        for layer in made:
            self.viewer.add_layer(layer)
            show_scale(layer)
            keep_from_painting(layer)
        self.offer_script(made[-1])
        source = self._source() if self._source is not None else None
        if source is not None and source in self.viewer.layers:
            self.viewer.layers.selection.active = source
        elif self._source is not None:
            show_info("The source layer is gone; the result lies where it was.")

    def _on_failed(self, error: Exception) -> None:
        self._settle(explain(error))

    def _on_cancelled(self) -> None:
        self._settle("Cancelled; nothing was changed.")


def describe(widget: QWidget, name: str, tooltip: str) -> None:
    """Name a control for screen readers and explain it."""
    widget.setAccessibleName(name)
    widget.setAccessibleDescription(tooltip)
    widget.setToolTip(tooltip)


def note() -> QLabel:
    """Return an empty line of text that wraps in a narrow dock."""
    label = QLabel()
    label.setWordWrap(True)
    return label


def _abandon(jobs: list[Job]) -> None:
    for job in jobs:
        job.abandon()
