"""The widget that finds the blur of an image."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox, QSpinBox

from napari_blurfield._tasks import estimate_source

from ._image_tool import ImageToolWidget
from ._legend import Legend
from ._model_rows import ModelRows

if TYPE_CHECKING:
    from napari.components import ViewerModel

#: Rounds of refinement, at most. After a few, fields hardly change.
_MOST_ROUNDS = 10


class EstimateWidget(ImageToolWidget):
    """Estimate the blur field of an image, and show it as layers.

    Parameters
    ----------
    napari_viewer : ViewerModel
        Where the image comes from and the layers go to.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__(
            napari_viewer,
            "Estimate blur field",
            "Find out how each part of the image was blurred, and add layers that show it.",
        )
        self.add_extent_rows()
        self._model_rows = ModelRows(self)
        self.model, self.largest = self._model_rows.model, self._model_rows.largest
        self.rounds = QSpinBox()
        self.rounds.setRange(0, _MOST_ROUNDS)
        self.rounds.setSuffix(" rounds")
        self.rounds.setSpecialValueText("none")
        self.add_row(
            "Refinement",
            self.rounds,
            "Then refine the field by the image itself: the edges of a sharp image, blurred with "
            "it, must become those of the image. Three rounds are usually enough.",
        )
        self.add_computing_rows()
        self.kernels = QCheckBox("Add kernel weights")
        self.kernels.setChecked(True)
        self.add_wide_row(
            self.kernels,
            "Add kernel weights",
            "Also add the basis kernels and the maps of their weights, one slice for each kernel: "
            "two hidden layers, which give the viewer a slider.",
        )
        self.legend = Legend(self.viewer)
        self.add_below(self.legend)
        self.run_button.clicked.connect(self.run)

    def run(self) -> None:
        """Start the estimation, as the button does."""
        with self.explaining():
            options = {
                **self._model_rows.options,
                "gamma": self.gamma.value,
                "device": self.device.value,
            }
            if self.rounds.value():
                options["refine"] = self.rounds.value()
            if self.takes_series:
                self.start_series(
                    "Estimating the blur of", options, kernels=self.kernels.isChecked()
                )
                return
            source = self.take()
            job = partial(
                estimate_source,
                source,
                regions=self.region.regions(source),
                kernels=self.kernels.isChecked(),
                **options,
            )
            self.start(job, f"Estimating the blur of {source.name}")
