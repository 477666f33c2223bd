"""What can go wrong while people work: said clearly, nothing lost, and the next run works."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from functools import wraps

import numpy as np
import pytest
import torch
from in_viewer import add_field, roles
from npe2 import PluginManifest

import blurfield
from blurfield import KernelField, checkpoint_files
from blurfield.checkpoints import user_folder
from blurfield.restoration import deblurring
from napari_blurfield import _commands, _jobs, find_field
from napari_blurfield.layers import FACTS
from napari_blurfield.widgets import (
    DeblurWidget,
    EstimateWidget,
    InspectorWidget,
    ReblurWidget,
)

#: Widgets that run jobs on an image, and the layer each adds last.
WORKERS = {EstimateWidget: "vectors", DeblurWidget: "deblurred", ReblurWidget: "reblurred"}

GPU_LOST = RuntimeError(
    "CUDA error: unspecified launch failure\nCUDA kernel errors might be asynchronously reported"
)
GPU_FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.")
FULL_DISK = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def plugin(npe2pm):
    """Register the plugin with napari, as installing it does."""
    manifest = PluginManifest.from_distribution("napari-blurfield")
    with npe2pm.tmp_plugin(manifest=manifest):
        yield npe2pm


@pytest.fixture
def core(quick, monkeypatch):
    """Put something in front of each slow function of the core: ``core.before(options)``."""

    class Core:
        def before(self, options):
            options["progress"](1, 2, "working")

    core = Core()

    def guarded(function):
        def call(*args, **options):
            core.before(options)
            return function(*args, **options)

        return call

    for name in ("estimate", "deblur", "reblur"):
        monkeypatch.setattr(blurfield, name, guarded(getattr(blurfield, name)), raising=False)
    return core


@pytest.fixture
def held(core):
    """Let all work wait until the event is set."""
    release = threading.Event()

    def wait(options):
        while not release.is_set():
            time.sleep(0.005)
            options["progress"](1, 2, "working")

    core.before = wait
    return release


@pytest.fixture
def on_gpu(monkeypatch):
    """Let jobs believe that the automatic device is a GPU."""

    def choose_device(device):
        return torch.device("cuda" if device == "auto" else device)

    monkeypatch.setattr(_jobs, "choose_device", choose_device)


def ready(cls, viewer, photograph, field):
    """Return a widget with an image and its field in the viewer, ready to run."""
    viewer.add_image(photograph, name="cells")
    add_field(viewer, field, kernels=False)
    viewer.layers.selection.active = viewer.layers["cells"]
    widget = cls(viewer)
    if cls is not EstimateWidget:
        widget.field.value = field
    return widget


@pytest.fixture(params=WORKERS, ids=lambda cls: cls.__name__)
def worker(request, viewer, photograph, field, qtbot):
    widget = ready(request.param, viewer, photograph, field)
    qtbot.addWidget(widget)
    return widget


def last_role(worker):
    return WORKERS[type(worker)]


def runs_again(worker, finish):
    """Run once more; return whether that added its layers, and nothing else did."""
    before = len(worker.viewer.layers)
    worker.run()
    finish(worker)
    return len(worker.viewer.layers) > before and roles(worker.viewer)[-1] == last_role(worker)


def started(worker, qtbot):
    worker.run()
    qtbot.waitUntil(lambda: worker.progress_bar.maximum() == 2, timeout=10_000)
    return worker.job


# ------------------------------------------------------------------------- the layers


def test_the_layer_is_removed_meanwhile(worker, viewer, held, qtbot, finish, notes):
    started(worker, qtbot)
    viewer.layers.remove("cells")
    held.set()
    finish(worker)
    assert roles(viewer)[-1] == last_role(worker)
    assert [note.severity.value for note in notes] == ["info"]
    assert "gone" in notes[0].message
    viewer.add_image(np.zeros((48, 64), np.uint8), name="next")
    assert runs_again(worker, finish)


def test_the_layer_is_changed_meanwhile(worker, viewer, photograph, held, quick, qtbot, finish):
    before = photograph.copy()
    started(worker, qtbot)
    layer = viewer.layers["cells"]
    layer.data[:] = 0
    layer.data = np.ones((9, 9))
    layer.name = "another name"
    held.set()
    finish(worker)
    made = viewer.layers[-1]
    if last_role(worker) == "deblurred":
        np.testing.assert_array_equal(made.data, before)
    facts = find_field(made).metadata if last_role(worker) == "vectors" else made.metadata[FACTS]
    source = facts["napari"] if last_role(worker) == "vectors" else facts["source"]
    assert source["shape"] == [48, 64]
    assert source["layer"] == "cells"


def test_the_field_is_removed_meanwhile(viewer, photograph, field, held, qtbot, finish, notes):
    viewer.add_image(photograph, name="cells")
    add_field(viewer, field, kernels=False)
    widget = ReblurWidget(viewer)
    qtbot.addWidget(widget)
    started(widget, qtbot)
    for layer in list(viewer.layers)[1:]:
        viewer.layers.remove(layer)
    held.set()
    finish(widget)
    assert roles(viewer) == [None, "reblurred"]
    assert widget.field.value is None
    assert not notes


# -------------------------------------------------------------------------- two jobs


@pytest.mark.parametrize("cancelled", [False, True])
def test_two_jobs_at_once(cancelled, viewer, photograph, field, held, qtbot, finish, notes):
    viewer.add_image(photograph, name="cells")
    add_field(viewer, field, kernels=False)
    one, other = EstimateWidget(viewer), DeblurWidget(viewer)
    other.field.value = field
    for widget in (one, other):
        qtbot.addWidget(widget)
        widget.run()
    qtbot.waitUntil(lambda: one.progress_bar.maximum() == 2)
    if cancelled:
        one.cancel()
    held.set()
    for widget in (one, other):
        finish(widget)
    assert roles(viewer).count("deblurred") == 1
    assert roles(viewer).count("vectors") == (1 if cancelled else 2)
    assert ("Cancelled" in one.status.text()) is cancelled
    assert not notes


# --------------------------------------------------------------------------- closing


@pytest.mark.parametrize("cls", WORKERS)
def test_the_widget_is_closed(cls, viewer, photograph, field, held, qtbot, finish, notes):
    widget = ready(cls, viewer, photograph, field)
    job = started(widget, qtbot)
    before = list(viewer.layers)
    with qtbot.waitSignal(widget.destroyed):
        widget.deleteLater()
    qtbot.waitUntil(lambda: not job.is_running, timeout=10_000)
    assert list(viewer.layers) == before
    assert not notes
    held.set()
    again = cls(viewer)
    qtbot.addWidget(again)
    assert runs_again(again, finish)


def test_the_viewer_is_closed(plugin, make_napari_viewer, photograph, held, qtbot, notes):
    viewer = make_napari_viewer()
    viewer.add_image(photograph, name="cells")
    _, widget = viewer.window.add_plugin_dock_widget("napari-blurfield", "Estimate blur field")
    jobs = [started(widget, qtbot), _commands.deblur_active(viewer)]
    viewer.close()
    qtbot.waitUntil(lambda: not any(job.is_running for job in jobs), timeout=10_000)
    assert not any(roles(viewer))
    assert not notes


# ---------------------------------------------------------------------------- failing

FAILURES = {
    "no memory": (GPU_FULL, "Not enough memory"),
    "no memory, explained": (MemoryError("not enough memory on cpu"), "Not enough memory on cpu"),
    "GPU lost": (GPU_LOST, "The GPU has failed"),
    "full disk": (FULL_DISK, "No space left on device"),
    "bad input": (ValueError("the image is empty"), "The image is empty"),
    "our mistake": (KeyError("kernel"), "KeyError"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_failures_leave_everything_as_it_was(
    estimate, viewer, photograph, core, failure, finish, notes
):
    error, words = FAILURES[failure]

    def fail(options):
        raise error

    viewer.add_image(photograph, name="cells")
    before, usual = list(viewer.layers), core.before
    core.before = fail
    estimate.run()
    finish(estimate)
    (note,) = notes
    assert note.severity.value == "error"
    assert note.message.startswith(words)
    assert "\n" not in note.message
    assert estimate.status.text() == note.message
    assert list(viewer.layers) == before
    assert estimate.run_button.isEnabled()
    core.before = usual
    assert runs_again(estimate, finish)
    assert len(notes) == 1


def test_a_failing_gpu_leads_to_the_cpu(worker, viewer, core, on_gpu, finish, notes):
    devices = []

    def fail_on_gpu(options):
        devices.append(options["device"])
        if options["device"] != "cpu":
            raise GPU_LOST

    core.before = fail_on_gpu
    worker.run()
    finish(worker)
    (note,) = notes
    assert "CPU" in note.message
    ((label, try_again),) = note.actions
    assert label == "Compute on the CPU"
    try_again()
    finish(worker)
    assert devices[0] == "auto"
    assert set(devices[1:]) == {"cpu"}
    assert roles(viewer)[-1] == last_role(worker)
    assert len(notes) == 1
    assert runs_again_on_cpu(worker, finish)


def runs_again_on_cpu(worker, finish):
    worker.device.value = "cpu"
    return runs_again(worker, finish)


def test_the_cpu_is_not_offered_in_place_of_itself(
    estimate, viewer, photograph, core, finish, notes
):
    viewer.add_image(photograph)

    def fail(options):
        raise MemoryError

    core.before = fail
    estimate.run()
    finish(estimate)
    assert not notes[0].actions


def test_the_offer_comes_too_late(viewer, photograph, field, held, core, on_gpu, qtbot, notes):
    widget = ready(EstimateWidget, viewer, photograph, field)
    wait = core.before

    def fail(options):
        raise GPU_LOST

    core.before = fail
    widget.run()
    qtbot.waitUntil(lambda: widget.job is None)
    core.before = wait
    started(widget, qtbot)
    ((_, try_again),) = notes[0].actions
    try_again()
    assert "running already" in notes[1].message
    with qtbot.waitSignal(widget.destroyed):
        widget.deleteLater()
    try_again()  # nobody is there any more
    qtbot.waitUntil(lambda: not _jobs._running)
    assert len(notes) == 2


def test_commands_offer_the_cpu_too(viewer, photograph, core, on_gpu, qtbot, notes):
    viewer.add_image(photograph, name="cells")

    def fail_on_gpu(options):
        if options["device"] != "cpu":
            raise GPU_FULL

    core.before = fail_on_gpu
    _commands.estimate_active(viewer)
    qtbot.waitUntil(lambda: not _jobs._running)
    ((_, try_again),) = notes[0].actions
    try_again()
    qtbot.waitUntil(lambda: not _jobs._running)
    assert roles(viewer)[-1] == "vectors"


def test_memory_that_runs_out_leads_to_smaller_tiles(viewer, qtbot, finish, notes, monkeypatch):
    """What the core does about it reaches the widget: a result, and no notification."""
    viewer.add_image(np.zeros((64, 900), np.uint8), name="cells")
    line = KernelField.uniform(np.eye(3) / 3, (64, 900))
    add_field(viewer, line, kernels=False)
    choice = deblurring.choose_method("tikhonov", {})
    seen = []

    @wraps(choice.solve)
    def limited(planes, *args, **options):
        seen.append(planes.shape[-1])
        if planes.shape[-1] > 600:
            raise GPU_FULL
        return choice.solve(planes, *args, **options)

    limits = choice._replace(solve=limited)
    monkeypatch.setattr(deblurring, "choose_method", lambda *_, **__: limits)
    widget = DeblurWidget(viewer)
    qtbot.addWidget(widget)
    widget.field.value = line
    widget.run()
    finish(widget)
    assert not notes, notes[0].message
    assert seen[0] == 900
    assert seen[-1] <= 600
    assert viewer.layers[-1].metadata[FACTS]["parameters"]["tiles"] > 1
    assert not notes


# ------------------------------------------------------------------------------ files


def test_the_disk_is_full_while_saving(plugin, make_napari_viewer, field, tmp_path, monkeypatch):
    viewer = make_napari_viewer()
    add_field(viewer, field, kernels=False)
    path = tmp_path / "good.blurfield"
    viewer.layers.selection = {viewer.layers["field blur mask"]}
    viewer.layers.save(str(path), selected=True)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", half_written)
        for name in ("good", "new"):
            with pytest.raises(OSError, match=rf"cannot write .*{name}\.blurfield: No space left"):
                viewer.layers.save(str(tmp_path / f"{name}.blurfield"), selected=True)
    assert [p.name for p in tmp_path.iterdir()] == ["good.blurfield"]
    assert path.read_bytes() == before
    viewer.layers.save(str(tmp_path / "new.blurfield"), selected=True)
    assert (tmp_path / "new.blurfield").read_bytes() == before


def half_written(tensors, path, metadata):
    """What safetensors does when the disk is full."""
    path.write_bytes(b"half")
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


def test_the_disk_is_full_while_exporting(viewer, field, qtbot, tmp_path, monkeypatch, notes):
    add_field(viewer, field, kernels=False)
    widget = InspectorWidget(viewer)
    qtbot.addWidget(widget)
    widget.pin((20, 60))
    path = tmp_path / "kernel.csv"

    def full(target, *args, **options):
        target.write_bytes(b"half")
        raise FULL_DISK

    with monkeypatch.context() as patch:
        patch.setattr(np, "savetxt", full)
        widget.export(path)
    (note,) = notes
    assert note.message == f"Cannot write {path}: No space left on device"
    assert not list(tmp_path.iterdir())
    widget.export(path)
    assert path.exists()


def test_files_are_whole_or_not_there_at_all(tmp_path):
    """A disk that takes no more than 300 bytes a file, for real."""
    code = """
        import os, resource, signal, sys
        from pathlib import Path
        import numpy as np
        from blurfield import KernelField
        from blurfield.annotated_tiff import write_annotated
        from blurfield.kernel_files import KERNEL_SUFFIXES, write_kernel

        folder = Path(sys.argv[1])
        psf = np.random.default_rng(0).random((25, 25), np.float32)
        field = KernelField.uniform(psf / psf.sum(), (30, 30))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
        writers = {suffix: lambda path: write_kernel(path, psf) for suffix in KERNEL_SUFFIXES}
        writers[".blurfield"] = field.save
        writers[".ome.tif"] = lambda path: write_annotated(path, psf, "YX", {})
        for suffix, writer in writers.items():
            path = folder / f"file{suffix}"
            try:
                writer(path)
            except OSError as error:
                assert str(path) in str(error), error
            else:
                raise AssertionError(f"{path} was written")
        assert not os.listdir(folder), os.listdir(folder)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------------------- weights


