"""The widget that marks where an image is blurry, and measures what it marks."""

from __future__ import annotations

import math
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from qtpy.QtCore import QTimer

from napari_blurfield._field_stack import FieldStack
from napari_blurfield._lifetime import Connections
from napari_blurfield._masks import MaskSettings, label_image, label_table, label_words
from napari_blurfield._pixel_size import PixelSize
from napari_blurfield._stack_mask import StackMask
from napari_blurfield._tasks import Outcome, mask_source
from napari_blurfield.layers import (
    FACTS,
    field_placement,
    fields_of_stack,
    find_field,
    role_of,
)

from ._choices import FieldChoice
from ._label_statistics import LabelStatistics
from ._mask_controls import MaskControls
from ._tool import ToolWidget

if TYPE_CHECKING:
    from collections.abc import Set

    from napari.components import ViewerModel
    from napari.layers import Labels, Layer
    from numpy.typing import NDArray

    from blurfield import KernelField
    from blurfield.compute import ProgressCallback

#: Milliseconds without a change after which the mask follows the controls, and the table the mask.
_SETTLED, _TABLE_SETTLED = 120, 300
#: Seconds for one update above which the mask waits until the slider is released.
_SLOW = 0.25
#: Pixels of an image up to which the table follows by itself.
_MOST_PIXELS = 1_500_000
#: Pixels of a frame up to which the mask of a time-lapse follows without a job.
_QUICK_PIXELS = 1 << 18
#: What layers show that this widget is about.
_ROLES = frozenset(("mask", "regions"))


class _Statistics(NamedTuple):
    """What a job found out about a layer."""

    layer: weakref.ref[Labels]
    table: dict[str, list[Any]]
    summary: str


class _Marked(NamedTuple):
    """What a job marked on the frame of a time-lapse that is shown."""

    layer: weakref.ref[Labels]
    masks: StackMask
    summary: str


