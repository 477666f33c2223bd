"""Fields and results are known to belong to their image, whatever layers are called."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from in_viewer import add_field
from napari.layers import Image

from blurfield import KernelField
from napari_blurfield import _commands, _identity, find_field
from napari_blurfield._identity import FramesOf, Identity, sample_of
from napari_blurfield._measuring import known_fields, stack_of
from napari_blurfield._source import Source
from napari_blurfield._stack import Stack
from napari_blurfield.layers import SOURCE, source_of


@pytest.fixture
def other(photograph) -> np.ndarray:
    """Another image of the same size and type."""
    return photograph[::-1].copy()


def estimated(layer, field, frame=()) -> KernelField:
    """A field that was estimated from a frame of a layer."""
    return field.with_metadata(**{SOURCE: Source.from_layer(layer, frame).to_json()})


class TestSample:
    def test_same_pixels(self, photograph, other):
        assert sample_of(photograph) == sample_of(photograph.copy()) == sample_of(other[::-1])
        assert sample_of(photograph) != sample_of(other)

    def test_other_type_or_shape(self):
        kinds = [np.zeros((4, 6), np.uint8), np.zeros((6, 4), np.uint8), np.zeros((4, 6), np.int8)]
        assert len({sample_of(pixels) for pixels in kinds}) == 3

    def test_one_pixel_of_a_small_image(self, photograph):
        painted = photograph.copy()
        painted[20, 30] += 1
        assert sample_of(painted) != sample_of(photograph)

    @pytest.mark.parametrize("shape", [(3000, 3000), (3, 1600, 1600), (1600, 1600, 3)])
    def test_some_rows_of_a_large_one(self, shape):
        large = np.zeros(shape, np.uint8)
        assert sample_of(large) != sample_of(large + np.uint8(1))

    def test_lazy_pixels_are_not_computed(self):
        def fail(block):
            raise AssertionError("computed")

        lazy = da.zeros((4, 4)).map_blocks(fail, dtype=float, meta=np.empty((0, 0)))
        assert sample_of(lazy) is None


def test_by_their_pixels(photograph, other):
    layer = Image(photograph, name="cells")
    stored = Identity.from_json(Source.from_layer(layer).to_json())
    again = Identity.of_frame(Image(photograph, name="opened again"), ())
    namesake = Identity.of_frame(Image(other, name="cells"), ())
    assert stored.is_same_image(again)
    assert not stored.is_same_image(namesake)
    layer.data = other
    assert not stored.is_same_image(Identity.of_frame(layer, ()))
    assert stored.is_frame_of(layer)  # results of what it was before are still its results


def test_lazy_ones_by_layer_name_and_file(photograph):
    layer = Image(da.from_array(photograph), name="cells")
    stored = Source.from_layer(layer).identity
    layer.name = "renamed"
    assert stored.is_frame_of(layer)
    assert stored.is_same_image(Identity.of_frame(layer, ()))
    # Nothing tells whether a layer of that name is the same one opened again, but the file.
    assert not stored.is_frame_of(Image(da.from_array(photograph), name="cells"))
    paths = [Identity("cells", str(n), path, (), None) for n, path in enumerate(("a", "a", "b"))]
    assert paths[0].is_same_image(paths[1])
    assert not paths[0].is_same_image(paths[2])


def test_fields_of_earlier_versions_know_names():
    stored = [Identity.from_json({"layer": "cells", "path": path}) for path in ("a", "b", None)]
    assert not stored[0].is_same_image(stored[1])
    assert stored[0].is_same_image(stored[2])
    nothing = Identity.from_json({"layer": ""})
    assert not nothing.is_same_image(nothing)


def test_movies_that_begin_alike(photograph, other):
    dark = np.zeros_like(photograph)
    first, second = np.stack([dark, photograph, dark]), np.stack([dark, other, dark])
    one, same, another = (
        Image(data, axis_labels=tuple("tyx"), name=name)
        for data, name in ((first, "one"), (first, "same"), (second, "one"))
    )
    stack = Stack.from_layer(one)
    assert stack.is_stack_of(one)
    assert stack.is_stack_of(same)
    assert stack.is_same_as(Stack.from_layer(same))
    assert not stack.is_stack_of(another)
    assert not stack.is_same_as(Stack.from_layer(another))
    assert not stack.is_stack_of(Image(first[:2], axis_labels=tuple("tyx")))
    assert not stack.is_stack_of(Image(photograph))


def test_each_frame_is_looked_at_once(photograph, monkeypatch):
    looked = []
    monkeypatch.setattr(_identity, "sample_of", lambda pixels: looked.append(1) or "2x2 |u1 0")
    frames = FramesOf(Image(photograph, name="cells"))
    height, width = photograph.shape
    for sample in (f"{height}x{width} |u1 1", f"{height}x{width} |u1 2", "9x9 |u1 3"):
        assert not Identity("cells", "elsewhere", None, (), sample).is_frame_of(frames)
    assert len(looked) == 1


def test_by_frame(photograph, other):
    layer = Image(np.stack([photograph, other, photograph]), name="movie", axis_labels=tuple("tyx"))
    stored = Source.from_layer(layer, (0,)).identity
    assert stored.is_same_image(Identity.of_frame(layer, (0,)))
    assert not stored.is_same_image(Identity.of_frame(layer, (1,)))
    assert not stored.is_same_image(Identity.of_frame(layer, (2,)))
    assert stored.is_frame_of(layer)
    assert not stored.is_frame_of(Image(photograph, name="single"))
    assert Identity.of_frame(layer, (3,)) is None


def test_deblur_finds_the_field_of_a_renamed_image(deblur, viewer, photograph, other, field):
    layer = viewer.add_image(photograph, name="cells")
    add_field(viewer, estimated(layer, field))
    layer.name = "renamed"
    viewer.layers.selection.active = layer
    known = find_field(viewer.layers[-1])
    assert deblur.field.value is known
    namesake = viewer.add_image(other, name="cells")
    assert deblur.image.value is namesake
    assert deblur.field.value == "estimate"
    viewer.layers.selection.active = layer
    assert deblur.field.value is known


def test_other_pixels_in_the_layer_need_another_field(deblur, viewer, photograph, other, field):
    layer = viewer.add_image(photograph, name="cells")
    add_field(viewer, estimated(layer, field))
    viewer.layers.selection.active = layer
    assert deblur.field.value is find_field(viewer.layers[-1])
    layer.data = other
    assert deblur.field.value == "estimate"


def test_the_command_takes_no_field_of_a_namesake(viewer, photograph, other, field, quick, qtbot):
    layer = viewer.add_image(photograph, name="cells")
    add_field(viewer, estimated(layer, field))
    layer.name = "renamed"
    namesake = viewer.add_image(other, name="cells")
    for image, estimates in ((layer, False), (namesake, True)):
        quick.clear()
        viewer.layers.selection.active = image
        with qtbot.waitSignal(_commands.deblur_active(viewer).ended, timeout=20_000):
            pass
        assert ("estimate" in quick) == estimates


def test_measure_uses_fields_of_the_same_pixels(viewer, photograph, other, field):
    data = np.stack([photograph, other])
    layer = viewer.add_image(data, name="movie", axis_labels=("t", "y", "x"))
    add_field(viewer, estimated(layer, field, (1,)))
    layer.name = "renamed"
    known = find_field(viewer.layers[-1])
    given = known_fields(viewer.layers, stack_of(layer))
    assert given(0) is None
    assert given(1) is known
    layer.data = data[::-1]
    assert known_fields(viewer.layers, stack_of(layer))(1) is None
    namesake = viewer.add_image(data[::-1], name="movie", axis_labels=("t", "y", "x"))
    assert known_fields(viewer.layers, stack_of(namesake))(1) is None


def test_results_of_a_renamed_image_are_compared(deblur, viewer, photograph, other, quick, finish):
    layer = viewer.add_image(photograph, name="cells")
    deblur.run()
    finish(deblur)
    result = viewer.layers["cells deblurred"]
    layer.name = "renamed"
    viewer.layers.selection.active = layer
    deblur.compare_button.toggle()
    assert not result.visible
    viewer.add_image(other, name="cells")
    assert not deblur.compare_button.isEnabled()


def test_a_field_from_a_file_knows_its_image(viewer, deblur, photograph, other, field, tmp_path):
    saved = estimated(Image(photograph, name="cells"), field).save(tmp_path / "cells.blurfield")
    opened = KernelField.load(saved)
    add_field(viewer, opened)
    viewer.add_image(photograph, name="opened again")
    assert deblur.field.value is opened
    viewer.add_image(other, name="cells")
    assert deblur.field.value == "estimate"
    assert source_of(opened).name == "cells"