@pytest.fixture
def weights(monkeypatch, tmp_path):
    """A folder of the user's weights, at first with the denoiser that comes with the package."""
    monkeypatch.setenv("BLURFIELD_DATA", str(tmp_path))
    user_folder().mkdir()
    path = user_folder() / "denoiser.safetensors"
    shutil.copy(checkpoint_files.BUNDLED / path.name, path)
    return path


def test_damaged_weights_are_named(weights, viewer, photograph, field, qtbot, finish, notes):
    content = bytearray(weights.read_bytes())
    content[-1] ^= 0x40
    weights.write_bytes(content)
    viewer.add_image(photograph, name="cells")
    add_field(viewer, field, kernels=False)
    widget = DeblurWidget(viewer)
    qtbot.addWidget(widget)
    widget.field.value = field
    widget.method.value = "plug-and-play"
    before = list(viewer.layers)
    widget.run()
    finish(widget)
    (note,) = notes
    assert str(weights) in note.message
    assert "damaged" in note.message
    assert "install them again" in note.message
    assert list(viewer.layers) == before
    weights.unlink()
    widget.run()
    finish(widget)
    assert roles(viewer)[-1] == "deblurred"
    assert len(notes) == 1


def test_weights_cut_short_are_left_out(weights, viewer, photograph, field, qtbot, finish, notes):
    weights.write_bytes(weights.read_bytes()[:1000])
    viewer.add_image(photograph, name="cells")
    add_field(viewer, field, kernels=False)
    words = r"left out: cannot read .*denoiser.safetensors.* install them again, or delete the file"
    with pytest.warns(UserWarning, match=words):
        widget = DeblurWidget(viewer)
    qtbot.addWidget(widget)
    widget.field.value = field
    widget.method.value = "plug-and-play"
    widget.run()
    finish(widget)
    assert roles(viewer)[-1] == "deblurred"  # with the weights that come with the package
    assert {note.severity.value for note in notes} <= {"warning"}
    assert all(str(weights) in note.message for note in notes)
