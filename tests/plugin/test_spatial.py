"""Results lie where their source lies."""

from __future__ import annotations

import numpy as np
import pytest
from in_viewer import SEVEN, assert_same_place, quiet
from napari.layers import Image, Layer

from blurfield import KernelField
from napari_blurfield import deblur_layer, estimate_layers, field_layers, find_field, mask_layer
from napari_blurfield._spatial import Placement
from napari_blurfield.layers import role_of


def make(layers):
    """Return real layers by what they show."""
    made = [Layer.create(data, dict(attributes), kind) for data, attributes, kind in layers]
    return {role_of(layer): layer for layer in made}


@pytest.fixture
def source(photograph, placed):
    return Image(photograph, name="cells", **placed)


def test_all_seven_attributes_are_kept(source, quick):
    layers = make(estimate_layers(source, progress=quiet))
    for role in ("vectors", "mosaic", "mask"):
        assert_same_place(layers[role], source)
    sharp = Layer.create(*deblur_layer(source, layers["mask"], progress=quiet))
    assert_same_place(sharp, source)
    assert_same_place(Layer.create(*mask_layer(layers["vectors"])), source)


def test_uncertainty_lies_on_the_source(source, quick):
    field = find_field(Layer.create(*estimate_layers(source, progress=quiet)[-1]))
    uncertainty = np.zeros(field.shape, np.float32)
    known = KernelField(
        field.basis, field.mixing, field.shape, field.metadata, {"uncertainty": uncertainty}
    )
    assert_same_place(make(field_layers(known))["uncertainty"], source)


@pytest.mark.parametrize("attribute", SEVEN)
def test_each_attribute_alone(photograph, placed, quick, attribute):
    source = Image(photograph, **{attribute: placed[attribute]})
    for role, layer in make(estimate_layers(source, progress=quiet)).items():
        if role in ("vectors", "mosaic", "mask"):
            assert_same_place(layer, source)


def test_mixing_covers_the_source_with_half_pixel_centres(source, quick):
    mixing = make(estimate_layers(source, progress=quiet))["mixing"]
    height, width = source.data.shape
    h, w = mixing.data.shape[1:]
    for pixel in ([0, 0], [-0.5, -0.5], [height - 0.5, width - 0.5], [7.3, 20.1]):
        cell = mixing.world_to_data((0, *source.data_to_world(pixel)))[1:]
        expected = (np.array(pixel) + 0.5) * [h / height, w / width] - 0.5
        np.testing.assert_allclose(cell, expected, atol=1e-9)
    assert mixing.units[1:] == source.units
    assert mixing.axis_labels == ("kernel", "y", "x")


def test_basis_is_an_inset_within_the_source(source, quick):
    basis = make(estimate_layers(source, progress=quiet))["basis"]
    for corner in ([-0.5, -0.5], [8.5, 8.5]):
        pixel = source.world_to_data(basis.data_to_world((0, *corner))[1:])
        assert (pixel >= -0.5 - 1e-9).all()
        assert (pixel <= np.array(source.data.shape) / 2).all()


def test_vectors_stand_on_their_pixels(source, quick):
    vectors = make(estimate_layers(source, progress=quiet))["vectors"]
    middle = vectors.data[:, 0] + vectors.data[:, 1] / 2
    assert (middle >= 0).all()
    assert (middle < source.data.shape).all()
    right = middle[:, 1] > 40
    np.testing.assert_allclose(np.abs(vectors.data[right, 1, 0]), 0, atol=1e-4)
    assert (vectors.features["length"][right] > 6).all()
    np.testing.assert_allclose(vectors.features["length"][middle[:, 1] < 20], 1, atol=1e-3)


def test_a_frame_of_a_stack_loses_the_time_axis_only(quick):
    stack = np.zeros((5, 48, 64), np.uint16)
    stack[3] += np.arange(64, dtype=np.uint16)
    affine = np.eye(4)
    affine[1:, 1:] = [[1, 0.1, 3], [0, 1, 4], [0, 0, 1]]
    source = Image(
        stack,
        name="movie",
        scale=(2, 0.5, 0.25),
        translate=(100, 10, 20),
        rotate=[[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]],
        shear=[0, 0, 0.1],
        affine=affine,
        units=("s", "um", "um"),
        axis_labels=("t", "y", "x"),
    )
    layers = make(estimate_layers(source, frame=(3,), progress=quiet))
    assert np.array_equal(quick["estimate"][0], stack[3])
    mask = layers["mask"]
    assert mask.name == "movie [t 3] blur mask"
    assert mask.ndim == 2
    np.testing.assert_allclose(
        mask.data_to_world((5, 6)), source.data_to_world((3, 5, 6))[1:], atol=1e-9
    )
    assert mask.units == source.units[1:]
    assert mask.axis_labels == ("y", "x")
    # The kernels have an axis of their own and lie at their frame.
    mixing = layers["mixing"]
    assert mixing.data.shape[:2] == (2, 1)
    corner = mixing.data_to_world((0, 0, -0.5, -0.5))
    np.testing.assert_allclose(corner[1:], source.data_to_world((3, -0.5, -0.5)), atol=1e-9)


def test_placement_survives_json(source):
    placement = Placement.of_layer(source)
    again = Placement.from_json(placement.to_json())
    for name in SEVEN:
        np.testing.assert_array_equal(getattr(again, name), getattr(placement, name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": None}, "damaged"),
        ({"scale": [1.0, 1.0, 1.0]}, "3 axes"),
        ({"affine": [[1.0]]}, "2 axes"),
        ({"units": ["um"]}, "2 axes"),
        ({"translate": "here"}, "damaged"),
    ],
)
def test_damaged_placement_is_an_error(change, message):
    with pytest.raises(ValueError, match=message):
        Placement.from_json({**Placement.of_pixels().to_json(), **change})


def test_lower_triangular_shear(photograph):
    source = Image(photograph, shear=[[1, 0], [0.3, 1]])
    again = Image(photograph, **Placement.of_layer(source).to_layer())
    assert_same_place(again, source)


def test_a_field_from_elsewhere_lies_at_the_origin(field):
    mask = make(field_layers(field))["mask"]
    np.testing.assert_array_equal(mask.data_to_world((1, 2)), (1, 2))
    assert mask.name == "field blur mask"
