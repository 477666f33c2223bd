#!/usr/bin/env python3
"""Make the pictures of the documentation anew.

    python tools/screenshots.py                  all of them, into docs/images
    python tools/screenshots.py estimate mask    only these
    python tools/screenshots.py --out DIR        elsewhere

Opens napari with each widget on a virtual display (`xvfb-run`, unless there is a display), lets it
work on scenes that `tools/scenes.py` draws, and writes small PNG files. Takes some minutes on one
core. Nothing is random: with the same versions the pictures are the same.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scenes
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import napari
    from napari.layers import Layer
    from numpy.typing import NDArray

    from blurfield import KernelField

PLUGIN = "napari-blurfield"
FOLDER = Path(__file__).resolve().parent.parent / "docs/images"
#: Size of the window, and of the virtual screen around it.
WINDOW, TALL, SCREEN = (1120, 720), (1120, 980), "1400x1000x24"
#: No picture has more bytes than this; fewer colours are taken until it fits.
LARGEST = 150_000
COLOURS = (256, 128, 64, 32)
#: Side of the kernels for the scenes: a little more than their longest motion.
KERNEL = 19
#: Folder of estimated fields, to make pictures again quickly while writing; by default none.
KEPT = Path(os.environ["BLURFIELD_PICTURES"]) if "BLURFIELD_PICTURES" in os.environ else None

# --------------------------------------------------------------------- the scenes


@cache
def scene(name: str) -> scenes.Scene:
    """A scene, drawn once."""
    return scenes.SCENES[name]()


def estimated(name: str, kernel_size: int | None = None) -> KernelField:
    """The estimated field of a scene; read from `KEPT` if it is there."""
    import blurfield

    path = KEPT and KEPT / f"{name}-{kernel_size}.blurfield"
    if path and path.exists():
        return blurfield.KernelField.load(path)
    options = {} if kernel_size is None else {"kernel_size": kernel_size}
    field = blurfield.estimate(scene(name).blurry, **options)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        field.save(path)
    return field


def restored(name: str, kernel_size: int | None = None, strength: float = 0.5) -> NDArray:
    """A scene, deblurred with its estimated field; read from `KEPT` if it is there."""
    import blurfield

    path = KEPT and KEPT / f"{name}-{kernel_size}-{strength}.npy"
    if path and path.exists():
        return np.load(path)
    sharp = blurfield.deblur(scene(name).blurry, estimated(name, kernel_size), strength=strength)
    if path:
        np.save(path, sharp)
    return sharp


# ----------------------------------------------------------------------- a window


class Session:
    """A napari window that is closed at the end."""

    def __init__(self, theme: str = "dark", size: tuple[int, int] = WINDOW) -> None:
        import napari

        self.viewer = napari.Viewer()
        self.viewer.theme = theme
        self.viewer.window.resize(*size)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.viewer.close()

    def open(self, widget: str) -> Any:
        """Dock a widget of the plugin on the right."""
        return self.viewer.window.add_plugin_dock_widget(PLUGIN, widget, tabify=True)[1]

    def finish(self, widget: Any) -> None:
        """Run a widget's job to its end."""
        widget.run()
        wait(lambda: widget.job is None)

    def show(self, *names: str) -> None:
        """Show these layers only; a name may be the end of one."""
        for layer in self.viewer.layers:
            layer.visible = layer.name.endswith(names)

    def layer(self, end: str) -> Layer:
        """The topmost layer whose name ends so."""
        return next(x for x in reversed(self.viewer.layers) if x.name.endswith(end))

    def shot(self) -> NDArray:
        """A picture of the window, without the seconds that work took on this machine."""
        from qtpy.QtWidgets import QApplication, QLabel

        for widget in QApplication.allWidgets():
            if isinstance(widget, QLabel):
                widget.setText(re.sub(r"\bin [\d.]+ s\b", "in … s", widget.text()))
        settle()  # the docks, which leave the canvas its size
        self.viewer.reset_view(margin=0.02)
        settle()
        return self.viewer.screenshot(canvas_only=False, flash=False)[..., :3]


