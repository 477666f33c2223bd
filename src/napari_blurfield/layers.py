"""Kernel fields as napari layers, and back.

Each layer made from a field carries the field itself in ``metadata["blurfield_field"]`` and says in
``metadata["blurfield"]``, in plain JSON, what it shows and where it comes from. Any one of the
layers is thus enough to find the field again, also after renaming, copying or removing the others.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ._spatial import Placement

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari.layers import Layer
    from numpy.typing import NDArray

    from blurfield import KernelField

    #: Data, attributes and type of a layer, as npe2 readers return it.
    LayerData = tuple[Any, dict[str, Any], str]

#: Layer metadata: what the layer shows and where it comes from, as plain JSON.
FACTS = "blurfield"
#: Layer metadata: the `KernelField` itself.
FIELD = "blurfield_field"
#: Field metadata: the image the field was estimated from, as `Source.to_json` tells it.
SOURCE = "napari"

#: What a layer shows, and how its name ends.
ROLES = {
    "vectors": "blur vectors",
    "mosaic": "blur kernels",
    "mask": "blur mask",
    "mixing": "kernel weights",
    "basis": "basis kernels",
    "deblurred": "deblurred",
}
#: Roles of the layers that stand for a field rather than for an image.
FIELD_ROLES = frozenset(ROLES) - {"deblurred"}

#: A field of more kernels (dense per-pixel fields have a thousand) is not shown kernel by kernel.
_MOST_KERNELS = 64
_MASK_COLOR = (0.0, 0.75, 1.0, 1.0)
#: Part of the image's shorter side that the basis kernels cover as an inset.
_INSET = 0.25


def field_layers(
    field: KernelField,
    *,
    name: str | None = None,
    threshold: float = 0.25,
    kernels: bool = True,
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
        Whether to add the basis kernels and their weights.

    Returns
    -------
    list of (data, attributes, type)
        Kernel weights (B × h × w), basis kernels, kernel mosaic, blur mask, motion vectors. Only
        the vectors are visible at first: they read best alone.
    """
    name = name or source_name(field)
    layers: list[LayerData] = []
    if kernels and field.num_kernels <= _MOST_KERNELS:
        layers += [_mixing_layer(field, name), _basis_layer(field, name)]
    mosaic = _mosaic_layer(field, name)
    mask = mask_layer_data(field, name=name, threshold=threshold)
    for _, attributes, _ in (*layers, mosaic, mask):
        attributes["visible"] = False
    return [*layers, mosaic, mask, _vectors_layer(field, name)]


def find_field(layer: Layer | None) -> KernelField | None:
    """Return the field that a layer shows or was made with, or None."""
    return None if layer is None else layer.metadata.get(FIELD)


def fields_in(layers: Iterable[Layer]) -> list[KernelField]:
    """Return the fields that layers show, each one once, that of the topmost layer first."""
    found: list[KernelField] = []
    for layer in reversed(list(layers)):
        field = find_field(layer) if role_of(layer) in FIELD_ROLES else None
        if field is not None and not any(field is known for known in found):
            found.append(field)
    return found


def is_from(field: KernelField, layer_name: str, frame: Sequence[int] = ()) -> bool:
    """Return whether a field was estimated from a frame of the layer of this name."""
    frames = list(_stored(field).get("frame", ()))
    return source_layer(field) == layer_name and frames == list(frame)


def source_layer(field: KernelField) -> str | None:
    """Return the name of the layer that a field was estimated from, None if from elsewhere."""
    return _stored(field).get("layer") or None


def role_of(layer: Layer) -> str | None:
    """Return what a layer of this plugin shows, a key of `ROLES`; None for other layers."""
    facts = layer.metadata.get(FACTS)
    return facts.get("role") if isinstance(facts, dict) else None


def facts_about(field: KernelField, role: str, **facts: Any) -> dict[str, Any]:
    """Return the metadata of a layer made from or with a field."""
    from blurfield import __version__

    plain = {
        "role": role,
        "field": field_id(field),
        "version": __version__,
        "kernels": field.num_kernels,
        "kernel_size": field.kernel_size,
        "shape": list(field.shape),
        "made_by": field.metadata,
        **facts,
    }
    return {FACTS: plain, FIELD: field}


def field_id(field: KernelField) -> str:
    """Return a name that two fields share only if they hold the same kernels and weights."""
    digest = hashlib.blake2b(repr(field.shape).encode(), digest_size=8)
    for tensor in (field.basis, field.mixing):
        array = np.ascontiguousarray(tensor.detach().cpu().numpy())
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(array.data)
    return digest.hexdigest()


def source_name(field: KernelField) -> str:
    """Return the name of the image that a field was estimated from."""
    return str(_stored(field).get("name") or field.metadata.get("source") or "field")


def field_placement(field: KernelField) -> Placement:
    """Return where a field lies: all axes of the layer it was estimated from.

    The first pixel of the axes before the last two is the frame that the field belongs to.
    """
    stored = _stored(field)
    if "scale" not in stored:
        return Placement.of_pixels()
    placement = Placement.from_json(stored)
    frame = [float(index) for index in stored.get("frame", [])]
    if len(frame) != placement.ndim - 2:
        raise ValueError(f"spatial attributes are damaged: frame {frame} of {placement.ndim} axes")
    return placement.sampled([1.0] * placement.ndim, [*frame, 0.0, 0.0])


