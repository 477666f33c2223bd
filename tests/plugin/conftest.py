"""Quick stand-ins for the slow parts of the core, and viewers without a window."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import blurred_lapse
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils.colormaps import label_colormap
from napari.utils.notifications import notification_manager
from npe2 import PluginManifest
from working_widgets import WORKERS, ready

import blurfield
from blurfield import KernelField
from napari_blurfield import _jobs, _settings
from napari_blurfield.widgets import DeblurWidget, EstimateWidget, MaskWidget, MeasureWidget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHAPE = (48, 64)


@pytest.fixture
def field() -> KernelField:
    """A field of SHAPE: sharp on the left, a horizontal motion of 9 px on the right."""
    basis = np.zeros((2, 9, 9), np.float32)
    basis[0, 4, 4] = 1
    basis[1, 4] = 1 / 9
    mixing = np.zeros((2, 4, 8), np.float32)
    mixing[0, :, :4] = mixing[1, :, 4:] = 1
    return KernelField(basis, mixing, SHAPE)


@pytest.fixture
def photograph() -> np.ndarray:
    """A grey 8-bit image of SHAPE."""
    return np.random.default_rng(0).integers(20, 200, SHAPE).astype(np.uint8)


@pytest.fixture
def placed() -> dict[str, Any]:
    """All seven spatial attributes of a two-dimensional layer, none of them trivial."""
    return {
        "scale": (0.5, 0.25),
        "translate": (10.0, -3.0),
        "rotate": 20.0,
        "shear": [0.1],
        "affine": np.array([[1.0, 0.2, 4.0], [0.0, 1.1, 5.0], [0.0, 0.0, 1.0]]),
        "units": ("um", "um"),
        "axis_labels": ("y", "x"),
    }


@pytest.fixture
def viewer() -> ViewerModel:
    """A viewer without a window."""
    return ViewerModel()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, field: KernelField) -> dict[str, Any]:
    """Replace estimation and deconvolution by something quick; return how they were called."""
    seen: dict[str, Any] = {}

    def estimate(image: Any, **options: Any) -> KernelField:
        seen["estimate"] = (image, options)
        options["progress"](1, 2, "looking")
        height, width = image.shape[:2] if options.get("channel_axis") is None else image.shape[1:]
        return KernelField(field.basis, field.mixing, (height, width), {"model": "quick"})

    def deblur(image: Any, used: KernelField, **options: Any) -> Any:
        seen["deblur"] = (image, used, options)
        options["progress"](1, 2, "sharpening")
        facts = {
            "method": "quick",
            "variant": None,
            "options": {"strength": options.get("strength")},
        }
        return (image, facts) if options.get("return_info") else image

    for name, function in (("estimate", estimate), ("deblur", deblur)):
        monkeypatch.setattr(blurfield, name, function, raising=False)
    # Series of frames take them from here.
    monkeypatch.setattr("blurfield.estimation.estimate", estimate)
    monkeypatch.setattr("blurfield.restoration.deblur", deblur)
    return seen


@pytest.fixture
def by_frame(
    monkeypatch: pytest.MonkeyPatch, quick: dict[str, Any], field: KernelField
) -> dict[str, Any]:
    """Let the blur of each frame of a movie tell which one it is: a motion of 3 + 2n pixels."""

    def estimate(image: Any, **options: Any) -> KernelField:
        options["progress"](1, 2, "looking")
        first = image[0] if image.ndim == 3 and image.shape[-1] != 3 else image
        length = 3 + 2 * round((float(np.mean(first)) - 24.5) / 100)
        basis = np.zeros((1, 11, 11), np.float32)
        basis[0, 5, 5 - length // 2 : 6 + length // 2] = 1 / length
        return KernelField(basis, np.ones((1, 1, 1), np.float32), field.shape)

    monkeypatch.setattr("blurfield.estimation.estimate", estimate)
    return quick


@pytest.fixture
def lapse() -> np.ndarray:
    """Twelve frames, each as bright as it is blurred."""
    frames = np.uint16(blurred_lapse.LENGTHS)[:, None, None]
    return np.broadcast_to(frames, (12, *blurred_lapse.SHAPE)).copy()


@pytest.fixture
def estimated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replace estimation: the first pixel says how long the blur is; return those asked for."""
    seen: list[int] = []

    def estimate(image: Any, **options: Any) -> KernelField:
        length = int(image.flat[0])
        options["progress"](1, 2, "looking")
        if not length:
            raise ValueError("the image is black")
        seen.append(length)
        confidence = np.full((2, 2), 1 - length / 20)
        kernel = blurred_lapse.line(length)
        return KernelField.uniform(kernel, image.shape[-2:], {}, {"confidence": confidence})

    monkeypatch.setattr(blurfield, "estimate", estimate, raising=False)
    return seen


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace estimation by something that only ends when it is told to."""

    def estimate(image: Any, **options: Any) -> KernelField:
        step = 0
        while True:
            time.sleep(0.02)
            step += 1
            options["progress"](step, 1000, "looking for ever")

    monkeypatch.setattr(blurfield, "estimate", estimate, raising=False)


@pytest.fixture
def notes() -> list[Any]:
    """The notifications shown during a test."""
    notification_manager.records.clear()
    return notification_manager.records


@pytest.fixture
def finish(qtbot: Any) -> Callable[[Any], None]:
    """Wait until a widget's job is over, and its thread too."""

    def wait(widget: Any) -> None:
        qtbot.waitUntil(lambda: widget.job is None and not _jobs._running, timeout=60_000)

    return wait


