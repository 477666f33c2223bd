"""Any image a user has open: which axes it has, and that results have the same."""

from __future__ import annotations

import gc

import dask.array as da
import numpy as np
import pytest
from napari.layers import Image, Layer

from napari_blurfield import deblur_layer, estimate_layers, field_layers
from napari_blurfield._axes import CHANNELS, FRAMES, Axes, axes_words, guess_axes
from napari_blurfield._picked_axes import picks
from napari_blurfield._source import Source
from napari_blurfield.layers import field_placement, role_of

F, C = FRAMES, CHANNELS


# -------------------------------------------------------------------------- the guess


@pytest.mark.parametrize(
    ("labels", "shape", "rgb", "leading"),
    [
        (None, (48, 64), False, ()),
        (None, (48, 64), True, ()),
        (None, (5, 48, 64), False, (F,)),
        (None, (1, 48, 64), False, (F,)),
        (None, (3, 48, 64), False, (C,)),
        (None, (3, 48, 64), True, (F,)),
        (None, (20, 4, 48, 64), False, (F, C)),
        (None, (2, 20, 48, 64), False, (C, F)),
        (None, (3, 2, 48, 64), False, (F, C)),
        ("tyx", (3, 48, 64), False, (F,)),
        ("zyx", (4, 48, 64), False, (F,)),
        ("cyx", (7, 48, 64), False, (C,)),
        ("tcyx", (2, 2, 48, 64), False, (F, C)),
        ("tzyx", (3, 3, 48, 64), False, (F, F)),
        (("Channel", "Time", "Y", "X"), (6, 9, 48, 64), False, (C, F)),
        (("axis -3", "y", "x"), (3, 48, 64), False, (C,)),
        (("t", "axis -3", "y", "x"), (2, 3, 48, 64), False, (F, C)),
        (("c", "axis -3", "y", "x"), (9, 3, 48, 64), False, (C, F)),
        ("cyx", (7, 48, 64), True, (F,)),
    ],
)
def test_guess(labels, shape, rgb, leading):
    labels = labels or [f"axis {axis - len(shape)}" for axis in range(len(shape))]
    assert guess_axes(tuple(labels), shape, rgb=rgb).leading == leading


def test_channels_in_the_place_of_columns_are_an_error():
    with pytest.raises(ValueError, match="last two axes"):
        guess_axes(("y", "x", "c"), (48, 64, 3), rgb=False)


def test_roles_are_checked():
    with pytest.raises(ValueError, match="'channels'"):
        Axes((C, C))
    with pytest.raises(ValueError, match="depth"):
        Axes(("depth",))
    assert Axes((C, F)).with_role(1, C) == Axes((F, C))


@pytest.mark.parametrize(
    ("leading", "labels", "shape", "words"),
    [
        ((), "yx", (48, 64), "48 × 64 px, grey"),
        ((F,), "tyx", (5, 48, 64), "t: 5 frames, 48 × 64 px, grey"),
        ((F, C, F), "TCZYX", (20, 3, 5, 48, 64), "T × Z: 20 × 5 frames, 3 channels, 48 × 64 px"),
        ((F,), ("axis -3", "y", "x"), (1, 48, 64), "1 frame, 48 × 64 px, grey"),
    ],
)
def test_words(leading, labels, shape, words):
    assert axes_words(Axes(leading), tuple(labels), shape, rgb=False) == words


# --------------------------------------------------------------------------- pictures


def stack(shape, dtype=np.float32):
    """An array in which each pixel has another value."""
    return np.arange(np.prod(shape), dtype=np.float64).reshape(shape).astype(dtype)


KINDS = {
    "grey": ((48, 64), False, None),
    "rgb": ((48, 64, 3), True, None),
    "rgba": ((48, 64, 4), True, None),
    "tyx": ((5, 48, 64), False, (2,)),
    "cyx": ((3, 48, 64), False, None),
    "t rgb": ((5, 48, 64, 3), True, (2,)),
    "tcyx": ((5, 2, 48, 64), False, (4,)),
    "ctyx": ((2, 5, 48, 64), False, (4,)),
    "tczyx": ((5, 2, 6, 48, 64), False, (4, 1)),
    "tz rgba": ((5, 2, 48, 64, 4), True, (4, 1)),
}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("kind", KINDS)
def test_what_reaches_the_core(kind, dtype, quick):
    shape, rgb, frame = KINDS[kind]
    data = stack(shape, dtype)
    layer = Image(data, rgb=rgb, name="any")
    layers = [Layer.create(*made) for made in estimate_layers(layer, frame=frame, progress=skip)]
    image, options = quick["estimate"]
    axes = picks.of(layer)
    np.testing.assert_array_equal(image, data[axes.index(frame or ())])
    assert options.get("channel_axis") == (None if axes.channels is None else 0)
    sharp, attributes, _ = deblur_layer(layer, layers[0], frame=frame, progress=skip)
    assert sharp.dtype == dtype
    assert attributes["rgb"] is rgb
    assert quick["deblur"][2].get("channel_axis") == options.get("channel_axis")


def skip(done, total, message):
    pass


@pytest.mark.parametrize("kind", ["dask", "multiscale", "multiscale dask"])
def test_lazy_data_are_read_as_they_are_needed(kind, quick):
    computed = []

    def make(block_info=None):
        computed.append(block_info[None]["chunk-location"][0])
        return np.full((1, 3, 48, 64), block_info[None]["chunk-location"][0], np.float32)

    lazy = da.map_blocks(make, chunks=((1,) * 6, 3, 48, 64), dtype=np.float32, meta=np.empty(()))
    data = [lazy, lazy[..., ::2, ::2]] if "multiscale" in kind else lazy
    if kind == "multiscale":
        data = [np.asarray(level) for level in data]
    layer = Image(data, multiscale="multiscale" in kind, contrast_limits=(0, 6))
    source = Source.from_layer(layer, frame=(4,))
    assert source.shape == (48, 64)
    computed.clear()
    assert (source.pixels() == 4).all()
    assert computed in ([], [4])


