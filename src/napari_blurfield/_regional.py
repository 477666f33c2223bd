"""Deblur parts of an image, each with a field that knows the blur there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import blurfield

from ._recipe import RECIPE, as_used, recipe_for
from ._regions import Region
from .layers import SOURCE, source_name, source_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from blurfield import KernelField

    from ._source import Source


def region_of_field(field: KernelField, source: Source) -> Region | None:
    """Return the part of an image that a field was estimated from, None if it was all of it."""
    stored = field.metadata.get(SOURCE) or {}
    region = stored.get("region")
    if not region or not source_of(field).is_same_layer(source.identity):
        return None
    return Region.from_json(region)


def field_for(region: Region, fields: Sequence[KernelField], source: Source) -> KernelField:
    """Return the first field that knows the blur of a region.

    Raises
    ------
    ValueError
        If there is none.
    """
    for field in fields:
        top, left = corner_of(field, source)
        height, width = field.shape
        known = region_of_field(field, source) is not None or field.shape == source.shape
        if known and (
            top <= region.rows.start
            and region.rows.stop <= top + height
            and left <= region.cols.start
            and region.cols.stop <= left + width
        ):
            return field
    names = ", ".join(repr(source_name(field)) for field in fields)
    raise ValueError(
        f"the blur field of {names} does not cover {region.name!r} of {source.name!r}: choose a "
        "field of the whole image, or estimate that of the region"
    )


def corner_of(field: KernelField, source: Source) -> tuple[int, int]:
    """Return the pixel of an image where a field begins."""
    region = region_of_field(field, source)
    return (0, 0) if region is None else (region.rows.start, region.cols.start)


def deblur_regions(
    source: Source,
    regions: Sequence[Region],
    fields: Sequence[KernelField],
    options: dict[str, Any],
) -> tuple[NDArray[Any], KernelField, dict[str, Any]]:
    """Deblur parts of an image one after the other.

    Parameters
    ----------
    source : Source
        The image.
    regions : sequence of Region
        The parts.
    fields : sequence of KernelField
        For each part, the first one that covers it is taken.
    options : dict
        Of `blurfield.deblur`, with ``progress`` and, if need be, ``channel_axis``.

    Returns
    -------
    sharp : ndarray
        The whole image, with soft borders around the parts.
    field : KernelField
        That of the first part.
    facts : dict
        What was done, as plain JSON.
    """
    pixels = source.pixels()
    sharp: Any = None
    used = [field_for(region, fields, source) for region in regions]
    done: list[dict[str, Any]] = []
    for number, (region, field) in enumerate(zip(regions, used, strict=True)):
        place: dict[str, Any] = {
            "rows": [region.rows.start, region.rows.stop],
            "cols": [region.cols.start, region.cols.stop],
            "corner": list(corner_of(field, source)),
        }
        progress = _part(options["progress"], number, len(regions), region.name)
        sharp, info = blurfield.deblur_part(
            pixels,
            field,
            **place,
            mask=region.mask,
            into=sharp,
            return_info=True,
            **{**options, "progress": progress},
        )
        done.append({"name": region.name, **place, **json.loads(json.dumps(info, default=str))})
    facts: dict[str, Any] = {"parameters": {"regions": done}}
    if len(regions) == 1 and regions[0].mask is None:
        facts[RECIPE] = recipe_for(
            "deblur_part",
            "sharp",
            {**place, **as_used(options, info)},
            image=(source, pixels),
            field=field,
        )
    return sharp, used[0], facts


def _part(progress: Any, number: int, count: int, name: str) -> Any:
    """Return the progress of one of several regions."""
    if progress is None or count == 1:
        return progress

    def tell(done: int, total: int, message: str) -> None:
        progress(number * total + done, count * total, f"{name}: {message}")

    return tell
