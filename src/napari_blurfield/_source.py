"""The photograph in a layer: pixels of one frame, where they lie and how they are shown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ._spatial import Placement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import Dims
    from napari.layers import Layer
    from numpy.typing import NDArray

#: Appearance that a result in the same value scale shares with its source.
_APPEARANCE = ("contrast_limits", "colormap", "gamma", "blending", "interpolation2d")

#: Labels that napari gives to axes without a name.
_UNNAMED = re.compile(r"(axis )?-?\d+")


@dataclass(frozen=True)
class Source:
    """One image taken out of a layer, independent of what happens to the layer afterwards.

    Parameters
    ----------
    name : str
        Name for people: the layer's, and which frame of it.
    layer_name : str
        Name of the layer.
    frame : tuple of int
        Indices along the axes before the image's two; empty for a single image.
    data : array-like, shape (H, W) or (H, W, 3|4)
        The pixels; computed only when asked for if the layer's data are lazy.
    rgb : bool
        Whether the last axis of `data` holds colours.
    placement : Placement
        Where the layer lies, with all its axes.
    appearance : dict
        Contrast limits, colormap, gamma, blending and interpolation of the layer.
    """

    name: str
    layer_name: str
    frame: tuple[int, ...]
    data: Any
    rgb: bool
    placement: Placement
    appearance: dict[str, Any]

    @classmethod
    def from_layer(cls, layer: Layer, frame: Sequence[int] | None = None) -> Source:
        """Take an image out of a layer.

        Parameters
        ----------
        layer : napari.layers.Image
            Grey or RGB(A) image, or a stack of such. Of a multiscale image the full resolution is
            taken.
        frame : sequence of int, optional
            Which image of a stack; negative indices count from the end.

        Raises
        ------
        TypeError
            If the layer is not an image.
        ValueError
            If `frame` is missing for a stack, or is not in the stack.
        """
        _check_image(layer)
        stored = layer.data[0] if layer.multiscale else layer.data
        frame = _checked_frame(layer, tuple(stored.shape[: layer.ndim - 2]), frame)
        data = stored[frame] if frame else stored
        if isinstance(data, np.ndarray):
            data = data.copy()  # the layer may be painted or changed while a job runs
        placement = Placement.of_layer(layer)
        return cls(
            name=_frame_name(layer.name, placement.axis_labels, frame),
            layer_name=layer.name,
            frame=frame,
            data=data,
            rgb=bool(layer.rgb),
            placement=placement,
            appearance={name: _plain(getattr(layer, name)) for name in _APPEARANCE},
        )

    @classmethod
    def shown(cls, layer: Layer, dims: Dims) -> Source:
        """Take the image that a viewer with these `dims` shows of a layer; see `from_layer`."""
        _check_image(layer)
        return cls.from_layer(layer, displayed_frame(layer, dims))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.data.shape[:2]
        return int(height), int(width)

    @property
    def image_placement(self) -> Placement:
        """Placement of the image's two axes."""
        return self.placement.last(2)

    def pixels(self) -> NDArray[Any]:
        """Return the pixels as a NumPy array; lazy data are computed now."""
        return np.asarray(self.data)

    def to_json(self) -> dict[str, Any]:
        """Return what is needed to put layers in the right place again, as plain JSON."""
        return {
            "name": self.name,
            "layer": self.layer_name,
            "frame": list(self.frame),
            "shape": list(self.shape),
            **self.placement.to_json(),
        }


def displayed_frame(layer: Layer, dims: Dims) -> tuple[int, ...]:
    """Return which image of a stack a viewer shows.

    Parameters
    ----------
    layer : napari.layers.Image
        Its last two axes are those of the image.
    dims : napari.components.Dims
        Of the viewer.

    Raises
    ------
    ValueError
        If the viewer's sliders stand outside the stack.
    """
    lead = layer.ndim - 2
    if lead <= 0:
        return ()
    position = np.asarray(layer.world_to_data(dims.point))[-layer.ndim :]
    frame = tuple(round(float(x)) for x in position[:lead])
    sizes = (layer.data[0] if layer.multiscale else layer.data).shape[:lead]
    for axis, (index, size) in enumerate(zip(frame, sizes, strict=True)):
        if not 0 <= index < size:
            raise ValueError(
                f"the viewer shows position {index} along {layer.axis_labels[axis]!r}, where "
                f"{layer.name!r} has only 0 to {size - 1}; move the slider into the stack"
            )
    return frame


def _check_image(layer: Layer) -> None:
    from napari.layers import Image

    if not isinstance(layer, Image):
        kind = type(layer).__name__
        seen = f"{layer.name!r}, which is a {kind} layer" if hasattr(layer, "name") else kind
        raise TypeError(f"an Image layer is needed, got {seen}")


def _checked_frame(
    layer: Layer, stack: tuple[int, ...], frame: Sequence[int] | None
) -> tuple[int, ...]:
    if frame is None and stack:
        raise ValueError(
            f"{layer.name!r} is a stack of shape {stack}; say which image of it, "
            f"frame={tuple(0 for _ in stack)} for the first"
        )
    frame = tuple(int(index) for index in frame or ())
    fits = len(frame) == len(stack) and all(
        -size <= index < size for index, size in zip(frame, stack, strict=True)
    )
    if not fits:
        raise ValueError(f"there is no frame {frame} in {layer.name!r}, a stack of shape {stack}")
    return tuple(index % size for index, size in zip(frame, stack, strict=True))


def frame_words(labels: Sequence[str], frame: Sequence[int]) -> str:
    """Return e.g. ``t 3, z 0``; ``frame`` stands for an axis without a name of its own."""
    return ", ".join(
        f"{'frame' if _UNNAMED.fullmatch(label) else label} {index}"
        for label, index in zip(labels, frame, strict=False)
    )


def _frame_name(name: str, labels: Sequence[str], frame: Sequence[int]) -> str:
    """Return e.g. ``cells [t 3]``."""
    return f"{name} [{frame_words(labels, frame)}]" if frame else name


def _plain(value: Any) -> Any:
    """Return a copy where the layer would otherwise share a list with its results."""
    return list(value) if isinstance(value, list) else value
