"""The photograph in a layer: pixels of one frame, where they lie and how they are shown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ._axes import CHANNELS, FRAMES, Axes, frame_words
from ._identity import Identity, sample_of
from ._picked_axes import picks, stored_data, stored_shape
from ._spatial import Placement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari.components import Dims
    from napari.layers import Layer
    from numpy.typing import NDArray

    from ._regions import Region

#: Appearance that a result in the same value scale shares with its source.
_APPEARANCE = ("contrast_limits", "colormap", "gamma", "blending", "interpolation2d")


@dataclass(frozen=True)
class Source:
    """One image taken out of a layer, independent of what happens to the layer afterwards.

    Parameters
    ----------
    name : str
        Name for people: the layer's, and which frame of it.
    layer_name : str
        Name of the layer.
    axes : Axes
        What the layer's axes stand for.
    frame : tuple of int
        Indices along the axes of frames; empty for a single image.
    data : array-like, shape (H, W), (H, W, 3|4) or (C, H, W)
        The pixels; computed only when asked for if the layer's data are lazy.
    rgb : bool
        Whether the last axis of `data` holds colours.
    placement : Placement
        Where the layer lies, with all its axes.
    appearance : dict
        Contrast limits, colormap, gamma, blending and interpolation of the layer.
    path : str, optional
        The file that the layer was read from.
    region : Region, optional
        Of which part of the image the data are.
    layer_id : str
        Tells the layer from others of its name; empty if there is no layer.
    sample : str, optional
        Tells the pixels from others, see `sample_of`; of the whole image where there is a region.
    """

    name: str
    layer_name: str
    axes: Axes
    frame: tuple[int, ...]
    data: Any
    rgb: bool
    placement: Placement
    appearance: dict[str, Any]
    path: str | None = None
    region: Region | None = None
    layer_id: str = ""
    sample: str | None = None

    @classmethod
    def from_layer(
        cls, layer: Layer, frame: Sequence[int] | None = None, axes: Axes | None = None
    ) -> Source:
        """Take an image out of a layer.

        Parameters
        ----------
        layer : napari.layers.Image
            Grey or RGB(A) image, one with channels, or a stack of such. Of a multiscale image the
            full resolution is taken.
        frame : sequence of int, optional
            Which image of a stack; negative indices count from the end.
        axes : Axes, optional
            What the layer's axes stand for, by default what was picked or is guessed.

        Raises
        ------
        TypeError
            If the layer is not an image.
        ValueError
            If `frame` is missing for a stack, or is not in the stack, or the last two axes are not
            rows and columns.
        """
        _check_image(layer)
        axes = picks.of(layer) if axes is None else axes
        shape = stored_shape(layer)
        frame = _checked_frame(layer, tuple(shape[axis] for axis in axes.frames), frame)
        stored = stored_data(layer)
        data = stored[axes.index(frame)] if axes.leading else stored
        if isinstance(data, np.ndarray):
            data = data.copy()  # the layer may be painted or changed while a job runs
        placement = Placement.of_layer(layer)
        return cls(
            name=frame_name(layer.name, frame_labels(axes, placement.axis_labels), frame),
            layer_name=layer.name,
            axes=axes,
            frame=frame,
            data=data,
            rgb=bool(layer.rgb),
            placement=placement,
            appearance={name: _plain(getattr(layer, name)) for name in _APPEARANCE},
            path=layer.source.path,
            layer_id=str(layer.unique_id),
            sample=sample_of(data),
        )

    @classmethod
    def of_first(cls, layer: Layer, axes: Axes | None = None) -> Source:
        """Take the first image of a layer, of which there may be only one; see `from_layer`."""
        _check_image(layer)
        axes = picks.of(layer) if axes is None else axes
        return cls.from_layer(layer, (0,) * len(axes.frames), axes)

    @classmethod
    def shown(cls, layer: Layer, dims: Dims) -> Source:
        """Take the image that a viewer with these `dims` shows of a layer; see `from_layer`."""
        _check_image(layer)
        return cls.from_layer(layer, displayed_frame(layer, dims))

    @property
    def identity(self) -> Identity:
        """What tells the image from others."""
        return Identity(self.layer_name, self.layer_id, self.path, self.frame, self.sample)

    @property
    def channel_axis(self) -> int | None:
        """Axis of `data` that holds channels, where it isn't the last one of colours."""
        return None if self.axes.channels is None else 0

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        first = 0 if self.channel_axis is None else 1
        height, width = self.data.shape[first : first + 2]
        return int(height), int(width)

    @property
    def result_placement(self) -> Placement:
        """Placement of `in_layer`: the image's two axes, and all from that of channels on."""
        ndim, channels = self.axes.ndim, self.axes.channels
        offset = [*_lead_offset(self.axes, self.frame, 0.0), 0.0, 0.0]
        placed = self.stack_placement.sampled([1.0] * ndim, offset)
        return placed.last(2 if channels is None else ndim - channels)

    @property
    def stack_placement(self) -> Placement:
        """Placement of the whole layer, or of the region of it: all axes."""
        if self.region is None:
            return self.placement
        corner = (float(self.region.rows.start), float(self.region.cols.start))
        ndim = self.axes.ndim
        return self.placement.sampled([1.0] * ndim, [0.0] * (ndim - 2) + [*corner])

    @property
    def corner(self) -> tuple[float, ...]:
        """Place of the image's first pixel in the world, on all axes of the layer."""
        pixel = np.array([*_lead_offset(self.axes, self.frame, 0.0), 0.0, 0.0])
        return tuple(float(x) for x in self.placement.to_world(pixel))

    def in_layer(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return pixels like `data` as those of a layer at `result_placement`.

        Between channels and rows there may be axes of frames; they have one entry then, since a
        layer's axes count from the last.
        """
        if self.axes.channels is None:
            return pixels
        between = (1,) * (len(self.axes.leading) - 1 - self.axes.channels)
        return pixels.reshape(pixels.shape[0], *between, *pixels.shape[1:])

    def within(self, region: Region) -> Source:
        """Return the part of the image in a region's box."""
        if self.region is not None:
            raise ValueError(f"{self.name!r} is a part of an image already")
        whole = replace(self, region=region)
        labels = frame_labels(self.axes, self.placement.axis_labels)
        return replace(
            whole,
            name=frame_name(self.layer_name, labels, self.frame, region),
            data=whole.part_of(self.data),
        )

    def part_of(self, data: Any) -> Any:
        """Return what `data` are of those of a whole image."""
        if self.region is None:
            return data
        box = (self.region.rows, self.region.cols)
        return data[box] if self.channel_axis is None else data[(slice(None), *box)]

    def pixels(self) -> NDArray[Any]:
        """Return the pixels as a NumPy array; lazy data are computed now."""
        return np.asarray(self.data)

    def to_json(self) -> dict[str, Any]:
        """Return what is needed to put layers in the right place again, as plain JSON."""
        channels = None if self.channel_axis is None else int(self.data.shape[0])
        return {
            "name": self.name,
            **self.identity.to_json(),
            "axes": list(self.axes.leading),
            "channels": channels,
            "shape": list(self.shape),
            "region": None if self.region is None else self.region.to_json(),
            **self.placement.to_json(),
        }


def placement_from_json(stored: Mapping[str, Any]) -> Placement:
    """Return where the image lies that `Source.to_json` told of: all axes of its layer.

    The first pixel along an axis of frames is the image's frame. That along an axis of channels
    covers all channels.

    Raises
    ------
    ValueError
        If something is missing, or does not fit together.
    """
    placement = Placement.from_json(stored)
    frame = [int(index) for index in stored.get("frame", [])]
    axes = Axes(tuple(stored.get("axes", [FRAMES] * len(frame))))
    if axes.ndim != placement.ndim or len(axes.frames) != len(frame):
        raise ValueError(
            f"spatial attributes are damaged: frame {frame} along {axes.leading} of "
            f"{placement.ndim} axes"
        )
    count = int(stored.get("channels") or 1)
    step = [float(count) if role == CHANNELS else 1.0 for role in axes.leading]
    region = stored.get("region") or {"rows": [0], "cols": [0]}
    corner = [float(region[name][0]) for name in ("rows", "cols")]
    offset = [*_lead_offset(axes, frame, (count - 1) / 2), *corner]
    return placement.sampled([*step, 1.0, 1.0], offset)


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
    axes, sizes = picks.of(layer), stored_shape(layer)
    if not axes.frames:
        return ()
    position = np.asarray(layer.world_to_data(dims.point))[-layer.ndim :]
    frame = tuple(round(float(position[axis])) for axis in axes.frames)
    for axis, index in zip(axes.frames, frame, strict=True):
        if not 0 <= index < sizes[axis]:
            raise ValueError(
                f"the viewer shows position {index} along {layer.axis_labels[axis]!r}, where "
                f"{layer.name!r} has only 0 to {sizes[axis] - 1}; move the slider into the stack"
            )
    return frame


def frame_labels(axes: Axes, labels: Sequence[str]) -> tuple[str, ...]:
    """Return the labels of the axes along which there are frames."""
    return tuple(labels[axis] for axis in axes.frames)


def _lead_offset(axes: Axes, frame: Sequence[int], channel: float) -> list[float]:
    """Position of an image on the axes before rows and columns, in pixels."""
    left = iter(frame)
    return [float(next(left)) if role == FRAMES else channel for role in axes.leading]


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


def frame_name(
    name: str, labels: Sequence[str], frame: Sequence[int], region: Region | None = None
) -> str:
    """Return e.g. ``cells [t 3, region 1]``."""
    parts = [frame_words(labels, frame)] if frame else []
    if region is not None:
        parts.append(region.name)
    return f"{name} [{', '.join(parts)}]" if parts else name


def _plain(value: Any) -> Any:
    """Return a copy where the layer would otherwise share a list with its results."""
    return list(value) if isinstance(value, list) else value
