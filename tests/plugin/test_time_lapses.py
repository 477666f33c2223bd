"""Several frames of a stack: fields and results of each, in a folder and in lazy layers."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from in_viewer import add_field, by_role, roles, threads_at_work
from movies import PICTURES, add_movie, length_of, movie, take_all_frames
from skimage.data import camera

import blurfield
from blurfield import KernelField
from blurfield.measure import motion_features
from blurfield.mosaic_pyramid import mosaic_pyramid
from blurfield.series import Series
from napari_blurfield import find_field
from napari_blurfield._field_stack import FieldStack
from napari_blurfield._identity import Identity
from napari_blurfield._picked_axes import picks
from napari_blurfield._regions import Region
from napari_blurfield._series import SeriesPlan, run_series
from napari_blurfield._stack import Stack
from napari_blurfield._vectors import vector_spacing
from napari_blurfield.layers import shown_field, source_of

pytestmark = threads_at_work


# --------------------------------------------------------------------------- estimating


def test_fields_of_all_frames(estimate, deblur, viewer, by_frame, finish, tmp_path, notes):
    source = add_movie(viewer, scale=(2, 0.5, 0.5), translate=(10, 0, 0))
    estimate.frames.which.value = "all"
    estimate.folder.path.setText(str(tmp_path / "results"))
    estimate.run()
    finish(estimate)
    assert "Estimated 4 frames" in estimate.status.text()
    assert str(tmp_path / "results") in estimate.status.text()
    assert roles(viewer) == [None, *PICTURES]
    assert viewer.layers.selection.active is source
    made = by_role(viewer)
    assert made["mixing"].data.shape == (1, 4, 1, 1)
    assert made["basis"].data.shape == (1, 4, 11, 11)
    assert made["mosaic"].data.shape == (4, 48, 64, 4)
    for role in ("mosaic", "mask", "vectors"):
        assert made[role].ndim == 3
        np.testing.assert_allclose(made[role].data_to_world((3, 5, 7)), (16, 2.5, 3.5))
    for frame in range(4):
        viewer.dims.set_current_step(0, 0)
        viewer.dims.set_point(1, 10 + 2 * frame)
        field = deblur.field.value
        assert length_of(field) == 3 + 2 * frame
        assert shown_field(made["mosaic"], viewer.dims) is field
        assert find_field(made["mask"], (frame,)) is field
        assert source_of(field).is_same_image(Identity.of_frame(source, (frame,)))
        ours = made["vectors"].data[:, 0, 0] == frame
        expected = motion_features(field, spacing=vector_spacing(field))["length"]
        np.testing.assert_array_equal(made["vectors"].features["length"][ours], expected)
        mosaic = np.asarray(made["mosaic"].data[frame])
        np.testing.assert_array_equal(mosaic, mosaic_pyramid(field)[0])
    assert find_field(made["mask"]) is None
    assert "each frame" in deblur.field.currentText()
    assert not notes


def test_kernels_are_padded_to_the_most(monkeypatch, estimate, viewer, quick, finish, tmp_path):
    def some(image, **options):
        count = 1 + round((float(np.mean(image)) - 24.5) / 100)
        basis = np.zeros((count, 3, 3), np.float32)
        basis[:, 1, 1] = 1
        mixing = np.full((count, 4, 4), 1 / count, np.float32)
        return KernelField(basis, mixing, image.shape)

    monkeypatch.setattr("blurfield.estimation.estimate", some)
    add_movie(viewer)
    estimate.frames.which.value = "all"
    estimate.folder.path.setText(str(tmp_path))
    estimate.run()
    finish(estimate)
    mixing = by_role(viewer)["mixing"].data
    assert mixing.shape == (4, 4, 4, 4)
    np.testing.assert_allclose(np.asarray(mixing[:, 1, 0, 0]), [0.5, 0.5, 0, 0])


@pytest.mark.parametrize(
    ("shape", "rgb", "labels", "leading"),
    [
        ((3, 2, 48, 64), False, "tcyx", (3, 1)),
        ((2, 3, 48, 64), False, "ctyx", (1, 3)),
        ((3, 48, 64, 3), True, "tyx", (3,)),
        ((2, 3, 48, 64), False, "tzyx", (2, 3)),
    ],
)
def test_other_stacks(
    shape, rgb, labels, leading, estimate, deblur, viewer, quick, finish, tmp_path
):
    data = np.arange(np.prod(shape)).reshape(shape).astype(np.float32)
    layer = viewer.add_image(data, rgb=rgb, axis_labels=tuple(labels), scale=(2,) * len(labels))
    take_all_frames(tmp_path, estimate, deblur)
    for widget in (estimate, deblur):
        widget.run()
        finish(widget)
    made = by_role(viewer)
    sharp = made["deblurred"]
    np.testing.assert_array_equal(np.asarray(sharp.data), data)
    np.testing.assert_allclose(sharp.extent.world, layer.extent.world)
    assert sharp.rgb is rgb
    assert list(sharp.contrast_limits) == list(layer.contrast_limits)
    assert made["mosaic"].data.shape[: len(leading)] == leading
    assert made["mixing"].data.shape[1:-2] == leading
    # Each picture is seen wherever the source is.
    corner = layer.data_to_world([n - 1 for n in shape[: layer.ndim]])
    for role in ("mosaic", "mask"):
        cell = np.round(made[role].world_to_data(corner)).astype(int)
        assert (cell < made[role].data.shape[: made[role].ndim]).all()
        assert (cell >= 0).all()
    place = made["vectors"].world_to_data(corner)
    frames = list(picks.of(layer).frames)
    shown = np.abs(made["vectors"].data[:, 0, : len(leading)] - place[: len(leading)]).max(1) <= 0.5
    assert shown.any()
    assert (made["vectors"].data[shown][:, 0, frames] == [shape[axis] - 1 for axis in frames]).all()


# --------------------------------------------------------------------------- deblurring


def test_each_frame_with_its_field(estimate, deblur, viewer, by_frame, finish, tmp_path):
    add_movie(viewer, contrast_limits=(5, 500), colormap="green")
    estimate.frames.which.value = "all"
    estimate.folder.path.setText(str(tmp_path / "fields"))
    estimate.run()
    finish(estimate)
    used = []
    deblur.frames.which.value = "some"
    deblur.frames.ranges.setText("1, 3")
    deblur.strength.setValue(0.75)
    deblur.folder.path.setText(str(tmp_path / "sharp"))

    def remember(image, field, **options):
        used.append((length_of(field), options["strength"]))
        return 2 * image, {"method": "m", "variant": None}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("blurfield.restoration.deblur", remember)
        patch.setattr("blurfield.estimation.estimate", None)  # not needed
        deblur.run()
        finish(deblur)
    assert used == [(5, 0.75), (9, 0.75)]
    assert "Deblurred 2 frames" in deblur.status.text()
    assert roles(viewer) == [None, *PICTURES, "deblurred"]
    sharp = viewer.layers["movie deblurred"]
    data = np.asarray(sharp.data)
    np.testing.assert_array_equal(data[[1, 3]], 2 * movie()[[1, 3]])
    assert (data[[0, 2]] == 0).all()
    assert sharp.data.chunksize == (1, 48, 64)
    assert list(sharp.contrast_limits) == [5, 500]
    assert sharp.colormap.name == "green"
    assert length_of(find_field(sharp, (3,))) == 9


def test_fields_are_estimated_if_there_are_none(deblur, viewer, by_frame, finish, tmp_path):
    add_movie(viewer, 2)
    deblur.frames.which.value = "all"
    deblur.folder.path.setText(str(tmp_path))
    deblur.run()
    finish(deblur)
    assert roles(viewer) == [None, *PICTURES, "deblurred"]


def test_a_known_field_is_for_all_frames(deblur, viewer, quick, field, finish, tmp_path):
    add_movie(viewer, 3)
    known = field.save(tmp_path / "known.blurfield")
    deblur.open_field(known)
    deblur.frames.which.value = "all"
    deblur.folder.path.setText(str(tmp_path / "out"))
    deblur.run()
    finish(deblur)
    assert "estimate" not in quick
    series = Series.open(tmp_path / "out")
    for number in range(3):
        np.testing.assert_array_equal(series.field(number).basis, field.basis)


def test_the_field_of_one_frame_is_for_all_only_if_asked_for(
    deblur, viewer, by_frame, field, finish, tmp_path
):
    add_movie(viewer, 3)
    add_field(viewer, field.with_metadata(napari={"layer": "movie", "frame": [1]}))
    viewer.layers.selection.active = viewer.layers["movie"]
    assert deblur.field.value is not None
    for shared in (False, True):
        deblur.field.setCurrentIndex(1)
        deblur.frames.which.value = "all"
        deblur.shared.setChecked(shared)
        deblur.folder.path.setText(str(tmp_path / str(shared)))
        deblur.run()
        finish(deblur)
        series = Series.open(tmp_path / str(shared))
        assert (series.field(0).num_kernels == field.num_kernels) is shared


@pytest.mark.parametrize("single", [True, False])
def test_fields_of_another_part_are_refused(single, viewer, quick, tmp_path):
    whole = Stack.from_layer(add_movie(viewer, 2))
    here, there = (
        whole.within([Region("box", slice(top, top + 32), slice(left, left + 32))])
        for top, left in ((2, 2), (14, 30))
    )
    run_series(SeriesPlan(here, (0, 1), {}, chosen_folder=str(tmp_path / "fields")))
    fields = FieldStack(Series.open(tmp_path / "fields"), here)
    given = fields.at((0,)) if single else fields

    def deblur(stack, name):
        folder = tmp_path / name
        run_series(SeriesPlan(stack, (0, 1), {}, {}, given=given, chosen_folder=str(folder)))

    with pytest.raises(ValueError, match="does not cover 'box' of 'movie'"):
        deblur(there, "there")
    assert not (tmp_path / "there").exists()
    deblur(here, "here")
    assert Series.open(tmp_path / "here").finished == (0, 1)


def test_one_field_for_all_frames_is_the_median(deblur, viewer, by_frame, finish, tmp_path):
    add_movie(viewer, 3)
    deblur.frames.which.value = "all"
    deblur.shared.setChecked(True)
    deblur.folder.path.setText(str(tmp_path))
    deblur.run()
    finish(deblur)
    series = Series.open(tmp_path)
    assert series.record.shared
    assert series.shared_path.exists()
    fields = [deblur.field.chosen.at((n,)) for n in range(3)]
    for each in fields[1:]:
        np.testing.assert_array_equal(each.basis, fields[0].basis)


# ---------------------------------------------------------------------------- real work


@pytest.fixture(scope="module")
def shaken():
    """Three frames of a photograph, each with a blur of its own."""
    sharp = np.asarray(camera())[80:176, 140:268]
    return np.stack(
        [
            blurfield.simulate(sharp, kind="linear", seed=n, max_extent=9)[0].astype(np.uint16) * 16
            for n in range(3)
        ]
    )


@pytest.mark.slow
def test_frames_are_as_if_each_were_deblurred_alone(shaken, viewer, deblur, finish, tmp_path):
    data = da.from_array(shaken, chunks=(1, 96, 128))
    viewer.add_image(data, name="movie", axis_labels=("t", "y", "x"), contrast_limits=(0, 4095))
    deblur.frames.which.value = "some"
    deblur.frames.ranges.setText("0, 2")
    deblur.method.value = "tikhonov"
    deblur.folder.path.setText(str(tmp_path))
    deblur.run()
    finish(deblur)
    sharp = viewer.layers["movie deblurred"]
    alone = blurfield.deblur(shaken[2], find_field(sharp, (2,)), "tikhonov")
    np.testing.assert_array_equal(np.asarray(sharp.data[2]), alone)
    assert not np.asarray(sharp.data[1]).any()
