"""Identity and end of what napari lends to a widget: its viewer, and the events of that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakMethod

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtCore import QObject

#: Callbacks that wait for a destruction. PyQt shows the collector what a signal is connected to;
#: without this reference it would tear the callback down together with a widget in a reference
#: cycle, and Qt would then call what is left of it.
_waiting: set[Callable[..., None]] = set()


def when_destroyed(owner: QObject, callback: Callable[[], None]) -> None:
    """Call `callback`, which must not refer to `owner`, once `owner` is gone."""

    def call(*_: object) -> None:
        _waiting.discard(call)
        callback()

    _waiting.add(call)
    owner.destroyed.connect(call)


class Connections:
    """Connections to events of the viewer, undone when the widget that made them is destroyed.

    Nothing here holds the widget: callbacks of a widget that is only kept by them would keep it,
    and a callback that arrives after its destruction would crash.
    """

    def __init__(self, owner: QObject) -> None:
        made: list[tuple[Any, WeakMethod[Callable[..., Any]]]] = []
        self._made = made
        when_destroyed(owner, lambda: _disconnect(made))

    def add(self, emitter: Any, callback: Callable[..., Any]) -> None:
        """Connect `callback`, a method of the owner, to an event emitter."""
        emitter.connect(callback)
        self._made.append((emitter, WeakMethod(callback)))

    def remove(self, emitter: Any, callback: Callable[..., Any]) -> None:
        """Disconnect what `add` connected."""
        emitter.disconnect(callback)
        self._made[:] = [made for made in self._made if made != (emitter, WeakMethod(callback))]


def _disconnect(made: list[tuple[Any, WeakMethod[Callable[..., Any]]]]) -> None:
    while made:
        emitter, reference = made.pop()
        callback = reference()
        if callback is not None:
            emitter.disconnect(callback)


def behind_proxy(viewer: Any) -> Any:
    """Return the viewer itself, where napari lends widgets a proxy of it.

    The proxy hands out a new proxy of each layer whenever it is asked, so that one layer is never
    the same object twice and can't be referred to weakly. Only public attributes are used here.
    """
    return getattr(viewer, "__wrapped__", viewer)
