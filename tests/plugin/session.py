"""A session at the window, from the sample to a reopened field, with screenshots.

``python session.py FOLDER`` writes the screenshots and ``session.json`` into the folder. It needs a
display (Xvfb will do).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import napari
import numpy as np
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QApplication

from napari_blurfield import find_field
from napari_blurfield.layers import field_id, role_of

PLUGIN = "napari-blurfield"


def wait(condition, seconds=300):
    """Let the window work until something is true."""
    end = time.monotonic() + seconds
    while not condition():
        QApplication.processEvents()
        time.sleep(0.01)
        if time.monotonic() > end:
            raise TimeoutError("the session waited too long")


def settle(seconds=0.4):
    """Let the window draw."""
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end)


def shoot(viewer, path, **options):
    settle()
    viewer.screenshot(str(path), canvas_only=False, flash=False, **options)


def corners(layer):
    """World coordinates of an image's outer corners."""
    shape = np.array(layer.data.shape[:2] if getattr(layer, "rgb", False) else layer.data.shape)
    lead = (0,) * (layer.ndim - 2)
    places = [(*lead, -0.5, -0.5), (*lead, *(shape[-2:] - 0.5))]
    return [layer.data_to_world(place)[-2:] for place in places]


def by_role(viewer, prefix):
    return {role_of(x): x for x in viewer.layers if x.name.startswith(prefix) and role_of(x)}


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    facts = {}
    viewer = napari.Viewer()
    viewer.window.resize(1380, 960)
    viewer.open_sample(PLUGIN, "shaken_portrait")
    shoot(viewer, folder / "1-sample.png")

    source = viewer.layers["blurry photograph"]
    for layer in [layer for layer in viewer.layers if layer is not source]:
        viewer.layers.remove(layer)
    source.scale, source.units, source.translate = (0.5, 0.5), ("um", "um"), (20, 30)
    viewer.layers.selection.active = source
    viewer.canvas.overlays.scale_bar.visible = True
    viewer.reset_view()
    _, estimate = viewer.window.add_plugin_dock_widget(PLUGIN, "Estimate blur field")
    shoot(viewer, folder / "2-estimate-widget.png")
    estimate.run()
    job = estimate.job
    wait(lambda: estimate.progress_bar.maximum() > 0)  # the core has taken over
    settle(0.5)
    shoot(viewer, folder / "3-estimate-running.png")
    started = time.monotonic()
    estimate.cancel()
    wait(lambda: not job.is_running)
    facts["cancel_seconds"] = time.monotonic() - started
    facts["layers_after_cancel"] = [layer.name for layer in viewer.layers]

    estimate.run()
    wait(lambda: estimate.job is None)
    facts["estimate_status"] = estimate.status.text()
    shoot(viewer, folder / "4-estimated.png")
    made = by_role(viewer, "blurry photograph")
    facts["aligned"] = all(
        np.allclose(corners(made[role]), corners(source)) for role in ("mosaic", "mask", "mixing")
    )
    facts["units"] = sorted({str(unit) for layer in made.values() for unit in layer.units[-2:]})

    _, deblur = viewer.window.add_plugin_dock_widget(PLUGIN, "Deblur", tabify=True)
    facts["field_chosen"] = deblur.field.currentText()
    viewer.camera.zoom *= 2.5
    settle()
    deblur.preview()
    wait(lambda: deblur.job is None)
    facts["preview_status"] = deblur.status.text()
    facts["previews"] = len(by_role(viewer, "blurry photograph preview"))
    shoot(viewer, folder / "5a-preview.png")
    viewer.reset_view()
    deblur.run()
    wait(lambda: deblur.job is None)
    facts["deblur_status"] = deblur.status.text()
    for role in ("vectors", "mosaic", "mask"):
        made[role].visible = False
    shoot(viewer, folder / "5-deblurred.png")
    facts["previews_after"] = len(by_role(viewer, "blurry photograph preview"))
    deblur.compare_button.click()
    shoot(viewer, folder / "5b-before.png")
    facts["before"] = viewer.layers["blurry photograph deblurred"].visible
    deblur.compare_button.click()
    made["deblurred"] = viewer.layers["blurry photograph deblurred"]
    facts["aligned_deblurred"] = bool(np.allclose(corners(made["deblurred"]), corners(source)))
    made["deblurred"].visible = False

    _, mask = viewer.window.add_plugin_dock_widget(PLUGIN, "Blur mask", tabify=True)
    viewer.layers.selection.active = made["mask"]
    made["mask"].visible = True
    before = made["mask"].data.mean()
    mask.threshold.setValue(0.33)
    wait(lambda: not mask._timer.isActive())
    facts["mask_share"] = [float(before), float(made["mask"].data.mean())]
    shoot(viewer, folder / "6-mask.png")

    for role in ("vectors", "mosaic"):
        made[role].visible = True
    viewer.layers.selection.active = source
    shoot(viewer, folder / "7-all.png")
    for role in ("basis", "mixing"):
        made[role].visible = True
    for role in ("vectors", "mosaic", "mask"):
        made[role].visible = False
    viewer.dims.set_current_step(0, 0)
    shoot(viewer, folder / "8-kernels-and-weights.png")

    path = folder / "session.blurfield"
    viewer.layers.selection = {made["vectors"]}
    facts["saved"] = [Path(p).name for p in viewer.layers.save(str(path), selected=True)]
    places = {role: made[role].data_to_world((1,) * made[role].ndim) for role in made}
    identity = field_id(find_field(made["vectors"]))
    viewer.close()

    viewer = napari.Viewer()
    viewer.window.resize(1380, 960)
    opened = {role_of(layer): layer for layer in viewer.open(str(path), plugin=None)}
    facts["reopened"] = sorted(opened)
    facts["same_place"] = all(
        np.allclose(layer.data_to_world((1,) * layer.ndim), places[role])
        for role, layer in opened.items()
    )
    facts["same_field"] = field_id(find_field(opened["mask"])) == identity
    shoot(viewer, folder / "9-reopened.png")
    viewer.close()

    facts["notifications"] = [f"{n.severity}: {n.message}" for n in notification_manager.records]
    (folder / "session.json").write_text(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
