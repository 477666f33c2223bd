"""Which frames are meant: numbers, controls, commands and scripts."""

from __future__ import annotations

import numpy as np
import pytest
from in_viewer import add_field, by_role, threads_at_work
from movies import add_movie, length_of, movie

from blurfield.series import Series
from napari_blurfield import _commands
from napari_blurfield._frame_ranges import read_ranges, write_ranges
from napari_blurfield._provenance import as_python
from napari_blurfield._stack import Stack

pytestmark = threads_at_work


# ------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("3", (3,)), ("0-2", (0, 1, 2)), ("0-2, 9", (0, 1, 2, 9)), (" 7 , 4–5,5 ", (4, 5, 7))],
)
def test_ranges(text, numbers):
    assert read_ranges(text, 10) == numbers
    assert read_ranges(write_ranges(numbers), 10) == numbers


@pytest.mark.parametrize("text", ["", "x", "1-", "-1", "3-2", "10", "0-10", "1;2"])
def test_bad_ranges_are_explained(text):
    with pytest.raises(ValueError, match="0 to 9"):
        read_ranges(text, 10)


def test_numbers_count_along_the_first_axis(viewer):
    layer = viewer.add_image(np.zeros((4, 6, 48, 64)), axis_labels=("t", "z", "y", "x"))
    stack = Stack.from_layer(layer)
    assert stack.numbers_at([1]) == tuple(range(6, 12))
    assert stack.position(7) == (1, 1)
    assert stack.number((1, 1)) == 7
    assert stack.to_json((1, 2))["name"] == f"{layer.name} [t 1, z 2]"


@pytest.mark.parametrize("text", ["", "7-9"])
def test_frames_that_are_not_there(text, estimate, viewer, notes):
    add_movie(viewer)
    estimate.frames.which.value = "some"
    estimate.frames.ranges.setText(text)
    estimate.run()
    assert "0 to 3" in notes[0].message
    assert estimate.job is None


# ----------------------------------------------------------------------------- controls


def test_controls_follow_the_image(estimate, viewer, photograph):
    viewer.add_image(photograph)
    assert estimate.frames.isHidden()
    stack = add_movie(viewer)
    assert not estimate.frames.isHidden()
    assert estimate.folder.isHidden()
    estimate.frames.which.value = "some"
    assert not estimate.folder.isHidden()
    assert not estimate.frames.ranges.isHidden()
    estimate.axes.value = 0
    assert estimate.frames.isHidden()
    assert not estimate.takes_series
    estimate.axes.value = None
    assert estimate.takes_series
    viewer.layers.remove(stack)
    assert estimate.folder.isHidden()


def test_the_field_follows_the_sliders(deblur, viewer, field):
    add_movie(viewer)
    known = field.with_metadata(napari={"layer": "movie", "frame": [1]})
    add_field(viewer, known)
    viewer.layers.selection.active = viewer.layers["movie"]
    viewer.dims.set_point(viewer.dims.ndim - 3, 1)
    assert deblur.field.value is known
    viewer.dims.set_point(viewer.dims.ndim - 3, 2)
    assert deblur.field.value == "estimate"
    viewer.dims.set_point(viewer.dims.ndim - 3, 1)
    assert deblur.field.value is known


# -------------------------------------------------------------------- commands, scripts


def test_commands_take_the_frame_shown(estimate, viewer, by_frame, finish, tmp_path, notes):
    source = add_movie(viewer)
    estimate.frames.which.value = "all"
    estimate.kernels.setChecked(False)
    estimate.folder.path.setText(str(tmp_path))
    estimate.run()
    finish(estimate)
    viewer.dims.set_point(0, 2)
    viewer.layers.selection.active = by_role(viewer)["vectors"]
    _commands.mask_active(viewer)
    assert viewer.layers[-1].name == "movie [t 2] blur mask"
    viewer.layers.selection.active = source
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_blurfield._tasks.deblur_source", lambda *args, **_: seen.append(args))
        patch.setattr("napari_blurfield._commands._start", lambda _, job, words: job())
        _commands.deblur_active(viewer)
    assert length_of(seen[0][1]) == 7
    assert not notes


@pytest.mark.parametrize("kind", ["estimated", "known", "each frame"])
def test_a_script_makes_the_results_again(
    kind, viewer, estimate, deblur, by_frame, field, finish, tmp_path, monkeypatch
):
    add_movie(viewer)
    if kind == "known":
        deblur.field.add("known", field)
        field.save(tmp_path / "FIELD.blurfield")
    if kind == "each frame":
        estimate.frames.which.value = "all"
        estimate.folder.path.setText(str(tmp_path / "fields"))
        estimate.run()
        finish(estimate)
    deblur.frames.which.value = "some"
    deblur.frames.ranges.setText("1-2")
    deblur.folder.path.setText(str(tmp_path / "first"))
    deblur.run()
    finish(deblur)
    script = as_python(viewer.layers["movie deblurred"])
    np.save(tmp_path / "STACK.npy", movie())
    monkeypatch.chdir(tmp_path)
    exec(compile(script, "script", "exec"), {})
    first, again = Series.open("first"), Series.open("RESULTS")
    assert again.finished == (1, 2)
    for number in (1, 2):
        np.testing.assert_array_equal(again.image(number), first.image(number))
        np.testing.assert_array_equal(again.field(number).basis, first.field(number).basis)
