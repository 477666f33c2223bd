"""Work that fails is explained, nothing is lost, and the CPU is offered where a GPU fails."""

from __future__ import annotations

import errno
from functools import wraps

import numpy as np
import pytest
import torch
from in_viewer import add_field, roles
from working_widgets import last_role, ready, runs_again, started

from blurfield import KernelField
from blurfield.restoration import deblurring
from napari_blurfield import _commands, _jobs
from napari_blurfield.layers import FACTS
from napari_blurfield.widgets import DeblurWidget, EstimateWidget

GPU_LOST = RuntimeError(
    "CUDA error: unspecified launch failure\nCUDA kernel errors might be asynchronously reported"
)
GPU_FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.")
FULL_DISK = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def on_gpu(monkeypatch):
    """Let jobs believe that the automatic device is a GPU."""

    def choose_device(device):
        return torch.device("cuda" if device == "auto" else device)

    monkeypatch.setattr(_jobs, "choose_device", choose_device)


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
