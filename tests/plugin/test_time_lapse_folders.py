"""Folders of results, and what is read and computed at a time."""

from __future__ import annotations

import copy
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
from in_viewer import threads_at_work
from movies import add_movie, length_of, movie
from napari.layers import Layer

from blurfield.series import Series
from napari_blurfield._axes import CHANNELS, FRAMES, Axes
from napari_blurfield._field_stack import FieldStack
from napari_blurfield._regions import Region
from napari_blurfield._series import SeriesPlan, run_series
from napari_blurfield._stack import Stack
from napari_blurfield.layers import role_of

pytestmark = threads_at_work


# ------------------------------------------------------------------------------ folders


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


# ---------------------------------------------------------------------- memory, threads


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
