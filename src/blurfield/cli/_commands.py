"""What each command does: check, read, call the library, write, report.

What takes long to import is imported after the checks, so that mistakes are answered at once.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._outputs import check_output

if TYPE_CHECKING:
    import argparse

    import numpy as np

    from blurfield.field import KernelField

    from ._console import Console

#: Extension of kernel fields.
FIELD = ".blurfield"

#: Kinds of file that hold the float values of a blur map.
MAPS = frozenset({".npy", ".tif", ".tiff"})


def estimate(options: argparse.Namespace, console: Console) -> None:
    """Estimate the field of an image."""
    from blurfield.files import read_image

    output = check_output(options.output, {FIELD}, [options.image])
    image = read_image(options.image)
    field, seconds = estimate_field(image, options, console)
    source = {**field.metadata.get("source", {}), "name": Path(options.image).name}
    field = field.with_metadata(source=source)
    field.save(output)
    figures = {"image": options.image, "output": output, "seconds": seconds, **describe(field)}
    console.result(f"{output}: {_sentence(figures)}", figures)


def deblur(options: argparse.Namespace, console: Console) -> None:
    """Deblur an image with a given or an estimated field."""
    from blurfield.files import IMAGE_SUFFIXES, read_image, write_image

    output = check_output(options.output, IMAGE_SUFFIXES, [options.image, options.field])
    image = read_image(options.image)

    from blurfield.restoration import deblur

    settings = deblurring_settings(options)  # what is wrong shows before the estimation
    field, seconds = _given_or_estimated_field(image, options, console)
    start = time.perf_counter()
    with console.progress() as progress:
        sharp, info = deblur(image, field, progress=progress, return_info=True, **settings)
    figures = {
        "image": options.image,
        "field": options.field,
        "output": output,
        "method": info["method"],
        "variant": info["variant"],
        "estimate_seconds": seconds,
        "deblur_seconds": time.perf_counter() - start,
        **describe(field),
    }
    write_image(output, sharp)
    console.result(f"{output}: deblurred in {figures['deblur_seconds']:.1f} s", figures)


def mask(options: argparse.Namespace, console: Console) -> None:
    """Write where an image is blurred."""
    import numpy as np

    from blurfield.files import IMAGE_SUFFIXES, read_image, write_image

    suffixes = MAPS if options.map else IMAGE_SUFFIXES
    output = check_output(options.output, suffixes, [options.source])
    seconds = None
    if Path(options.source).suffix.lower() == FIELD:
        field = _load_field(options.source)
    else:
        field, seconds = estimate_field(read_image(options.source), options, console)

    from blurfield.measure import blur_map, blur_mask

    rule = {"min_extent": options.min_extent, "min_area": options.min_area}
    blurred = blur_mask(field, threshold=options.threshold, **rule)
    picture: np.ndarray[Any, Any] = blurred.astype(np.uint8) * 255
    figures = {
        "source": options.source,
        "output": output,
        "threshold": options.threshold,
        **rule,
        "estimate_seconds": seconds,
        **describe(field),
        "blurred_fraction": float(blurred.mean()),
    }
    if options.map:
        picture = blur_map(field, threshold=options.threshold)
    elif options.regions:
        from blurfield.similar_motion import motion_regions

        picture = motion_regions(field, blurred, min_area=options.min_area).astype(np.uint16)
        figures["regions"] = int(picture.max())
    write_image(output, picture)
    console.result(
        f"{output}: {figures['blurred_fraction']:.0%} of the pixels are blurred", figures
    )


def reblur(options: argparse.Namespace, console: Console) -> None:
    """Blur an image with a field."""
    from blurfield.files import IMAGE_SUFFIXES, read_image, write_image

    output = check_output(options.output, IMAGE_SUFFIXES, [options.image, options.field])
    image = read_image(options.image)
    field = _load_field(options.field, image.shape)

    from blurfield.restoration import reblur

    start = time.perf_counter()
    with console.progress() as progress:
        blurry = reblur(image, field, gamma=options.gamma, device=options.device, progress=progress)
    figures = {
        "image": options.image,
        "field": options.field,
        "output": output,
        "seconds": time.perf_counter() - start,
        **describe(field),
    }
    write_image(output, blurry)
    console.result(f"{output}: blurred by {options.field}", figures)


def simulate(options: argparse.Namespace, console: Console) -> None:
    """Blur an image with a random field that is known."""
    from blurfield.files import IMAGE_SUFFIXES, read_image, write_image

    output = check_output(options.output, IMAGE_SUFFIXES, [options.image])
    truth = options.truth and check_output(options.truth, {FIELD}, [options.image])
    image = read_image(options.image)

    from blurfield.simulation import simulate

    start = time.perf_counter()
    blurry, field = simulate(
        image,
        kind=options.kind,
        seed=options.seed,
        noise=options.noise,
        max_extent=options.max_extent,
        gamma=options.gamma,
        device=options.device,
    )
    figures = {
        "image": options.image,
        "output": output,
        "truth": truth,
        "seed": options.seed,
        "kind": options.kind,
        "seconds": time.perf_counter() - start,
        **describe(field),
    }
    if truth:
        field.save(truth)
    write_image(output, blurry)
    console.result(f"{output}: blurred with {_sentence(figures)}", figures)


def show(options: argparse.Namespace, console: Console) -> None:
    """Write a picture of a field's kernels."""
    from blurfield.files import IMAGE_SUFFIXES, read_image, write_image

    output = check_output(options.output, IMAGE_SUFFIXES, [options.field, options.image])
    field = _load_field(options.field)

    from blurfield.measure import kernel_mosaic

    image = read_image(options.image) if options.image else None
    mosaic = kernel_mosaic(field, image=image, spacing=options.spacing)
    if image is None:  # transparent where there is no light: put it on white paper
        mosaic = 1 - mosaic[..., 3:] * (1 - mosaic[..., :3])
    figures = {"field": options.field, "output": output, **describe(field)}
    write_image(output, mosaic)
    console.result(f"{output}: kernels of {options.field}", figures)


