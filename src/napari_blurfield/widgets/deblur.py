"""The widget that makes an image sharp with a blur field."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDoubleSpinBox, QFileDialog, QHBoxLayout, QPushButton, QWidget
from superqt import QLabeledDoubleSlider

from blurfield.restoration import METHODS
from napari_blurfield._field_stack import FieldStack
from napari_blurfield._preview import preview_source, previews_in, visible_box
from napari_blurfield._regional import field_for, region_of_field
from napari_blurfield._tasks import deblur_source
from napari_blurfield.layers import fields_in, source_name, source_of

from ._choices import Choice, FieldChoice
from ._compare import CompareButton
from ._image_tool import ImageToolWidget
from ._tool import describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel

    from blurfield import KernelField
    from blurfield.restoration import Method
    from napari_blurfield._series import Given
    from napari_blurfield._source import Source
    from napari_blurfield.layers import LayerData

#: Stands for a field that is still to be estimated.
ESTIMATE = "estimate"

#: The method of previews where that is left open.
_QUICK = "tikhonov"
_GB = 10**9


class DeblurWidget(ImageToolWidget):
    """Deblur an image with the field of its blur.

    Parameters
    ----------
    napari_viewer : ViewerModel
        Where image and field come from and the result goes to.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__(
            napari_viewer, "Deblur", "Undo the blur that the field describes, in a new layer."
        )
        self.add_extent_rows()
        self.field = FieldChoice(self.viewer, ("estimate it first", ESTIMATE), self.image)
        self.add_row(
            "Blur field",
            self.field,
            "The field to undo: one in the viewer (selecting any of its layers chooses it), one "
            "from a file, or one to be estimated now.",
        )
        self.open_button = QPushButton("Open field…")
        self.add_wide_row(
            self.open_button, "Open field", "Read a blur field from a .blurfield file."
        )
        self.open_button.clicked.connect(self._ask_for_file)
        self.method = MethodChoice()
        self.add_row("Method", self.method, self.method.toolTip())
        self.variant = Choice()
        self.add_row(
            "Variant",
            self.variant,
            "Kinds of the method; the first one is usual.",
        )
        self.method.changed.connect(self._offer_variants)
        self._offer_variants(self.method.value)
        self.start_with(self.method, lambda settings: settings.method)
        self.strength = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.strength.setRange(0.0, 1.0)
        self.strength.setSingleStep(0.05)  # type: ignore[arg-type]
        self.strength.setDecimals(2)
        self.strength.setValue(0.5)
        self.add_row(
            "Strength",
            self.strength,
            "From 0, calm and faithful, to 1, crisp: more brings out finer detail, and more noise "
            "and ringing with it.",
        )
        self.memory = QDoubleSpinBox()
        self.memory.setRange(0.0, 10_000.0)
        self.memory.setDecimals(1)
        self.memory.setSuffix(" GB")
        self.memory.setSpecialValueText("automatic")
        self.add_row(
            "Memory",
            self.memory,
            "How much memory to use; larger images are deblurred in parts, with the same result. "
            "Automatic: most of what is free.",
        )
        self.start_with(self.memory, lambda settings: (settings.memory or 0) / _GB)
        self.add_computing_rows()
        self.preview_button = QPushButton("Preview")
        self.compare_button = CompareButton(self.viewer, self.image)
        looks = QWidget()
        row = QHBoxLayout(looks)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.preview_button)
        row.addWidget(self.compare_button)
        self.add_wide_row(looks, "Preview and comparison", "Look before and after.")
        describe(
            self.preview_button,
            "Preview",
            "Deblur only what is in view, as it is set above, into a temporary layer; of a large "
            "view, its middle. Zoom in first. Where the method is automatic, a quick one shows "
            "what there is to win.",
        )
        self.preview_button.clicked.connect(self.preview)
        self.starting_buttons.append(self.preview_button)
        self.run_button.clicked.connect(self.run)

    def open_field(self, path: str | Path) -> None:
        """Read a ``.blurfield`` file and choose the field in it."""
        with self.explaining():
            self.field.open_file(Path(path))

    def _ask_for_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Open blur field", "", "Blur fields (*.blurfield)"
        )
        if path:
            self.open_field(path)

    def _offer_variants(self, method: str) -> None:
        variants = METHODS[method].variants if method in METHODS else ()
        self.variant.fill([(name, name) for name in variants] or [("automatic", None)])
        self.variant.setEnabled(len(variants) > 1)

    def run(self) -> None:
        """Start the deconvolution, as the button does."""
        with self.explaining():
            if self.takes_series:
                where = {"gamma": self.gamma.value, "device": self.device.value}
                given = self._given()
                # Fields that are given are shown already, or come from a file.
                self.start_series(
                    "Deblurring", where, self._options(), given, with_field=given is None
                )
                return
            source, field = self._taken()
            where = self._regions(source, field)
            job = partial(deblur_source, source, field, **where, **self._options())
            self.start(job, f"Deblurring {source.name}")

    def preview(self) -> None:
        """Start deblurring what is in view, as the button does."""
        with self.explaining():
            if self.viewer.dims.ndisplay != 2:
                raise ValueError("a preview shows what is in view in 2D; leave the 3D view first")
            source, field = self._taken()
            region = None if field is None else region_of_field(field, source)
            box = visible_box(self.image.value, region)
            options = self._options()
            if options["method"] == "auto":
                options["method"] = _QUICK
            part = source if region is None else source.within(region)
            job = partial(preview_source, part, field, box, **options)
            self.start(job, f"Deblurring what is in view of {source.name}")

    def _taken(self) -> tuple[Source, KernelField | None]:
        """Return the chosen image and the field for it, None if that is still to be estimated."""
        source = self.take()
        field = None if self.field.value == ESTIMATE else self.field.value
        of_region = field is not None and region_of_field(field, source) is not None
        if field is not None and field.shape != source.shape and not of_region:
            raise ValueError(
                f"the field of {source_name(field)!r} is for images of {_size(field.shape)} "
                f"pixels, but {source.name!r} has {_size(source.shape)}; choose the field that "
                "was estimated from this image"
            )
        return source, field

    def _regions(self, source: Source, field: KernelField | None) -> dict[str, Any]:
        """Return the regions to deblur, and the fields that may cover those that `field` doesn't.

        Raises
        ------
        ValueError
            If the blur of a region is not known.
        """
        regions = self.region.regions(source)
        others = [
            other
            for other in fields_in(self.viewer.layers)
            if source_of(other).is_same_image(source.identity)
        ]
        if field is not None:
            for region in regions:
                field_for(region, [field, *others], source)
        return {"regions": regions, "others": others} if regions else {}

    def _add_layers(self, layers: Sequence[LayerData]) -> None:
        """Add layers in the place of the last preview."""
        for layer in previews_in(self.viewer.layers):
            self.viewer.layers.remove(layer)
        super()._add_layers(layers)
        if previews_in(self.viewer.layers):
            self.copy_button.hide()

    def _options(self) -> dict[str, Any]:
        variant = self.variant.value
        return {
            "method": self.method.value,
            "strength": self.strength.value(),
            "gamma": self.gamma.value,
            "device": self.device.value,
            "memory": round(self.memory.value() * _GB) or "auto",
            **({"variant": variant} if variant else {}),
        }

    def _given(self) -> Given | None:
        """Return the fields for all frames; that of one frame counts for all only if asked for."""
        chosen: Given | None = None if self.field.chosen == ESTIMATE else self.field.chosen
        if chosen is None or isinstance(chosen, FieldStack) or self.shared.isChecked():
            return chosen
        return None if source_of(chosen).is_frame_of(self.image.value) else chosen


class MethodChoice(Choice):
    """The ways to deblur; those whose weights are missing are shown, but cannot be chosen."""

    def __init__(self) -> None:
        # What "auto" means is the core's decision.
        super().__init__([("automatic", "auto"), *map(_entry, METHODS.items())])
        self.explain(
            "auto", "Plug-and-play for fields that are known, Richardson-Lucy for estimated ones."
        )
        for name, method in METHODS.items():
            lacks = method.lacks
            reason = f"\n{method.title} {lacks}; then open this panel again." if lacks else ""
            self.explain(name, method.description + reason, usable=not lacks)
        self.changed.connect(self._describe)
        self._describe()

    def _describe(self, *_: object) -> None:
        method = METHODS.get(self.value)
        about = method.description if method else "Automatic: the best one that is installed."
        text = f"How the blur is undone. {about}"
        self.setToolTip(text)
        self.setAccessibleDescription(text)


def _entry(entry: tuple[str, Method]) -> tuple[str, str]:
    name, method = entry
    return (f"{method.title}: no weights" if method.lacks else method.title), name


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[0]} × {shape[1]}"
