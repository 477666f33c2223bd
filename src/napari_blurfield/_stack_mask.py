"""Where the frames of a stack are blurred: a Labels layer of which what is looked at is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._axes import frame_words
from ._masks import label_image, label_look, label_words
from ._per_frame import per_frame
from .layers import FACTS, FIELDS, ROLES, fields_of_stack

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dask.array
    from napari.layers import Layer
    from napari.utils.events import Event
    from numpy.typing import NDArray

    from blurfield import KernelField
    from blurfield.compute import ProgressCallback

    from ._field_stack import FieldStack
    from ._masks import MaskSettings
    from .layers import LayerData


#: Frames whose labels are kept in memory.
_KEPT = 2


class StackMask:
    """The mask, or the regions, of each frame; the last ones made are kept.

    Parameters
    ----------
    fields : FieldStack
        The fields of the frames.
    settings : MaskSettings
        What counts as blurred, and whether that is divided.
    """

    def __init__(self, fields: FieldStack, settings: MaskSettings) -> None:
        self._fields = fields
        self._dtype = np.uint8 if settings.role == "mask" else np.int32
        self._made: tuple[tuple[KernelField, NDArray[Any]], ...] = ()
        self.settings = settings

    def at(self, position: Sequence[int], progress: ProgressCallback | None = None) -> NDArray[Any]:
        """Return the labels of the frame at a position; 0 where its field is not known."""
        field, made = self._fields.at(position), self._made
        if field is None:
            return np.zeros(self._fields.stack.first.shape, self._dtype)
        for known, labels in made:
            if known is field:
                return labels
        labels = label_image(field, self.settings, progress).astype(self._dtype, copy=False)
        self._made = ((field, labels), *made)[:_KEPT]
        return labels

    def prepare(self, position: Sequence[int], progress: ProgressCallback) -> None:
        """Make what a new layer is going to ask for: the first frame, and the one shown."""
        self.at((0,) * len(position), progress)
        self.at(position, progress)

    def words(self, position: Sequence[int]) -> str:
        """Say how much of the frame at a position is marked."""
        frame = frame_words(self._fields.stack.labels, position)
        if self._fields.at(position) is None:
            return f"The blur of {frame} is not known; that of others is marked when it is shown."
        return f"{frame}: {label_words(self.at(position), self.settings)}"

    def data(self) -> dask.array.Array:
        """Return the labels of all frames as a lazy array."""
        stack = self._fields.stack
        return per_frame(stack, self.at, (), stack.first.shape, self._dtype)

    def layer_data(self) -> LayerData:
        """Return a Labels layer on the stack."""
        settings, fields = self.settings, self._fields
        facts = {"role": settings.role, **fields.facts, **settings.facts()}
        attributes = {
            "name": f"{fields.title} {ROLES[settings.role]}",
            "metadata": {FACTS: facts, FIELDS: fields},
            # The last ones are kept here; napari would keep them all, and not see them change.
            "cache": False,
            **label_look(settings),
            **fields.placement.to_layer(),
        }
        return self.data(), attributes, "labels"


def keep_from_painting(layer: Layer) -> None:
    """Have napari offer no tools to paint the labels of a stack, which are not in memory.

    Other layers stay as they are.
    """
    from napari.layers import Labels

    if isinstance(layer, Labels) and fields_of_stack(layer) is not None:
        layer.events.editable.connect(_lock)  # napari unlocks layers whenever their data change
        layer.editable = False


def _lock(event: Event) -> None:
    event.source.editable = False


__all__ = ["StackMask", "keep_from_painting"]