@pytest.fixture(autouse=True, scope="session")
def colours_of_labels() -> None:
    """Let napari choose its colours of labels before threads run.

    It hides a warning meanwhile, which is not safe while other threads do the same.
    """
    label_colormap(49, 0.5)


@pytest.fixture(autouse=True)
def built_in_settings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that the user of this machine made change no test."""
    if "plugin_settings" not in request.fixturenames:
        monkeypatch.setattr(_settings, "_stored", lambda: None)


@pytest.fixture(autouse=True)
def no_job_left(qtbot: Any) -> Iterator[None]:
    """Fail if a thread outlives its test."""
    yield
    qtbot.waitUntil(lambda: not _jobs._running, timeout=5_000)


@pytest.fixture
def estimate(viewer: ViewerModel, qtbot: Any) -> EstimateWidget:
    widget = EstimateWidget(viewer)
    qtbot.addWidget(widget)
    return widget


@pytest.fixture
def deblur(viewer: ViewerModel, qtbot: Any) -> DeblurWidget:
    widget = DeblurWidget(viewer)
    qtbot.addWidget(widget)
    return widget


@pytest.fixture
def measure(viewer: ViewerModel, qtbot: Any) -> MeasureWidget:
    widget = MeasureWidget(viewer)
    qtbot.addWidget(widget)
    return widget


@pytest.fixture
def mask(viewer: ViewerModel, qtbot: Any) -> MaskWidget:
    widget = MaskWidget(viewer)
    qtbot.addWidget(widget)
    return widget


@pytest.fixture
def plugin(npe2pm: Any) -> Iterator[Any]:
    """Register the plugin with napari, as installing it does."""
    manifest = PluginManifest.from_distribution("napari-blurfield")
    with npe2pm.tmp_plugin(manifest=manifest):
        yield npe2pm


@pytest.fixture
def core(quick: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put something in front of each slow function of the core: ``core.before(options)``."""

    class Core:
        def before(self, options: dict[str, Any]) -> None:
            options["progress"](1, 2, "working")

    core = Core()

    def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            core.before(options)
            return function(*args, **options)

        return call

    for name in ("estimate", "deblur", "reblur"):
        monkeypatch.setattr(blurfield, name, guarded(getattr(blurfield, name)), raising=False)
    return core


@pytest.fixture
def held(core: Any) -> threading.Event:
    """Let all work wait until the event is set."""
    release = threading.Event()

    def wait(options: dict[str, Any]) -> None:
        while not release.is_set():
            time.sleep(0.005)
            options["progress"](1, 2, "working")

    core.before = wait
    return release


@pytest.fixture(params=WORKERS, ids=lambda cls: cls.__name__)
def worker(
    request: pytest.FixtureRequest,
    viewer: ViewerModel,
    photograph: np.ndarray,
    field: KernelField,
    qtbot: Any,
) -> Any:
    """Each of the widgets that run jobs, ready to run."""
    widget = ready(request.param, viewer, photograph, field)
    qtbot.addWidget(widget)
    return widget
