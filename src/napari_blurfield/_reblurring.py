"""Blurring of image layers: with a field, with a simulated one, and to check a deblurred image."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

import blurfield

from ._axes import Axes
from ._identity import sample_of
from ._recipe import RECIPE, lasting, recipe_for, recipe_of_layer, with_recipe
from ._source import Source
from ._tasks import Outcome, channels_of, loaded_device, result_layer_data
from .functions import as_field
from .layers import FIELD, ROLES, SOURCE, field_layers, source_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Layer
    from numpy.typing import NDArray

    from blurfield import KernelField
    from blurfield.compute import ProgressCallback
    from blurfield.residual import Residual

    from ._recipe import Recipe
    from .functions import FieldLike
    from .layers import LayerData

#: Part of the pixels whose residuals the colours tell apart; the rest are outliers.
_SHOWN = 0.995


def reblur_layer(
    layer: Layer,
    field: FieldLike,
    *,
    frame: Sequence[int] | None = None,
    gamma: float | str = "auto",
    device: str = "auto",
    progress: ProgressCallback | None = None,
) -> LayerData:
    """Blur an image layer with a field.

    Parameters
    ----------
    layer : napari.layers.Image
        A sharp image, grey, RGB(A) or with channels, or a stack of such.
    field : KernelField, napari.layers.Layer, str or path
        The field, any of its layers, or a ``.blurfield`` file; for an image of the same size, or
        with the same kernel everywhere.
    frame : sequence of int, optional
        Which image of a stack.
    gamma, device, progress
        See `blurfield.reblur`.

    Returns
    -------
    (data, attributes, type)
        An image in the source's shape, number type, value scale, place and appearance.

    Raises
    ------
    TypeError, ValueError
        If there is no field, it does not fit the image, or an option is not accepted.
    """
    return reblurred_layer_data(
        Source.from_layer(layer, frame),
        as_field(field),
        gamma=gamma,
        device=device,
        progress=progress,
    )


def simulate_layer(
    layer: Layer, *, frame: Sequence[int] | None = None, truth: bool = True, **options: Any
) -> list[LayerData]:
    """Blur an image layer with a random field that is known.

    Parameters
    ----------
    layer, frame
        As for `reblur_layer`.
    truth : bool
        Whether to return the layers of the field, too.
    **options
        Those of `blurfield.simulate`: kind, seed, max_extent, noise, …

    Returns
    -------
    list of (data, attributes, type)
        The blurry image, like the source, and then the layers that
        `napari_blurfield.layers.field_layers` makes of the field.

    Raises
    ------
    TypeError, ValueError
        If the layer is not an image, it is too small, or an option is not accepted.
    """
    return simulated_layer_data(Source.from_layer(layer, frame), truth=truth, **options)


def residual_layer(
    deblurred: Layer,
    blurry: Layer,
    field: FieldLike | None = None,
    *,
    frame: Sequence[int] | None = None,
    gamma: float | str = "auto",
    device: str = "auto",
    progress: ProgressCallback | None = None,
) -> LayerData:
    """Blur a deblurred image again, and subtract the blurry image.

    Parameters
    ----------
    deblurred : napari.layers.Image
        What was made of `blurry`.
    blurry : napari.layers.Image
        The image as it was.
    field : KernelField, napari.layers.Layer, str or path, optional
        The blur, as for `reblur_layer`; by default what `deblurred` was made with.
    frame : sequence of int, optional
        Which image of the stack `blurry`, and of `deblurred` if that is a stack too.
    gamma, device, progress
        See `blurfield.reblur`.

    Returns
    -------
    (data, attributes, type)
        An image on `blurry`, in its values: above 0 where the deblurred image, blurred again, is
        too bright. Of colours it is the mean.

    Raises
    ------
    TypeError, ValueError
        If no field is known, sizes or colours differ, or an option is not accepted.
    """
    same_stack = deblurred.ndim == blurry.ndim
    data, _ = residual_layer_data(
        Source.from_layer(deblurred, frame if same_stack else None),
        Source.from_layer(blurry, frame),
        as_field(deblurred if field is None else field),
        made_by=recipe_of_layer(deblurred),
        gamma=gamma,
        device=device,
        progress=progress,
    )
    return data


def reblurred_layer_data(source: Source, field: KernelField, **options: Any) -> LayerData:
    """Blur a captured image with a field; see `reblur_layer`."""
    field = fitted(field, source)
    pixels, options = source.pixels(), {**channels_of(source), **options}
    blurry = blurfield.reblur(pixels, field, **options)
    used = _used(options)
    recipe = recipe_for("reblur", "blurry", used, image=(source, pixels), field=field)
    made = {"parameters": used, RECIPE: recipe}
    return result_layer_data(source, blurry, "reblurred", field, **made)


def simulated_layer_data(source: Source, *, truth: bool, **options: Any) -> list[LayerData]:
    """Blur a captured image with a random field; see `simulate_layer`."""
    pixels, options = source.pixels(), {**channels_of(source), **options}
    blurry, field = blurfield.simulate(pixels, **options)
    used = _used({**options, "gamma": field.metadata["gamma"]})
    recipe = recipe_for("simulate", "blurry, truth", used, image=(source, pixels))
    made = {"parameters": used, RECIPE: recipe}
    image = result_layer_data(source, blurry, "simulated", field, **made)
    about = _as_source(source, blurry, "simulated").to_json()
    field = field.to("cpu").with_metadata(**{SOURCE: about})
    field = with_recipe(field, recipe)
    image[1]["metadata"][FIELD] = field
    progress = options.get("progress")
    shown = field_layers(field, name=f"{source.name} true", progress=progress) if truth else []
    return [image, *shown]


def residual_layer_data(
    deblurred: Source,
    blurry: Source,
    field: KernelField,
    *,
    made_by: Recipe | None = None,
    **options: Any,
) -> tuple[LayerData, Residual]:
    """Subtract a captured image from what was made of it, blurred again; see `residual_layer`.

    `made_by` is the recipe of the deblurred image, if it has one.
    """
    from blurfield.residual import reblur_residual

    field = fitted(field, blurry)
    sharp, pixels, options = deblurred.pixels(), blurry.pixels(), {**channels_of(blurry), **options}
    left = reblur_residual(sharp, pixels, field, **options)
    used = _used(options)
    recipe = recipe_for(
        "residual.reblur_residual",
        "left",
        used,
        image=(blurry, pixels),
        field=field,
        sharp=(deblurred, sharp, made_by),
    )
    figures = {"rms": left.rms, "white": left.white, "mean_of_colours": blurry.rgb}
    parameters = {**used, **figures, "deblurred": deblurred.to_json()}
    values = left.image.mean(axis=-1) if blurry.rgb else left.image
    data, attributes, kind = result_layer_data(
        blurry, values, "residual", field, parameters=parameters, **{RECIPE: recipe}
    )
    limit = float(np.quantile(np.abs(values), _SHOWN)) or left.white
    attributes |= {
        "rgb": False,
        "colormap": "PiYG",
        "contrast_limits": (-limit, limit),
        "gamma": 1.0,
        "blending": "translucent",
    }
    return (data, attributes, kind), left


def fitted(field: KernelField, source: Source) -> KernelField:
    """Return the field for an image: itself, or its only kernel all over an image of another size.

    Raises
    ------
    ValueError
        If it is for images of another size.
    """
    if field.shape == source.shape:
        return field
    if field.num_kernels == 1:
        elsewhere = {key: value for key, value in field.metadata.items() if key != SOURCE}
        return blurfield.KernelField.uniform(field.basis[0], source.shape, elsewhere)
    theirs, ours = (f"{height} × {width}" for height, width in (field.shape, source.shape))
    raise ValueError(
        f"the field of {source_name(field)!r} is for images of {theirs} pixels, but "
        f"{source.name!r} has {ours}; choose a field of the same size, or one with the same "
        "kernel everywhere"
    )


def reblur_source(
    source: Source,
    field: KernelField,
    *,
    progress: ProgressCallback,
    device: str = "auto",
    **options: Any,
) -> Outcome:
    """Blur a captured image with a field as a job."""
    started, used = time.monotonic(), loaded_device(device, progress)
    layer = reblurred_layer_data(source, field, device=device, progress=progress, **options)
    return Outcome([layer], f"Blurred in {time.monotonic() - started:.1f} s on {used}.")


def simulate_source(
    source: Source, *, progress: ProgressCallback, device: str = "auto", **options: Any
) -> Outcome:
    """Blur a captured image with a random field as a job."""
    started, used = time.monotonic(), loaded_device(device, progress)
    layers = simulated_layer_data(source, device=device, progress=progress, **options)
    field = layers[0][1]["metadata"][FIELD]
    extent = blurfield.blur_extent(field)
    return Outcome(
        layers,
        f"Blurred in {time.monotonic() - started:.1f} s on {used}: from {extent.min():.0f} to "
        f"{extent.max():.0f} px.",
    )


def residual_source(
    deblurred: Source,
    blurry: Source,
    field: KernelField,
    *,
    progress: ProgressCallback,
    device: str = "auto",
    **options: Any,
) -> Outcome:
    """Check a deblurred image against the blurry one as a job."""
    loaded_device(device, progress)
    layer, left = residual_layer_data(
        deblurred, blurry, field, device=device, progress=progress, **options
    )
    return Outcome(
        [layer],
        f"What is left: {left.rms:.3g} of {left.white:g} (RMS, white), reblur PSNR "
        f"{left.psnr:.1f} dB. Green: too bright once blurred again; pink: too dark.",
    )


def _as_source(source: Source, pixels: NDArray[Any], role: str) -> Source:
    """Return what a field is to tell of the layer that is made of it."""
    channels = source.axes.channels
    axes = Axes(() if channels is None else source.axes.leading[channels:])
    name = f"{source.name} {ROLES[role]}"
    return replace(
        source,
        name=name,
        layer_name=name,
        axes=axes,
        frame=(0,) * len(axes.frames),
        data=pixels,
        placement=source.result_placement,
        path=None,
        region=None,
        layer_id="",
        sample=sample_of(pixels),
    )


def _used(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options as they were used, without the callback of this run."""
    from blurfield.compute import choose_device

    return {**lasting(options), "device": str(choose_device(options.get("device", "auto")))}
