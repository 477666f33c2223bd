"""The images of a stack in a layer: read one by one, and each in its place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ._identity import FramesOf, Identity, frame_sizes, sample_of
from ._picked_axes import stored_data, stored_shape
from ._source import Source, frame_labels, frame_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.layers import Layer

    from blurfield.frames import Frames

    from ._axes import Axes
    from ._regions import Region


@dataclass(frozen=True)
class Stack:
    """All images of a layer; nothing but the one asked for is read.

    Parameters
    ----------
    first : Source
        The first image, which tells of names, places and looks.
    sizes : tuple of int
        Number of frames along each axis of frames.
    data : array-like
        The layer's data at full resolution.
    identity : str
        Tells this layer from others of the same name.
    """

    first: Source
    sizes: tuple[int, ...]
    data: Any
    identity: str

    @classmethod
    def from_layer(cls, layer: Layer, axes: Axes | None = None) -> Stack:
        """Take the stack of a layer; see `Source.from_layer`.

        Raises
        ------
        TypeError
            If the layer is not an image.
        ValueError
            If it is no stack.
        """
        first = Source.of_first(layer, axes)
        sizes = tuple(stored_shape(layer)[axis] for axis in first.axes.frames)
        if not sizes:
            raise ValueError(f"{layer.name!r} is a single image, not a stack of frames")
        data = stored_data(layer)
        return cls(first, sizes, data, str(layer.unique_id))

    def __len__(self) -> int:
        return prod(self.sizes)

    @property
    def name(self) -> str:
        """Name of the layer."""
        return self.first.layer_name

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the axes of frames."""
        return frame_labels(self.first.axes, self.first.placement.axis_labels)

    def position(self, number: int) -> tuple[int, ...]:
        """Index of a frame along each axis of frames; the last axis counts fastest."""
        return tuple(int(index) for index in np.unravel_index(number, self.sizes))

    def number(self, position: Sequence[int]) -> int:
        """Return the number of the frame at a position."""
        return int(np.ravel_multi_index(tuple(position), self.sizes))

    def numbers_at(self, first: Sequence[int]) -> tuple[int, ...]:
        """Return all frames whose index along the first axis of frames is one of these."""
        inner = prod(self.sizes[1:])
        return tuple(outer * inner + rest for outer in first for rest in range(inner))

    def within(self, regions: Sequence[Region]) -> Stack:
        """Return the part of all images in a region's box, or the stack itself if there is none.

        Raises
        ------
        ValueError
            If there are several.
        """
        if not regions:
            return self
        if len(regions) > 1:
            raise ValueError(
                f"several frames are worked on in one region, not in {len(regions)} of them; "
                "select one of the shapes"
            )
        return replace(self, first=self.first.within(regions[0]))

    @property
    def whole_shape(self) -> tuple[int, ...]:
        """Shape of a frame, without regard to the region."""
        picked = self.data[self.first.axes.index(self.position(0))]
        return tuple(int(size) for size in picked.shape)

    @property
    def whole_size(self) -> tuple[int, int]:
        """Height and width of a frame, without regard to the region."""
        shape = self.whole_shape if self.first.channel_axis is None else self.whole_shape[1:]
        return shape[0], shape[1]

    def whole_frame(self, position: Sequence[int]) -> Any:
        """Return the pixels of a frame, without regard to the region."""
        return np.array(self.data[self.first.axes.index(position)])

    def frames(self) -> Frames:
        """Return the images as the core reads them."""
        from blurfield.frames import Frames

        first = self.first

        def read(number: int) -> Any:
            return np.array(first.part_of(self.data[first.axes.index(self.position(number))]))

        return Frames(
            axes=self.labels,
            sizes=self.sizes,
            shape=tuple(int(size) for size in first.data.shape),
            dtype=np.dtype(first.data.dtype),
            channel_axis=first.channel_axis,
            _read=read,
        )

    def is_same_as(self, other: Stack) -> bool:
        """Return whether both are the frames of one layer, or of one that was opened again."""
        if self.identity == other.identity:
            return True
        return self._is_made_of(other.sizes, other.frame_identity)

    def is_stack_of(self, layer: Layer) -> bool:
        """Return whether these are the frames of a layer, or were before it was opened again."""
        if self.identity == str(layer.unique_id):
            return True
        return self._is_made_of(frame_sizes(layer), FramesOf(layer).at)

    def _is_made_of(
        self, sizes: tuple[int, ...] | None, there: Callable[[tuple[int, ...]], Identity | None]
    ) -> bool:
        """Compare some frames: the first ones of two movies may both be dark."""
        if self.sizes != sizes:
            return False
        for number in {0, len(self) // 2, len(self) - 1}:
            position = self.position(number)
            found = there(position)
            if found is None or not self.frame_identity(position).is_same_image(found):
                return False
        return True

    def frame_identity(self, position: Sequence[int]) -> Identity:
        """Return what tells the frame at a position from others."""
        return self._at(position).identity

    def to_json(self, position: Sequence[int]) -> dict[str, Any]:
        """Return what `Source.to_json` tells of the frame at a position."""
        return self._at(position).to_json()

    def _at(self, position: Sequence[int]) -> Source:
        """Return the frame at a position, but for its pixels, which are those of the first."""
        frame = tuple(int(index) for index in position)
        sample = sample_of(self.data[self.first.axes.index(frame)])
        name = frame_name(self.name, self.labels, frame, self.first.region)
        return replace(self.first, name=name, frame=frame, sample=sample)
