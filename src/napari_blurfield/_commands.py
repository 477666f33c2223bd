"""Commands on the active layer: the widgets' jobs with their defaults, without a widget."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from ._lifetime import behind_proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import napari.viewer
    from napari.layers import Layer

    from blurfield import KernelField

    from ._jobs import Job
    from .layers import LayerData

# napari passes the viewer to parameters annotated exactly as ``napari.viewer.Viewer``.


def estimate_active(viewer: napari.viewer.Viewer) -> Job | None:
    """Estimate the blur field of the active image and add its layers."""
    from ._settings import defaults
    from ._source import Source
    from ._tasks import estimate_source

    viewer = behind_proxy(viewer)
    with _explaining():
        source = Source.shown(_active(viewer), viewer.dims)
        start = defaults()
        job = partial(estimate_source, source, model=start.model, device=start.device)
        return _start(viewer, job, f"Estimating the blur of {source.name}")
    return None


def deblur_active(viewer: napari.viewer.Viewer) -> Job | None:
    """Deblur the active image with its blur field, which is estimated first if there is none."""
    from ._settings import defaults
    from ._source import Source
    from ._tasks import deblur_source
    from .layers import fields_in, source_of, stacks_in

    viewer = behind_proxy(viewer)
    with _explaining():
        source = Source.shown(_active(viewer), viewer.dims)
        shown = (stack.shown(viewer.dims) for stack in stacks_in(viewer.layers))
        fields = [*fields_in(viewer.layers), *(field for field in shown if field is not None)]
        field = next((f for f in fields if source_of(f).is_same_image(source.identity)), None)
        start = defaults()
        options: dict[str, Any] = {
            "method": start.method,
            "device": start.device,
            "memory": start.memory or "auto",
        }
        job = partial(deblur_source, source, field, **options)
        return _start(viewer, job, f"Deblurring {source.name}")
    return None


def mask_active(viewer: napari.viewer.Viewer) -> None:
    """Add the blur mask of the field that the active layer belongs to."""
    from .functions import mask_layer

    viewer = behind_proxy(viewer)
    with _explaining():
        _add(viewer, [mask_layer(_active_field(viewer))])


def show_field(viewer: napari.viewer.Viewer) -> None:
    """Add again the layers that show the field of the active layer."""
    from .layers import field_layers

    viewer = behind_proxy(viewer)
    with _explaining():
        _add(viewer, field_layers(_active_field(viewer)))


def copy_as_python(viewer: napari.viewer.Viewer) -> None:
    """Copy a script that makes the active layer again, outside napari."""
    viewer = behind_proxy(viewer)
    with _explaining():
        copy_script(_active(viewer))


def restore_active(viewer: napari.viewer.Viewer) -> None:
    """Give the active layer back what napari's own reader left in its TIFF file."""
    from ._image_files import restore

    viewer = behind_proxy(viewer)
    with _explaining():
        restore(_active(viewer))


def open_images(viewer: napari.viewer.Viewer) -> None:
    """Ask for TIFF files that the plugin saved, and open them as the layers that they were."""
    from qtpy.QtWidgets import QFileDialog

    from ._image_files import read_images

    viewer = behind_proxy(viewer)
    paths, _ = QFileDialog.getOpenFileNames(
        None, "Open images saved by Blurfield", "", "Images of Blurfield (*.tif *.tiff)"
    )
    with _explaining():
        _add(viewer, read_images(paths))


def copy_script(layer: Layer) -> None:
    """Put a script that makes a layer again on the clipboard.

    Raises
    ------
    ValueError
        If the layer does not tell how it was made.
    """
    from napari.utils.notifications import show_info
    from qtpy.QtGui import QGuiApplication

    from ._provenance import as_python

    script = as_python(layer)
    clipboard = QGuiApplication.clipboard()
    if clipboard is None:
        raise ValueError("there is no clipboard to copy the script to")
    clipboard.setText(script)
    show_info(f"A Python script that makes {layer.name!r} is on the clipboard.")


def _active(viewer: napari.viewer.Viewer) -> Layer:
    layer = viewer.layers.selection.active
    if layer is None:
        raise ValueError("select one layer first")
    return layer


def _active_field(viewer: napari.viewer.Viewer) -> KernelField:
    """Return the field of the active layer: of a stack, that of the frame shown."""
    from .functions import as_field
    from .layers import shown_field

    layer = _active(viewer)
    return shown_field(layer, viewer.dims) or as_field(layer)


def _start(viewer: napari.viewer.Viewer, function: Callable[..., Any], description: str) -> Job:
    from ._jobs import Job

    job = Job(function, description)
    job.succeeded.connect(lambda outcome: _add(viewer, outcome.layers))
    job.again.connect(partial(_start, viewer))
    return job.start()


def _add(viewer: napari.viewer.Viewer, layers: list[LayerData]) -> None:
    from napari.layers import Layer

    from ._scales import show_scale

    active = viewer.layers.selection.active
    for layer in [Layer.create(data, dict(attributes), kind) for data, attributes, kind in layers]:
        viewer.add_layer(layer)
        show_scale(layer)
    if active in viewer.layers:
        viewer.layers.selection.active = active


@contextmanager
def _explaining() -> Iterator[None]:
    """Say in words why something cannot be done."""
    from napari.utils.notifications import show_error

    from ._jobs import explain

    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        show_error(explain(error))
