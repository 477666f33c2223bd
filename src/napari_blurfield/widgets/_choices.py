"""Combo boxes that follow the viewer: image layers, blur fields, and fixed words."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, ClassVar

from napari.layers import Image
from qtpy.QtCore import Qt
from qtpy.QtGui import QStandardItemModel
from qtpy.QtWidgets import QComboBox, QSizePolicy, QWidget

from napari_blurfield._field_stack import FieldStack
from napari_blurfield._identity import Identity
from napari_blurfield._lifetime import Connections
from napari_blurfield._picked_axes import picks
from napari_blurfield._source import displayed_frame
from napari_blurfield.layers import (
    FIELD_ROLES,
    fields_in,
    fields_of_stack,
    find_field,
    role_of,
    source_name,
    source_of,
    stacks_in,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari.components import ViewerModel
    from napari.layers import Layer
    from PyQt6.QtCore import pyqtSignal as Signal

    from blurfield import KernelField
else:
    from qtpy.QtCore import Signal

#: Characters of a layer's name that fit a narrow dock.
_WIDTH = 10


class Choice(QComboBox):
    """A combo box of values with words for them.

    Parameters
    ----------
    entries : sequence of (words, value)
        What can be chosen.
    """

    #: The chosen value is another one than before.
    changed = Signal(object)
    #: Whether a person sets it, so that it has a default; others follow the viewer.
    is_setting: ClassVar[bool] = True

    def __init__(
        self, entries: Sequence[tuple[str, Any]] = (), parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._values: list[Any] = []
        self._last: Any = None
        # The dock decides on the width, not the longest entry.
        self.setSizeAdjustPolicy(self.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(_WIDTH)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.currentIndexChanged.connect(self._announce)
        self.fill(entries)

    @property
    def chosen(self) -> Any:
        """The chosen entry of `values`, None if there is nothing to choose."""
        index = self.currentIndex()
        return self._values[index] if 0 <= index < len(self._values) else None

    @property
    def value(self) -> Any:
        """What the chosen entry stands for; None if there is nothing to choose."""
        return self._meaning(self.chosen)

    @value.setter
    def value(self, value: Any) -> None:
        for index, known in enumerate(self._values):
            if known is value or (isinstance(value, (str, float)) and known == value):
                self.setCurrentIndex(index)
                return
        raise ValueError(f"{value!r} is not among the choices {self._values}")

    @property
    def values(self) -> list[Any]:
        """All values that can be chosen."""
        return list(self._values)

    def fill(self, entries: Sequence[tuple[str, Any]]) -> None:
        """Replace the entries; what is chosen stays chosen if it is still there."""
        kept = self.chosen
        self.blockSignals(True)
        try:
            self.clear()
            self._values = [value for _, value in entries]
            self.addItems([words for words, _ in entries])
            for index, value in enumerate(self._values):
                if value is kept:
                    self.setCurrentIndex(index)
        finally:
            self.blockSignals(False)
        self._announce()

    def explain(self, value: Any, tooltip: str, *, usable: bool = True) -> None:
        """Set the tooltip of an entry, and whether it can be chosen."""
        index = self._values.index(value)
        self.setItemData(index, tooltip, Qt.ItemDataRole.ToolTipRole)
        model = self.model()
        if isinstance(model, QStandardItemModel) and (item := model.item(index)) is not None:
            item.setEnabled(usable)

    def offers(self, value: Any) -> bool:
        """Return whether a value is there and can be chosen."""
        if value not in self._values:
            return False
        model = self.model()
        item = (
            model.item(self._values.index(value)) if isinstance(model, QStandardItemModel) else None
        )
        return item is None or item.isEnabled()

    def _meaning(self, chosen: Any) -> Any:
        """Return what an entry stands for now; subclasses may have entries that change."""
        return chosen

    def _announce(self, *_: object) -> None:
        value = self.value
        if value is not self._last:
            self._last = value
            self.changed.emit(value)


class ImageChoice(Choice):
    """A choice among the image layers of a viewer that follows the active layer."""

    is_setting = False

    #: The chosen layer's data, or what its axes are taken for, have changed.
    reshaped = Signal()

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self._viewer = viewer
        self._watched: weakref.ref[Layer] | None = None
        self._connections = Connections(self)
        events = viewer.layers.events
        for emitter in (events.inserted, events.removed, events.reordered, events.renamed):
            self._connections.add(emitter, self._refresh)
        self._connections.add(viewer.layers.selection.events.active, self._follow)
        self._connections.add(picks.changed, self._on_picked)
        self.changed.connect(self._watch)
        self._refresh()
        self._follow()

    def _watch(self, layer: Layer | None) -> None:
        """Notice when the chosen layer gets other data or axis labels, and no other layer."""
        before = self._watched() if self._watched is not None else None
        if before is not None:
            for emitter in (before.events.data, before.events.axis_labels):
                self._connections.remove(emitter, self._on_reshaped)
        self._watched = None if layer is None else weakref.ref(layer)
        if layer is not None:
            for emitter in (layer.events.data, layer.events.axis_labels):
                self._connections.add(emitter, self._on_reshaped)

    def _on_reshaped(self, *_: object) -> None:
        self.reshaped.emit()

    def _on_picked(self, layer: Layer) -> None:
        if layer is self.value:
            self.reshaped.emit()

    def _refresh(self, *_: object) -> None:
        layers = [layer for layer in self._viewer.layers if is_photograph(layer)]
        self.fill([(layer.name, layer) for layer in reversed(layers)])

    def _follow(self, *_: object) -> None:
        active = self._viewer.layers.selection.active
        # Not a deblurred image, which is active for a moment when it is added: the next thing
        # people do is to try another setting on the same blurry one.
        if any(active is layer for layer in self.values) and role_of(active) != "deblurred":
            self.value = active


class FieldChoice(Choice):
    """A choice among the blur fields in a viewer, and of files opened before.

    Each field is listed once, whichever of its layers are left. The fields of a stack are one
    entry, which stands for the field of the frame that the viewer shows. The choice follows the
    active layer, and the image that it is for.

    Parameters
    ----------
    viewer : ViewerModel
        The viewer.
    first : (words, value), optional
        An entry before all fields, chosen as long as there is no field for the image.
    image : ImageChoice, optional
        Which image the field is for.
    """

    is_setting = False

    def __init__(
        self,
        viewer: ViewerModel,
        first: tuple[str, Any] | None = None,
        image: ImageChoice | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__([first] if first else [], parent=parent)
        self._viewer = viewer
        self._first = [first] if first else []
        self._image = image
        self._opened: list[tuple[str, KernelField]] = []
        self._connections = Connections(self)
        events = viewer.layers.events
        for emitter in (events.inserted, events.removed, events.reordered, events.renamed):
            self._connections.add(emitter, self._refresh)
        self._connections.add(viewer.layers.selection.events.active, self._follow)
        self._connections.add(viewer.dims.events.current_step, self._on_moved)
        self._frame: tuple[int, ...] | None = None
        if image is not None:
            image.changed.connect(self._choose_for_image)
            image.reshaped.connect(self._choose_for_image)  # what is known of it counts no more
        self._refresh()
        self._follow()

    def open_file(self, path: Path) -> None:
        """Read a ``.blurfield`` file and choose the field in it.

        Raises
        ------
        ValueError, OSError
            If it cannot be read.
        """
        from blurfield import KernelField

        self.add(path.name, KernelField.load(path))

    def add(self, name: str, field: KernelField) -> None:
        """Add a field that no layer shows, and choose it."""
        self._opened.append((name, field))
        self._refresh()
        self.value = field

    def _meaning(self, chosen: Any) -> Any:
        return chosen.shown(self._viewer.dims) if isinstance(chosen, FieldStack) else chosen

    def _refresh(self, *_: object) -> None:
        fields = fields_in(self._viewer.layers)
        stacks = stacks_in(self._viewer.layers)
        names = [source_name(field) for field in fields]
        names = _told_apart([*names, *(f"{stack.title}, each frame" for stack in stacks)])
        entries = zip(names, [*fields, *stacks], strict=True)
        self.fill([*self._first, *entries, *self._opened])
        if self._first and self.currentIndex() == 0:
            self._choose_for_image()

    def _on_moved(self, *_: object) -> None:
        """Follow the sliders: to the field of another frame of the image, if there is one."""
        if isinstance(self.chosen, FieldStack):
            self._announce()
        elif self._shown_frame() != self._frame:
            self._choose_for_image()

    def _shown_frame(self) -> tuple[int, ...] | None:
        layer = self._image.value if self._image is not None else None
        try:
            return None if layer is None else displayed_frame(layer, self._viewer.dims)
        except ValueError:  # the viewer's sliders stand outside the stack
            return None

    def _choose_for_image(self, *_: object) -> None:
        """Choose the newest field that was estimated from the image.

        Without one, a field from elsewhere stays chosen, but not the field of another image.
        """
        layer = self._image.value if self._image is not None else None
        self._frame = frame = self._shown_frame()
        if layer is None or frame is None:
            return
        opened = [field for _, field in reversed(self._opened)]
        fields = [*fields_in(self._viewer.layers), *opened]
        shown = Identity.of_frame(layer, frame)
        fitting: list[Any] = []
        if shown is not None:
            fitting += [field for field in fields if source_of(field).is_same_image(shown)]
        stacks = stacks_in(self._viewer.layers)
        fitting += [stack for stack in stacks if stack.stack.is_stack_of(layer)]
        for field in fitting:
            # The sliders move before the layer that made them longer is listed here.
            if any(field is known for known in self.values):
                self.value = field
                return
        if self._first and self._belongs_to_another():
            self.setCurrentIndex(0)

    def _belongs_to_another(self) -> bool:
        """Return whether the chosen field was estimated from another image of the viewer."""
        if self.currentIndex() < len(self._first):
            return False
        chosen = self.chosen
        stack = chosen.stack if isinstance(chosen, FieldStack) else None
        belongs = source_of(chosen).is_frame_of if stack is None else stack.is_stack_of
        photographs = [layer for layer in self._viewer.layers if is_photograph(layer)]
        return any(belongs(layer) for layer in photographs)

    def _follow(self, *_: object) -> None:
        active = self._viewer.layers.selection.active
        if active is not None and role_of(active) in FIELD_ROLES:
            field = fields_of_stack(active) or find_field(active)
            # A layer opened from a file of its own knows its role, but no field.
            if any(field is known for known in self.values):
                self.value = field


def is_photograph(layer: Layer) -> bool:
    """Return whether a layer holds an image to work on, not a picture of a field."""
    return isinstance(layer, Image) and role_of(layer) not in {
        *FIELD_ROLES,
        "preview",
        "residual",
    }


def _told_apart(names: list[str]) -> list[str]:
    """Return names with a number behind those that occur more than once."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return out
