"""What stands in a viewer and where, and fields to put there."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Layer

from napari_blurfield import field_layers
from napari_blurfield.layers import role_of

SEVEN = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")

#: Corners of a rectangle of pixels, from (10, 20) up to (39, 50), to be drawn as a shape.
BOX = np.array([[10, 20], [10, 50], [39, 50], [39, 20]], float)

#: Mark of tests in which layers are added while a thread works, which also changes the filters of
#: warnings: what napari ignores for itself may then come through.
threads_at_work = pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB")


def quiet(done, total, message):
    pass


def assert_same_place(layer, source):
    assert layer.ndim == source.ndim
    for name in SEVEN:
        ours, theirs = getattr(layer, name), getattr(source, name)
        if name == "affine":
            ours, theirs = ours.affine_matrix, theirs.affine_matrix
        if name in ("units", "axis_labels"):
            assert ours == theirs
        else:
            np.testing.assert_allclose(ours, theirs, atol=1e-12, err_msg=name)


def roles(viewer):
    return [role_of(layer) for layer in viewer.layers]


def by_role(viewer):
    """The layers that the plugin made; of each role the last."""
    return {role_of(layer): layer for layer in viewer.layers if role_of(layer)}


def add_field(viewer, field, **options):
    for data, attributes, kind in field_layers(field, **options):
        viewer.add_layer(Layer.create(data, dict(attributes), kind))
