"""Rows of a form that say how blur is estimated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QSpinBox

from blurfield.estimation import lacks

from ._choices import Choice

if TYPE_CHECKING:
    from ._tool import ToolWidget

#: Words for the ways to estimate. What "auto" means is the core's decision.
MODELS = {
    "auto": "automatic",
    "windowed": "windows (no training)",
    "compact": "compact network",
    "combined": "compact network and windows",
    "two-heads": "two-headed network",
    "ufp": "UFPNet (each pixel)",
}
#: Models whose kernels can be of any size; those of networks have one of their own.
SIZED = {"auto", "windowed"}

#: Largest blur that stands for the model's own choice.
AUTOMATIC = 5


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
        self.explain("compact", "Much faster than windows, and less exact for long blur.")
        self.explain(
            "combined", "The network where blur is short or a part is sharp, windows elsewhere."
        )
        for model, reason in lacking.items():
            if reason:
                text = f"The {MODELS[model]} {reason}; then open this panel again."
                self.explain(model, text, usable=False)


class ModelRows:
    """The model, and how large a blur it looks for.

    Parameters
    ----------
    tool : ToolWidget
        The widget; rows are added at the end of its form.
    """

    def __init__(self, tool: ToolWidget) -> None:
        self.model = ModelChoice()
        tool.add_row("Model", self.model, "How the blur is estimated.")
        tool.start_with(self.model, lambda settings: settings.model)
        self.largest = QSpinBox()
        self.largest.setRange(AUTOMATIC, 129)
        self.largest.setSingleStep(2)
        self.largest.setSuffix(" px")
        self.largest.setSpecialValueText("automatic")
        tool.add_row(
            "Largest blur",
            self.largest,
            "How far the longest motion reaches, in pixels: no shorter than the longest streak "
            "in the image, and not much longer, which takes more time. Automatic: 33 px, and more "
            "where the motion turns out to be longer.",
        )
        self.model.changed.connect(self._offer_size)
        self._offer_size(self.model.value)

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of `blurfield.estimate`."""
        options: dict[str, Any] = {"model": self.model.value}
        size = self.largest.value()
        if size != AUTOMATIC and self.largest.isEnabled():
            options["kernel_size"] = size | 1  # kernels have a middle
        return options

    def _offer_size(self, model: str) -> None:
        self.largest.setEnabled(model in SIZED)
