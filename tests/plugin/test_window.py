"""The plugin in a real window: docks, activity, closing, opening files, screenshots."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import time
import weakref

import numpy as np
import pytest
from napari._qt.dialogs.qt_activity_dialog import QtActivityDialog
from napari._qt.widgets.qt_progress_bar import QtLabeledProgressBar

from napari_blurfield import field_layers
from napari_blurfield.layers import role_of
from napari_blurfield.widgets import EstimateWidget


def test_widgets_open_from_the_plugin_menu(plugin, make_napari_viewer):
    viewer = make_napari_viewer()
    for name in ("Estimate blur field", "Deblur", "Blur mask"):
        _, widget = viewer.window.add_plugin_dock_widget("napari-blurfield", name)
        assert widget.viewer is viewer
        assert widget.run_button.isVisibleTo(widget)


def test_choices_follow_a_real_viewer(plugin, make_napari_viewer, photograph, field):
    viewer = make_napari_viewer()
    _, widget = viewer.window.add_plugin_dock_widget("napari-blurfield", "Deblur")
    first = viewer.add_image(photograph, name="first")
    second = viewer.add_image(photograph, name="second")
    assert widget.image.value is second
    viewer.layers.selection.active = first
    assert widget.image.value is first
    for data, attributes, kind in field_layers(field):
        getattr(viewer, f"add_{kind}")(data, **attributes)
    assert widget.image.values == [second, first]
    assert widget.field.value is field


def test_estimate_shows_in_the_activity_dock(
    plugin, make_napari_viewer, endless, photograph, qtbot
):
    viewer = make_napari_viewer()
    viewer.add_image(photograph)
    _, widget = viewer.window.add_plugin_dock_widget("napari-blurfield", "Estimate blur field")
    widget.run()
    job = widget.job
    dialog = viewer.window._qt_window.findChild(QtActivityDialog)
    (bar,) = dialog.findChildren(QtLabeledProgressBar)
    qtbot.waitUntil(lambda: bar.qt_progress_bar.value() > 0)
    assert "Estimating the blur" in bar.description_label.text()
    started = time.monotonic()
    with qtbot.waitSignal(job.ended):
        bar.cancel_button.click()
    assert time.monotonic() - started < 1
    assert len(viewer.layers) == 1
    assert widget.run_button.isEnabled()


def test_closing_the_dock_stops_the_job(plugin, make_napari_viewer, endless, photograph, qtbot):
    viewer = make_napari_viewer()
    viewer.add_image(photograph)
    dock, widget = viewer.window.add_plugin_dock_widget("napari-blurfield", "Estimate blur field")
    widget.run()
    job = widget.job
    with qtbot.waitSignal(job.progressed):
        pass
    alive = weakref.ref(widget)
    dock.destroyOnClose()
    qtbot.waitUntil(lambda: not job.is_running, timeout=1000)
    del widget, dock
    qtbot.waitUntil(lambda: gc.collect() >= 0 and alive() is None, timeout=2000)
    assert len(viewer.layers) == 1


def test_all_layers_can_be_drawn(make_napari_viewer, field, photograph, placed):
    viewer = make_napari_viewer()
    viewer.add_image(photograph, **placed)
    for data, attributes, kind in field_layers(field):
        getattr(viewer, f"add_{kind}")(data, **{**attributes, "visible": True})
    assert viewer.screenshot(flash=False).std() > 0
    viewer.dims.set_current_step(0, 1)
    viewer.screenshot(flash=False)


def test_field_files_open_and_save_in_the_viewer(
    plugin, make_napari_viewer, field, photograph, tmp_path
):
    viewer = make_napari_viewer()
    viewer.add_image(photograph, name="plain")
    path = tmp_path / "known.blurfield"
    field.save(path)
    opened = viewer.open(str(path), plugin=None)
    assert [role_of(layer) for layer in opened] == ["mixing", "basis", "mosaic", "mask", "vectors"]
    viewer.layers.selection = {opened[-1]}
    again = str(tmp_path / "again.blurfield")
    assert viewer.layers.save(again, selected=True) == [again]
    assert viewer.layers["known blur mask"].save(str(tmp_path / "m.blurfield"))
    with pytest.raises(TypeError, match="no blur field"):
        viewer.layers["plain"].save(str(tmp_path / "p.blurfield"))
    assert not (tmp_path / "p.blurfield").exists()


def test_sample_opens(plugin, make_napari_viewer):
    viewer = make_napari_viewer()
    viewer.open_sample("napari-blurfield", "shaken_portrait")
    assert [layer.visible for layer in viewer.layers] == [False, True, False, False, False]


def test_widgets_are_light(plugin, make_napari_viewer):
    viewer = make_napari_viewer()
    EstimateWidget(viewer).deleteLater()  # imports are not what is measured here
    started = time.monotonic()
    for name in ("Estimate blur field", "Deblur", "Blur mask"):
        viewer.window.add_plugin_dock_widget("napari-blurfield", name)
    assert time.monotonic() - started < 1.5


@pytest.mark.parametrize("work", ["quick", pytest.param("real", marks=pytest.mark.slow)])
def test_closing_the_window_in_the_middle_of_a_job_ends_the_process(work):
    code = """
        import sys, time
        import numpy as np, napari, blurfield
        from qtpy.QtCore import QTimer
        from napari_blurfield.widgets import EstimateWidget

        def estimate(image, progress, **options):
            step = 0
            while True:
                time.sleep(0.05)
                step += 1
                progress(step, 1000, "working")

        if sys.argv[1] == "quick":
            blurfield.estimate = estimate
        viewer = napari.Viewer()
        viewer.add_image(np.random.default_rng(0).random((500, 500)))
        widget = EstimateWidget(viewer)
        viewer.window.add_dock_widget(widget)
        widget.run()
        closed = []

        def close_once_it_works():
            if widget.progress_bar.maximum() < 1:  # the core has not taken over
                return
            assert widget.job.is_running
            timer.stop()
            closed.append(time.monotonic())
            viewer.close()

        timer = QTimer()
        timer.timeout.connect(close_once_it_works)
        timer.start(50)
        napari.run()
        import atexit
        atexit.register(lambda: print("left after", time.monotonic() - closed[0], flush=True))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), work]
    process = subprocess.run(command, timeout=120, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert "Traceback" not in process.stderr
    assert float(process.stdout.split("left after")[1]) < 2


def test_scripts_need_no_widget(make_napari_viewer, quick, photograph):
    from napari.layers import Layer

    from napari_blurfield import estimate_layers

    viewer = make_napari_viewer()
    image = viewer.add_image(photograph, name="cells")
    for data in estimate_layers(image, progress=lambda *_: None):
        viewer.add_layer(Layer.create(*data))
    assert len(viewer.layers) == 6
    assert np.asarray(viewer.layers["cells blur mask"].data).shape == photograph.shape
