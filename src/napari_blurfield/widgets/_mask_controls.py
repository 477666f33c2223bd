"""Controls that say what counts as blurred, and what is made of it."""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Qt
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QLabel
from superqt import QLabeledDoubleSlider

from napari_blurfield._masks import MaskSettings
from napari_blurfield._pixel_size import PixelSize

from ._choices import Choice
from ._controls import set_value
from ._tool import note

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PyQt6.QtCore import pyqtSignal as Signal

    from ._tool import ToolWidget
else:
    from qtpy.QtCore import Signal

#: Ways to tell blurred from sharp.
NORM, EXTENT = "norm", "extent"
#: Extent in pixels at first, and the largest one as long as there is no field.
_EXTENT, _LONGEST = 5.0, 33.0


class MaskControls(QObject):
    """Rows of a widget's form that make up `MaskSettings`.

    Parameters
    ----------
    tool : ToolWidget
        The widget; rows are added at the end of its form.

    Attributes
    ----------
    changed : Signal()
        A person has changed the settings; not that they suit another image now.
    """

    changed = Signal()

    def __init__(self, tool: ToolWidget) -> None:
        super().__init__()
        self._tool = weakref.proxy(tool)  # the tool goes as soon as nobody else holds it
        self._pixel = PixelSize()
        self._scale = PixelSize()
        self._add_criterion()
        self._add_regions()
        self.criterion.changed.connect(self._on_changed)
        self.regions.toggled.connect(self._on_changed)
        self.threshold.valueChanged.connect(self._on_changed)
        self.extent.valueChanged.connect(self._on_changed)
        self.min_area.valueChanged.connect(self._on_changed)
        self.difference.valueChanged.connect(self._on_changed)
        self.unit.changed.connect(self._on_unit_changed)
        self.suit(PixelSize(), _LONGEST)
        with self._silently():
            self.extent.setValue(_EXTENT)

    def _add_criterion(self) -> None:
        self.criterion = Choice([("L2 norm", NORM), ("extent", EXTENT)])
        self._tool.add_row(
            "Mark by",
            self.criterion,
            "What tells blurred from sharp: the L2 norm of the kernels, which says how little of "
            "the light stays in one place, or how far the blur reaches.",
        )
        self.threshold = _slider()
        self.threshold.setRange(0.05, 0.95)
        self.threshold.setSingleStep(0.01)  # type: ignore[arg-type]
        self.threshold.setDecimals(2)
        self.threshold.setValue(0.25)
        self._tool.add_row(
            "Threshold",
            self.threshold,
            "Kernels with a smaller L2 norm count as blur: 1 is a single point, no blur at all; "
            "a straight line of L pixels has 1/√L. The mask follows at once, and replaces what "
            "was painted into it.",
        )
        self.meaning: QLabel = note()
        self._tool.add_wide_row(
            self.meaning, "Meaning of the threshold", "The threshold in pixels."
        )
        self.extent = _slider()
        self._tool.add_row(
            "Extent from",
            self.extent,
            "Blur that reaches at least so far along its direction is marked; one pixel is no blur "
            "at all. The mask follows at once, and replaces what was painted into it.",
        )
        self.unit = Choice([("pixels", False)])
        self._tool.add_row(
            "Unit", self.unit, "Unit of extents and areas: pixels, or the image's own unit."
        )

    def _add_regions(self) -> None:
        self.min_area = QDoubleSpinBox()
        self._tool.add_row(
            "Smallest area",
            self.min_area,
            "Blurry regions, and gaps in them, of a smaller area are removed.",
        )
        self.regions = QCheckBox("Regions of similar motion")
        self._tool.add_wide_row(
            self.regions,
            "Regions of similar motion",
            "Divide what is marked into connected regions that moved alike, each with a label of "
            "its own; opposite directions are the same.",
        )
        self.difference = QDoubleSpinBox()
        self.difference.setDecimals(0)
        self.difference.setRange(5, 200)
        self.difference.setSingleStep(5)
        self.difference.setValue(30)
        self.difference.setSuffix(" %")
        self._tool.add_row(
            "Difference",
            self.difference,
            "How much the motion of neighbouring regions differs at least: 30 % of the longer "
            "extent, or 12° of direction. Less makes more regions.",
        )

    @property
    def settings(self) -> MaskSettings:
        """What the controls say: in pixels, unless extents in the unit depend on directions."""
        by_extent = self.criterion.value == EXTENT
        in_unit = by_extent and not self._scale.is_square
        side = 1.0 if in_unit else self._scale.side
        return MaskSettings(
            threshold=self.threshold.value(),
            min_extent=self.extent.value() / side if by_extent else None,
            min_area=round(self.min_area.value() / self._scale.area),
            tolerance=self.difference.value() / 100 if self.regions.isChecked() else None,
            pixel_size=self._scale.sides if in_unit else None,
        )

    def suit(self, pixel: PixelSize, longest: float) -> None:
        """Offer what suits an image.

        Parameters
        ----------
        pixel : PixelSize
            Its pixels.
        longest : float
            Extent in pixels that no blur exceeds.
        """
        self._pixel = pixel
        self._longest = longest
        units = [("pixels", False)]
        if pixel.is_physical:
            units.append((pixel.unit, True))
        with self._silently():
            self.unit.fill(units)
            self._rescale()
        self._show_what_applies()

    def show_settings(self, settings: MaskSettings) -> None:
        """Show what a layer was made with; the layer has no need to follow."""
        with self._silently():
            self.threshold.setValue(settings.threshold)
            self.criterion.value = NORM if settings.min_extent is None else EXTENT
            if settings.min_extent is not None:
                self._show_extent(settings.min_extent, in_unit=settings.pixel_size is not None)
            self.min_area.setValue(settings.min_area * self._scale.area)
            self.regions.setChecked(settings.tolerance is not None)
            if settings.tolerance is not None:
                self.difference.setValue(settings.tolerance * 100)
        self._show_what_applies()

    def _show_extent(self, extent: float, *, in_unit: bool) -> None:
        """Show an extent in pixels or in the unit; where pixels are square, both are the same."""
        if not self._pixel.is_square:
            set_value(self.unit, in_unit)
        self.extent.setValue(extent if in_unit else extent * self._scale.side)

    @contextmanager
    def _silently(self) -> Iterator[None]:
        """Set controls without saying that a person did."""
        before = self.blockSignals(True)
        try:
            yield
        finally:
            self.blockSignals(before)

    def _on_unit_changed(self, *_: object) -> None:
        before = self.settings
        self._rescale()
        if self.settings != before:  # rounded, or measured otherwise as pixels are not square
            self._on_changed()

    def _rescale(self) -> None:
        """Show the same settings in another unit, or similar ones where pixels are not square."""
        extent = self.extent.value() / self._scale.side
        area = self.min_area.value() / self._scale.area
        self._scale = self._pixel if self.unit.value else PixelSize()
        side, unit = self._scale.side, self._scale.unit
        for control in (self.extent, self.min_area):
            control.blockSignals(True)
        self.extent.setDecimals(1 if side >= 1 else 2)
        sides = self._scale.sides
        self.extent.setRange(min(sides), self._longest * max(sides))
        self.extent.setSingleStep(side / 2)  # type: ignore[arg-type]
        self.extent.setValue(extent * side)
        self.min_area.setDecimals(0 if self._scale.area >= 1 else 2)
        self.min_area.setRange(0, 1e9 * self._scale.area)
        self.min_area.setSingleStep(50 * self._scale.area)
        self.min_area.setValue(area * self._scale.area)
        self.min_area.setSuffix(" px" if unit == "px" else f" {unit}²")
        for control in (self.extent, self.min_area):
            control.blockSignals(False)

    def _on_changed(self, *_: object) -> None:
        self._show_what_applies()
        self.changed.emit()

    def _show_what_applies(self) -> None:
        by_extent = self.criterion.value == EXTENT
        for control, visible in (
            (self.threshold, not by_extent),
            (self.meaning, not by_extent),
            (self.extent, by_extent),
            (self.unit, self._pixel.is_physical),
            (self.difference, self.regions.isChecked()),
        ):
            self._tool.show_row(control, visible)
        pixels = self.threshold.value() ** -2
        self.meaning.setText(f"Blur like a straight motion of more than {pixels:.0f} px")


def _slider() -> QLabeledDoubleSlider:
    return QLabeledDoubleSlider(Qt.Orientation.Horizontal)
