"""What jobs do: from images that were captured to the data of layers. No window is needed."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import blurfield

from ._masks import MaskSettings, label_words
from ._recipe import RECIPE, as_used, lasting, recipe_for, with_digest, with_recipe
from ._regional import deblur_regions, region_of_field
from .layers import (
    FACTS,
    FIELD,
    ROLES,
    SOURCE,
    as_array,
    facts_about,
    field_layers,
    mask_layer_data,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from blurfield import KernelField
    from blurfield.compute import ProgressCallback

    from ._regions import Region
    from ._source import Source
    from .layers import LayerData


def estimate_field(source: Source, **options: Any) -> KernelField:
    """Estimate the field of a captured image; it remembers the image's name and place."""
    pixels = source.pixels()
    options = {**channels_of(source), **options}
    field: KernelField = blurfield.estimate(pixels, **options)
    known = field.metadata
    resolved: dict[str, Any] = {name: known[name] for name in ("model", "gamma") if name in known}
    recipe = recipe_for(
        "estimate",
        "field",
        {**lasting(options), **resolved, "device": str(field.basis.device)},
        image=(source, pixels),
    )
    return with_recipe(field.to("cpu").with_metadata(**{SOURCE: source.to_json()}), recipe)


def estimate_fields(
    source: Source, regions: Sequence[Region] = (), **options: Any
) -> list[KernelField]:
    """Estimate the field of each of the regions of a captured image, or that of all of it."""
    parts = [source.within(region) for region in regions] or [source]
    return [estimate_field(part, **options) for part in parts]


def layers_of(fields: Sequence[KernelField], **options: Any) -> list[LayerData]:
    """Return the layers of fields one after the other; see `field_layers` for the options."""
    return [layer for field in fields for layer in field_layers(field, **options)]


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
    options = {**channels_of(source), **options}
    own = region_of_field(field, source)
    if own is not None and not regions:
        regions = [own]
    if regions:
        sharp, field, done = deblur_regions(source, regions, [field, *others], options)
    else:
        sharp, done = _deblur_whole(source, field, options)
    return result_layer_data(source, sharp, "deblurred", field, **done)


def result_layer_data(
    source: Source, pixels: NDArray[Any], role: str, field: KernelField, **facts: Any
) -> LayerData:
    """Return pixels like those of a source as a layer that looks and lies like it.

    Parameters
    ----------
    source : Source
        What it was made of.
    pixels : ndarray
        The result.
    role : str
        What it shows, a key of `ROLES`.
    field : KernelField
        What it was made with.
    **facts
        What else there is to say about how it was made, as plain JSON.
    """
    about = {"role": role, **facts_about(field), "source": source.to_json(), **facts}
    if RECIPE in about:
        about[RECIPE] = with_digest(about[RECIPE], pixels)
    attributes = {
        "name": f"{source.name} {ROLES[role]}",
        "metadata": {FACTS: about, FIELD: field},
        "rgb": source.rgb,
        **source.appearance,
        **source.result_placement.to_layer(),
    }
    return source.in_layer(pixels), attributes, "image"


def _deblur_whole(
    source: Source, field: KernelField, options: dict[str, Any]
) -> tuple[NDArray[Any], dict[str, Any]]:
    """Deblur an image, and say what was done."""
    pixels = source.pixels()
    sharp, done = blurfield.deblur(pixels, field, return_info=True, **options)
    return sharp, {
        "parameters": json.loads(json.dumps(done, default=str)),
        RECIPE: recipe_for(
            "deblur",
            "sharp",
            as_used(options, done),
            image=(source, pixels),
            field=field,
        ),
    }


def channels_of(source: Source) -> dict[str, Any]:
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
    fields = estimate_fields(source, regions, device=device, progress=progress, **options)
    progress(1, 1, "Preparing the layers …")
    layers = layers_of(fields, kernels=kernels, progress=progress)
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
        field, *others = estimate_fields(source, regions, **common)
        layers = layers_of([field, *others], progress=progress)
    common.update(regions=regions, others=others, **options)
    layers.append(deblurred_layer_data(source, field, **common))
    return Outcome(layers, f"Deblurred in {time.monotonic() - started:.1f} s on {used}.")


def mask_source(
    field: KernelField, settings: MaskSettings, *, progress: ProgressCallback
) -> Outcome:
    """Make the blur mask of a field, or its regions, as a job."""
    progress(0, 0, "Reading the field …")
    layer = mask_layer_data(field, settings, progress=progress)
    return Outcome([layer], label_words(layer[0], settings))


def loaded_device(device: str, progress: ProgressCallback) -> str:
    """Return the device that will be used; asking for it loads PyTorch, which takes a while."""
    from blurfield.compute import choose_device

    progress(0, 0, "Loading …")
    return str(choose_device(device))


__all__ = [
    "Outcome",
    "channels_of",
    "deblur_source",
    "deblurred_layer_data",
    "estimate_field",
    "estimate_fields",
    "estimate_source",
    "layers_of",
    "loaded_device",
    "mask_source",
    "result_layer_data",
]
