"""The widget that marks where an image is blurry."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QLabel, QSpinBox
from superqt import QLabeledDoubleSlider

from napari_blurfield.functions import blurry_share, mask_source
from napari_blurfield.layers import FACTS, find_field, mask_data, role_of

from ._choices import FieldChoice
from ._tool import ToolWidget, note

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

#: Milliseconds without a change after which the mask follows the controls.
_SETTLED = 120
#: Seconds for one update above which the mask waits until the slider is released.
_SLOW = 0.25


class MaskWidget(ToolWidget):
    """Mark the blurry part of an image in a Labels layer that follows the threshold.

    Parameters
    ----------
    napari_viewer : ViewerModel
        Where the field comes from and the mask goes to.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__(
            napari_viewer, "Add blur mask", "Add a Labels layer: 1 where the image is blurry."
        )
        self.field = FieldChoice(self.viewer)
        self.add_row(
            "Blur field",
            self.field,
            "The field to read; selecting any of its layers chooses it. 'Estimate blur field' "
            "makes one.",
        )
        self.threshold = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.threshold.setRange(0.05, 0.95)
        self.threshold.setSingleStep(0.01)  # type: ignore[arg-type]
        self.threshold.setDecimals(2)
        self.threshold.setValue(0.25)
        self.add_row(
            "Threshold",
            self.threshold,
            "Kernels with a smaller L2 norm count as blur: 1 is a single point, no blur at all; "
            "a straight line of L pixels has 1/√L. The mask follows at once, and replaces what "
            "was painted into it.",
        )
        self.meaning: QLabel = note()
        self.add_wide_row(self.meaning, "Meaning of the threshold", "The threshold in pixels.")
        self.min_area = QSpinBox()
        self.min_area.setRange(0, 1_000_000)
        self.min_area.setSingleStep(50)
        self.min_area.setSuffix(" px")
        self.add_row(
            "Smallest area",
            self.min_area,
            "Blurry regions, and gaps in them, with fewer pixels are removed.",
        )
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_SETTLED)
        self._timer.timeout.connect(self.update_mask)
        self.threshold.valueChanged.connect(self._on_changed)
        self.min_area.valueChanged.connect(self._on_changed)
        self.run_button.clicked.connect(self.run)
        self._explain_threshold()

    def run(self) -> None:
        """Add a mask, as the button does."""
        with self.explaining():
            field = self.field.value
            if field is None:
                raise ValueError(
                    "there is no blur field in the viewer: run 'Estimate blur field' or open a "
                    ".blurfield file first"
                )
            self.capture(None)
            self.start(partial(mask_source, field, **self._settings()), "Making the blur mask")

    def update_mask(self) -> None:
        """Let the field's newest mask follow the controls; a selected one goes first."""
        layer = self._linked()
        if layer is None:
            return
        started = time.monotonic()
        layer.data = mask_data(self.field.value, **self._settings())
        layer.visible = True
        layer.metadata[FACTS] = {**layer.metadata[FACTS], **self._settings()}
        self.threshold.setTracking(time.monotonic() - started < _SLOW)
        self.status.setText(blurry_share(np.asarray(layer.data)))

    def _settings(self) -> dict[str, Any]:
        return {"threshold": self.threshold.value(), "min_area": self.min_area.value()}

    def _linked(self) -> Layer | None:
        """Return the mask layer that the controls act on."""
        field = self.field.value
        if field is None:
            return None
        masks = [
            layer
            for layer in self.viewer.layers
            if role_of(layer) == "mask" and find_field(layer) is field
        ]
        active = self.viewer.layers.selection.active
        return active if active in masks else (masks or [None])[-1]

    def _on_changed(self, *_: object) -> None:
        self._explain_threshold()
        self._timer.start()

    def _explain_threshold(self) -> None:
        pixels = self.threshold.value() ** -2
        self.meaning.setText(f"Blur like a straight motion of more than {pixels:.0f} px")
