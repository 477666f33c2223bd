"""A quick look at what deblurring will do to the part of an image that is in view."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

import blurfield

from ._picked_axes import stored_data
from ._tasks import Outcome, loaded_device
from .layers import FACTS, ROLES, role_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.layers import Layer

    from blurfield import KernelField
    from blurfield.compute import ProgressCallback

    from ._regions import Region
    from ._source import Source

    #: Rows and columns of a part of an image.
    Box = tuple[slice, slice]

#: What a layer with a preview shows.
ROLE = "preview"

#: The longest side of a part, in pixels; of a larger view, its middle.
_LONGEST = 640
#: The shortest side: less says little, and estimation needs some context.
_SHORTEST = 64
#: Pixels around the part that are deblurred with it and cut off, if the field is yet unknown.
_MARGIN = 32


def visible_box(layer: Layer, region: Region | None = None) -> Box:
    """Return the rows and columns of an image layer that were last drawn, or the middle of them.

    Parameters
    ----------
    layer : napari.layers.Image
        Its last two axes are those of the image. In a viewer without a window, all is in view.
    region : Region, optional
        Part of the image in which rows and columns have to lie, and are counted.
    """
    corners = np.asarray(layer.corner_pixels, float)[:, -2:]
    shape = stored_data(layer).shape
    sizes = shape[-3:-1] if layer.rgb else shape[-2:]
    if layer.multiscale:
        corners = corners * np.asarray(layer.downsample_factors[layer.data_level])[-2:]
    if region is not None:
        corners = corners - (region.rows.start, region.cols.start)
        sizes = (_length(region.rows), _length(region.cols))
    first, last = corners
    return _part(first[0], last[0] + 1, sizes[0]), _part(first[1], last[1] + 1, sizes[1])


def _part(start: float, stop: float, length: int) -> slice:
    """Return the pixels of an axis that are in view: not too few, not too many, all inside."""
    middle = (start + stop) / 2
    size = min(length, max(_SHORTEST, min(_LONGEST, round(stop - start))))
    begin = min(max(round(middle - size / 2), 0), length - size)
    return slice(begin, begin + size)


def preview_source(
    source: Source,
    field: KernelField | None,
    box: Box,
    *,
    progress: ProgressCallback,
    gamma: float | str = "auto",
    device: str = "auto",
    **options: Any,
) -> Outcome:
    """Deblur a part of a captured image as a job.

    Parameters
    ----------
    source : Source
        The whole image, or the region of it that the field is for.
    field : KernelField or None
        That of the whole image; None estimates that of the part.
    box : (slice, slice)
        Rows and columns. A margin around them is deblurred too, so that they look like in the
        whole image.
    progress, gamma, device, **options
        As for `deblur_source`.
    """
    started = time.monotonic()
    used = loaded_device(device, progress)
    margin = _MARGIN if field is None else 2 * field.kernel_size
    around = tuple(
        slice(max(part.start - margin, 0), min(part.stop + margin, length))
        for part, length in zip(box, source.shape, strict=True)
    )
    pixels = _cut(source, source.data, around)
    common: dict[str, Any] = {"gamma": gamma, "device": device, "progress": progress}
    if source.channel_axis is not None:
        common["channel_axis"] = source.channel_axis
    if field is None:
        part = blurfield.estimate(pixels, **common).to("cpu")
    else:
        rows, cols = around
        part = field.crop((rows.start, cols.start), (_length(rows), _length(cols)))
    sharp = blurfield.deblur(pixels, part, **common, **options)
    inner = tuple(
        slice(kept.start - whole.start, kept.stop - whole.start)
        for kept, whole in zip(box, around, strict=True)
    )
    placement = source.result_placement
    offset = [0.0] * (placement.ndim - 2) + [float(part.start) for part in box]
    attributes = {
        "name": f"{source.name} {ROLES[ROLE]}",
        "metadata": {FACTS: {"role": ROLE, "source": source.to_json()}},
        "rgb": source.rgb,
        **source.appearance,
        **placement.sampled([1.0] * placement.ndim, offset).to_layer(),
    }
    data = source.in_layer(_cut(source, sharp, inner))
    seconds = time.monotonic() - started
    return Outcome(
        [(data, attributes, "image")],
        f"Preview of {_length(box[0])} × {_length(box[1])} px in {seconds:.1f} s on {used}.",
    )


def previews_in(layers: Iterable[Layer]) -> list[Layer]:
    """Return the layers that show previews."""
    return [layer for layer in layers if role_of(layer) == ROLE]


def _length(part: slice) -> int:
    """Return the number of pixels of a part of an axis."""
    return int(part.stop - part.start)


def _cut(source: Source, pixels: Any, box: tuple[slice, ...]) -> Any:
    index = box if source.channel_axis is None else (slice(None), *box)
    return np.asarray(pixels[index])


__all__ = ["ROLE", "preview_source", "previews_in", "visible_box"]
