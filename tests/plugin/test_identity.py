"""Fields and results are known to belong to their image, whatever layers are called."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from in_viewer import add_field
from napari.layers import Image

from blurfield import KernelField
from napari_blurfield import _commands, find_field
from napari_blurfield._identity import Identity, sample_of
from napari_blurfield._measuring import known_fields, stack_of
from napari_blurfield._source import Source
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
    again = Image(da.from_array(photograph), name="cells")
    assert stored.is_frame_of(again)
    assert not stored.is_frame_of(Image(da.from_array(photograph), name="renamed"))
    paths = [Identity("cells", "", path, (), None) for path in ("a.zarr", "b.zarr", None)]
    assert not paths[0].is_same_image(paths[1])
    assert paths[0].is_same_image(paths[2])
    assert not Identity("", "", None, (), None).is_same_image(Identity("", "", None, (), None))


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
