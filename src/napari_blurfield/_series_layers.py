"""Layers of a whole stack: vectors of all frames, and pictures made of the frame that is looked at.

Pictures are lazy arrays with one part for each frame, so that nothing but what is shown is in
memory. Frames whose results are not there yet are empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._masks import MaskSettings
from ._per_frame import per_frame
from ._stack_mask import StackMask
from ._vectors import vector_spacing, vectors_look
from .layers import (
    FACTS,
    FIELDS,
    ROLES,
    SOURCE,
    LayerMaker,
    field_layers,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import dask.array
    from numpy.typing import NDArray

    from blurfield import KernelField

    from ._field_stack import FieldStack
    from .layers import LayerData

#: Fields of more kernels, which have one for each pixel, are not shown kernel by kernel: finding an
#: approximation of each takes too long.
_MOST_KERNELS = 64
#: What a layer of one frame shows, made from that frame's field.
_PICTURES: dict[str, Callable[[LayerMaker, KernelField], LayerData]] = {
    "mixing": lambda make, field: make.mixing(field),
    "basis": lambda make, field: make.basis(field),
    "uncertainty": lambda make, _: make.uncertainty(),
    "mosaic": lambda make, _: make.mosaic(),
}
#: Roles of layers with an axis of kernels in front of those of the stack.
_BY_KERNEL = frozenset({"mixing", "basis"})


class SeriesLayers:
    """The layers of a series, for which frames are added as they are done.

    Parameters
    ----------
    fields : FieldStack
        The fields of its frames.
    with_field : bool
        Whether to show the fields.
    kernels : bool
        Whether to show them kernel by kernel, too.
    threshold : float
        Kernels with a smaller L2 norm count as blur in the mask.
    """

    def __init__(
        self,
        fields: FieldStack,
        *,
        with_field: bool = True,
        kernels: bool = True,
        threshold: float = 0.25,
    ) -> None:
        self._fields = fields
        self._with_field = with_field
        self._kernels = kernels
        self._threshold = threshold
        self._vectors: dict[int, tuple[NDArray[Any], dict[str, NDArray[Any]]]] = {}
        self._spacing = 1.0
        self._examples: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
        #: Largest number of basis kernels of a frame.
        self.most_kernels = 0
        self._placement = fields.placement

    @property
    def fields(self) -> FieldStack:
        """The fields of the frames."""
        return self._fields

    def adopt(self, fields: FieldStack) -> None:
        """Go on with the fields that layers of the same folder show already."""
        fields.go_on_as(self._fields)
        self._fields = fields

    @property
    def frames(self) -> int:
        """Number of frames that have been added."""
        return len(self._vectors)

    def add(self, number: int) -> None:
        """Add a frame whose results are there; may be called in another thread than the rest."""
        from blurfield.measure import motion_features, motion_vectors

        stack = self._fields.stack
        self._fields.forget(number)
        if not self._with_field:
            self._vectors[number] = np.zeros((0, 2, self._placement.ndim)), {}
            return
        # Not by way of the stack, whose fields in memory are those that are looked at.
        field = self._fields.series.field(number)
        spacing = vector_spacing(field)
        flat = motion_vectors(field, spacing=spacing)
        vectors = np.zeros((len(flat), 2, self._placement.ndim), np.float32)
        vectors[..., -2:] = flat
        vectors[:, 0, list(stack.first.axes.frames)] = stack.position(number)
        self._spacing = max(self._spacing, spacing)
        self.most_kernels = max(self.most_kernels, field.num_kernels)
        self._vectors[number] = vectors, motion_features(field, spacing=spacing)

    def is_of_other_frames(self, vectors: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which vectors belong to frames that this run was not asked for: (N,)."""
        stack = self._fields.stack
        places = np.rint(vectors[:, 0, list(stack.first.axes.frames)]).astype(int)
        numbers = np.ravel_multi_index(tuple(places.T), stack.sizes)
        return ~np.isin(numbers, self._fields.series.numbers)

    def discard(self, number: int) -> None:
        """Leave out a frame that was added, and has no results any more."""
        self._fields.forget(number)
        del self._vectors[number]

    def layers(self) -> list[LayerData]:
        """Return the layers, the lowest one first; at least one frame has to be there."""
        layers: list[LayerData] = []
        if self._with_field:
            layers += self._pictures()
            vectors, look = self.vectors()
            attributes = {**self._attributes("vectors"), **look, **self._placement.to_layer()}
            layers.append((vectors, attributes, "vectors"))
        if self._fields.series.deblurs:
            layers.append(self._deblurred())
        return layers

    def vectors(self) -> tuple[NDArray[Any], dict[str, Any]]:
        """Return the vectors of all frames that have been added, and how they look."""
        known = [self._vectors[number] for number in sorted(self._vectors)]
        features = {
            name: np.concatenate([features[name] for _, features in known]) for name in known[0][1]
        }
        vectors = np.concatenate([vectors for vectors, _ in known])
        return vectors, vectors_look(features, self._spacing)

    def _attributes(self, role: str) -> dict[str, Any]:
        return {
            "name": f"{self._fields.title} {ROLES[role]}",
            "metadata": {FACTS: {"role": role, **self._fields.facts}, FIELDS: self._fields},
        }

    def _pictures(self) -> list[LayerData]:
        """Pictures of fields, which look like those of the first frame there is, on the stack."""
        first = self._fields.series.field(min(self._vectors))
        first = first.with_metadata(**{SOURCE: self._fields.facts["source"]})
        kernels = self._kernels and first.num_kernels <= _MOST_KERNELS
        made: list[LayerData] = []
        for data, attributes, kind in field_layers(
            first,
            name=self._fields.name,
            threshold=self._threshold,
            kernels=kernels,
            pyramids=False,
        ):
            role = attributes["metadata"][FACTS]["role"]
            if role == "mask":
                made.append(StackMask(self._fields, MaskSettings(self._threshold)).layer_data())
                made[-1][1]["visible"] = False
            if role not in _PICTURES:
                continue
            attributes.update(self._attributes(role), cache=False)
            if role not in _BY_KERNEL:
                place = self._placement.grid(first.shape, data.shape[:2])
                attributes.update(place.to_layer())
            inner = data.shape[-2:] if role in _BY_KERNEL else data.shape
            self._examples[role] = inner, data.dtype
            made.append((self.picture(role), attributes, kind))
        return made

    def picture(self, role: str) -> dask.array.Array:
        """Return the lazy data of a layer; those by kernel have `most_kernels` slices."""
        inner, dtype = self._examples[role]
        before = (self.most_kernels,) if role in _BY_KERNEL else ()

        def part(position: Sequence[int]) -> NDArray[Any]:
            field = self._fields.at(position)
            if field is None:
                return np.zeros((*before, *inner), dtype)
            data: NDArray[Any] = _PICTURES[role](LayerMaker(field, None), field)[0]
            if not before:
                return data
            return _resized(data.reshape(data.shape[0], *data.shape[-2:]), (*before, *inner))

        return per_frame(self._fields.stack, part, before, inner, dtype)

    def _deblurred(self) -> LayerData:
        import dask.array

        stack, series = self._fields.stack, self._fields.series
        first = stack.first
        if first.region is not None:
            data = self._blended()
        elif first.axes.channels is None:
            data = series.stack()
        else:
            data = dask.array.moveaxis(series.stack(), len(stack.sizes), first.axes.channels)
        record = {"estimate": series.record.estimate, "parameters": series.record.deblur}
        attributes = self._attributes("deblurred")
        attributes["name"] = f"{self._fields.name} {ROLES['deblurred']}"  # all of it
        attributes["metadata"][FACTS].update(record)
        attributes.update(rgb=first.rgb, cache=False, **first.appearance)
        return data, {**attributes, **first.placement.to_layer()}, "image"

    def _blended(self) -> dask.array.Array:
        """Whole frames, into which the region that was deblurred fades."""
        from blurfield.regional import blend_part

        stack, series = self._fields.stack, self._fields.series
        first, region = stack.first, stack.first.region
        shape = stack.whole_shape

        def part(position: Sequence[int]) -> NDArray[Any]:
            number = stack.number(position)
            field = self._fields.at(position)
            if field is None or region is None or not series.is_finished(number):
                return np.zeros(shape, first.data.dtype)
            return blend_part(
                stack.whole_frame(position),
                series.image(number),
                (region.rows.start, region.cols.start),
                mask=region.mask,
                border=field.kernel_size // 2,
                channel_axis=first.channel_axis,
            )

        channels = 1 if first.channel_axis is None else shape[0]
        inner = shape if first.channel_axis is None else shape[1:]
        return per_frame(stack, part, (), inner, first.data.dtype, channels)


def _resized(data: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return slices of another number or size: cut, filled with 0, or taken from the nearest."""
    out = np.zeros(shape, data.dtype)
    count = min(shape[0], data.shape[0])
    rows, cols = (np.arange(n) * m // n for n, m in zip(shape[1:], data.shape[1:], strict=True))
    out[:count] = data[:count, rows[:, None], cols]
    return out
