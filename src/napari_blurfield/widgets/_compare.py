"""A button, and a key, that take a deblurred image off its source and put it back."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakMethod

from qtpy.QtWidgets import QPushButton

from napari_blurfield._identity import FramesOf, Identity
from napari_blurfield._lifetime import Connections, when_destroyed
from napari_blurfield.layers import FACTS, role_of

from ._tool import describe

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer
    from napari.utils.events import Event

    from ._choices import ImageChoice

#: The key that does the same as the button, wherever the mouse is over the viewer.
KEY = "Alt-B"

#: What changes which layer is compared, or whether it is shown.
_EVENTS = frozenset({"inserted", "removed", "reordered", "name", "visible"})
#: Roles of layers that lie over an image and look like it.
_AFTER = frozenset({"deblurred", "preview", "reblurred"})


class CompareButton(QPushButton):
    """Shows the image as it was, while it is down.

    Parameters
    ----------
    viewer : ViewerModel
        Where image and result are. `KEY` is bound in it as long as the button exists; of several
        buttons, the newest one has it.
    image : ImageChoice
        The image; its topmost result is hidden and shown, or the selected one.
    """

    def __init__(self, viewer: ViewerModel, image: ImageChoice) -> None:
        super().__init__("Show before")
        self.setCheckable(True)
        describe(
            self,
            "Show before",
            f"Hide the result, to see the image as it was; press again to see it as it is after. "
            f"Key: {KEY}.",
        )
        self._viewer = viewer
        self._image = image
        self._connections = Connections(self)
        self._connections.add(viewer.layers.events, self._on_event)
        self._connections.add(viewer.layers.selection.events.active, self.follow)
        image.changed.connect(self.follow)
        self.clicked.connect(self.toggle)
        _bind(viewer, self)
        self.follow()

    def toggle(self) -> None:
        """Hide the result, or show it again, as button and key do."""
        result = self._result()
        if result is not None:
            result.visible = not result.visible
            if self._image.value is not None:
                self._image.value.visible = True
        self.follow()

    def follow(self, *_: object) -> None:
        """Let the button say what is shown."""
        result = self._result()
        self.setEnabled(result is not None)
        self.setChecked(result is not None and not result.visible)

    def _on_event(self, event: Event) -> None:
        if event.type in _EVENTS:  # of the list, and of the layers in it
            self.follow()

    def _result(self) -> Layer | None:
        """Return the selected result of the image, or the topmost one."""
        source = self._image.value
        if source is None:
            return None
        frames = FramesOf(source)
        found = [layer for layer in self._viewer.layers if _is_result_of(layer, frames)]
        active = self._viewer.layers.selection.active
        return active if active in found else (found or [None])[-1]


def _is_result_of(layer: Layer, frames: FramesOf) -> bool:
    if role_of(layer) not in _AFTER:
        return False
    made_of = layer.metadata[FACTS].get("source")
    return bool(made_of) and Identity.from_json(made_of).is_frame_of(frames)


def _bind(viewer: ViewerModel, button: CompareButton) -> None:
    """Bind the key without keeping the button alive."""
    toggle = WeakMethod(button.toggle)

    def press(_: ViewerModel) -> None:
        callback = toggle()
        if callback is not None:
            callback()

    viewer.bind_key(KEY, press, overwrite=True)

    def release() -> None:
        for key in [key for key, bound in viewer.keymap.items() if bound is press]:
            del viewer.keymap[key]

    when_destroyed(button, release)


__all__ = ["KEY", "CompareButton"]
