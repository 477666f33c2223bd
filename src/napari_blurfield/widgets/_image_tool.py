"""What the widgets that work on an image share: which image, how encoded, on which device."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QCheckBox, QLabel

from napari_blurfield._axes import axes_words, frame_words
from napari_blurfield._field_stack import FieldStack
from napari_blurfield._jobs import explain
from napari_blurfield._lifetime import Connections
from napari_blurfield._picked_axes import picks, stored_shape
from napari_blurfield._series import SeriesPlan, run_series
from napari_blurfield._settings import defaults
from napari_blurfield._source import Source, displayed_frame, frame_labels
from napari_blurfield._stack import Stack

from ._axes_choice import AxesChoice
from ._choices import Choice, ImageChoice
from ._frames import FolderChoice, FramesChoice
from ._region_choice import RegionChoice
from ._series_view import SeriesView, renewed
from ._tool import ToolWidget

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_blurfield._series import Given
    from napari_blurfield._series_layers import SeriesLayers
    from napari_blurfield._tasks import Outcome

#: How an image may be encoded, for people.
GAMMAS = (
    ("automatic", "auto"),
    ("linear light", 1.0),
    ("display, γ 2.2", 2.2),
)


class ImageToolWidget(ToolWidget):
    """A `ToolWidget` for an image, which is chosen in its first row.

    Parameters
    ----------
    napari_viewer, action, tooltip
        As for `ToolWidget`.
    """

    _has_frames = False

    def __init__(self, napari_viewer: ViewerModel, action: str, tooltip: str) -> None:
        super().__init__(napari_viewer, action, tooltip)
        self.image = ImageChoice(self.viewer)
        self.add_row("Image", self.image, "The blurry image; of a stack, the frame now shown.")
        self.image_note = ImageNote(self.viewer, self.image)
        self.add_wide_row(self.image_note, "Image size", "What is going to be used.")
        self.axes = AxesChoice(self.image)
        self.add_row(
            "Channels",
            self.axes,
            "Which axis holds channels: they share one blur, and are deblurred together. All other "
            "axes are frames, each with a blur of its own. This is guessed; correct it here.",
        )
        for event in (self.image.changed, self.image.reshaped):
            event.connect(self._show_what_applies)
        self._show_what_applies()
        self.gamma = Choice(GAMMAS)
        self.device = DeviceChoice()
        self.region = RegionChoice(self.viewer)
        self.frames = FramesChoice()
        self.shared = QCheckBox("One field for all frames")
        self.folder = FolderChoice()
        self._plan: SeriesPlan | None = None
        self._view: SeriesView | None = None

    def add_extent_rows(self) -> None:
        """Add the rows about regions and time-lapses, for a subclass that heeds them."""
        self.add_row(
            "Region",
            self.region,
            "Work on this part of the image only: the selected shapes of a Shapes layer (all, if "
            "none is selected) that are drawn on the frame shown, or the selected label of a "
            "Labels layer. When deblurring, the rest stays as it is, and the part fades into it.",
        )
        self.add_row("Frames", self.frames, self.frames.which.toolTip())
        self.add_wide_row(
            self.shared,
            "One field for all frames",
            "Use one field for all frames: the one chosen, or else the median of all fields. "
            "For blur that does not change, such as that of an instrument.",
        )
        self.add_row("Results in", self.folder, self.folder.path.toolTip())
        self.frames.changed.connect(self._show_what_applies)
        self._has_frames = True
        self._show_what_applies()

    def add_computing_rows(self) -> None:
        """Add the rows about encoding and device, after those of the subclass."""
        self.add_row(
            "Encoding",
            self.gamma,
            "How pixel values stand for light: linear in camera raw files and most microscopes, "
            "encoded for display in photographs. Automatic: display for 8-bit images, linear for "
            "all others.",
        )
        self.add_row("Device", self.device, "Where to compute. Automatic: a GPU if there is one.")
        self.start_with(self.device, lambda settings: settings.device)

    def _show_what_applies(self, *_: object) -> None:
        """Hide controls that the chosen image has no use for."""
        self.show_row(self.axes, self.axes.is_open)
        if self._has_frames:
            layer = self.image.value
            is_stack = layer is not None and _is_stack(layer)
            self.show_row(self.frames, is_stack)
            for control in (self.shared, self.folder):
                self.show_row(control, is_stack and self.frames.several)

    @property
    def takes_series(self) -> bool:
        """Whether several frames are to be worked on."""
        layer = self.image.value
        return self._has_frames and self.frames.several and layer is not None and _is_stack(layer)

    def take(self) -> Source:
        """Return the chosen image, as the viewer shows it now.

        Raises
        ------
        ValueError
            If there is none.
        """
        layer = self.image.value
        if layer is None:
            raise ValueError("open an image first: there is none in the viewer")
        source = Source.shown(layer, self.viewer.dims)
        self.capture(layer)
        return source

    def start_series(
        self,
        what: str,
        estimate: dict[str, Any],
        deblur: dict[str, Any] | None = None,
        given: Given | None = None,
        **layers: Any,
    ) -> None:
        """Start a job for several frames.

        Parameters
        ----------
        what : str
            What is done, such as ``"Deblurring"``.
        estimate, deblur, given, layers
            See `SeriesPlan`.

        Raises
        ------
        ValueError
            If there are no such frames.
        """
        layer = self.image.value
        stack = Stack.from_layer(layer)
        numbers = self.frames.numbers(stack)
        stack = stack.within(self.region.regions(stack.first))
        plan = SeriesPlan(
            stack,
            numbers,
            estimate,
            deblur,
            shared=self.shared.isChecked() and (given is None or isinstance(given, FieldStack)),
            given=given,
            chosen_folder=self.folder.path.text().strip(),
            layers=layers,
        )
        self.capture(layer)
        view = SeriesView()
        view.ready.connect(self._on_first_frame)
        job = partial(run_series, plan, on_frame=view.tell)
        self.start(job, f"{what} {len(numbers)} frames of {stack.name}")
        self._plan, self._view = plan, view

    def _on_first_frame(self, made: SeriesLayers) -> None:
        kept, new = renewed(self.viewer.layers, made)
        before = list(self.viewer.layers)
        self._add_layers(new)
        shown = [*kept, *(layer for layer in self.viewer.layers if layer not in before)]
        self.offer_script(shown[-1])
        if self._view is not None:
            self._view.follow(shown)

    def _settle(self, text: str) -> None:
        super()._settle(text)
        if self._view is not None:
            self._view.stop()
        self._view = self._plan = None

    def _on_cancelled(self) -> None:
        plan, view = self._plan, self._view
        super()._on_cancelled()
        if plan is not None and view is not None and view.frames:
            self.status.setText(
                f"Cancelled; {view.frames} of {len(plan.numbers)} frames are done, and kept in "
                f"{plan.place}. Run it again to go on from there."
            )

    def _on_succeeded(self, outcome: Outcome) -> None:
        super()._on_succeeded(outcome)
        self.device.refresh()


def _is_stack(layer: Layer) -> bool:
    try:
        return bool(picks.of(layer).frames)
    except ValueError:  # said where the image is described
        return False


class ImageNote(QLabel):
    """Says what of an image layer is going to be used."""

    def __init__(self, viewer: ViewerModel, image: ImageChoice) -> None:
        super().__init__()
        self.setWordWrap(True)
        self._viewer = viewer
        self._image = image
        self._connections = Connections(self)
        self._connections.add(viewer.dims.events.current_step, self._refresh)
        image.changed.connect(self._refresh)
        image.reshaped.connect(self._refresh)
        self._refresh()

    def _refresh(self, *_: object) -> None:
        layer = self._image.value
        if layer is None:
            self.setText("No image in the viewer.")
            return
        try:
            frame = displayed_frame(layer, self._viewer.dims)
        except ValueError as error:
            self.setText(explain(error))
            return
        axes, labels = picks.of(layer), layer.axis_labels
        words = axes_words(axes, labels, stored_shape(layer), rgb=bool(layer.rgb))
        shown = frame_words(frame_labels(axes, labels), frame)
        self.setText(f"{words}. Shown: {shown}." if shown else words)


class DeviceChoice(Choice):
    """The devices to compute on; until PyTorch has been loaded, only the sure ones."""

    def __init__(self) -> None:
        super().__init__()
        self.refresh()

    def refresh(self) -> None:
        """List what this machine has, without loading PyTorch for it."""
        devices = [("automatic", "auto"), ("CPU", "cpu")]
        if "torch" in sys.modules:
            from torch import backends, cuda

            if cuda.is_available():
                devices += [
                    (cuda.get_device_name(i), f"cuda:{i}") for i in range(cuda.device_count())
                ]
            if backends.mps.is_available():
                devices.append(("Apple GPU", "mps"))
        preferred = defaults().device
        if not any(value.startswith(preferred) for _, value in devices):
            devices.append((f"GPU ({preferred})", preferred))
        if [value for _, value in devices] != self.values:
            self.fill(devices)
