"""The widget that finds the blur of an image."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QCheckBox, QSpinBox

from blurfield.estimation import lacks
from napari_blurfield.functions import estimate_source

from ._choices import Choice
from ._image_tool import ImageToolWidget

if TYPE_CHECKING:
    from napari.components import ViewerModel

#: Words for the ways to estimate. What "auto" means is the core's decision.
MODELS = {
    "auto": "automatic",
    "windowed": "windows (no training)",
    "compact": "compact network",
    "two-heads": "two-headed network",
    "ufp": "UFPNet (each pixel)",
}
#: Models whose kernels can be of any size; those of networks have one of their own.
SIZED = {"auto", "windowed"}

#: Largest blur that stands for the model's own choice.
_AUTOMATIC = 5
#: Rounds of refinement, at most. After a few, fields hardly change.
_MOST_ROUNDS = 10


class ModelChoice(Choice):
    """The ways to estimate; those whose weights are missing are shown, but cannot be chosen."""

    def __init__(self) -> None:
        lacking = {model: lacks(model) if model != "auto" else "" for model in MODELS}
        super().__init__(
            [
                (f"{words}: no weights" if lacking[model] else words, model)
                for model, words in MODELS.items()
            ]
        )
        self.explain("auto", "The best of those that are installed, as far as was measured.")
        for model, reason in lacking.items():
            if reason:
                text = f"The {MODELS[model]} {reason}; then open this panel again."
                self.explain(model, text, usable=False)


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
        self.add_frame_rows()
        self.model = ModelChoice()
        self.add_row("Model", self.model, "How the blur is estimated.")
        self.start_with(self.model, lambda settings: settings.model)
        self.largest = QSpinBox()
        self.largest.setRange(_AUTOMATIC, 129)
        self.largest.setSingleStep(2)
        self.largest.setSuffix(" px")
        self.largest.setSpecialValueText("automatic")
        self.add_row(
            "Largest blur",
            self.largest,
            "How far the longest motion reaches, in pixels: no shorter than the longest streak "
            "in the image, and not much longer, which takes more time.",
        )
        self.model.changed.connect(self._offer_size)
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
        self.run_button.clicked.connect(self.run)

    def run(self) -> None:
        """Start the estimation, as the button does."""
        with self.explaining():
            options = {
                "model": self.model.value,
                "gamma": self.gamma.value,
                "device": self.device.value,
                **self._model_options(),
            }
            if self.takes_series:
                self.start_series(
                    "Estimating the blur of", options, kernels=self.kernels.isChecked()
                )
                return
            source = self.take()
            self.start(
                partial(estimate_source, source, kernels=self.kernels.isChecked(), **options),
                f"Estimating the blur of {source.name}",
            )

    def _offer_size(self, model: str) -> None:
        self.largest.setEnabled(model in SIZED)

    def _model_options(self) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if self.rounds.value():
            options["refine"] = self.rounds.value()
        size = self.largest.value()
        if size != _AUTOMATIC and self.largest.isEnabled():
            options["kernel_size"] = size | 1  # kernels have a middle
        return options
