"""Fields as layers: what they show, what they remember, how they are called."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from napari.layers import Image, Labels, Layer, Points

from blurfield import KernelField
from napari_blurfield import deblur_layer, estimate_layers, field_layers, find_field, mask_layer
from napari_blurfield.layers import FACTS, field_id, fields_in, role_of, source_of


def quiet(done, total, message):
    pass


def add_all(viewer, layers):
    made = [Layer.create(data, dict(attributes), kind) for data, attributes, kind in layers]
    for layer in made:
        viewer.add_layer(layer)
    return {role_of(layer): layer for layer in made}


@pytest.fixture
def layers(viewer, field):
    return add_all(viewer, field_layers(field, name="cells"))


def test_roles_names_and_visibility(layers):
    assert {role: layer.name for role, layer in layers.items()} == {
        "basis": "cells basis kernels",
        "mixing": "cells kernel weights",
        "mosaic": "cells blur kernels",
        "mask": "cells blur mask",
        "vectors": "cells blur vectors",
    }
    assert [role for role, layer in layers.items() if layer.visible] == ["vectors"]


def test_every_layer_finds_the_field_again(layers, field):
    for layer in layers.values():
        layer.name = "renamed"
        assert find_field(layer) is field
        json.dumps(layer.metadata[FACTS], allow_nan=False)
        assert layer.metadata[FACTS]["field"] == field_id(field)


def test_a_copy_of_a_layer_finds_an_equal_field(layers, field):
    data, attributes, kind = copy.deepcopy(layers["vectors"].as_layer_data_tuple())
    assert field_id(find_field(Layer.create(data, attributes, kind))) == field_id(field)


def test_field_id_depends_on_everything(field):
    others = [
        field.with_mixing(field.mixing.flip(0)),
        KernelField(field.basis.flip(0), field.mixing, field.shape),
        KernelField(field.basis, field.mixing, (48, 63)),
    ]
    assert len({field_id(f) for f in [field, *others]}) == 4
    assert field_id(field.with_metadata(note="same kernels")) == field_id(field)


def test_no_field_in_other_layers(photograph):
    assert find_field(None) is None
    assert find_field(Image(photograph)) is None
    assert role_of(Image(photograph, metadata={"blurfield": "mine"})) is None


def test_shown_data(layers, field):
    assert layers["mixing"].data.shape == (2, 4, 8)
    assert layers["basis"].data.shape == (2, 9, 9)
    assert layers["mosaic"].rgb
    assert layers["mosaic"].data.shape == (*field.shape, 4)
    assert layers["mask"].data.dtype == np.uint8
    vectors = layers["vectors"]
    assert vectors.edge_color_mode == "colormap"
    assert vectors.vector_style == "line"
    assert list(vectors.features)[:2] == ["length", "angle"]
    blurred = vectors.features["length"] > 8
    angle = vectors.features["angle"][blurred]
    assert np.minimum(angle, 180 - angle).max() < 1


def test_large_mosaics_can_be_seen_from_afar(field):
    large = KernelField(field.basis, field.mixing, (700, 600))
    data, attributes, kind = next(
        x for x in field_layers(large, kernels=False) if x[1]["metadata"][FACTS]["role"] == "mosaic"
    )
    layer = Layer.create(data, attributes, kind)
    assert layer.multiscale
    assert [level.shape for level in layer.data] == [(700, 600, 4), (350, 300, 4)]
    np.testing.assert_allclose(layer.data_to_world((699.5, 599.5)), (699.5, 599.5))
    alone = field_layers(large, kernels=False, pyramids=False)
    assert alone[0][0].shape == (700, 600, 4)


def test_colours_of_vectors_tell_their_length(layers):
    vectors = layers["vectors"]
    colours = vectors.edge_color[:, :3]
    shortest, longest = np.argsort(np.asarray(vectors.features["length"]))[[0, -1]]
    light = colours @ [0.2126, 0.7152, 0.0722]
    assert light[shortest] < light[longest]
    assert light.min() > 0.2  # not lost on black


def test_basis_shows_point_spread_functions():
    kernel = np.zeros((3, 3), np.float32)
    kernel[0, 2] = 1
    field = KernelField.uniform(kernel, (30, 30))
    (basis,) = (data for data, a, _ in field_layers(field) if a["name"].endswith("basis kernels"))
    assert basis[0, 2, 0] == 1


def test_of_a_dense_field_an_approximation_is_shown_kernel_by_kernel(viewer):
    basis = np.eye(81, dtype=np.float32).reshape(81, 9, 9)
    kernels = np.random.default_rng(0).dirichlet(np.ones(81), 2).astype(np.float32)
    share = np.linspace(0, 1, 20, dtype=np.float32)
    mixing = kernels[0][:, None] * share + kernels[1][:, None] * (1 - share)
    field = KernelField(basis, np.repeat(mixing[:, None], 20, 1))
    calls = []
    layers = add_all(viewer, field_layers(field, progress=lambda *call: calls.append(call)))
    assert layers["mixing"].data.shape[1:] == (20, 20)
    assert len(layers["mixing"].data) == len(layers["basis"].data) <= 25
    again = np.tensordot(layers["mixing"].data, layers["basis"].data[:, ::-1, ::-1], (0, 0))
    np.testing.assert_allclose(again[:, :, 4, 4], mixing.T[None, :, 40].repeat(20, 0), atol=1e-3)
    approximation = layers["basis"].metadata[FACTS]["approximation"]
    assert approximation["kernels_before"] == 81
    assert 0 <= approximation["relative_error"] < 0.05
    assert calls
    # All layers stand for the field itself.
    assert all(find_field(layer) is field for layer in layers.values())
    assert len(field_layers(field, kernels=False)) == 3


def test_uncertainty_is_a_layer_of_its_own(viewer, field):
    values = np.linspace(0.1, 0.9, 12, dtype=np.float32).reshape(3, 4)
    known = KernelField(
        field.basis, field.mixing, field.shape, maps={"uncertainty": values, "kernel_sum": values}
    )
    layers = add_all(viewer, field_layers(known, name="cells"))
    assert list(layers) == ["mixing", "basis", "uncertainty", "mosaic", "mask", "vectors"]
    layer = layers["uncertainty"]
    assert layer.name == "cells kernel uncertainty"
    np.testing.assert_array_equal(layer.data, values)
    assert layer.contrast_limits == [0, 1]
    assert not layer.visible
    # It covers the image of 48×64 pixels.
    np.testing.assert_allclose(layer.data_to_world((-0.5, -0.5)), (-0.5, -0.5))
    np.testing.assert_allclose(layer.data_to_world((2.5, 3.5)), (47.5, 63.5))
    assert find_field(layer) is known
    assert fields_in(viewer.layers) == [known]


def test_kernels_can_be_left_out(field):
    assert len(field_layers(field, kernels=False)) == 3


@pytest.mark.parametrize(("threshold", "blurry"), [(0.25, 0), (0.5, 0.5)])
def test_mask_follows_the_threshold(field, threshold, blurry):
    data, attributes, kind = mask_layer(field, threshold=threshold)
    assert kind == "labels"
    assert abs(data.mean() - blurry) < 0.05
    assert attributes["metadata"][FACTS]["threshold"] == threshold
    assert isinstance(Layer.create(data, attributes, kind), Labels)


def test_fields_in_a_viewer_are_listed_once_newest_first(viewer, field, layers):
    other = field.with_metadata(napari={"layer": "cells", "frame": [2]})
    add_all(viewer, field_layers(other, kernels=False))
    assert [
        f is known for f, known in zip(fields_in(viewer.layers), [other, field], strict=True)
    ] == [True] * 2
    assert (source_of(other).name, source_of(other).frame) == ("cells", (2,))
    assert source_of(field).name == ""


def test_estimated_from_each_kind_of_image(quick, photograph):
    grey = Image(photograph, name="grey")
    colour = Image(np.repeat(photograph[..., None], 3, -1), rgb=True)
    with_alpha = Image(np.repeat(photograph[..., None], 4, -1), rgb=True)
    for layer in (grey, colour, with_alpha):
        estimate_layers(layer, progress=quiet)
        assert quick["estimate"][0].shape == layer.data.shape
        assert not np.shares_memory(quick["estimate"][0], layer.data)


def test_a_grey_image_of_three_columns_is_not_taken_for_colours(quick):
    layer = Image(np.zeros((5, 48, 64)), rgb=False)
    narrow = Image(np.zeros((40, 3)), rgb=False)
    data, attributes, _ = deblur_layer(narrow, any_field((40, 3)), progress=quiet)
    assert attributes["rgb"] is False
    assert Layer.create(data, attributes, "image").ndim == 2
    with pytest.raises(ValueError, match=r"stack of shape \(5,\)"):
        estimate_layers(layer)


def any_field(shape):
    return KernelField.uniform(np.ones((1, 1), np.float32), shape)


def test_lazy_data_are_computed_for_one_frame_only(quick, photograph):
    dask = pytest.importorskip("dask.array")
    computed = []

    def load(block, block_info=None):
        computed.append(block_info[0]["chunk-location"][0])
        return block

    stack = dask.from_array(np.stack([photograph] * 6), chunks=(1, -1, -1))
    layer = Image(stack.map_blocks(load, dtype=stack.dtype), contrast_limits=(0, 255))
    computed.clear()
    estimate_layers(layer, frame=[2], progress=quiet)
    assert computed == [2]
    assert isinstance(quick["estimate"][0], np.ndarray)


def test_multiscale_uses_the_full_resolution(quick, photograph):
    layer = Image([photograph, photograph[::2, ::2]], multiscale=True, name="pyramid")
    layers = {a["name"]: d for d, a, _ in estimate_layers(layer, progress=quiet)}
    assert quick["estimate"][0].shape == photograph.shape
    assert layers["pyramid blur mask"].shape == photograph.shape


def test_deblurred_looks_like_its_source(quick, field, photograph):
    source = Image(
        photograph, name="cells", contrast_limits=(30, 180), colormap="magma", gamma=0.8,
        blending="additive",
    )  # fmt: skip
    result = Layer.create(*deblur_layer(source, field, method="m", strength=0.25, progress=quiet))
    assert result.name == "cells deblurred"
    assert result.contrast_limits == source.contrast_limits
    assert result.colormap.name == "magma"
    assert result.gamma == 0.8
    assert result.blending == "additive"
    assert result.data.dtype == np.uint8
    facts = result.metadata[FACTS]
    assert facts["role"] == "deblurred"
    assert facts["parameters"] == {
        "method": "quick",
        "variant": None,
        "options": {"strength": 0.25},
    }
    json.dumps(facts, allow_nan=False)
    assert quick["deblur"][1] is field


def test_only_images_can_be_estimated(field):
    with pytest.raises(TypeError, match="'dots', which is a Points layer"):
        estimate_layers(Points(np.zeros((1, 2)), name="dots"))
    with pytest.raises(TypeError, match="NoneType"):
        estimate_layers(None)


@pytest.mark.parametrize("frame", [(5,), (0, 0), (-6,), ()])
def test_frames_outside_the_stack(frame):
    with pytest.raises(ValueError, match="stack of shape"):
        estimate_layers(Image(np.zeros((5, 48, 64))), frame=frame)


def test_a_layer_without_field_cannot_deblur(photograph):
    layer = Image(photograph, name="plain")
    with pytest.raises(ValueError, match="'plain' holds no blur field"):
        deblur_layer(layer, layer)


@pytest.mark.parametrize("wrong", [7, np.ones((3, 3))])
def test_what_is_no_field_cannot_deblur(photograph, wrong):
    with pytest.raises(TypeError, match=r"a \.blurfield file; got (int|ndarray)"):
        deblur_layer(Image(photograph, name="plain"), wrong)
