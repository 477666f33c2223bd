"""Frames and fields that changed since an earlier run, and layers that are there already."""

from __future__ import annotations

import numpy as np
from in_viewer import by_role, roles, threads_at_work
from movies import PICTURES, add_movie, length_of, movie, take_all_frames
from napari.layers import Layer

from blurfield.series import Series
from napari_blurfield import find_field
from napari_blurfield._field_stack import FieldStack
from napari_blurfield._series import SeriesPlan, run_series
from napari_blurfield._stack import Stack

pytestmark = threads_at_work


def mosaic_of(length):
    kernel = np.zeros((11, 11), bool)
    kernel[5, 5 - length // 2 : 6 + length // 2] = True
    return kernel


def test_layers_of_the_same_run_are_not_doubled(deblur, viewer, by_frame, finish, tmp_path):
    source = add_movie(viewer)
    deblur.frames.which.value = "all"
    deblur.folder.path.setText(str(tmp_path))
    deblur.run()
    finish(deblur)
    before = list(viewer.layers)
    assert roles(viewer) == [None, *PICTURES, "deblurred"]
    sharp = by_role(viewer)["deblurred"]
    sharp.contrast_limits = (3, 33)
    chosen = deblur.field.chosen
    source.data[1] += 200
    viewer.layers.remove("movie blur mask")
    deblur.run()
    finish(deblur)
    assert "3 of them before; 1 again" in deblur.status.text()
    made = by_role(viewer)
    assert {*viewer.layers} - {*before} == {made["mask"]}
    assert len(viewer.layers) == len(before)
    assert tuple(sharp.contrast_limits) == (3, 33)
    np.testing.assert_array_equal(np.asarray(sharp.data), source.data)
    vectors = made["vectors"]
    of_frame = vectors.features["length"][vectors.data[:, 0, 0] == 1]
    assert set(np.round(of_frame)) == {9}
    np.testing.assert_array_equal(np.asarray(made["basis"].data[0, 1]) > 0, mosaic_of(9))
    assert deblur.field.chosen is chosen
    assert all(length_of(find_field(layer, (1,))) == 9 for layer in viewer.layers[1:])
    assert viewer.layers.selection.active is source
    assert not deblur.copy_button.isHidden()


def test_fields_that_changed_are_used_for_what_was_deblurred(
    estimate, deblur, viewer, by_frame, finish, tmp_path
):
    source = add_movie(viewer)
    take_all_frames(tmp_path, estimate, deblur)
    for _ in range(2):
        for widget in (estimate, deblur):
            widget.run()
            finish(widget)
        source.data[1] += 200
    assert roles(viewer) == [None, *PICTURES, "deblurred"]
    assert "Deblurred 4 frames (3 of them before" in deblur.status.text()
    assert length_of(Series.open(tmp_path / "Deblur").field(1)) == 9


def test_fields_of_frames_that_changed_are_refused(
    estimate, deblur, viewer, by_frame, finish, tmp_path
):
    source = add_movie(viewer)
    take_all_frames(tmp_path, estimate, deblur)
    estimate.run()
    finish(estimate)
    source.data[2] += 200
    deblur.run()
    finish(deblur)
    assert deblur.status.text() == (
        "T 2 of 'movie' has changed since its blur field was estimated: run 'Estimate blur field' "
        "again, or choose 'estimate it first' as the blur field"
    )
    assert not (tmp_path / "Deblur").exists()
    assert roles(viewer) == [None, *PICTURES]
    deblur.frames.which.value = "some"
    deblur.frames.ranges.setText("0-1, 3")
    deblur.run()
    finish(deblur)
    assert "Deblurred 3 frames" in deblur.status.text()


def test_fields_may_be_those_of_another_layer(viewer, by_frame, tmp_path):
    """For instance of another channel, whose pixels are others."""
    stack = Stack.from_layer(add_movie(viewer))
    run_series(SeriesPlan(stack, (0, 1), {}, chosen_folder=str(tmp_path / "fields")))
    fields = FieldStack(Series.open(tmp_path / "fields"), stack)
    other = viewer.add_image(2 * movie(), name="other", axis_labels=("t", "y", "x"))
    plan = SeriesPlan(
        Stack.from_layer(other), (0, 1), {}, {}, given=fields, chosen_folder=str(tmp_path / "sharp")
    )
    assert "Deblurred 2 frames" in run_series(plan).summary
    assert length_of(Series.open(tmp_path / "sharp").field(1)) == 5


def test_more_frames_join_the_layers_there_are(estimate, viewer, by_frame, finish, tmp_path):
    add_movie(viewer, translate=(5, 0, 0))
    estimate.folder.path.setText(str(tmp_path))
    estimate.frames.which.value = "some"
    for text in ("0-1", "1-2"):
        estimate.frames.ranges.setText(text)
        estimate.run()
        finish(estimate)
    assert roles(viewer) == [None, *PICTURES]
    vectors = by_role(viewer)["vectors"]
    assert set(vectors.data[:, 0, 0]) == {0, 1, 2}
    for frame in range(3):
        of_frame = vectors.features["length"][vectors.data[:, 0, 0] == frame]
        assert set(np.round(of_frame)) == {3 + 2 * frame}
    viewer.layers["movie"].translate = (7, 0, 0)
    estimate.run()
    finish(estimate)
    assert roles(viewer) == [None, *PICTURES]
    for role in ("mosaic", "mask", "vectors"):
        assert by_role(viewer)[role].data_to_world((0, 0, 0))[0] == 7


def test_frames_that_changed_are_made_and_shown_anew(viewer, by_frame, tmp_path):
    layer = add_movie(viewer)
    made = []
    told = []

    def remember(layers, number):
        made[:] = [layers]
        told.append(number)

    def run():
        plan = SeriesPlan(Stack.from_layer(layer), (0, 1, 2), {}, chosen_folder=str(tmp_path))
        return run_series(plan, on_frame=remember).summary

    assert "Estimated 3 frames in" in run()
    layer.data[1] += 200
    told.clear()
    assert "Estimated 3 frames (2 of them before; 1 again, since the images have changed)" in run()
    assert told == [0, 1, 2, 1]  # as it was, until it was known to have changed
    vectors, look = made[0].vectors()
    of_frame = look["features"]["length"][vectors[:, 0, 0] == 1]
    assert set(np.round(of_frame)) == {9}
    assert length_of(find_field(Layer.create(*made[0].layers()[0]), (1,))) == 9


def test_frames_that_changed_for_the_worse_are_not_shown(viewer, by_frame, tmp_path):
    layer = viewer.add_image(movie(4, dtype=np.float32), axis_labels=("t", "y", "x"))
    made = []
    for _ in range(2):
        plan = SeriesPlan(Stack.from_layer(layer), (0, 1, 2), {}, chosen_folder=str(tmp_path))
        summary = run_series(plan, on_frame=lambda layers, _: made.append(layers)).summary
        layer.data[1] = np.nan
    assert "1 of 3 frames failed" in summary
    assert set(made[-1].vectors()[0][:, 0, 0]) == {0, 2}


def test_what_is_shown_of_a_field_follows_its_file(viewer, by_frame, tmp_path):
    stack = Stack.from_layer(add_movie(viewer))
    run_series(SeriesPlan(stack, (0, 1), {}, chosen_folder=str(tmp_path)))
    series = Series.open(tmp_path)
    fields = FieldStack(series, stack)
    assert length_of(fields.at((1,))) == 5
    series.give_field(1, series.field(0))
    fields.forget(1)
    assert length_of(fields.at((1,))) == 3
