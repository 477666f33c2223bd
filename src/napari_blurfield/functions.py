"""Layers in, layer data out: what scripts call. No window is needed."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import blurfield

from ._axes import Axes
from ._masks import MaskSettings
from ._regions import frames_drawn_on, regions_of
from ._series import SeriesPlan, run_series
from ._source import Source
from ._stack import Stack
from ._tasks import deblurred_layer_data, estimate_fields, layers_of
from .layers import fields_of_stack, find_field, mask_layer_data

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from napari.layers import Layer

    from blurfield import KernelField
    from blurfield.compute import ProgressCallback

    from ._field_stack import FieldStack
    from ._regions import Region
    from .layers import LayerData

    #: What stands for a field: the field, a layer made from it, or a ``.blurfield`` file.
    FieldLike: TypeAlias = KernelField | Layer | str | os.PathLike[str]


def estimate_layers(
    layer: Layer,
    *,
    frame: Sequence[int] | None = None,
    frames: Sequence[int] | str | None = None,
    axes: Sequence[str] | None = None,
    region: Layer | None = None,
    folder: str | os.PathLike[str] | None = None,
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
        Grey or RGB(A) image, one with channels, or a stack of such; lazy and multiscale data too.
    frame : sequence of int, optional
        Which image of a stack: one index for each axis of frames.
    frames : sequence of int or "all", optional
        Which images of a stack, in place of `frame`: numbers along the first axis of frames.
    axes : sequence of str, optional
        ``"frames"`` or ``"channels"`` for each axis before rows and columns, where the guess is
        wrong; at most one is of channels.
    region : napari.layers.Shapes or napari.layers.Labels, optional
        Estimate only where it marks the image: in its selected shapes, or in all; in its selected
        label.
    folder : path-like, optional
        Where the fields of several frames are stored. By default, that is beside the image's file,
        or a temporary folder. What is there already from the same image and settings is kept.
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
        Layers that lie on the source: see `napari_blurfield.layers.field_layers`. With several
        regions, those of each. Pictures of several frames are lazy arrays. For a window:
        ``for data in estimate_layers(layer): viewer.add_layer(Layer.create(*data))``.

    Raises
    ------
    TypeError, ValueError
        If the layer is not an image, `frame` is missing or wrong, `region` doesn't touch it, or an
        option is not accepted.
    """
    options = {"model": model, "gamma": gamma, "device": device, **options}
    if frames is not None:
        stack, numbers = _stack(layer, frames, axes, region)
        shown = {"kernels": kernels, "threshold": threshold}
        plan = SeriesPlan(stack, numbers, options, chosen_folder=str(folder or ""), layers=shown)
        return run_series(plan, progress=progress).layers
    source = Source.from_layer(layer, frame, _as_axes(axes))
    fields = estimate_fields(source, _regions(region, source), progress=progress, **options)
    return layers_of(fields, threshold=threshold, kernels=kernels, progress=progress)


