"""Kernel fields as napari layers, and back.

Each layer made from a field carries the field itself in ``metadata["blurfield_field"]`` and says in
``metadata["blurfield"]``, in plain JSON, what it shows and where it comes from. Any one of the
layers is thus enough to find the field again, also after renaming, copying or removing the others.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ._identity import Identity
from ._kernel_names import kernel_names
from ._masks import MaskSettings, label_image, label_look, label_table
from ._pixel_size import PixelSize
from ._source import placement_from_json
from ._spatial import Placement
from ._vectors import vector_spacing, vectors_look

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeVar

    from napari.components import Dims
    from napari.layers import Layer
    from numpy.typing import NDArray

    from blurfield import KernelField
    from blurfield.compute import ProgressCallback

    from ._field_stack import FieldStack

    T = TypeVar("T")

    #: Data, attributes and type of a layer, as npe2 readers return it.
    LayerData = tuple[Any, dict[str, Any], str]

#: Layer metadata: what the layer shows and where it comes from, as plain JSON.
FACTS = "blurfield"
#: Layer metadata: the `KernelField` itself.
FIELD = "blurfield_field"
#: Layer metadata: the fields of a stack's frames, a `FieldStack`, in place of a single field.
FIELDS = "blurfield_fields"
#: Field metadata: the image the field was estimated from, as `Source.to_json` tells it.
SOURCE = "napari"

#: What a layer shows, and how its name ends.
ROLES = {
    "vectors": "blur vectors",
    "mosaic": "blur kernels",
    "mask": "blur mask",
    "regions": "blur regions",
    "mixing": "kernel weights",
    "basis": "basis kernels",
    "uncertainty": "kernel uncertainty",
    "deblurred": "deblurred",
    "preview": "preview",
    "reblurred": "reblurred",
    "simulated": "simulated blur",
    "residual": "residual",
    "measurements": "blur measurements",
}
#: Roles of the layers that were made from an image with a field, and stand for neither.
RESULT_ROLES = frozenset(
    {"deblurred", "preview", "reblurred", "simulated", "residual", "measurements"}
)
#: Roles of the layers that stand for a field rather than for an image.
FIELD_ROLES = frozenset(ROLES) - RESULT_ROLES

#: Of a field of more kernels (dense per-pixel fields have hundreds), an approximation by so many is
#: shown kernel by kernel.
_MOST_KERNELS, _APPROXIMATE_KERNELS = 64, 25
#: Part of the image's shorter side that the basis kernels cover as an inset.
_INSET = 0.25


def field_layers(
    field: KernelField,
    *,
    name: str | None = None,
    threshold: float = 0.25,
    kernels: bool = True,
    pyramids: bool = True,
    progress: ProgressCallback | None = None,
) -> list[LayerData]:
    """Return layers that show a field, the lowest one first.

    Parameters
    ----------
    field : KernelField
        Lies where its metadata say that the source image lies; at the origin without such.
    name : str, optional
        Beginning of the layers' names; the source image's name by default.
    threshold : float
        Kernels with a smaller L2 norm count as blur in the mask; 0 to 1.
    kernels : bool
        Whether to add the basis kernels and their weights. Of fields with hundreds of kernels,
        which have one for each pixel, those of an approximation are shown, and its error is in the
        layers' metadata; only these two layers are approximate.
    pyramids : bool
        Whether large mosaics are multiscale, so that kernels can be seen from afar.
    progress : callable, optional
        Called as ``progress(done, total, message)`` while that is found; if it raises, the work
        stops.

    Returns
    -------
    list of (data, attributes, type)
        Kernel weights (B × h × w), basis kernels, the uncertainty of the kernels (h × w) if the
        field knows it, kernel mosaic, blur mask, motion vectors. Only the vectors are visible at
        first: they read best alone.
    """
    make = LayerMaker(field, name)
    layers: list[LayerData] = []
    if kernels:
        shown = field
        if field.num_kernels > _MOST_KERNELS:
            shown = field.compress(_APPROXIMATE_KERNELS, progress=progress)
        layers += [make.mixing(shown), make.basis(shown)]
    if "uncertainty" in field.maps:
        layers.append(make.uncertainty())
    layers += [make.mosaic(pyramid=pyramids), make.mask(MaskSettings(threshold))]
    for _, attributes, _ in layers:
        attributes["visible"] = False
    return [*layers, make.vectors()]


def find_field(layer: Layer | None, frame: Sequence[int] | None = None) -> KernelField | None:
    """Return the field that a layer shows or was made with, or None.

    Parameters
    ----------
    layer : napari.layers.Layer or None
        A layer.
    frame : sequence of int, optional
        Which frame, if it shows the fields of a stack: one index for each axis of frames. Without
        it, no field of such a layer is found.
    """
    if layer is None:
        return None
    fields = fields_of_stack(layer)
    if fields is not None:
        return None if frame is None else fields.at(frame)
    field: KernelField | None = layer.metadata.get(FIELD)
    return field


def shown_field(layer: Layer | None, dims: Dims) -> KernelField | None:
    """Return the field that a layer shows or was made with: of a stack, that of the frame shown."""
    fields = None if layer is None else fields_of_stack(layer)
    return find_field(layer) if fields is None else fields.shown(dims)


def fields_of_stack(layer: Layer) -> FieldStack | None:
    """Return the fields of all frames if a layer shows or was made with such, or None."""
    fields: FieldStack | None = layer.metadata.get(FIELDS)
    return fields


def fields_in(layers: Iterable[Layer]) -> list[KernelField]:
    """Return the fields that layers show, each one once, that of the topmost layer first."""
    return _shown_in(layers, find_field)


def stacks_in(layers: Iterable[Layer]) -> list[FieldStack]:
    """Return the fields of stacks that layers show, in the same order as `fields_in`."""
    return _shown_in(layers, fields_of_stack)


def _shown_in(layers: Iterable[Layer], find: Callable[[Layer], T | None]) -> list[T]:
    found: list[T] = []
    for layer in reversed(list(layers)):
        field = find(layer) if role_of(layer) in FIELD_ROLES else None
        if field is not None and not any(field is known for known in found):
            found.append(field)
    return found


def source_of(field: KernelField) -> Identity:
    """Return which image a field was estimated from, as far as it knows."""
    return Identity.from_json(_stored(field))


def role_of(layer: Layer) -> str | None:
    """Return what a layer of this plugin shows, a key of `ROLES`; None for other layers."""
    facts = layer.metadata.get(FACTS)
    return facts.get("role") if isinstance(facts, dict) else None


def facts_about(field: KernelField) -> dict[str, Any]:
    """Return what there is to say about a field in the metadata of its layers, as plain JSON."""
    from blurfield import __version__

    return {
        "field": field_id(field),
        "version": __version__,
        "kernels": field.num_kernels,
        "kernel_size": field.kernel_size,
        "shape": list(field.shape),
        "made_by": field.metadata,
    }


def field_id(field: KernelField) -> str:
    """Return a name that two fields share only if they hold the same kernels and weights."""
    digest = hashlib.blake2b(repr(field.shape).encode(), digest_size=8)
    for tensor in (field.basis, field.mixing):
        array = np.ascontiguousarray(tensor.detach().cpu().numpy())
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(array.data)
    return digest.hexdigest()


def source_name(field: KernelField, otherwise: str = "field") -> str:
    """Return the name of the image that a field was estimated from, if it knows."""
    source = field.metadata.get("source")
    named = source.get("name") if isinstance(source, dict) else source
    return str(_stored(field).get("name") or named or otherwise)


def field_placement(field: KernelField) -> Placement:
    """Return where a field lies: all axes of the layer it was estimated from.

    The first pixel of the axes before the last two is the frame that the field belongs to, and all
    its channels.
    """
    stored = _stored(field)
    return placement_from_json(stored) if "scale" in stored else Placement.of_pixels()


def mask_layer_data(
    field: KernelField,
    settings: MaskSettings,
    *,
    name: str | None = None,
    progress: ProgressCallback | None = None,
) -> LayerData:
    """Return the blur mask of a field, or its regions, as a Labels layer.

    Parameters
    ----------
    field : KernelField
        Its mask has one pixel for each pixel of the image.
    settings : MaskSettings
        What counts as blurred, and whether that is divided.
    name : str, optional
        Beginning of the layer's name; the source image's name by default.
    progress : callable, optional
        Called as ``progress(done, total, message)``; what it raises stops the work.
    """
    return LayerMaker(field, name).mask(settings, progress=progress)


class LayerMaker:
    """Makes the layers of one field.

    Parameters
    ----------
    field : KernelField
        What is shown.
    name : str, optional
        Beginning of the layers' names; the source image's name by default.
    """

    def __init__(self, field: KernelField, name: str | None) -> None:
        self._field = field
        self._name = name or source_name(field)
        self._facts = facts_about(field)
        self._placement = field_placement(field)

    def _attributes(self, role: str, placement: Placement, **facts: Any) -> dict[str, Any]:
        """Return what all layers have: name, provenance, place."""
        return {
            "name": f"{self._name} {ROLES[role]}",
            "metadata": {FACTS: {"role": role, **self._facts, **facts}, FIELD: self._field},
            **placement.to_layer(),
        }

    def vectors(self) -> LayerData:
        """Motion as lines, coloured by their length."""
        from blurfield.measure import motion_features, motion_vectors

        spacing = vector_spacing(self._field)
        features = motion_features(self._field, spacing=spacing)
        attributes = {
            **self._attributes("vectors", self._placement.last(2), spacing=spacing),
            **vectors_look(features, spacing),
        }
        return motion_vectors(self._field, spacing=spacing), attributes, "vectors"

    def mosaic(self, *, pyramid: bool = False) -> LayerData:
        """Point-spread functions, each where it acts; as a pyramid fewer of them from afar."""
        from blurfield.mosaic_pyramid import mosaic_pyramid

        pictures = mosaic_pyramid(self._field, None if pyramid else 1)
        place = self._placement.last(2).grid(self._field.shape, pictures[0].shape[:2])
        attributes = {**self._attributes("mosaic", place), "rgb": True}
        if len(pictures) > 1:
            attributes["multiscale"] = True
        return pictures if len(pictures) > 1 else pictures[0], attributes, "image"

    def mask(
        self,
        settings: MaskSettings,
        *,
        table: bool = True,
        progress: ProgressCallback | None = None,
    ) -> LayerData:
        """Where the image is blurry, and with a table, how much under each label."""
        place = self._placement.last(2)
        labels = label_image(self._field, settings, progress)
        attributes = {
            **self._attributes(settings.role, place, **settings.facts()),
            **label_look(settings),
        }
        if table:
            pixel = PixelSize.of(place)
            attributes["features"] = label_table(self._field, labels, settings, pixel, progress)
        return labels, attributes, "labels"

    def mixing(self, shown: KernelField) -> LayerData:
        """How much each basis kernel of what is shown weighs, one slice for each."""
        mixing = as_array(shown.mixing)
        place = self._placement.grid(self._field.shape, mixing.shape[1:])
        attributes = {
            **self._attributes("mixing", place.with_leading("kernel"), **self._kernel_facts(shown)),
            "rgb": False,
            "colormap": "viridis",
            "contrast_limits": (0.0, 1.0),
            "opacity": 0.7,
        }
        return self._with_axes(mixing), attributes, "image"

    def basis(self, shown: KernelField) -> LayerData:
        """The basis kernels of what is shown, one slice for each, as an inset in the corner.

        There the view does not have to grow for them.
        """
        basis = as_array(shown.rotated().basis)  # people read point-spread functions
        side = max(2, round(_INSET * min(self._field.shape)))
        place = self._placement.grid((side, side), basis.shape[1:])
        attributes = {
            **self._attributes("basis", place.with_leading("kernel"), **self._kernel_facts(shown)),
            "rgb": False,
            "colormap": "inferno",
            "contrast_limits": (0.0, float(basis.max())),
            "gamma": 0.5,  # a long kernel's values are small
        }
        return self._with_axes(basis), attributes, "image"

    def uncertainty(self) -> LayerData:
        """How uncertain the kernels are: 0 where the image tells them, 1 where it says nothing."""
        values = as_array(self._field.maps["uncertainty"])
        place = self._placement.last(2).grid(self._field.shape, values.shape)
        attributes = {
            **self._attributes("uncertainty", place),
            "rgb": False,
            "colormap": "magma",
            "contrast_limits": (0.0, 1.0),
            "opacity": 0.7,
        }
        return values, attributes, "image"

    def _kernel_facts(self, shown: KernelField) -> dict[str, Any]:
        """Return what the slices of what is shown in place of this field are, and its error."""
        error = None if shown is self._field else shown.metadata.get("compression")
        return {"names": kernel_names(shown), "approximation": error}

    def _with_axes(self, slices: NDArray[Any]) -> NDArray[Any]:
        """Put the axes of the source's stack behind that of the kernels.

        With an axis of their own, kernels leave the sliders of the stack their meaning.
        """
        between = (1,) * (self._placement.ndim - 2)
        return slices.reshape(slices.shape[0], *between, *slices.shape[1:])


def as_array(values: Any) -> NDArray[Any]:
    """Return a tensor or an array as a NumPy array."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values)


def _stored(field: KernelField) -> dict[str, Any]:
    """Return what the field remembers of the layer it was estimated from."""
    stored = field.metadata.get(SOURCE)
    return stored if isinstance(stored, dict) else {}
