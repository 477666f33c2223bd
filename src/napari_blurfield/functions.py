"""Layers in, layer data out: what widgets, commands and scripts share. No window is needed."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import blurfield

from ._masks import MaskSettings, label_words
from ._recipe import RECIPE, recipe_for, with_recipe
from ._regional import deblur_regions, region_of_field
from ._source import Source
from .layers import (
    FACTS,
    FIELD,
    ROLES,
    SOURCE,
    as_array,
    facts_about,
    field_layers,
    find_field,
    mask_layer_data,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from napari.layers import Layer
    from numpy.typing import NDArray

    from blurfield import KernelField
    from blurfield.compute import ProgressCallback

    from ._regions import Region
    from .layers import LayerData

    #: What stands for a field: the field, a layer made from it, or a ``.blurfield`` file.
    FieldLike: TypeAlias = KernelField | Layer | str | os.PathLike[str]

#: Arguments of `blurfield.deblur` that it chooses where it is not told, and then tells.
_RESOLVED = ("method", "variant", "gamma", "device", "memory")


def estimate_layers(
    layer: Layer,
    *,
    frame: Sequence[int] | None = None,
    model: str = "auto",
    gamma: float | str = "auto",
    device: str = "auto",
    threshold: float = 0.25,
    kernels: bool = True,
    progress: ProgressCallback | None = None,
    **options: Any,
) -> list[LayerData]:
    """Estimate the blur field of an image layer.

    Parameters
    ----------
    layer : napari.layers.Image
        Grey or RGB(A) image, or a stack of such; lazy and multiscale data too.
    frame : sequence of int, optional
        Which image of a stack: one index for each axis before the image's two.
    model : str
        See `blurfield.estimate`.
    gamma : float or "auto"
        How the image is encoded: 1 for linear sensor data, 2.2 for display.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    threshold : float
        Kernels with a smaller L2 norm count as blur in the mask; 0 to 1.
    kernels : bool
        Whether to return the basis kernels and their weights too.
    progress : callable, optional
        Called as ``progress(done, total, message)``; if it raises, the work stops.
    **options
        Further options of the model.

    Returns
    -------
    list of (data, attributes, type)
        Layers that lie on the source: see `napari_blurfield.layers.field_layers`. For a window:
        ``for data in estimate_layers(layer): viewer.add_layer(Layer.create(*data))``.

    Raises
    ------
    TypeError, ValueError
        If the layer is not an image, `frame` is missing or wrong, or an option is not accepted.
    """
    field = estimate_field(
        Source.from_layer(layer, frame),
        model=model,
        gamma=gamma,
        device=device,
        progress=progress,
        **options,
    )
    return field_layers(field, threshold=threshold, kernels=kernels, progress=progress)


def deblur_layer(
    layer: Layer,
    field: FieldLike,
    *,
    frame: Sequence[int] | None = None,
    method: str = "auto",
    gamma: float | str = "auto",
    device: str = "auto",
    progress: ProgressCallback | None = None,
    **options: Any,
) -> LayerData:
    """Deblur an image layer with a field.

    Parameters
    ----------
    layer, frame, gamma, device, progress
        As in `estimate_layers`.
    field : KernelField, napari.layers.Layer, str or path
        The field, any of its layers, or a ``.blurfield`` file.
    method : str
        See `blurfield.deblur`.
    **options
        Further options of the method.

    Returns
    -------
    (data, attributes, type)
        An image in the source's shape, number type, value scale, place and appearance.

    Raises
    ------
    TypeError, ValueError
        If there is no field, it does not fit the image, or an option is not accepted.
    """
    return deblurred_layer_data(
        Source.from_layer(layer, frame),
        as_field(field),
        method=method,
        gamma=gamma,
        device=device,
        progress=progress,
        **options,
    )


def mask_layer(
    field: FieldLike,
    *,
    threshold: float = 0.25,
    min_extent: float | None = None,
    min_area: int = 0,
    tolerance: float | None = None,
) -> LayerData:
    """Return the blur mask of a field, or its regions of similar motion, as a Labels layer.

    Parameters
    ----------
    field : KernelField, napari.layers.Layer, str or path
        The field, any of its layers, or a ``.blurfield`` file.
    threshold : float
        Kernels with a smaller L2 norm count as blur; 0 to 1.
    min_extent : float, optional
        If given, blur of at least so many pixels counts, whatever the norm.
    min_area : int
        Smaller regions and gaps are removed, in pixels.
    tolerance : float, optional
        If given, the mask is divided into regions; see `blurfield.motion_regions`.

    Returns
    -------
    (data, attributes, type)
        1 where the image is blurry, or the numbers of regions, on the source image; its features
        are `blurfield.blur_statistics` of each label.
    """
    settings = MaskSettings(threshold, min_extent, min_area, tolerance)
    return mask_layer_data(as_field(field), settings)


def as_field(field: FieldLike) -> KernelField:
    """Return the field that `field` stands for.

    Raises
    ------
    ValueError
        If a layer holds no field, or a file is not one.
    """
    if isinstance(field, blurfield.KernelField):
        return field
    if isinstance(field, (str, os.PathLike)):
        return blurfield.KernelField.load(field)
    found = find_field(field)
    if found is None:
        raise ValueError(
            f"layer {field.name!r} holds no blur field; choose one of the layers that "
            "'Estimate blur field' made, or estimate the field first"
        )
    return found


def estimate_field(source: Source, **options: Any) -> KernelField:
    """Estimate the field of a captured image; it remembers the image's name and place."""
    pixels = source.pixels()
    options = {**_channels(source), **options}
    field: KernelField = blurfield.estimate(pixels, **options)
    resolved = {name: field.metadata[name] for name in ("model", "gamma") if name in field.metadata}
    recipe = recipe_for(
        "estimate",
        "field",
        {**_lasting(options), **resolved, "device": str(field.basis.device)},
        image=(source, pixels),
    )
    return with_recipe(field.to("cpu").with_metadata(**{SOURCE: source.to_json()}), recipe)


