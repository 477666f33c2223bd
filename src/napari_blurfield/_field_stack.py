"""The fields of a stack's frames, read from the folder of a series when they are asked for."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from ._source import frame_name, placement_from_json
from .layers import SOURCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import Dims

    from blurfield import KernelField
    from blurfield.frames import Frames
    from blurfield.series import Series

    from ._spatial import Placement
    from ._stack import Stack

#: Fields that are kept in memory: the one shown, and the one before.
_KEPT = 2


class FieldStack:
    """The field of each frame of a stack, as far as it is there.

    Parameters
    ----------
    series : Series
        Where the fields are.
    stack : Stack
        Where they lie.
    """

    def __init__(self, series: Series, stack: Stack) -> None:
        self.series = series
        self.stack = stack
        self._read: OrderedDict[int, KernelField] = OrderedDict()
        # Layers are lazy arrays, of which several threads may compute parts at a time.
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[FieldStack], tuple[Series, Stack]]:
        """Copy what tells of the fields: a lock can be neither copied nor sent elsewhere."""
        return FieldStack, (self.series, self.stack)

    @property
    def name(self) -> str:
        """Name of the layer whose blur it is."""
        return self.stack.name

    @property
    def title(self) -> str:
        """Name for people: the layer's, and which region of it."""
        return frame_name(self.name, (), (), self.stack.first.region)

    def has(self, number: int) -> bool:
        """Return whether the field of a frame is there."""
        return self.series.field_path(number).exists()

    def is_of(self, number: int, frames: Frames) -> bool:
        """Return whether the field of a frame is of its pixels as they are, as far as is known.

        The frame is read for this, in the thread that calls.
        """
        from blurfield.series.changes import digest_of_field, frame_digest

        digest = digest_of_field(self.series.field_path(number))
        if digest is None:
            return True
        try:
            return frame_digest(frames[number]) == digest
        except Exception:  # noqa: BLE001 (whatever made a lazy array can have failed)
            return True

    def at(self, position: Sequence[int]) -> KernelField | None:
        """Return the field of the frame at a position, None if there is none.

        It is the same object as long as no other two fields have been asked for.
        """
        stack = self.stack
        if len(position) != len(stack.sizes) or not all(
            0 <= index < size for index, size in zip(position, stack.sizes, strict=True)
        ):
            return None
        number = stack.number(position)
        if self.series.record.shared and not self.series.shared_path.exists():
            return None  # it is not known yet which field all frames will have
        with self._lock:
            field = self._read.get(number)
            if field is None:
                try:
                    field = self.series.field(number)
                except FileNotFoundError:
                    return None
                field = field.with_metadata(**{SOURCE: stack.to_json(position)})
                self._read[number] = field
                while len(self._read) > _KEPT:
                    self._read.popitem(last=False)
            self._read.move_to_end(number)
            return field

    @property
    def facts(self) -> dict[str, Any]:
        """What there is to say about the source in the metadata of layers, as plain JSON."""
        source = self.stack.to_json((0,) * len(self.stack.sizes))
        return {"source": source, "folder": str(self.series.folder)}

    @property
    def placement(self) -> Placement:
        """Where the stack lies."""
        return placement_from_json(self.facts["source"])

    def go_on_as(self, other: FieldStack) -> None:
        """Be the fields of a later run, whose results are in the same folder."""
        with self._lock:
            self.series, self.stack = other.series, other.stack
            self._read.clear()

    def forget(self, number: int) -> None:
        """Read the field of a frame anew when it is asked for: it has been made again."""
        with self._lock:
            self._read.pop(number, None)

    def shown(self, dims: Dims) -> KernelField | None:
        """Return the field of the frame that a viewer shows."""
        position = self.position_shown(dims)
        return None if position is None else self.at(position)

    def position_shown(self, dims: Dims) -> tuple[int, ...] | None:
        """Return where in the stack a viewer stands; None if it has too few axes."""
        first = self.stack.first
        place = first.placement
        world = np.asarray(dims.point, dtype=float)[-place.ndim :]
        if world.size < place.ndim:
            return None
        pixel = place.to_data(world)
        return tuple(round(float(pixel[axis])) for axis in first.axes.frames)
