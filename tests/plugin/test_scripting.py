"""Functions for scripts: frames, axes and regions of layers, without a window."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image, Labels, Layer, Shapes

from blurfield.series import Series
from napari_blurfield import deblur_layer, estimate_layers, find_field
from napari_blurfield.layers import role_of


def make(layers):
    return {role_of(layer): layer for layer in (Layer.create(*data) for data in layers)}


@pytest.fixture
def movie():
    rng = np.random.default_rng(0)
    return Image(
        rng.integers(0, 999, (3, 48, 64)).astype(np.uint16),
        name="movie",
        axis_labels=("t", "y", "x"),
    )


def test_several_frames(movie, quick, tmp_path):
    made = make(estimate_layers(movie, frames="all", folder=tmp_path / "fields"))
    assert set(made) == {"mixing", "basis", "mosaic", "mask", "vectors"}
    assert made["mosaic"].data.shape == (3, 48, 64, 4)
    assert find_field(made["mask"], (2,)) is not None
    sharp = Layer.create(
        *deblur_layer(movie, made["mask"], frames=[0, 2], folder=tmp_path / "sharp", strength=0.7)
    )
    assert role_of(sharp) == "deblurred"
    values = np.asarray(sharp.data)
    np.testing.assert_array_equal(values[[0, 2]], movie.data[[0, 2]])
    assert not values[1].any()
    assert Series.open(tmp_path / "sharp").record.deblur["strength"] == 0.7
    again = Layer.create(
        *deblur_layer(movie, made["vectors"], frame=(1,), progress=lambda *_: None)
    )
    assert again.name == "movie [t 1] deblurred"


def test_several_frames_with_one_field(movie, quick, field, tmp_path):
    for number, options in enumerate([{"field": field}, {"shared": True}]):
        deblur_layer(movie, frames="all", folder=tmp_path / str(number), **options)
    np.testing.assert_array_equal(Series.open(tmp_path / "0").field(1).basis, field.basis)
    assert Series.open(tmp_path / "1").record.shared


def test_fields_of_a_stack_need_a_frame(movie, quick, tmp_path):
    made = make(estimate_layers(movie, frames=[0], folder=tmp_path))
    flat = Image(movie.data[0])
    with pytest.raises(ValueError, match="say which frame"):
        deblur_layer(flat, made["mask"])
    with pytest.raises(ValueError, match=r"no blur field for frame \(2,\)"):
        deblur_layer(movie, made["mask"], frame=(2,))


@pytest.mark.parametrize("frames", [[3], [-1], [], "some"])
def test_frames_that_are_not_there(frames, movie):
    with pytest.raises(ValueError, match="frame"):
        estimate_layers(movie, frames=frames)


def test_axes_can_be_said(movie, quick):
    made = estimate_layers(movie, axes=["channels"], progress=lambda *_: None)
    assert quick["estimate"][0].shape == (3, 48, 64)
    assert quick["estimate"][1]["channel_axis"] == 0
    sharp, attributes, _ = deblur_layer(
        movie, Layer.create(*made[-1]), axes=["channels"], progress=lambda *_: None
    )
    assert sharp.shape == (3, 48, 64)
    assert attributes["axis_labels"] == ("t", "y", "x")


def test_regions(photograph, quick):
    image = Image(photograph, name="cells")
    box = np.array([[5, 10], [5, 50], [40, 50], [40, 10]])
    part = Shapes([box], name="part")
    layers = estimate_layers(image, region=part, progress=lambda *_: None)
    assert quick["estimate"][0].shape == (36, 41)
    assert layers[-1][1]["name"] == "cells [part] blur vectors"
    mark = np.zeros((48, 64), np.uint8)
    mark[5:41, 10:51] = 1
    sharp, attributes, _ = deblur_layer(
        image, Layer.create(*layers[0]), region=Labels(mark), progress=lambda *_: None
    )
    assert sharp.shape == photograph.shape
    assert attributes["name"] == "cells deblurred"


def test_without_a_field_it_is_estimated(photograph, quick):
    deblur_layer(Image(photograph), progress=lambda *_: None)
    assert "estimate" in quick