def deblur_layer(
    layer: Layer,
    field: FieldLike | None = None,
    *,
    frame: Sequence[int] | None = None,
    frames: Sequence[int] | str | None = None,
    axes: Sequence[str] | None = None,
    region: Layer | None = None,
    folder: str | os.PathLike[str] | None = None,
    shared: bool = False,
    method: str = "auto",
    gamma: float | str = "auto",
    device: str = "auto",
    progress: ProgressCallback | None = None,
    **options: Any,
) -> LayerData:
    """Deblur an image layer with a field.

    Parameters
    ----------
    layer, frame, frames, axes, folder, gamma, device, progress
        As in `estimate_layers`.
    field : KernelField, napari.layers.Layer, str or path, optional
        The field, any of its layers, or a ``.blurfield`` file; for several frames also a layer of
        the fields of a stack. Without it, fields are estimated.
    region : napari.layers.Shapes or napari.layers.Labels, optional
        Deblur only where it marks the image, see `estimate_layers`. The rest stays as it is, and
        the parts fade into it.
    shared : bool
        Deblur several frames with the median of their fields.
    method : str
        See `blurfield.deblur`.
    **options
        Further options of the method.

    Returns
    -------
    (data, attributes, type)
        An image in the source's shape, number type, value scale, place and appearance; of several
        frames, a lazy array in which all other frames are 0.

    Raises
    ------
    TypeError, ValueError
        If there is no field, it does not fit the image, or an option is not accepted.
    """
    where = {"gamma": gamma, "device": device}
    options = {"method": method, **where, **options}
    if frames is not None:
        stack, numbers = _stack(layer, frames, axes, region)
        plan = SeriesPlan(
            stack,
            numbers,
            where,
            options,
            shared=shared,
            given=None if field is None else _as_fields(field),
            chosen_folder=str(folder or ""),
            layers={"with_field": False},
        )
        return run_series(plan, progress=progress).layers[-1]
    source = Source.from_layer(layer, frame, _as_axes(axes))
    regions = _regions(region, source)
    if field is None:
        fields = estimate_fields(source, regions, progress=progress, **where)
    else:
        fields = [as_field(field, source.frame)]
    return deblurred_layer_data(
        source, fields[0], regions=regions, others=fields[1:], progress=progress, **options
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


def as_field(field: FieldLike, frame: Sequence[int] | None = None) -> KernelField:
    """Return the field that `field` stands for.

    Parameters
    ----------
    field : KernelField, napari.layers.Layer, str or path
        The field, any of its layers, or a ``.blurfield`` file.
    frame : sequence of int, optional
        Which frame, if a layer shows the fields of a stack.

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If a layer holds no field, or a file is not one.
    """
    from napari.layers import Layer

    if isinstance(field, blurfield.KernelField):
        return field
    if isinstance(field, (str, os.PathLike)):
        return blurfield.KernelField.load(field)
    if not isinstance(field, Layer):
        raise TypeError(
            "a blur field is needed: a KernelField, one of the layers that 'Estimate blur field' "
            f"made, or a .blurfield file; got {type(field).__name__}"
        )
    found = find_field(field, frame)
    if found is None:
        raise ValueError(_missing(field, frame))
    return found


def _missing(layer: Layer, frame: Sequence[int] | None) -> str:
    """Say why a layer gives no field."""
    if fields_of_stack(layer) is None:
        return (
            f"layer {layer.name!r} holds no blur field; choose one of the layers that "
            "'Estimate blur field' made, or estimate the field first"
        )
    if not frame:
        return f"layer {layer.name!r} shows the blur fields of a stack; say which frame"
    return f"layer {layer.name!r} has no blur field for frame {tuple(frame)}"


def _as_fields(field: FieldLike) -> KernelField | FieldStack:
    """Return the fields for several frames: one for all, or one for each."""
    from napari.layers import Layer

    fields = fields_of_stack(field) if isinstance(field, Layer) else None
    return fields or as_field(field)


def _as_axes(roles: Sequence[str] | None) -> Axes | None:
    return None if roles is None else Axes(tuple(roles))


def _regions(layer: Layer | None, source: Source) -> list[Region]:
    return [] if layer is None else regions_of(layer, source)


def _stack(
    layer: Layer,
    frames: Sequence[int] | str,
    axes: Sequence[str] | None,
    region: Layer | None,
) -> tuple[Stack, tuple[int, ...]]:
    """Return the frames of a layer, within a region of it, and the numbers of those asked for."""
    stack = Stack.from_layer(layer, _as_axes(axes))
    if isinstance(frames, str):
        if frames != "all":
            raise ValueError(f"frames must be 'all' or numbers, but is {frames!r}")
        return _within(stack, region, range(len(stack)))
    count = stack.sizes[0]
    wrong = [number for number in frames if not 0 <= number < count]
    if wrong or not len(frames):
        raise ValueError(
            f"{layer.name!r} has frames from 0 to {count - 1}; there is no frame "
            f"{wrong[0] if wrong else 'asked for'}"
        )
    return _within(stack, region, stack.numbers_at(frames))


def _within(
    stack: Stack, region: Layer | None, numbers: Sequence[int]
) -> tuple[Stack, tuple[int, ...]]:
    """Return frames within a region: that of the first frame which has any, for all of them."""
    numbers = tuple(numbers)
    if region is None:
        return stack, numbers
    places = [stack.position(number) for number in numbers]
    drawn = frames_drawn_on(region, stack.first)
    if drawn:
        count = len(drawn[0])
        places = [place for place in places if place[-count:] in drawn] or places
    first = replace(stack.first, frame=places[0])
    return stack.within(regions_of(region, stack.first, first.corner)), numbers


__all__ = ["as_field", "deblur_layer", "estimate_layers", "mask_layer"]
