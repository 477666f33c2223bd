"""What stands in a viewer, and fields to put there."""

from __future__ import annotations

from napari.layers import Layer

from napari_blurfield import field_layers
from napari_blurfield.layers import role_of


def roles(viewer):
    return [role_of(layer) for layer in viewer.layers]


def add_field(viewer, field, **options):
    for data, attributes, kind in field_layers(field, **options):
        viewer.add_layer(Layer.create(data, dict(attributes), kind))
