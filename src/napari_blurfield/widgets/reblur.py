"""The widget that blurs sharp images, and checks deblurred ones by blurring them again."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QFileDialog, QPushButton, QSpinBox

from napari_blurfield._identity import Identity
from napari_blurfield._lifetime import Connections
from napari_blurfield._reblurring import reblur_source, residual_source, simulate_source
from napari_blurfield._recipe import recipe_of_layer
from napari_blurfield._source import Source
from napari_blurfield.layers import FACTS, find_field, role_of, source_name

from ._choices import Choice, FieldChoice, is_photograph
from ._image_tool import ImageToolWidget
from ._tool import describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Layer
    from qtpy.QtWidgets import QWidget

    from blurfield import KernelField
    from napari_blurfield._tasks import Outcome

#: What can be done, with the words on the button and which image it is for.
TASKS = {
    "reblur": ("apply blur field", "Reblur", "The sharp image"),
    "simulate": ("simulate blur", "Simulate", "The sharp image"),
    "residual": ("check deblurring", "Show residual", "The blurry image, as it was"),
}
#: Words for the kinds of blur that can be simulated.
KINDS = {
    "uniform": "camera shake",
    "rotation": "turning camera",
    "segments": "shakes by segments",
    "linear": "straight motion",
    "object": "moving object",
    "zoom": "zooming camera",
    "defocus": "defocus",
}

_LARGEST_SEED = 2**31 - 1


class ReblurWidget(ImageToolWidget):
    """Blur a sharp image with a field or a simulated one, or check a deblurred image.

    Parameters
    ----------
    napari_viewer : ViewerModel
        Where images and fields come from and results go to.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__(napari_viewer, "Reblur", "Blur the image, in a new layer.")
        self.task = Choice([(words, task) for task, (words, _, _) in TASKS.items()])
        self.add_row(
            "Task",
            self.task,
            "Blur an image with a field; blur it with a random field that is then known; or blur "
            "a deblurred image again and subtract the blurry image, which leaves noise where the "
            "result is right and edges where it is not.",
        )
        self._rows: dict[str, list[QWidget]] = {task: [] for task in TASKS}
        self._add_field_rows()
        self._add_simulation_rows()
        self.add_computing_rows()
        self.task.changed.connect(self._show_task)
        self._show_task(self.task.value)
        self.run_button.clicked.connect(self.run)

    def run(self) -> None:
        """Do what is chosen, as the button does."""
        with self.explaining():
            source = self.take()
            work, words = self._work(source)
            self.start(partial(work, gamma=self.gamma.value, device=self.device.value), words)

    def _work(self, source: Source) -> tuple[Callable[..., Outcome], str]:
        """Return the job for an image, and what it does in words."""
        task = self.task.value
        if task == "reblur":
            return partial(reblur_source, source, self._chosen_field()), f"Blurring {source.name}"
        if task == "residual":
            deblurred, field = self._chosen_deblurred(), self._chosen_field()
            made_by = recipe_of_layer(self.deblurred.value)
            work = partial(residual_source, deblurred, source, field, made_by=made_by)
            return work, f"Checking {deblurred.name}"
        work = partial(
            simulate_source,
            source,
            kind=self.kind.value,
            seed=self.seed.value(),
            max_extent=self.largest.value(),
            noise=self.noise.value() / 100,
            truth=self.truth.isChecked(),
        )
        return work, f"Simulating blur of {source.name}"

    def open_field(self, path: str | Path) -> None:
        """Read a ``.blurfield`` file, or a kernel for the whole image, and choose it."""
        with self.explaining():
            file = Path(path)
            if file.suffix.lower() == ".blurfield":
                self.field.open_file(file)
                return
            from blurfield import import_kernels

            # A single kernel is laid over any image when it is used.
            self.field.add(file.name, import_kernels(file, (1, 1)))

    # ----------------------------------------------------------------------- rows

    def _add_field_rows(self) -> None:
        self.deblurred = DeblurredChoice(self.viewer)
        self.add_row(
            "Deblurred",
            self.deblurred,
            "What was made of the blurry image. Choosing it also chooses that image and the field "
            "it was made with, as far as they are known.",
        )
        self.deblurred.changed.connect(self._match)
        self.field = FieldChoice(self.viewer, image=self.image)
        self.add_row(
            "Blur field",
            self.field,
            "The field to apply; selecting any of its layers chooses it. It has to be for an image "
            "of this size, or have the same kernel everywhere.",
        )
        self.open_button = QPushButton("Open field or kernel…")
        self.add_wide_row(
            self.open_button,
            "Open field or kernel",
            "Read a blur field from a .blurfield file, or one kernel for the whole image: a .mat, "
            ".npy, .npz or .csv file, or an image of a point-spread function.",
        )
        self.open_button.clicked.connect(self._ask_for_file)
        self._rows["reblur"] += [self.field, self.open_button]
        self._rows["residual"] += [self.deblurred, self.field, self.open_button]

    def _add_simulation_rows(self) -> None:
        self.kind = Choice([(words, kind) for kind, words in KINDS.items()])
        self.add_row(
            "Motion",
            self.kind,
            "What moves, and so how the blur varies: a shake, a straight motion or defocus is the "
            "same all over the image; a turning or zooming camera blurs its parts differently; "
            "segments each have a shake of their own.",
        )
        self.largest = QSpinBox()
        self.largest.setRange(3, 129)
        self.largest.setSingleStep(2)
        self.largest.setSuffix(" px")
        self.largest.setValue(21)
        self.add_row(
            "Largest blur",
            self.largest,
            "How far the longest motion may reach, in pixels; the shortest is a third of it.",
        )
        self.noise = QDoubleSpinBox()
        self.noise.setRange(0.0, 30.0)
        self.noise.setSingleStep(0.5)
        self.noise.setDecimals(2)
        self.noise.setSuffix(" % of white")
        self.noise.setValue(1.0)
        self.add_row(
            "Noise", self.noise, "Standard deviation of the Gaussian noise of the blurry image."
        )
        self.seed = QSpinBox()
        self.seed.setRange(0, _LARGEST_SEED)
        self.add_row(
            "Seed", self.seed, "Another number gives another motion; the same, the same again."
        )
        self.truth = QCheckBox("Add the true blur field")
        self.truth.setChecked(True)
        self.add_wide_row(
            self.truth,
            "Add the true blur field",
            "Also add the layers of the field that the image was blurred with.",
        )
        self._rows["simulate"] += [self.kind, self.largest, self.noise, self.seed, self.truth]

    def _show_task(self, task: str) -> None:
        """Show the rows of a task and hide those of the others."""
        shown = self._rows[task]
        for row in {row for rows in self._rows.values() for row in rows}:
            self.show_row(row, row in shown)
        words, button, image = TASKS[task]
        self.run_button.setText(button)
        describe(self.run_button, button, f"{words[:1].upper()}{words[1:]}, in a new layer.")
        describe(self.image, "Image", f"{image}; of a stack, the frame now shown.")
        if task == "residual":
            self._match(self.deblurred.value)

    # --------------------------------------------------------------------- choices

    def _chosen_field(self) -> KernelField:
        field: KernelField | None = self.field.value
        if field is None:
            raise ValueError(
                "there is no blur field in the viewer: run 'Estimate blur field', or open a field "
                "or kernel file first"
            )
        return field

    def _chosen_deblurred(self) -> Source:
        layer = self.deblurred.value
        if layer is None:
            raise ValueError("there is no deblurred image in the viewer: run 'Deblur' first")
        return Source.shown(layer, self.viewer.dims)

    def _match(self, deblurred: Layer | None) -> None:
        """Choose the image that a deblurred one was made of, and the field it was made with."""
        if deblurred is None or self.task.value != "residual":
            return
        facts = deblurred.metadata.get(FACTS) or {}
        made_of = Identity.from_json(facts.get("source", {}))
        for layer in self.image.values:
            if made_of.is_frame_of(layer):
                self.image.value = layer
        field = find_field(deblurred)
        if field is None:
            return
        if not any(field is known for known in self.field.values):
            self.field.add(source_name(field), field)
        self.field.value = field

    def _ask_for_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self,
            "Open blur field or kernel",
            "",
            "Blur fields and kernels (*.blurfield *.mat *.npy *.npz *.csv *.png *.tif *.tiff)",
        )
        if path:
            self.open_field(path)


class DeblurredChoice(Choice):
    """A choice among restored images: those of this plugin first, then all others."""

    is_setting = False

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self._connections = Connections(self)
        events = viewer.layers.events
        for emitter in (events.inserted, events.removed, events.reordered, events.renamed):
            self._connections.add(emitter, self._refresh)
        self._connections.add(viewer.layers.selection.events.active, self._follow)
        self._refresh()
        self._follow()

    def _refresh(self, *_: object) -> None:
        layers = [layer for layer in reversed(self._viewer.layers) if is_photograph(layer)]
        layers.sort(key=lambda layer: role_of(layer) != "deblurred")
        self.fill([(layer.name, layer) for layer in layers])

    def _follow(self, *_: object) -> None:
        active = self._viewer.layers.selection.active
        if active is not None and role_of(active) == "deblurred":
            self.value = active


__all__ = ["KINDS", "TASKS", "ReblurWidget"]
