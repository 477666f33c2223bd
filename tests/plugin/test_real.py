"""The widgets with the real estimation and deconvolution, on small and on real work."""

from __future__ import annotations

import imageio.v3 as iio
import numpy as np
import pytest
from skimage.data import camera

import blurfield
from napari_blurfield import deblur_layer, estimate_layers, find_field
from napari_blurfield.layers import FACTS, role_of
from napari_blurfield.widgets import DeblurWidget, EstimateWidget, MaskWidget


@pytest.fixture(scope="module")
def blurry():
    """An 8-bit grey photograph blurred by a straight motion, and its true field."""
    return blurfield.simulate(camera()[80:240, 140:300], kind="linear", seed=3, max_extent=9)


def test_from_the_blurry_to_the_sharp_image(blurry, viewer, qtbot, finish, notes):
    image, _ = blurry
    source = viewer.add_image(image, name="camera", scale=(0.5, 0.5), units=("um", "um"))
    estimate, deblur = EstimateWidget(viewer), DeblurWidget(viewer)
    for widget in (estimate, deblur):
        qtbot.addWidget(widget)
    estimate.largest.setValue(15)
    estimate.run()
    finish(estimate)
    assert [role_of(layer) for layer in viewer.layers][-1] == "vectors"
    deblur.run()
    finish(deblur)
    sharp = viewer.layers["camera deblurred"]
    assert sharp.data.dtype == np.uint8
    assert sharp.data.shape == image.shape
    assert sharp.units == source.units
    assert np.std(np.diff(sharp.data.astype(float))) > np.std(np.diff(image.astype(float)))
    facts = sharp.metadata[FACTS]["parameters"]
    assert facts["method"] == "richardson-lucy"
    assert facts["gamma"] == find_field(viewer.layers[-2]).metadata["gamma"] == 2.2
    assert not notes


def test_the_same_from_a_script(blurry, viewer):
    image, truth = blurry
    layer = viewer.add_image(image)
    layers = estimate_layers(layer, kernel_size=15, kernels=False)
    assert [kind for _, _, kind in layers] == ["image", "labels", "vectors"]
    sharp, attributes, kind = deblur_layer(layer, truth, iterations=5)
    assert kind == "image"
    assert sharp.shape == image.shape
    assert attributes["rgb"] is False


@pytest.mark.parametrize("what", ["tiny", "nan", "wrong field"])
def test_bad_input_is_explained(what, blurry, viewer, qtbot, finish, notes):
    bad = np.full((160, 160), np.nan) if what == "nan" else np.zeros((10, 10))
    viewer.add_image(bad, name="bad", contrast_limits=(0, 1))
    widget = EstimateWidget(viewer)
    qtbot.addWidget(widget)
    if what == "wrong field":
        with pytest.raises(ValueError, match="160×160"):
            deblur_layer(viewer.layers[0], blurry[1])
        return
    widget.run()
    finish(widget)
    (note,) = notes
    assert ("32" if what == "tiny" else "NaN") in note.message
    assert "\n" not in note.message
    assert len(viewer.layers) == 1


PHOTOGRAPHS = [
    *("cuhk/motion0065.png", "cuhk/motion0084.png", "kohler/Blurry2_1.png", "lai/building1.jpg"),
    *("lai/coke.jpg", "gopro/Istanbul_blur1.png", "official/0316.png", "levin/im1_kernel4.png"),
    "micro/mbm_car_t.png",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_of_moving_things(name, shared, viewer, qtbot, finish, notes):
    """Parts of real photographs, some in colour, go through all widgets without a warning."""
    image = iio.imread(shared / "data" / "test" / name)
    y, x = image.shape[0] // 2 - 64, image.shape[1] // 2 - 64
    part = image[y : y + 128, x : x + 128]
    viewer.add_image(part.copy(), name="photograph", rgb=part.ndim == 3)
    estimate, mask, deblur = (kind(viewer) for kind in (EstimateWidget, MaskWidget, DeblurWidget))
    for widget in (estimate, mask, deblur):
        qtbot.addWidget(widget)
    estimate.largest.setValue(15)
    for widget in (estimate, mask, deblur):
        widget.run()
        finish(widget)
    assert not notes
    assert viewer.layers["photograph deblurred"].data.shape == part.shape
    np.testing.assert_array_equal(viewer.layers["photograph"].data, part)
