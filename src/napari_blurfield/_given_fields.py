"""Fields that are known already, and are taken for those of the frames of a series."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ._axes import frame_words
from ._field_stack import FieldStack
from ._regions import Region
from .layers import SOURCE

if TYPE_CHECKING:
    from blurfield import KernelField
    from blurfield.compute import ProgressCallback
    from blurfield.series import Series

    from ._series import Given, SeriesPlan
    from ._stack import Stack


def check_given(plan: SeriesPlan, progress: ProgressCallback) -> None:
    """Check that fields that are given are for these frames.

    Raises
    ------
    ValueError
        If they are for frames of another size, for other parts of them, or for a frame of other
        pixels.
    """
    given = plan.given
    if given is None or plan.goes_on is not None:
        return
    _check_size(given, plan.stack)
    _check_region(given, plan.stack)
    if isinstance(given, FieldStack):
        _check_pixels(given, plan, progress)


def _check_size(given: Given, stack: Stack) -> None:
    if isinstance(given, FieldStack) and given.stack.sizes != stack.sizes:
        raise ValueError(
            f"there are blur fields for {given.stack.sizes} frames, but {stack.name!r} has "
            f"{stack.sizes}"
        )
    shape = given.stack.first.shape if isinstance(given, FieldStack) else given.shape
    height, width = stack.first.shape
    if shape not in ((height, width), stack.whole_size):
        raise ValueError(
            f"the blur field is for images of {shape[0]} × {shape[1]} pixels, but the frames of "
            f"{stack.name!r} have {height} × {width}; choose the field that was estimated "
            "from them"
        )


def _check_region(given: Given, stack: Stack) -> None:
    region = stack.first.region
    shape = given.stack.first.shape if isinstance(given, FieldStack) else given.shape
    if region is None or shape == stack.whole_size:
        return
    if isinstance(given, FieldStack):
        known = given.stack.first.region
    else:
        stored = (given.metadata.get(SOURCE) or {}).get("region")
        known = Region.from_json(stored) if stored else region  # nobody knows better
    if known is None or (known.rows, known.cols) != (region.rows, region.cols):
        raise ValueError(
            f"the blur field does not cover {region.name!r} of {stack.name!r}: choose a field of "
            "whole frames, or estimate that of the region"
        )


def _check_pixels(given: FieldStack, plan: SeriesPlan, progress: ProgressCallback) -> None:
    stack = plan.stack
    if not given.stack.first.identity.is_same_layer(stack.first.identity):
        return  # the blur of one channel may be used for another
    # The fields may be of whole frames, and of these a region is to be deblurred.
    frames = replace(given.stack, data=stack.data).frames()
    for done, number in enumerate(plan.numbers):
        progress(done, len(plan.numbers), "Comparing the frames with those of the blur fields …")
        if given.has(number) and not given.is_of(number, frames):
            frame = frame_words(stack.labels, stack.position(number))
            raise ValueError(
                f"{frame} of {stack.name!r} has changed since its blur field was estimated: run "
                "'Estimate blur field' again, or choose 'estimate it first' as the blur field"
            )


def provide_fields(plan: SeriesPlan, series: Series, progress: ProgressCallback) -> None:
    """Put the fields that are given into the folder, where they are taken for estimated ones."""
    given = plan.given
    if given is None or plan.goes_on is not None:
        return
    for done, number in enumerate(plan.numbers):
        progress(done, len(plan.numbers), "Copying the blur fields …")
        if isinstance(given, FieldStack):
            if given.has(number):  # perhaps another one than before, as the frame has changed
                series.give_field(number, _within(given.series.field(number), plan.stack))
        elif not series.field_path(number).exists():
            series.give_field(number, _within(given, plan.stack))


def _within(field: KernelField, stack: Stack) -> KernelField:
    """Return the part of a field of whole frames that lies in the region of a stack."""
    region = stack.first.region
    if region is None or field.shape == stack.first.shape:
        return field
    return field.crop((region.rows.start, region.cols.start), region.shape)


__all__ = ["check_given", "provide_fields"]