def wait(condition: Callable[[], bool], seconds: float = 1800) -> None:
    """Let the window work until something is true."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while not condition():
        QApplication.processEvents()
        time.sleep(0.01)
        if time.monotonic() > end:
            raise TimeoutError("the window took too long")


def settle(seconds: float = 0.6) -> None:
    """Let the window draw."""
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end)


def add_scene(session: Session, name: str, field: KernelField) -> napari.layers.Image:
    """Add the blurry image of a scene, and the layers of a field as if estimated from it."""
    from napari.layers import Layer

    from napari_blurfield._source import Source
    from napari_blurfield.layers import field_layers

    layer = session.viewer.add_image(scene(name).blurry, name=name, rgb=True)
    known = field.with_metadata(napari=Source.from_layer(layer).to_json())
    for data, attributes, kind in field_layers(known, kernels=False):
        session.viewer.add_layer(Layer.create(data, attributes, kind))
    session.viewer.layers.selection.active = layer
    return layer


# ------------------------------------------------------------------- the pictures


def estimate() -> NDArray:
    """Estimate blur field, after a run on the page."""
    with Session() as session:
        session.viewer.add_image(scene("page").blurry, name="page", rgb=True)
        widget = session.open("Estimate blur field")
        widget.largest.setValue(KERNEL)
        session.finish(widget)
        return session.shot()


def page_kernels() -> NDArray:
    """The kernels of the upper left part of the page, three times as large."""
    return enlarged(drawn_over("page", estimated("page", KERNEL))[:150, :270], 3)


def inspector() -> NDArray:
    """Kernel inspector, pinned at the headline of the page."""
    with Session() as session:
        add_scene(session, "page", estimated("page", KERNEL))
        widget = session.open("Kernel inspector")
        settle()
        widget.pin((30, 60))
        session.show("page", "inspected place")
        return session.shot()


def deblur() -> NDArray:
    """Deblur, after a run on the page."""
    with Session() as session:
        add_scene(session, "page", estimated("page", KERNEL))
        widget = session.open("Deblur")
        widget.strength.setValue(0.9)
        session.finish(widget)
        session.show("page", "page deblurred")
        return session.shot()


def mask() -> NDArray:
    """Blur mask, on the street with its true field, in the light theme."""
    with Session("light") as session:
        add_scene(session, "street", scene("street").truth)
        widget = session.open("Blur mask")
        session.layer("blur mask").opacity = 0.6
        session.viewer.layers.selection.active = session.layer("blur mask")
        session.show("street", "blur mask")
        widget.update_mask()
        return session.shot()


def measure() -> NDArray:
    """Measure blur, after a run on the time-lapse."""
    with Session(size=TALL) as session:
        scale = (scenes.INTERVAL, scenes.PIXEL_SIZE, scenes.PIXEL_SIZE)
        session.viewer.add_image(
            scene("cells").blurry,
            name="cells",
            scale=scale,
            units=("s", "um", "um"),
            axis_labels=("t", "y", "x"),
            gamma=0.6,
        )
        widget = session.open("Measure blur")
        session.finish(widget)
        session.viewer.dims.set_current_step(0, 3)
        widget.results.flag.setChecked(True)
        return session.shot()


def reblur() -> NDArray:
    """Reblur / simulate, after it simulated a turning camera."""
    with Session() as session:
        session.viewer.add_image(scene("page").sharp, name="page", rgb=True)
        widget = session.open("Reblur / simulate")
        widget.task.value = "simulate"
        widget.kind.value = "rotation"
        widget.seed.setValue(3)
        session.finish(widget)
        session.show("page simulated blur", "blur vectors")
        return session.shot()


def page_compare() -> NDArray:
    """The top of the page in grey: blurry, deblurred, and with other settings."""
    shots = [
        scene("page").blurry,
        restored("page"),
        restored("page", KERNEL),
        restored("page", KERNEL, strength=0.9),
    ]
    return mosaic([grey(shot)[:176, :340] for shot in shots], columns=2)


def street_fails() -> NDArray:
    """True and estimated kernels of the street: an estimate that is only half right."""
    fields = scene("street").truth, estimated("street")
    return mosaic([drawn_over("street", field)[120:] for field in fields], columns=2)


def cells_frames() -> NDArray:
    """Three frames of the time-lapse, as the stage blurred them."""
    frames = scene("cells").blurry[[0, 3, 7]].astype(float)
    return mosaic([(255 * (f / frames.max()) ** 0.6).astype(np.uint8) for f in frames], columns=3)


#: All pictures, by the names of their files.
PICTURES: dict[str, Callable[[], NDArray]] = {
    "estimate": estimate,
    "inspector": inspector,
    "deblur": deblur,
    "mask": mask,
    "measure": measure,
    "reblur": reblur,
    "page-kernels": page_kernels,
    "page-compare": page_compare,
    "street-fails": street_fails,
    "cells-frames": cells_frames,
}

# ------------------------------------------------------------------------- files


def drawn_over(name: str, field: KernelField) -> NDArray:
    """The kernels of a field over a scene, as `blurfield show` draws them."""
    import blurfield

    drawn = blurfield.kernel_mosaic(field, image=scene(name).blurry)
    return np.rint(255 * drawn).astype(np.uint8)


def grey(pixels: NDArray) -> NDArray:
    """A colour picture in grey, of which fewer levels are enough."""
    return np.asarray(Image.fromarray(pixels).convert("L"))


def enlarged(pixels: NDArray, times: int) -> NDArray:
    """A picture with squares in the place of pixels."""
    return pixels.repeat(times, axis=0).repeat(times, axis=1)


def mosaic(tiles: list[NDArray], columns: int, gap: int = 4) -> NDArray:
    """Pictures of one size side by side, row by row, with a white gap."""
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, *tiles[0].shape[2:])
    sheet = np.full(shape, 255, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // columns * (height + gap), number % columns * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def save(pixels: NDArray, path: Path) -> int:
    """Write a picture, with fewer colours if it would be larger than `LARGEST`; return its size."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    for reduced in _simpler(picture):
        reduced.save(path, optimize=True)
        if path.stat().st_size <= LARGEST:
            return path.stat().st_size
    raise ValueError(f"{path.name} has {path.stat().st_size} bytes; make it smaller")


