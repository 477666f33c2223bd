"""Which image a field or a result was made from, whatever its layer is called by now."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ._picked_axes import picks, stored_shape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari.layers import Layer

#: Of larger images only some rows are looked at, evenly spaced.
_MOST_BYTES = 1 << 22


@dataclass(frozen=True)
class Identity:
    """What tells an image of a viewer from others.

    Names change and are used again, layers are closed and opened from their files, and pixels are
    painted over. So the pixels decide where they are known. Lazy ones are not computed for this:
    there it is the layer, or, once that has been closed, name and file.

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
        axes, sizes = picks.of(layer), stored_shape(layer)
        inside = len(frame) == len(axes.frames) and all(
            0 <= index < sizes[axis] for axis, index in zip(axes.frames, frame, strict=True)
        )
        if not inside:
            return None
        data = layer.data[0] if layer.multiscale else layer.data
        return cls(
            layer.name,
            str(layer.unique_id),
            layer.source.path,
            tuple(frame),
            sample_of(data[axes.index(frame)] if axes.leading else data),
        )

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

    def is_frame_of(self, layer: Layer) -> bool:
        """Return whether the image is a frame of a layer, or was one before it was painted over."""
        if self.layer_id == str(layer.unique_id):
            return True  # without looking at pixels: this is asked for whenever layers change
        there = Identity.of_frame(layer, self.frame)
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
        """Return whether both are of one layer, or of one that was opened again."""
        if self._is_same_id(other):
            return True
        known = None not in (self.path, other.path)
        return self.name == other.name != "" and (self.path == other.path or not known)


def sample_of(pixels: Any) -> str | None:
    """Return what only images of the same pixels share; None if they would have to be computed."""
    if not isinstance(pixels, np.ndarray) or pixels.dtype.hasobject or pixels.ndim == 0:
        return None
    step = max(1, -(-pixels.nbytes // _MOST_BYTES))
    rows = np.ascontiguousarray(pixels[::step] if pixels.ndim < 3 else pixels[:, ::step])
    digest = hashlib.blake2b(repr((pixels.shape, pixels.dtype.str)).encode(), digest_size=16)
    digest.update(rows.view(np.uint8).data)
    return digest.hexdigest()


__all__ = ["Identity", "sample_of"]