# ------------------------------------------------------------------ where results lie


@pytest.mark.parametrize("kind", KINDS)
def test_results_lie_on_their_frame(kind, quick):
    shape, rgb, frame = KINDS[kind]
    ndim = len(shape) - rgb
    layer = Image(
        stack(shape),
        rgb=rgb,
        scale=np.arange(2, ndim + 2) / 2,
        translate=np.arange(ndim),
        rotate=30 if ndim == 2 else None,
        units=("pixel",) * (ndim - 2) + ("um", "um"),
    )
    made = deblur_layer(layer, estimated(layer, frame), frame=frame, progress=skip)
    sharp = Layer.create(*made)
    # What the layer has at a pixel, the result has at the same place of the world.
    index = picks.of(layer).index(frame or ())
    pixel = np.array([0 if isinstance(i, slice) else i for i in (*index, slice(0), slice(0))])
    pixel[-2:] = 7, 11
    if (channels := picks.of(layer).channels) is not None:
        pixel[channels] = 1
    world = np.array(layer.data_to_world(pixel))
    inside = np.round(sharp.world_to_data(world[-sharp.ndim :])).astype(int)
    np.testing.assert_array_equal(sharp.data[tuple(inside)], layer.data[tuple(pixel)])
    np.testing.assert_allclose(sharp.data_to_world(inside), world[-sharp.ndim :], atol=1e-9)
    assert sharp.units == layer.units[-sharp.ndim :]


def estimated(layer, frame):
    return Layer.create(*estimate_layers(layer, frame=frame, progress=skip)[-1])


@pytest.mark.parametrize("kind", ["cyx", "tcyx", "ctyx"])
def test_mixing_is_seen_in_all_channels(kind, quick):
    shape, _, frame = KINDS[kind]
    layer = Image(stack(shape), scale=np.arange(2, len(shape) + 2) / 2)
    layers = [Layer.create(*made) for made in estimate_layers(layer, frame=frame, progress=skip)]
    mixing = next(made for made in layers if role_of(made) == "mixing")
    axes = picks.of(layer)
    for channel in range(shape[axes.channels]):
        left = iter(frame or ())
        place = [channel if role == C else next(left) for role in axes.leading]
        world = layer.data_to_world((*place, 0, 0))
        cell = np.round(mixing.world_to_data((0, *world))).astype(int)
        np.testing.assert_array_equal(cell[1:-2], 0)


def test_fields_of_earlier_versions_are_frames(field):
    stored = {"layer": "movie", "frame": [3], **Source.from_layer(Image(stack((5, 48, 64))), (3,))
              .placement.to_json()}  # fmt: skip
    placement = field_placement(field.with_metadata(napari=stored))
    np.testing.assert_allclose(placement.translate, (3, 0, 0))
    bad = field.with_metadata(napari={**stored, "axes": ["frames", "frames"]})
    with pytest.raises(ValueError, match="damaged"):
        field_layers(bad)


# ------------------------------------------------------------------------- the control


def test_channels_are_guessed_shown_and_corrected(estimate, deblur, viewer, quick, finish):
    layer = viewer.add_image(stack((3, 48, 64)), name="cells")
    assert estimate.image_note.text() == "3 channels, 48 × 64 px"
    assert not estimate.axes.isHidden()
    assert [estimate.axes.itemText(i) for i in range(2)] == ["none", "axis 0 (3)"]
    assert estimate.axes.value == 0
    estimate.axes.value = None
    assert estimate.image_note.text() == "3 frames, 48 × 64 px, grey. Shown: frame 1."
    assert deblur.axes.value is None
    assert "3 frames" in deblur.image_note.text()
    estimate.run()
    finish(estimate)
    np.testing.assert_array_equal(quick["estimate"][0], layer.data[1])
    deblur.axes.setCurrentIndex(1)
    assert estimate.axes.value == 0
    assert dict(layer.metadata) == {}


def test_channels_follow_axis_labels(estimate, viewer):
    layer = viewer.add_image(stack((6, 3, 48, 64)), name="cells")
    assert estimate.axes.value == 1
    layer.axis_labels = ("c", "z", "y", "x")
    assert estimate.axes.value == 0
    assert estimate.image_note.text().startswith("z: 3 frames, 6 channels")
    layer.axis_labels = ("y", "x", "t", "c")
    assert "last two axes" in estimate.image_note.text()
    assert estimate.axes.isHidden()


@pytest.mark.parametrize(("shape", "rgb"), [((48, 64), False), ((5, 48, 64, 3), True)])
def test_nothing_to_pick(estimate, viewer, shape, rgb):
    viewer.add_image(stack(shape), rgb=rgb)
    assert estimate.axes.isHidden()


def test_picks_are_checked_and_forgotten_with_the_layer():
    layer = Image(stack((5, 48, 64, 3)), rgb=True)
    with pytest.raises(ValueError, match="RGB image"):
        picks.pick(layer, Axes((C,)))
    with pytest.raises(ValueError, match="3 axes"):
        picks.pick(layer, Axes((F, F)))
    before = len(picks._picked)
    picks.pick(layer, Axes((F,)))
    assert len(picks._picked) == before + 1
    del layer
    gc.collect()  # layers refer to themselves
    assert len(picks._picked) <= before
