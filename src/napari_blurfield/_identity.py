"""Which image a field or a result was made from, whatever its layer is called by now."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ._picked_axes import picks, stored_data, stored_shape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari.layers import Layer
    from numpy.typing import NDArray

#: Of larger images only some rows are looked at, evenly spaced.
_MOST_BYTES = 1 << 22
#: A first axis of so many is one of channels.
_MOST_CHANNELS = 4


@dataclass(frozen=True)
class Identity:
    """What tells an image of a viewer from others.

    Names change and are used again, layers are closed and opened from their files, and pixels are
    painted over. So the pixels decide where they are known. Lazy ones are not computed for this:
    there it is the layer, or, once that has been opened again, name and file.

    Parameters
    ----------
    name : str
        Name of the layer.
    layer_id : str
        Of the layer; empty if there is none.
    path : str or None
        The file that the layer was read from.
    frame : tuple of int
        Which frame of a stack.
    sample : str or None
        See `sample_of`.
    """

    name: str
    layer_id: str
    path: str | None
    frame: tuple[int, ...]
    sample: str | None

    @classmethod
    def of_frame(cls, layer: Layer, frame: Sequence[int]) -> Identity | None:
        """Return that of a frame of an image layer, None if there is no such frame."""
        pixels = pixels_at(layer, frame)
        if pixels is None:
            return None
        place = (layer.name, str(layer.unique_id), layer.source.path)
        return cls(*place, tuple(frame), sample_of(pixels))

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Identity:
        """Return what `Source.to_json` tells, also if it was written before there were samples."""
        return cls(
            str(stored.get("layer") or ""),
            str(stored.get("layer_id") or ""),
            stored.get("path"),
            tuple(stored.get("frame") or ()),
            stored.get("sample"),
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {
            "layer": self.name,
            "layer_id": self.layer_id,
            "path": self.path,
            "frame": list(self.frame),
            "sample": self.sample,
        }

    def is_frame_of(self, frames: Layer | FramesOf) -> bool:
        """Return whether the image is a frame of a layer, or was one before it was painted over."""
        frames = frames if isinstance(frames, FramesOf) else FramesOf(frames)
        # Pixels are looked at only if need be: this is asked for whenever layers change.
        if self.layer_id == frames.layer_id:
            return True
        if self.sample is not None and not frames.may_have(self.frame, self.sample):
            return False
        there = frames.at(self.frame)
        return there is not None and self.is_same_layer(there)

    def is_same_image(self, other: Identity) -> bool:
        """Return whether the pixels are the same, as far as can be known without computing any."""
        if self.frame != other.frame:
            return False
        if self.sample is not None and other.sample is not None:
            return self.sample == other.sample
        return self._is_same_place(other)

    def is_same_layer(self, other: Identity) -> bool:
        """Return whether both are of one layer, also if they are different frames of it."""
        if self.frame != other.frame:
            return self._is_same_place(other)
        return self._is_same_id(other) or self.is_same_image(other)

    def _is_same_id(self, other: Identity) -> bool:
        return self.layer_id == other.layer_id != ""

    def _is_same_place(self, other: Identity) -> bool:
        """Return whether both are of one layer, or of a file that was opened again."""
        if self._is_same_id(other):
            return True
        if self.name != other.name or not self.name:
            return False
        if self.layer_id and other.layer_id:
            return self.path == other.path is not None
        # Told by an earlier version, which knew names only.
        return self.path == other.path or None in (self.path, other.path)


class FramesOf:
    """Identities of the frames of a layer, each of which is found only once.

    Parameters
    ----------
    layer : napari.layers.Image
        Not to be changed in between.
    """

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._known: dict[tuple[int, ...], Identity | None] = {}
        self.layer_id = str(layer.unique_id)

    def at(self, frame: tuple[int, ...]) -> Identity | None:
        """Return that of a frame, None if there is no such frame."""
        if frame not in self._known:
            self._known[frame] = Identity.of_frame(self._layer, frame)
        return self._known[frame]

    def may_have(self, frame: tuple[int, ...], sample: str) -> bool:
        """Return whether a frame is of the shape and type of a sample, or that isn't known."""
        pixels = pixels_at(self._layer, frame)
        if not isinstance(pixels, np.ndarray):
            return pixels is not None
        return sample.startswith(_kind(pixels))


def frame_sizes(layer: Layer) -> tuple[int, ...] | None:
    """Return the number of frames along each axis of them; None if the axes make no sense."""
    try:
        axes = picks.of(layer)
    except ValueError:
        return None
    shape = stored_shape(layer)
    return tuple(shape[axis] for axis in axes.frames)


def pixels_at(layer: Layer, frame: Sequence[int]) -> Any:
    """Return the pixels of a frame, without a copy; None if there is no such frame."""
    sizes = frame_sizes(layer)
    if sizes is None or len(sizes) != len(frame):
        return None
    if not all(0 <= index < size for index, size in zip(frame, sizes, strict=True)):
        return None
    axes = picks.of(layer)
    data = stored_data(layer)
    return data[axes.index(frame)] if axes.leading else data


def sample_of(pixels: Any) -> str | None:
    """Return what only images of the same pixels share; None if they would have to be computed."""
    if not isinstance(pixels, np.ndarray) or pixels.dtype.hasobject or pixels.ndim == 0:
        return None
    step = max(1, -(-pixels.nbytes // _MOST_BYTES))
    rows = pixels[:, ::step] if pixels.shape[0] <= _MOST_CHANNELS else pixels[::step]
    digest = hashlib.blake2b(np.ascontiguousarray(rows).view(np.uint8).data, digest_size=16)
    return _kind(pixels) + digest.hexdigest()


def _kind(pixels: NDArray[Any]) -> str:
    """Return how a sample of pixels begins: with their shape and type."""
    return f"{'x'.join(map(str, pixels.shape))} {pixels.dtype.str} "


__all__ = ["FramesOf", "Identity", "frame_sizes", "pixels_at", "sample_of"]
