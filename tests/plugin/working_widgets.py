"""Widgets that run jobs on an image, and what they add to the viewer."""

from __future__ import annotations

from in_viewer import add_field, roles

from napari_blurfield.widgets import DeblurWidget, EstimateWidget, ReblurWidget

#: The widgets, and the layer each adds last.
WORKERS = {EstimateWidget: "vectors", DeblurWidget: "deblurred", ReblurWidget: "reblurred"}


def ready(cls, viewer, photograph, field):
    """Return a widget with an image and its field in the viewer, ready to run."""
    viewer.add_image(photograph, name="cells")
    add_field(viewer, field, kernels=False)
    viewer.layers.selection.active = viewer.layers["cells"]
    widget = cls(viewer)
    if cls is not EstimateWidget:
        widget.field.value = field
    return widget


def last_role(worker):
    return WORKERS[type(worker)]


def runs_again(worker, finish):
    """Run once more; return whether that added its layers, and nothing else did."""
    before = len(worker.viewer.layers)
    worker.run()
    finish(worker)
    return len(worker.viewer.layers) > before and roles(worker.viewer)[-1] == last_role(worker)


def started(worker, qtbot):
    worker.run()
    qtbot.waitUntil(lambda: worker.progress_bar.maximum() == 2, timeout=10_000)
    return worker.job
