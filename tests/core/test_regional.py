"""Deblurring of a part of an image."""

from __future__ import annotations

import numpy as np
import pytest

import blurfield
from blurfield import KernelField
from blurfield.regional import blend_part, deblur_part, soft_weights


@pytest.fixture(scope="module")
def scene():
    """A blurry image of noise and edges, and its true field."""
    rng = np.random.default_rng(0)
    sharp = np.kron(rng.random((12, 16)), np.ones((8, 8))).astype(np.float32)
    return blurfield.simulate(sharp, kind="linear", max_extent=9, noise=0, seed=2)


def test_weights_rise_within_the_mask():
    weights = soft_weights(np.ones((40, 60), bool), 6)
    assert weights.shape == (40, 60)
    assert (np.diff(weights[20, :8]) > 0).sum() == 6
    assert 0 < weights[20, 0] < 0.1
    assert (weights[7:-7, 7:-7] == 1).all()
    np.testing.assert_allclose(weights, weights[::-1, ::-1])


def test_no_border_along_the_edges_of_the_image():
    weights = soft_weights(np.ones((40, 60), bool), 6, (False, True, False, True))
    assert weights[0, 0] == 1
    assert weights[-1, 0] < 0.1
    assert (soft_weights(np.ones((40, 60), bool), 6, (False,) * 4) == 1).all()


def test_weights_of_a_mask():
    mask = np.zeros((40, 40), bool)
    mask[10:30, 10:30] = True
    weights = soft_weights(mask, 4)
    assert (weights[~mask] == 0).all()
    assert (weights[mask] > 0).all()
    assert weights[20, 20] == 1


def test_a_border_leaves_a_small_part_its_middle():
    assert soft_weights(np.ones((8, 8), bool), 100)[4, 4] == 1


@pytest.mark.parametrize(
    ("mask", "border", "message"),
    [(np.zeros((4, 4), bool), 1, "empty"), (np.ones((4, 4), bool), -1, "border")],
)
def test_bad_weights(mask, border, message):
    with pytest.raises(ValueError, match=message):
        soft_weights(mask, border)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, bool])
@pytest.mark.parametrize(
    ("shape", "axis"), [((30, 40), None), ((30, 40, 4), None), ((2, 30, 40), 0)]
)
def test_blending_changes_nothing_outside(shape, axis, dtype):
    image = np.random.default_rng(1).integers(0, 200, shape).astype(dtype)
    before = image.copy()
    size = [10, 12]
    if len(shape) == 3:
        size.insert(2 if axis is None else 0, shape[2 if axis is None else 0])
    part = np.full(size, 1, dtype)
    out = blend_part(image, part, (5, 20), border=2, channel_axis=axis)
    assert out.dtype == dtype
    np.testing.assert_array_equal(image, before)
    inside = np.zeros((30, 40), bool)
    inside[5:15, 20:32] = True
    planes = out if axis is None else np.moveaxis(out, 0, -1)
    old = image if axis is None else np.moveaxis(image, 0, -1)
    np.testing.assert_array_equal(planes[~inside], old[~inside])
    assert (planes[8:12, 23:29] == 1).all()


def test_the_mask_has_to_fit():
    with pytest.raises(ValueError, match="mask"):
        blend_part(np.zeros((9, 9)), np.zeros((3, 3)), (0, 0), mask=np.ones((2, 2)))


def test_part_is_that_of_the_whole_deblurred_image(scene):
    image, field = scene
    options = {"method": "tikhonov"}
    whole = blurfield.deblur(image, field, **options)
    rows, cols = (24, 72), (32, 96)
    sharp, info = deblur_part(image, field, rows, cols, border=4, return_info=True, **options)
    assert info["method"] == "tikhonov"
    inner = np.s_[32:64, 40:88]
    assert np.abs(sharp[inner] - whole[inner]).max() < 0.1 * np.abs(image - whole)[inner].max()
    outside = np.ones(image.shape, bool)
    outside[24:72, 32:96] = False
    np.testing.assert_array_equal(sharp[outside], image[outside])


def test_field_of_the_part_alone(scene):
    image, field = scene
    part = field.crop((24, 32), (48, 64))
    sharp = deblur_part(image, part, (24, 72), (32, 96), corner=(24, 32), method="tikhonov")
    assert np.abs(sharp - image).max() > 0.01
    again = deblur_part(
        image, part, (24, 48), (32, 64), corner=(24, 32), method="tikhonov", into=sharp.copy()
    )
    np.testing.assert_array_equal(again[48:], sharp[48:])


def test_parts_beyond_image_or_field_are_errors(scene):
    image, field = scene
    with pytest.raises(ValueError, match="no part of an image of 96×128"):
        deblur_part(image, field, (24, 97), (0, 10))
    part = field.crop((24, 32), (48, 64))
    with pytest.raises(ValueError, match="rows 24 to 72 and columns 32 to 96"):
        deblur_part(image, part, (20, 72), (32, 96), corner=(24, 32))


def test_channels(scene):
    image, field = scene
    channels = np.stack([image, image[::-1]])
    options = {"method": "tikhonov", "noise": (0, 0.01)}
    part = deblur_part(channels, field, (24, 72), (32, 96), channel_axis=0, **options)
    assert part.shape == channels.shape
    np.testing.assert_array_equal(part[:, :24], channels[:, :24])
    assert isinstance(field, KernelField)
