"""Several frames of a stack: fields and results of each, in a folder and in lazy layers."""

from __future__ import annotations

import copy
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
from in_viewer import add_field, roles
from napari.layers import Layer
from skimage.data import camera

import blurfield
from blurfield import KernelField
from blurfield.measure import motion_features
from blurfield.mosaic_pyramid import mosaic_pyramid
from blurfield.series import Series
from napari_blurfield import _commands, find_field
from napari_blurfield._axes import CHANNELS, FRAMES, Axes
from napari_blurfield._field_stack import FieldStack
from napari_blurfield._frame_ranges import read_ranges, write_ranges
from napari_blurfield._identity import Identity
from napari_blurfield._picked_axes import picks
from napari_blurfield._provenance import as_python
from napari_blurfield._regions import Region
from napari_blurfield._series import SeriesPlan, run_series
from napari_blurfield._stack import Stack
from napari_blurfield._vectors import vector_spacing
from napari_blurfield.layers import role_of, shown_field, source_of
from napari_blurfield.widgets import EstimateWidget

# Layers are added while a thread works, which also changes the filters of warnings: what napari
# ignores for itself may then come through.
pytestmark = pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB")

PICTURES = ["mixing", "basis", "mosaic", "mask", "vectors"]


def movie(frames=4, extra=(), dtype=np.uint16):
    """Frames of noise around 100 times their number."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 50, (frames, *extra, 48, 64))
    return (noise + 100 * np.arange(frames).reshape(-1, *(1,) * (noise.ndim - 1))).astype(dtype)


@pytest.fixture
def by_frame(monkeypatch, quick, field):
    """Let the blur of each frame tell which frame it is: a motion of 3 + 2n pixels."""

    def estimate(image, **options):
        options["progress"](1, 2, "looking")
        first = image[0] if image.ndim == 3 and image.shape[-1] != 3 else image
        length = 3 + 2 * round((float(np.mean(first)) - 24.5) / 100)
        basis = np.zeros((1, 11, 11), np.float32)
        basis[0, 5, 5 - length // 2 : 6 + length // 2] = 1 / length
        return KernelField(basis, np.ones((1, 1, 1), np.float32), field.shape)

    monkeypatch.setattr("blurfield.estimation.estimate", estimate)
    return quick


def length_of(field):
    return int((field.basis > 0).sum())


def add_movie(viewer, frames=4, **options):
    return viewer.add_image(movie(frames), name="movie", axis_labels=("t", "y", "x"), **options)


def take_all_frames(folder, *widgets):
    """Let widgets work on all frames, each into a folder that is named like its button."""
    for widget in widgets:
        widget.frames.which.value = "all"
        widget.folder.path.setText(str(folder / widget.run_button.text()))


def in_viewer(viewer):
    return {role_of(layer): layer for layer in viewer.layers if role_of(layer)}


# -------------------------------------------------------------------------- numbers


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


# ------------------------------------------------------------------------- estimating


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
    made = in_viewer(viewer)
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
    mixing = in_viewer(viewer)["mixing"].data
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
    made = in_viewer(viewer)
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


# -------------------------------------------------------------------------- deblurring


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


# ------------------------------------------------------------------- stopping, going on


@pytest.fixture
def gated(monkeypatch, field, quick):
    """Let estimation wait for permission, frame by frame."""
    gate = threading.Semaphore(0)

    def estimate(image, **options):
        while not gate.acquire(timeout=0.02):
            options["progress"](0, 1, "waiting")
        return KernelField(field.basis, field.mixing, field.shape)

    monkeypatch.setattr("blurfield.estimation.estimate", estimate)
    return gate


def test_layers_appear_with_the_first_frame_and_stay(
    estimate, viewer, gated, qtbot, finish, tmp_path, notes
):
    add_movie(viewer)
    estimate.frames.which.value = "all"
    estimate.folder.path.setText(str(tmp_path))
    estimate.run()
    qtbot.wait(100)
    assert roles(viewer) == [None]
    gated.release()
    qtbot.waitUntil(lambda: len(viewer.layers) > 1)
    assert estimate.job is not None
    per_frame = len(in_viewer(viewer)["vectors"].data)
    gated.release()
    qtbot.waitUntil(lambda: len(in_viewer(viewer)["vectors"].data) == 2 * per_frame, timeout=3000)
    assert np.asarray(in_viewer(viewer)["mosaic"].data[1]).any()
    assert not np.asarray(in_viewer(viewer)["mosaic"].data[2]).any()
    estimate.cancel()
    finish(estimate)
    assert "2 of 4 frames are done, and kept" in estimate.status.text()
    assert roles(viewer) == [None, *PICTURES]
    # The second run goes on where the first one stopped.
    gated.release(2)
    estimate.run()
    finish(estimate)
    assert "Estimated 4 frames (2 of them before)" in estimate.status.text()
    assert len(in_viewer(viewer)["vectors"].data) == 4 * per_frame
    assert not notes


def test_a_destroyed_widget_stops_the_series(viewer, gated, qtbot, tmp_path):
    add_movie(viewer)
    widget = EstimateWidget(viewer)
    widget.frames.which.value = "all"
    widget.folder.path.setText(str(tmp_path))
    widget.run()
    job = widget.job
    gated.release()
    qtbot.waitUntil(lambda: len(viewer.layers) > 1)
    with qtbot.waitSignal(widget.destroyed):
        widget.deleteLater()
    del widget
    qtbot.waitUntil(lambda: not job.is_running, timeout=2000)
    assert len(Series.open(tmp_path).finished) == 1


def test_the_source_layer_may_go(estimate, viewer, gated, qtbot, finish, tmp_path):
    source = add_movie(viewer)
    estimate.frames.which.value = "all"
    estimate.folder.path.setText(str(tmp_path))
    estimate.run()
    viewer.layers.remove(source)
    gated.release(4)
    finish(estimate)
    assert roles(viewer) == PICTURES
    assert "Estimated 4 frames" in estimate.status.text()


def test_cancelled_before_the_first_frame(estimate, viewer, gated, qtbot, finish, tmp_path):
    add_movie(viewer)
    estimate.frames.which.value = "all"
    estimate.folder.path.setText(str(tmp_path))
    estimate.run()
    qtbot.waitUntil(
        lambda: "waiting" in estimate.status.text() or "frame" in estimate.status.text()
    )
    estimate.cancel()
    finish(estimate)
    assert roles(viewer) == [None]
    assert "nothing was changed" in estimate.status.text()


def test_frames_that_fail_are_told(monkeypatch, estimate, viewer, field, quick, finish, tmp_path):
    def some(image, **options):
        if image.mean() > 150:
            raise ValueError("too bright")
        return field

    monkeypatch.setattr("blurfield.estimation.estimate", some)
    add_movie(viewer)
    estimate.frames.which.value = "all"
    estimate.folder.path.setText(str(tmp_path))
    estimate.run()
    finish(estimate)
    assert "Estimated 2 frames" in estimate.status.text()
    assert "2 of 4 frames failed, the first at 2: too bright." in estimate.status.text()


def test_a_frame_that_fails_is_named_by_its_place(monkeypatch, viewer, field, quick, tmp_path):
    def some(image, **options):
        if image.max() > 1:
            raise ValueError("too bright")
        return field

    monkeypatch.setattr("blurfield.estimation.estimate", some)
    data = np.ones((3, 6, 48, 64), np.float32)
    data[1, 4] = 2
    layer = viewer.add_image(data, axis_labels=("t", "z", "y", "x"))
    plan = SeriesPlan(Stack.from_layer(layer), (9, 10), {}, chosen_folder=str(tmp_path))
    summary = run_series(plan).summary
    assert "1 of 2 frames failed, the first at t 1, z 4: too bright." in summary


def test_if_all_frames_fail_there_is_no_layer(
    monkeypatch, estimate, viewer, quick, finish, tmp_path, notes
):
    def fail(image, **options):
        raise ValueError("too dark")

    monkeypatch.setattr("blurfield.estimation.estimate", fail)
    add_movie(viewer, 2)
    estimate.frames.which.value = "all"
    estimate.folder.path.setText(str(tmp_path))
    estimate.run()
    finish(estimate)
    assert roles(viewer) == [None]
    assert "too dark" in notes[0].message


def test_another_folder_is_asked_for(estimate, viewer, by_frame, finish, tmp_path, notes):
    add_movie(viewer, 2)
    estimate.frames.which.value = "all"
    estimate.folder.path.setText(str(tmp_path))
    estimate.run()
    finish(estimate)
    estimate.gamma.value = 2.2
    estimate.run()
    finish(estimate)
    assert "choose another folder" in notes[0].message
    assert len(viewer.layers) == 6


@pytest.mark.parametrize("text", ["", "7-9"])
def test_frames_that_are_not_there(text, estimate, viewer, notes):
    add_movie(viewer)
    estimate.frames.which.value = "some"
    estimate.frames.ranges.setText(text)
    estimate.run()
    assert "0 to 3" in notes[0].message
    assert estimate.job is None


# ---------------------------------------------------------------------- folders, memory


def test_folders_are_those_of_the_same_work(viewer, tmp_path):
    np.save(tmp_path / "movie.npy", movie(2))
    stack = Stack.from_layer(add_movie(viewer, 2))
    stack = replace(stack, first=replace(stack.first, path=str(tmp_path / "movie.npy")))
    plan = SeriesPlan(stack, (0, 1), {"model": "auto"})
    assert plan.folder.parent == tmp_path / "movie-blurfield"
    assert not plan.is_temporary
    assert plan.folder == SeriesPlan(stack, (0,), {"model": "auto"}).folder
    assert plan.folder != SeriesPlan(stack, (0, 1), {"model": "ufp"}).folder
    memory = add_movie(viewer, 2)
    other = SeriesPlan(Stack.from_layer(memory), (0, 1), {})
    assert other.is_temporary
    assert "removed when napari closes" in other.place
    assert other.folder != SeriesPlan(Stack.from_layer(add_movie(viewer, 2)), (0, 1), {}).folder


@pytest.mark.parametrize("on_disk", [True, False])
def test_folders_are_others_for_other_work(on_disk, viewer, tmp_path):
    file = tmp_path / "movie.npy"
    file.touch()
    data = movie(4, (3,))
    layer = viewer.add_image(data)
    first = Stack.from_layer(layer, Axes((FRAMES, CHANNELS)))
    corrected = Stack.from_layer(layer, Axes((FRAMES, FRAMES)))
    second_channel = Stack.from_layer(viewer.add_image(data + 1), Axes((FRAMES, CHANNELS)))

    def folder(stack, **options):
        path = str(file) if on_disk else None
        stack = replace(stack, first=replace(stack.first, path=path))
        return SeriesPlan(stack, **{"numbers": (0, 1), "estimate": {}, **options}).folder

    assert folder(first) == folder(first, numbers=(0, 2))
    together = [folder(first, shared=True, numbers=numbers) for numbers in [(0, 1), (0, 2)]]
    assert len({folder(first), folder(corrected), folder(second_channel), *together}) == 5


def test_no_more_than_one_frame_is_read_at_a_time(viewer, quick, tmp_path):
    reading, most, seen = [0], [0], []
    lock = threading.Lock()

    def read(block_info=None):
        with lock:
            reading[0] += 1
            most[0] = max(most[0], reading[0])
            seen.append(block_info[None]["chunk-location"][0])
        made = np.full((1, 48, 64), 7, np.uint16)
        with lock:
            reading[0] -= 1
        return made

    data = da.map_blocks(read, chunks=((1,) * 6, 48, 64), dtype=np.uint16, meta=np.empty((0, 0, 0)))
    layer = viewer.add_image(data, contrast_limits=(0, 9))
    seen.clear()
    plan = SeriesPlan(
        Stack.from_layer(layer), (2, 4), {}, {"method": "auto"}, chosen_folder=str(tmp_path)
    )
    outcome = run_series(plan, progress=lambda *_: None)
    # The first and the last frame are looked at to tell the source from others.
    assert set(seen) == {0, 2, 4, 5}
    assert most[0] == 1
    layers = [Layer.create(*made) for made in outcome.layers]
    assert all(isinstance(made.data, da.Array) for made in layers if role_of(made) != "vectors")


def test_parts_may_be_computed_at_a_time(viewer, by_frame, tmp_path):
    stack = Stack.from_layer(add_movie(viewer, 5))
    plan = SeriesPlan(stack, tuple(range(5)), {}, chosen_folder=str(tmp_path))
    run_series(plan)
    fields = FieldStack(Series.open(tmp_path), stack)

    def lengths(thread):
        frames = [(thread * number) % 5 for number in range(40)]
        return all(length_of(fields.at((frame,))) == 3 + 2 * frame for frame in frames)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(lengths, range(1, 9)))
    finally:
        sys.setswitchinterval(interval)
    assert length_of(copy.deepcopy(fields).at((3,))) == 9


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


def test_layers_of_the_same_run_are_not_doubled(deblur, viewer, by_frame, finish, tmp_path):
    source = add_movie(viewer)
    deblur.frames.which.value = "all"
    deblur.folder.path.setText(str(tmp_path))
    deblur.run()
    finish(deblur)
    before = list(viewer.layers)
    assert roles(viewer) == [None, *PICTURES, "deblurred"]
    sharp = in_viewer(viewer)["deblurred"]
    sharp.contrast_limits = (3, 33)
    chosen = deblur.field.chosen
    source.data[1] += 200
    viewer.layers.remove("movie blur mask")
    deblur.run()
    finish(deblur)
    assert "3 of them before; 1 again" in deblur.status.text()
    made = in_viewer(viewer)
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


def test_runs_that_differ_do_not_go_on_with_each_other(deblur, viewer, by_frame, finish):
    layer = add_movie(viewer)
    deblur.frames.which.value = "all"
    deblur.run()
    finish(deblur)
    made = deblur.field.chosen
    options = {"numbers": (0, 1, 2, 3), "estimate": made.series.record.estimate}
    options |= {"deblur": made.series.record.deblur, "given": made}
    stack = Stack.from_layer(layer)
    folder = made.series.folder
    assert SeriesPlan(stack, **options).folder == folder
    assert SeriesPlan(stack, **options, chosen_folder=str(folder)).goes_on == folder
    copy = Stack.from_layer(viewer.add_image(layer.data, axis_labels=("t", "y", "x")))
    for other in (
        SeriesPlan(copy, **options),
        SeriesPlan(stack, **options, shared=True),
        SeriesPlan(stack, **options, chosen_folder="elsewhere"),
        SeriesPlan(stack, **{**options, "deblur": {"method": "tikhonov"}}),
        SeriesPlan(stack.within([Region("r", slice(0, 9), slice(0, 9))]), **options),
    ):
        assert other.goes_on is None
        assert other.folder != folder


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


def mosaic_of(length):
    kernel = np.zeros((11, 11), bool)
    kernel[5, 5 - length // 2 : 6 + length // 2] = True
    return kernel


def test_more_frames_join_the_layers_there_are(estimate, viewer, by_frame, finish, tmp_path):
    add_movie(viewer, translate=(5, 0, 0))
    estimate.folder.path.setText(str(tmp_path))
    estimate.frames.which.value = "some"
    for text in ("0-1", "1-2"):
        estimate.frames.ranges.setText(text)
        estimate.run()
        finish(estimate)
    assert roles(viewer) == [None, *PICTURES]
    vectors = in_viewer(viewer)["vectors"]
    assert set(vectors.data[:, 0, 0]) == {0, 1, 2}
    for frame in range(3):
        of_frame = vectors.features["length"][vectors.data[:, 0, 0] == frame]
        assert set(np.round(of_frame)) == {3 + 2 * frame}
    viewer.layers["movie"].translate = (7, 0, 0)
    estimate.run()
    finish(estimate)
    assert roles(viewer) == [None, *PICTURES]
    for role in ("mosaic", "mask", "vectors"):
        assert in_viewer(viewer)[role].data_to_world((0, 0, 0))[0] == 7


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


# ------------------------------------------------------------------- commands, scripts


def test_commands_take_the_frame_shown(estimate, viewer, by_frame, finish, tmp_path, notes):
    source = add_movie(viewer)
    estimate.frames.which.value = "all"
    estimate.kernels.setChecked(False)
    estimate.folder.path.setText(str(tmp_path))
    estimate.run()
    finish(estimate)
    viewer.dims.set_point(0, 2)
    viewer.layers.selection.active = in_viewer(viewer)["vectors"]
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


# -------------------------------------------------------------------------- real work


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


@pytest.mark.slow
def test_cancelling_real_work_takes_less_than_a_second(viewer, estimate, qtbot, tmp_path):
    movie = np.stack([np.asarray(camera())[:400, :400]] * 3)
    viewer.add_image(movie, axis_labels=("t", "y", "x"))
    estimate.frames.which.value = "all"
    estimate.folder.path.setText(str(tmp_path))
    estimate.run()
    job = estimate.job
    qtbot.waitUntil(lambda: estimate.progress_bar.maximum() > 0, timeout=60_000)
    qtbot.wait(500)
    started = time.monotonic()
    with qtbot.waitSignal(job.ended, timeout=20_000):
        estimate.cancel()
    assert time.monotonic() - started < 1
    assert len(viewer.layers) == 1
