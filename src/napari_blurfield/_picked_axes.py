"""The axes of layers: as guessed, or as somebody said, which holds in every widget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from psygnal import Signal

from ._axes import Axes, guess_axes

if TYPE_CHECKING:
    from napari.layers import Layer


class AxesPicks:
    """What people said about the axes of layers, as long as these exist.

    It is kept here since input layers are not modified, not even their metadata.
    """

    #: Other axes were picked for this layer.
    changed = Signal(object)

    def __init__(self) -> None:
        self._picked: WeakKeyDictionary[Layer, Axes] = WeakKeyDictionary()

    def pick(self, layer: Layer, axes: Axes) -> None:
        """Set the axes of a layer.

        Raises
        ------
        ValueError
            If they are not as many as the layer's, or an RGB image would get channels.
        """
        if axes.ndim != layer.ndim or (layer.rgb and axes.channels is not None):
            kind = "an RGB image" if layer.rgb else "an image"
            raise ValueError(
                f"axes {axes.leading} do not suit {layer.name!r}, {kind} with {layer.ndim} axes"
            )
        self._picked[layer] = axes
        self.changed.emit(layer)

    def of(self, layer: Layer) -> Axes:
        """Return the axes of an image layer: those picked, or a guess.

        Raises
        ------
        ValueError
            If rows and columns are not its last two axes.
        """
        picked = self._picked.get(layer)
        if picked is not None and picked.ndim == layer.ndim:
            return picked
        return guess_axes(layer.axis_labels, stored_shape(layer), rgb=bool(layer.rgb))


#: The picks of this session.
picks = AxesPicks()


def stored_shape(layer: Layer) -> tuple[int, ...]:
    """Return the sizes of a layer's axes, those of full resolution, without that of colours."""
    return tuple(int(size) for size in stored_data(layer).shape[: layer.ndim])


def stored_data(layer: Layer) -> Any:
    """Return the data of an Image or Labels layer, those of full resolution."""
    return layer.data[0] if layer.multiscale else layer.data
