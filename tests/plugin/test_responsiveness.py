"""How long people wait: to stop real work, to close a widget in the middle of it, to open one.

The seconds that were measured stay in ``artifacts/responsiveness.json``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from in_viewer import add_field
from npe2 import PluginManifest
from skimage.data import camera

import blurfield
from blurfield import KernelField
from blurfield.restoration import METHODS
from napari_blurfield.layers import SOURCE
from napari_blurfield.widgets import (
    DeblurWidget,
    EstimateWidget,
    MaskWidget,
    MeasureWidget,
    ReblurWidget,
)

RECORD = Path(__file__).parents[2] / "artifacts" / "responsiveness.json"

#: Networks that come with the package: methods that need others are left out.
BUNDLED = {None, "denoiser"}
#: Seconds of work, after the first report, in which it is interrupted.
INTO_THE_WORK = 0.3

#: Names of the widgets in the menu, with the commands that open them.
WIDGETS = {
    widget.display_name: widget.command
    for widget in PluginManifest.from_distribution("napari-blurfield").contributions.widgets
}


@pytest.fixture(scope="module")
def scene():
    """A sharp photograph, the same with a shake that varies, and the true field."""
    sharp = np.asarray(camera())[:320, :400]
    return sharp, *blurfield.simulate(sharp, kind="rotation", seed=1, max_extent=15)


@pytest.fixture(scope="module")
def seconds():
    """What was measured, by the names of widgets and methods."""
    measured: dict[str, dict[str, float]] = {}
    yield measured
    known = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(known | measured, indent=2))


@pytest.fixture(scope="module")
def large_scene(scene):
    """The same of 100 times the size, for what is quick."""
    sharp, image, truth = scene
    field = KernelField(truth.basis, truth.mixing, (10 * sharp.shape[0], 10 * sharp.shape[1]))
    return np.tile(sharp, (10, 10)), np.tile(image, (10, 10)), field


# ----------------------------------------------------------------- what widgets work on


def blurry(viewer, scene, repeat=None):
    """Add the blurry image, or a time-lapse of it, and its true field."""
    _, image, truth = scene
    if repeat:
        frames = np.stack([image] * repeat)
        viewer.add_image(frames, name="blurry", axis_labels=("t", "y", "x"))
        return
    viewer.add_image(image, name="blurry")
    stored = {"layer": "blurry", "name": "blurry", "frame": []}
    add_field(viewer, truth.with_metadata(**{SOURCE: stored}), kernels=False)
    viewer.layers.selection.active = viewer.layers["blurry"]


def estimating(viewer, scene, folder, *, rounds=0):
    blurry(viewer, scene)
    widget = EstimateWidget(viewer)
    widget.model.value = "windowed"
    widget.rounds.setValue(rounds)
    return widget


def estimating_frames(viewer, scene, folder):
    blurry(viewer, scene, repeat=4)
    widget = EstimateWidget(viewer)
    widget.model.value = "windowed"
    widget.frames.which.value = "all"
    widget.folder.path.setText(str(folder / "series"))
    return widget


def deblurring(viewer, scene, folder, *, method, variant=None):
    blurry(viewer, scene)
    widget = DeblurWidget(viewer)
    widget.field.value = widget.field.values[1]
    widget.method.value = method
    if variant:
        widget.variant.value = variant
    return widget


def deblurring_unknown(viewer, scene, folder):
    viewer.add_image(scene[1], name="blurry")
    return DeblurWidget(viewer)


def masking(viewer, scene, folder):
    blurry(viewer, scene)
    return MaskWidget(viewer)


def measuring(viewer, scene, folder):
    blurry(viewer, scene, repeat=4)
    widget = MeasureWidget(viewer)
    widget.model_rows.model.value = "windowed"
    return widget


def reblurring(viewer, scene, folder, *, task):
    blurry(viewer, scene)
    if task == "residual":
        viewer.add_image(scene[0], name="deblurred")
    widget = ReblurWidget(viewer)
    widget.task.value = task
    widget.kind.value = "segments"
    if task == "residual":
        widget.deblurred.value = viewer.layers["deblurred"]
    return widget


WORK = {
    "estimate": (estimating, {}),
    "estimate, refined": (estimating, {"rounds": 1}),
    "estimate, time-lapse": (estimating_frames, {}),
    "deblur, estimated first": (deblurring_unknown, {}),
    **{
        f"deblur, {name}, {variant}": (deblurring, {"method": name, "variant": variant})
        for name, method in METHODS.items()
        if method.weights in BUNDLED
        for variant in method.variants
    },
    "mask": (masking, {}),
    "measure": (measuring, {}),
    "reblur": (reblurring, {"task": "reblur"}),
    "simulate": (reblurring, {"task": "simulate"}),
    "residual": (reblurring, {"task": "residual"}),
}
#: What is interrupted while it works on a large image.
QUICK = {"mask", "reblur", "simulate", "residual"} | {
    name for name in WORK if name.startswith(("deblur, tikhonov", "deblur, richardson-lucy"))
}
#: What is measured each time; the rest takes minutes on a slow machine.
ALWAYS = {"estimate", "deblur, richardson-lucy, adjoint", "simulate"}


@pytest.mark.parametrize(
    "work",
    [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.slow) for name in WORK],
)
def test_stopping_and_closing(work, viewer, scene, large_scene, tmp_path, seconds, qtbot, notes):
    prepare, options = WORK[work]
    widget = prepare(viewer, large_scene if work in QUICK else scene, tmp_path, **options)
    before = list(viewer.layers)
    job = running(widget, work, qtbot)
    begun = time.monotonic()
    widget.cancel()
    assert widget.run_button.isEnabled()
    qtbot.waitUntil(lambda: not job.is_running, timeout=30_000)
    seconds[work] = {"cancel": round(time.monotonic() - begun, 3)}
    if "time-lapse" not in work:  # of which finished frames stay
        assert list(viewer.layers) == before
    job = running(widget, work, qtbot)
    begun = time.monotonic()
    with qtbot.waitSignal(widget.destroyed):
        widget.deleteLater()
    qtbot.waitUntil(lambda: not job.is_running, timeout=30_000)
    seconds[work]["close"] = round(time.monotonic() - begun, 3)
    assert seconds[work]["cancel"] < 1
    assert seconds[work]["close"] < 2
    assert not notes


def running(widget, work, qtbot):
    """Start real work, and return its job once the core is in the middle of it."""
    widget.run()
    job = widget.job
    qtbot.waitUntil(lambda: widget.progress_bar.maximum() > 0, timeout=60_000)
    qtbot.wait(0 if work in QUICK else round(1000 * INTO_THE_WORK))
    assert job.is_running, "the work was done too soon to be interrupted"
    return job


# ---------------------------------------------------------------------------- opening

OPENING = """
    import json, sys, time
    import napari, numpy as np
    from napari._app_model import get_app_model
    from qtpy.QtWidgets import QApplication

    def waited():
        # Seconds in which others had the processor, as Linux counts them.
        try:
            with open("/proc/thread-self/schedstat") as file:
                return int(file.read().split()[1]) / 1e9
        except OSError:
            return 0.0

    viewer = napari.Viewer()
    viewer.add_image(np.zeros((64, 64)), name="image")
    settled = time.monotonic() + 1
    while time.monotonic() < settled:
        QApplication.processEvents()
    seconds = {}
    for name, command in json.loads(sys.argv[1]).items():
        begun = time.perf_counter() - waited()
        get_app_model().commands.execute_command(command).result()
        widget = viewer.window.dock_widgets[f"{name} (Blurfield)"]
        QApplication.processEvents()
        seconds[name] = time.perf_counter() - waited() - begun
        assert widget.isVisible() and widget.run_button.isEnabled()
    print(json.dumps({"seconds": seconds, "torch": "torch" in sys.modules}))
    viewer.close()
"""


@pytest.mark.parametrize(
    "names",
    [
        list(WIDGETS),
        *(pytest.param([name], marks=pytest.mark.slow) for name in WIDGETS),
    ],
    ids=lambda names: names[0] if len(names) == 1 else "all",
)
def test_opening_from_the_menu(names, seconds):
    """In a process of its own: the first widget also imports what all widgets need."""
    commands = json.dumps({name: WIDGETS[name] for name in names})
    command = [sys.executable, "-c", textwrap.dedent(OPENING), commands]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout.splitlines()[-1])
    for name, opened in measured["seconds"].items():
        seconds.setdefault(f"open {name}", {})["open"] = round(opened, 3)
    assert not measured["torch"]
    assert max(measured["seconds"].values()) < 0.5