def mask_layer_data(
    field: KernelField, *, name: str | None = None, threshold: float = 0.25, min_area: int = 0
) -> LayerData:
    """Return the blur mask of a field as a Labels layer: 1 where the image is blurry.

    Parameters
    ----------
    field : KernelField
        Its mask has one pixel for each pixel of the image.
    name : str, optional
        Beginning of the layer's name; the source image's name by default.
    threshold : float
        Kernels with a smaller L2 norm count as blur; 0 to 1.
    min_area : int
        Smaller blurry regions and smaller gaps in them are removed, in pixels.
    """
    from blurfield import blur_mask

    mask = clean_mask(as_array(blur_mask(field, threshold=threshold)).astype(bool), min_area)
    attributes = {
        "name": _named(name or source_name(field), "mask"),
        "metadata": facts_about(field, "mask", threshold=threshold, min_area=min_area),
        "opacity": 0.35,
        "colormap": {None: _MASK_COLOR, 0: (0.0, 0.0, 0.0, 0.0), 1: _MASK_COLOR},
        "features": {"index": [0, 1], "region": ["sharp", "blurry"]},
        **field_placement(field).last(2).to_layer(),
    }
    return mask.astype(np.uint8), attributes, "labels"


def clean_mask(mask: NDArray[np.bool_], min_area: int) -> NDArray[np.bool_]:
    """Return a mask without regions and gaps smaller than `min_area` pixels."""
    if min_area <= 1:
        return mask
    from scipy import ndimage

    for value in (True, False):
        regions, count = ndimage.label(mask == value)
        if count:
            small = np.bincount(regions.ravel(), minlength=count + 1) < min_area
            small[0] = False
            mask = np.where(small[regions], not value, mask)
    return mask


def _vectors_layer(field: KernelField, name: str) -> LayerData:
    from blurfield.measure import motion_features, motion_vectors

    spacing = _spacing(field)
    features = motion_features(field, spacing=spacing)
    attributes = {
        "name": _named(name, "vectors"),
        "metadata": facts_about(field, "vectors", spacing=spacing),
        "features": features,
        "edge_color": "length",
        "edge_colormap": "plasma",
        "edge_contrast_limits": (1.0, max(float(features["length"].max(initial=1.0)), 2.0)),
        "edge_width": max(1.0, spacing / 10),
        "opacity": 1.0,
        # A line, not an arrow: a photograph does not tell which way along it the motion went.
        "vector_style": "line",
        **field_placement(field).last(2).to_layer(),
    }
    return as_array(motion_vectors(field, spacing=spacing)), attributes, "vectors"


def _mosaic_layer(field: KernelField, name: str) -> LayerData:
    from blurfield import kernel_mosaic

    mosaic = np.clip(as_array(kernel_mosaic(field)), 0.0, 1.0)
    attributes = {
        "name": _named(name, "mosaic"),
        "metadata": facts_about(field, "mosaic"),
        "rgb": True,
        **field_placement(field).last(2).to_layer(),
    }
    return mosaic, attributes, "image"


def _mixing_layer(field: KernelField, name: str) -> LayerData:
    mixing = as_array(field.mixing)
    placement = field_placement(field)
    # One more axis than the source has, so that its own sliders keep their meaning.
    shape = (len(mixing), *(1,) * (placement.ndim - 2), *mixing.shape[1:])
    attributes = {
        "name": _named(name, "mixing"),
        "metadata": facts_about(field, "mixing"),
        "rgb": False,
        "colormap": "viridis",
        "contrast_limits": (0.0, 1.0),
        "opacity": 0.7,
        **placement.grid(field.shape, mixing.shape[1:]).with_leading("kernel").to_layer(),
    }
    return mixing.reshape(shape), attributes, "image"


def _basis_layer(field: KernelField, name: str) -> LayerData:
    basis = as_array(field.rotated().basis)  # people read point-spread functions
    placement = field_placement(field)
    shape = (len(basis), *(1,) * (placement.ndim - 2), *basis.shape[1:])
    # An inset in the image's corner, so that the view does not have to grow for it.
    side = max(2, round(_INSET * min(field.shape)))
    attributes = {
        "name": _named(name, "basis"),
        "metadata": facts_about(field, "basis"),
        "rgb": False,
        "colormap": "inferno",
        "contrast_limits": (0.0, float(basis.max())),
        "gamma": 0.5,  # a long kernel's values are small
        **placement.grid((side, side), basis.shape[1:]).with_leading("kernel").to_layer(),
    }
    return basis.reshape(shape), attributes, "image"


def as_array(values: Any) -> NDArray[Any]:
    """Return a tensor or an array as a NumPy array."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values)


def _spacing(field: KernelField) -> int:
    """Distance of vectors in pixels: some twenty along the longer side, room for each kernel."""
    return max(8, math.ceil(max(field.shape) / 20), round(field.kernel_size * 0.8))


def _stored(field: KernelField) -> dict[str, Any]:
    """Return what the field remembers of the layer it was estimated from."""
    stored = field.metadata.get(SOURCE)
    return stored if isinstance(stored, dict) else {}


def _named(name: str, role: str) -> str:
    return f"{name} {ROLES[role]}"