def deblurred_layer_data(
    source: Source,
    field: KernelField,
    *,
    regions: Sequence[Region] = (),
    others: Sequence[KernelField] = (),
    **options: Any,
) -> LayerData:
    """Deblur a captured image; the result looks and lies like it.

    With regions, only these are deblurred, each with the first field that covers it: `field` or one
    of `others`. A field that is for a region of the image counts for this.
    """
    options = {**_channels(source), **options}
    own = region_of_field(field, source)
    if own is not None and not regions:
        regions = [own]
    if regions:
        sharp, field, done = deblur_regions(source, regions, [field, *others], options)
    else:
        sharp, done = _deblur_whole(source, field, options)
    facts = {"role": "deblurred", **facts_about(field), "source": source.to_json(), **done}
    attributes = {
        "name": f"{source.name} {ROLES['deblurred']}",
        "metadata": {FACTS: facts, FIELD: field},
        "rgb": source.rgb,
        **source.appearance,
        **source.result_placement.to_layer(),
    }
    return source.in_layer(sharp), attributes, "image"


def _deblur_whole(
    source: Source, field: KernelField, options: dict[str, Any]
) -> tuple[NDArray[Any], dict[str, Any]]:
    """Deblur an image, and say what was done."""
    pixels = source.pixels()
    sharp, done = blurfield.deblur(pixels, field, return_info=True, **options)
    resolved = {name: done[name] for name in _RESOLVED if name in done}
    return sharp, {
        "parameters": json.loads(json.dumps(done, default=str)),
        RECIPE: recipe_for(
            "deblur",
            "sharp",
            {**_lasting(options), **resolved},
            image=(source, pixels),
            field=field,
        ),
    }


def _lasting(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that say what was computed, without the callback of this run."""
    return {name: value for name, value in options.items() if name != "progress"}


def _channels(source: Source) -> dict[str, Any]:
    """Return the option that tells the core where the channels are, if it needs one."""
    return {} if source.channel_axis is None else {"channel_axis": source.channel_axis}


@dataclass(frozen=True)
class Outcome:
    """What a job made.

    Parameters
    ----------
    layers : list of (data, attributes, type)
        To be added to the viewer, the lowest one first.
    summary : str
        What to say about it.
    """

    layers: list[LayerData]
    summary: str


def estimate_source(
    source: Source,
    *,
    progress: ProgressCallback,
    regions: Sequence[Region] = (),
    kernels: bool = True,
    device: str = "auto",
    **options: Any,
) -> Outcome:
    """Estimate the field of a captured image as a job; see `estimate_layers` for the options.

    With regions, a field of each is estimated.
    """
    started = time.monotonic()
    used = loaded_device(device, progress)
    fields = [
        estimate_field(part, device=device, progress=progress, **options)
        for part in _parts(source, regions)
    ]
    progress(1, 1, "Preparing the layers …")
    layers = _layers_of(fields, kernels=kernels, progress=progress)
    extent = np.concatenate([as_array(blurfield.blur_extent(field)).ravel() for field in fields])
    return Outcome(
        layers,
        f"Estimated in {time.monotonic() - started:.1f} s on {used}. Blur: median "
        f"{np.median(extent):.0f} px, at most {extent.max():.0f} px. Hidden layers show the "
        "kernels and where the image is blurry.",
    )


def deblur_source(
    source: Source,
    field: KernelField | None,
    *,
    progress: ProgressCallback,
    regions: Sequence[Region] = (),
    others: Sequence[KernelField] = (),
    gamma: float | str = "auto",
    device: str = "auto",
    **options: Any,
) -> Outcome:
    """Deblur a captured image as a job; without a field, that one is estimated first.

    See `deblur_layer` for the options, and `deblurred_layer_data` for regions and other fields.
    """
    started = time.monotonic()
    used = loaded_device(device, progress)
    common: dict[str, Any] = {"gamma": gamma, "device": device, "progress": progress}
    layers: list[LayerData] = []
    if field is None:
        field, *others = [estimate_field(part, **common) for part in _parts(source, regions)]
        layers = _layers_of([field, *others], progress=progress)
    common.update(regions=regions, others=others, **options)
    layers.append(deblurred_layer_data(source, field, **common))
    return Outcome(layers, f"Deblurred in {time.monotonic() - started:.1f} s on {used}.")


def _parts(source: Source, regions: Sequence[Region]) -> list[Source]:
    return [source.within(region) for region in regions] or [source]


def _layers_of(fields: Sequence[KernelField], **options: Any) -> list[LayerData]:
    return [layer for field in fields for layer in field_layers(field, **options)]


def mask_source(
    field: KernelField, settings: MaskSettings, *, progress: ProgressCallback
) -> Outcome:
    """Make the blur mask of a field, or its regions, as a job."""
    progress(0, 0, "Reading the field …")
    layer = mask_layer_data(field, settings)
    return Outcome([layer], label_words(layer[0], settings))


def loaded_device(device: str, progress: ProgressCallback) -> str:
    """Return the device that will be used; asking for it loads PyTorch, which takes a while."""
    from blurfield.compute import choose_device

    progress(0, 0, "Loading …")
    return str(choose_device(device))


__all__ = [
    "Outcome",
    "as_field",
    "deblur_layer",
    "deblur_source",
    "deblurred_layer_data",
    "estimate_field",
    "estimate_layers",
    "estimate_source",
    "mask_layer",
    "mask_source",
]