class MaskWidget(ToolWidget):
    """Mark the blurry part of an image in a Labels layer that follows the controls.

    Parameters
    ----------
    napari_viewer : ViewerModel
        Where the field comes from and the mask goes to.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__(
            napari_viewer,
            "Add blur mask",
            "Add a Labels layer that marks where the image is blurry, or its regions.",
        )
        self.field = FieldChoice(self.viewer)
        self.add_row(
            "Blur field",
            self.field,
            "The field to read; selecting any of its layers chooses it. 'Estimate blur field' "
            "makes one.",
        )
        self.controls = controls = MaskControls(self)
        self.threshold, self.meaning = controls.threshold, controls.meaning
        self.min_area, self.regions = controls.min_area, controls.regions
        self.statistics = LabelStatistics()
        self.add_below(self.statistics)
        self._timer = self._new_timer(_SETTLED, self.update_mask)
        self._table_timer = self._new_timer(_TABLE_SETTLED, self.update_statistics)
        self._watched: weakref.WeakSet[Labels] = weakref.WeakSet()
        self._shown: weakref.ref[Labels] | None = None
        self._connections = Connections(self)
        self._connect()
        self._on_field_changed()

    def _new_timer(self, milliseconds: int, callback: Any) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(milliseconds)
        timer.timeout.connect(callback)
        return timer

    def _connect(self) -> None:
        layers = self.viewer.layers
        for event in (layers.events.inserted, layers.events.removed, layers.events.renamed):
            self._connections.add(event, self._follow_layer)
        self._connections.add(layers.selection.events.active, self._follow_layer)
        self.field.changed.connect(self._on_field_changed)
        self.controls.changed.connect(self._on_changed)
        self.statistics.update_wanted.connect(self.run_statistics)
        self.statistics.save_wanted.connect(self._save_table)
        self.run_button.clicked.connect(self.run)

    # -------------------------------------------------------------------- actions

    def run(self) -> None:
        """Add a mask, or regions, as the button does."""
        with self.explaining():
            settings, stack = self.controls.settings, self._stack
            self.capture(None)
            words = f"Making the blur {settings.role}"
            if stack is None:
                self.start(partial(mask_source, self._known_field(), settings), words)
            else:
                masks = StackMask(stack, settings)
                self.start(partial(_make_stack, masks, self._position(stack)), words)

    def update_mask(self) -> None:
        """Let the field's newest mask follow the controls; a selected one goes first."""
        layer = self.linked()
        if layer is None:
            return
        started = time.monotonic()
        settings, stack = self.controls.settings, self._stack
        if stack is not None and fields_of_stack(layer) is stack:
            self._update_stack(layer, StackMask(stack, settings), self._position(stack))
        else:
            labels = label_image(self.field.value, settings)
            self._show_labels(layer, labels, settings, label_words(labels, settings))
            self._table_timer.start()
        slow = time.monotonic() - started > _SLOW
        for slider in (self.controls.threshold, self.controls.extent):
            slider.setTracking(not slow)

    def _update_stack(self, layer: Labels, masks: StackMask, position: tuple[int, ...]) -> None:
        """Let the mask of all frames follow: what is shown now, the rest when it is shown."""
        height, width = layer.data.shape[-2:]
        if height * width <= _QUICK_PIXELS:
            masks.at(position)  # which the layer is going to ask for
            self._show_labels(layer, masks.data(), masks.settings, masks.words(position))
        elif self.job is not None:
            self._timer.start()  # again, until that has ended
        else:
            self.capture(layer)
            job = partial(_mark_shown, weakref.ref(layer), masks, position)
            self.start(job, f"Marking {layer.name}")

    def _show_labels(self, layer: Labels, labels: Any, settings: MaskSettings, words: str) -> None:
        layer.data = labels
        layer.visible = True
        layer.metadata[FACTS] = {**layer.metadata[FACTS], **settings.facts()}
        self.status.setText(words)

    def update_statistics(self) -> None:
        """Measure the blur under each label now, or say that the table is out of date."""
        layer = self.linked()
        if layer is None or fields_of_stack(layer) is not None:
            return
        small = layer.data.size <= _MOST_PIXELS
        if small:
            settings = MaskSettings.of(layer.metadata[FACTS])
            layer.features = label_table(self.field.value, layer.data, settings, self.pixel)
        self.statistics.show_layer(layer, stale=not small)

    def run_statistics(self) -> None:
        """Measure the blur under each label in the background, as the button does."""
        with self.explaining():
            layer, field = self._known_layer(), self._known_field()
            self.capture(layer)
            settings = MaskSettings.of(layer.metadata[FACTS])
            job = partial(
                _find_statistics, weakref.ref(layer), field, layer.data.copy(), settings, self.pixel
            )
            self.start(job, f"Measuring {layer.name}")

    def save_table(self, path: str) -> None:
        """Write the features of the mask as a CSV file.

        Raises
        ------
        ValueError
            If there is no mask.
        OSError
            If the file cannot be written.
        """
        from blurfield.measurement import write_table

        layer = self._known_layer()
        rows = layer.features.rename(columns={"index": "label"}).to_dict("records")
        write_table(path, [{"layer": layer.name, **row} for row in rows])
        self.status.setText(f"Saved {len(rows)} rows to {path}.")

    # ---------------------------------------------------------------------- state

    @property
    def pixel(self) -> PixelSize:
        """Size of the pixels of the image that the field is for."""
        field = self.field.value
        return PixelSize() if field is None else PixelSize.of(field_placement(field))

    def linked(self) -> Labels | None:
        """Return the mask, or the regions, that controls and table are about."""
        return self._newest({self.controls.settings.role})

    def _newest(self, roles: Set[str]) -> Labels | None:
        """Return the field's newest layer that shows one of these; a selected one goes first."""
        found = [
            layer
            for layer in self.viewer.layers
            if role_of(layer) in roles and self._is_of_field(layer)
        ]
        active = self.viewer.layers.selection.active
        return active if active in found else (found or [None])[-1]

    @property
    def _stack(self) -> FieldStack | None:
        """The fields of all frames of a time-lapse, if they are chosen."""
        chosen = self.field.chosen
        return chosen if isinstance(chosen, FieldStack) else None

    def _position(self, stack: FieldStack) -> tuple[int, ...]:
        """Return which frame of a time-lapse the viewer shows."""
        position = stack.position_shown(self.viewer.dims)
        return (0,) * len(stack.stack.sizes) if position is None else position

    def _is_of_field(self, layer: Layer) -> bool:
        """Return whether a layer shows the chosen field, or those of all frames."""
        field, stack, fields = self.field.value, self._stack, fields_of_stack(layer)
        if fields is not None:
            return fields is stack
        return field is not None and find_field(layer) is field

    def _known_field(self) -> KernelField:
        field: KernelField | None = self.field.value
        if field is None:
            raise ValueError(
                "there is no blur field in the viewer: run 'Estimate blur field' or open a "
                ".blurfield file first"
            )
        return field

    def _known_layer(self) -> Labels:
        layer = self.linked()
        if layer is None:
            raise ValueError("there is no mask of this blur field yet; add one first")
        if fields_of_stack(layer) is not None:
            raise ValueError(
                "'Measure blur' has the figures of each frame of a time-lapse, with this layer "
                "chosen under 'Measure' those of each label"
            )
        return layer

    # ------------------------------------------------------------------ following

    def _on_field_changed(self, *_: object) -> None:
        field = self.field.value
        if field is not None:
            self.controls.suit(self.pixel, math.sqrt(2) * field.kernel_size)  # its diagonal
        if self.linked() is None:
            self._show_settings(self._newest(_ROLES))
        self._follow_layer()

    def _follow_layer(self, *_: object) -> None:
        """Show the settings of the layer that a change of the controls would change."""
        newest = self._newest(_ROLES)
        is_selected = newest is self.viewer.layers.selection.active
        self._show_settings(newest if is_selected else self.linked())
        self._show_statistics()

    def _show_settings(self, layer: Labels | None) -> None:
        """Show the settings of a layer that was not shown before, rather than replace its data.

        It may have been painted by hand.
        """
        shown = None if self._shown is None else self._shown()
        if layer is not None and layer is not shown:
            self._timer.stop()  # a change meant for another layer
            self.controls.show_settings(MaskSettings.of(layer.metadata[FACTS]))
            self._show_role()
            self._shown = weakref.ref(layer)

    def _on_changed(self) -> None:
        self._show_role()
        layer = self.linked()
        if layer is not None:  # it follows the controls from now on
            self._shown = weakref.ref(layer)
        self._show_statistics()
        self._timer.start()

    def _show_role(self) -> None:
        self.run_button.setText(f"Add blur {self.controls.settings.role}")

    def _on_painted(self, event: Any) -> None:
        if event.source is self.linked():
            self._table_timer.start()

    def _on_redrawn(self, event: Any) -> None:
        """Follow what has no event of its own, such as undo, where that costs little."""
        if event.source.data.size <= _MOST_PIXELS:
            self._on_painted(event)

    def _show_statistics(self, *_: object) -> None:
        layer = self.linked()
        if layer is not None and fields_of_stack(layer) is not None:
            layer = None  # the figures of all frames are many, and for 'Measure blur'
        if layer is not None and layer not in self._watched:
            self._watched.add(layer)
            self._connections.add(layer.events.paint, self._on_painted)
            self._connections.add(layer.events.set_data, self._on_redrawn)
        self.statistics.show_layer(layer)

    def _on_succeeded(self, outcome: Any) -> None:
        if isinstance(outcome, _Marked):
            self._settle("")
            marked = outcome.layer()
            if marked is not None:
                masks = outcome.masks
                self._show_labels(marked, masks.data(), masks.settings, outcome.summary)
            return
        if not isinstance(outcome, _Statistics):
            super()._on_succeeded(outcome)
            return
        self._settle(outcome.summary)
        layer = outcome.layer()
        if layer is not None:
            layer.features = outcome.table
        self._show_statistics()

    def _save_table(self, path: str) -> None:
        with self.explaining():
            self.save_table(path)


def _find_statistics(
    layer: weakref.ref[Labels],
    field: KernelField,
    labels: NDArray[Any],
    settings: MaskSettings,
    pixel: PixelSize,
    *,
    progress: ProgressCallback,
) -> _Statistics:
    progress(0, 0, "Measuring the blur under each label …")
    table = label_table(field, labels, settings, pixel, progress)
    return _Statistics(layer, table, f"Measured {len(table['index'])} labels.")


def _mark_shown(
    layer: weakref.ref[Labels],
    masks: StackMask,
    position: tuple[int, ...],
    *,
    progress: ProgressCallback,
) -> _Marked:
    progress(0, 0, "Reading the field …")
    masks.at(position, progress)
    return _Marked(layer, masks, masks.words(position))


def _make_stack(
    masks: StackMask, position: tuple[int, ...], *, progress: ProgressCallback
) -> Outcome:
    progress(0, 0, "Reading the field …")
    masks.prepare(position, progress)
    return Outcome([masks.layer_data()], masks.words(position))