def _simpler(picture: Image.Image) -> Iterator[Image.Image]:
    """A picture, and the same with fewer and fewer colours."""
    yield picture
    yield picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    for colours in COLOURS:
        yield picture.quantize(colours, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


def ensure_display() -> None:
    """Start again on a virtual display if there is none."""
    if os.environ.get("DISPLAY") or sys.platform in ("win32", "darwin"):
        return
    if shutil.which("xvfb-run") is None:
        sys.exit("there is no display: install xvfb and xauth")
    screen = ["xvfb-run", "-a", "-s", f"-screen 0 {SCREEN}"]
    os.execvp(screen[0], [*screen, sys.executable, *sys.argv])


def chosen(names: list[str]) -> Iterator[str]:
    """The names of the pictures to make."""
    for name in names or PICTURES:
        if name not in PICTURES:
            sys.exit(f"there is no picture {name!r}; known: {', '.join(PICTURES)}")
        yield name


def main() -> None:
    """Make pictures and say how large they are."""
    parser = argparse.ArgumentParser(description="Make the pictures of the documentation anew.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="which (default: all)")
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="DIR")
    options = parser.parse_args()
    names = list(chosen(options.names))
    ensure_display()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "settings.yaml")
        for name in names:
            started = time.monotonic()
            size = save(PICTURES[name](), options.out / f"{name}.png")
            print(f"{name}.png: {size:,} bytes, {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