def demo(options: argparse.Namespace, console: Console) -> None:
    """Run the demo and say where its results are."""
    from blurfield.demo import open_in_napari, run_demo, summary

    with console.progress() as progress:
        figures = run_demo(
            options.out,
            seed=options.seed,
            size=options.size,
            device=options.device,
            progress=progress,
        )
    console.result(summary(figures), figures)
    if options.view:
        reason = open_in_napari(figures)
        if reason:
            console.note(f"cannot open the results: {reason}")


def describe(field: KernelField) -> dict[str, Any]:
    """Return what there is to say about a field, for machines."""
    import numpy as np

    from blurfield.measure import blur_extent

    extent = blur_extent(field)
    return {
        "shape": list(field.shape),
        "kernel_size": field.kernel_size,
        "num_kernels": field.num_kernels,
        "median_extent": float(np.median(extent)),
        "largest_extent": float(extent.max()),
        "metadata": field.metadata,
    }


def _sentence(figures: dict[str, Any]) -> str:
    """Say what `describe` says, for people."""
    return (
        f"{figures['num_kernels']} kernels of {figures['kernel_size']}×{figures['kernel_size']}, "
        f"blur of {figures['median_extent']:.1f} px (at most {figures['largest_extent']:.1f} px), "
        f"{figures['seconds']:.1f} s"
    )


def estimate_field(
    image: np.ndarray[Any, Any],
    options: argparse.Namespace,
    console: Console,
    channel_axis: int | None = None,
) -> tuple[KernelField, float]:
    """Estimate a field as the options say; returns the seconds, too."""
    from blurfield.estimation import estimate

    start = time.perf_counter()
    with console.progress() as progress:
        settings = estimation_settings(options)
        field = estimate(image, progress=progress, channel_axis=channel_axis, **settings)
    return field, time.perf_counter() - start


def estimation_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `blurfield.estimate` that the options say."""
    return {
        "model": options.model,
        "gamma": options.gamma,
        "device": options.device,
        "refine": options.refine,
        **_given({"kernel_size": options.kernel_size, "checkpoint": options.weights}),
    }


def deblurring_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `blurfield.deblur` that the options say, after a look at whether they fit.

    Where the method wants the fields of a certain model and none was asked for, the options get it.
    """
    from blurfield.restoration import METHODS, choose_method

    chosen = _given({name: getattr(options, name) for name in ("variant", "noise", "iterations")})
    choose_method(options.method, chosen)
    if options.model == "auto" and options.method in METHODS:
        options.model = METHODS[options.method].model
    chosen |= _given({"strength": options.strength})
    if options.memory is not None:
        chosen["memory"] = int(options.memory * 1e9)
    return {
        "method": options.method,
        "gamma": options.gamma,
        "device": options.device,
        **chosen,
    }


def _given_or_estimated_field(
    image: np.ndarray[Any, Any], options: argparse.Namespace, console: Console
) -> tuple[KernelField, float | None]:
    if options.field is None:
        return estimate_field(image, options, console)
    return _load_field(options.field, image.shape), None


def _load_field(path: str, shape: tuple[int, ...] = ()) -> KernelField:
    """Read a field, or a single kernel that holds for a whole image of `shape`."""
    from blurfield.storage import import_kernels, load_field

    if Path(path).suffix.lower() == FIELD or not shape:
        return load_field(path)
    return import_kernels(path, (shape[0], shape[1]))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given: the library knows the defaults of the others."""
    return {name: value for name, value in options.items() if value is not None}
