#!/usr/bin/env python3
"""Draw the scenes of the documentation: nothing in them comes from elsewhere.

    python tools/scenes.py street street.png     a street front behind a passing bus, 8-bit colour
    python tools/scenes.py page page.png         a printed page, photographed with a shaking hand
    python tools/scenes.py cells cells.tif       a time-lapse of cells on a stage that moves, 16-bit

The same seed gives the same pixels. `--sharp FILE` writes the scene before it was blurred, and
`--truth FILE.blurfield` the kernel field (of the time-lapse: of its worst frame).
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blurfield import KernelField

#: Micrometres that a pixel of the time-lapse covers, and seconds between two of its frames.
PIXEL_SIZE, INTERVAL = 0.325, 2.0
#: How far the stage moves during the exposure of each frame: pixels and degrees.
STAGE = (
    *((3, 20), (4, 20), (3, 25), (15, 30), (9, 35)),
    *((4, 20), (3, 20), (12, 120), (4, 20), (3, 20)),
)

_WORDS = (
    *("kernel", "basis", "light", "lens", "shutter", "field", "grain", "edge", "noise", "sharp"),
    *("motion", "frame", "pixel", "mixing", "extent", "shake", "tile", "border", "trace", "focus"),
)
_PAINT = ((168, 92, 70), (206, 178, 128), (120, 140, 148), (186, 150, 110), (150, 160, 120))


class Scene(NamedTuple):
    """A sharp image, the same blurred, and the field (of the worst frame)."""

    sharp: NDArray
    blurry: NDArray
    truth: KernelField


def street(height: int = 384, width: int = 512, seed: int = 3) -> Scene:
    """A street front behind a passing bus: only the bus is blurred."""
    import blurfield

    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", (width, height), (176, 196, 214))
    draw = ImageDraw.Draw(picture)
    _houses(draw, width, height, rng)
    bus = Image.new("L", picture.size, 0)
    _bus(draw, ImageDraw.Draw(bus), width, height)
    sharp = _with_grain(np.asarray(picture), rng)
    blurry, truth = blurfield.simulate(
        sharp,
        kind="object",
        labels=(np.asarray(bus) > 0).astype(np.uint8),
        min_extent=15,
        max_extent=19,
        seed=14,  # horizontal
    )
    return Scene(sharp, blurry, truth)


def page(height: int = 384, width: int = 512, seed: int = 5) -> Scene:
    """A printed page, photographed with a shaking hand: blurred everywhere, and not evenly."""
    import blurfield

    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", (width, height), (228, 222, 208))
    draw = ImageDraw.Draw(picture)
    draw.text((24, 12), "Blur, seen and measured", fill=(30, 30, 40), font=_font(32))
    top, size = 60, 19
    while top < height - 10:
        words = " ".join(rng.choice(_WORDS, 9))
        draw.text((24, top), words, fill=(45, 42, 50), font=_font(size))
        top += size + 8
    draw.ellipse((width - 190, 150, width - 40, 300), fill=(70, 110, 150))
    draw.polygon([(width - 150, 270), (width - 115, 180), (width - 75, 265)], fill=(214, 150, 66))
    sharp = _with_grain(np.asarray(picture), rng)
    blurry, truth = blurfield.simulate(
        sharp, kind="rotation", min_extent=10, max_extent=17, seed=seed
    )
    return Scene(sharp, blurry, truth)


def cells(side: int = 256, seed: int = 7, stage: tuple[tuple[float, float], ...] = STAGE) -> Scene:
    """A time-lapse (T, Y, X) of cells with filaments, on a stage that moves during exposures."""
    import blurfield

    rng = np.random.default_rng(seed)
    bodies = [_Cell.drawn(side, rng) for _ in range(max(3, side // 36))]
    sharp, blurry, fields = [], [], []
    for number, (length, degrees) in enumerate(stage):
        light = sum(cell.light(side, number) for cell in bodies)
        light = gaussian_filter(light, 0.8) / 1.6 + 0.02
        frame = (light.clip(0, 1) * 40_000).astype(np.uint16)
        seen, field = blurfield.simulate(
            frame,
            kind="uniform",
            kernels=_line(length, degrees)[None],
            photons=20_000,
            noise=0.0005,
            seed=seed + number,
        )
        sharp.append(frame)
        blurry.append(seen)
        fields.append(field)
    worst = max(range(len(stage)), key=lambda number: stage[number][0])
    return Scene(np.stack(sharp), np.stack(blurry), fields[worst])


SCENES = {"street": street, "page": page, "cells": cells}


class _Cell(NamedTuple):
    """A cell: an outline, a nucleus and filaments from it, which move a little."""

    centre: NDArray
    radius: float
    filaments: list[NDArray]
    speed: NDArray

    @classmethod
    def drawn(cls, side: int, rng: np.random.Generator) -> _Cell:
        centre, radius = rng.uniform(0.08, 0.92, 2) * side, rng.uniform(0.12, 0.2) * side
        filaments = []
        for _ in range(26):
            heading, point = rng.uniform(0, 2 * math.pi), centre + rng.normal(0, radius / 4, 2)
            path = [point]
            for _ in range(int(radius * rng.uniform(0.5, 1.4))):
                heading += rng.normal(0, 0.09)
                path.append(path[-1] + 1.2 * np.array([math.sin(heading), math.cos(heading)]))
            filaments.append(np.array(path))
        return cls(centre, radius, filaments, rng.normal(0, 0.4, 2))

    def light(self, side: int, frame: int) -> NDArray:
        """The light of this cell in a frame, float (side, side)."""
        scale = 3  # drawn larger, so that thin lines have smooth edges
        picture = Image.new("F", (side * scale, side * scale), 0)
        draw = ImageDraw.Draw(picture)
        moved = self.speed * frame
        for path in self.filaments:
            points = [(x, y) for y, x in (path + moved + 0.5) * scale]
            draw.line(points, fill=0.8, width=scale + 1)
        lines = np.asarray(picture).reshape(side, scale, side, scale).mean((1, 3))
        rows, columns = np.mgrid[:side, :side]
        away = np.hypot(rows - self.centre[0] - moved[0], columns - self.centre[1] - moved[1])
        nucleus = 0.35 / (1 + np.exp((away - 0.28 * self.radius) / 0.8))
        body = 0.1 / (1 + np.exp((away - self.radius) / 2.5))
        return lines + nucleus + body


def _line(length: float, degrees: float, size: int = 21) -> NDArray:
    """A straight motion as a kernel (size, size) with sum 1."""
    steps = np.linspace(-0.5, 0.5, 200) * (length - 1)
    rows = size // 2 - steps * math.sin(math.radians(degrees))
    columns = size // 2 + steps * math.cos(math.radians(degrees))
    kernel = np.zeros((size, size), np.float32)
    for row, column in zip(rows, columns, strict=True):
        top, left = int(row), int(column)
        for y, x in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
            kernel[y, x] += (1 - abs(row - y)) * (1 - abs(column - x))
    return kernel / kernel.sum()


def _houses(draw: ImageDraw.ImageDraw, width: int, height: int, rng: np.random.Generator) -> None:
    """Houses with windows, bricks and signs, and the pavement in front of them."""
    ground, left, number = round(0.84 * height), 0, 0
    while left < width:
        right = left + int(rng.integers(90, 140))
        top = int(rng.integers(10, 50))
        paint = _PAINT[number % len(_PAINT)]
        draw.rectangle((left, top, right, ground), fill=paint)
        for row in range(top + 6, ground, 9):
            shade = tuple(int(c * rng.uniform(0.78, 0.92)) for c in paint)
            draw.line((left, row, right, row), fill=shade)
            for column in range(left + 8 * (row % 2), right, 17):
                draw.line((column, row, column, row + 8), fill=shade)
        for row in range(top + 18, ground - 120, 62):
            for column in range(left + 14, right - 26, 38):
                draw.rectangle((column, row, column + 24, row + 40), fill=(236, 234, 226))
                draw.rectangle((column + 3, row + 3, column + 21, row + 37), fill=(58, 72, 92))
                draw.line((column + 12, row, column + 12, row + 40), fill=(236, 234, 226), width=2)
        sign = str(rng.choice(_WORDS)).upper()
        draw.rectangle((left + 6, ground - 108, right - 8, ground - 82), fill=(44, 50, 58))
        draw.text((left + 14, ground - 106), sign, fill=(240, 226, 180), font=_font(20))
        left, number = right + 2, number + 1
    draw.rectangle((0, ground, width, height), fill=(112, 110, 108))
    for row in range(ground + 4, height, 12):
        draw.line((0, row, width, row), fill=(92, 90, 88))
        for column in range(int(rng.integers(0, 30)), width, 31):
            draw.line((column, row, column, row + 12), fill=(92, 90, 88))


def _bus(draw: ImageDraw.ImageDraw, outline: ImageDraw.ImageDraw, width: int, height: int) -> None:
    """A bus, and the same in `outline`."""
    left, right = round(0.2 * width), round(0.82 * width)
    top, bottom = round(0.52 * height), round(0.88 * height)
    for target, fill in ((draw, (196, 62, 48)), (outline, 1)):
        target.rounded_rectangle((left, top, right, bottom), 14, fill=fill)
        for wheel in (left + 60, right - 70):
            dark = (24, 24, 26) if target is draw else 1
            target.ellipse((wheel - 22, bottom - 22, wheel + 22, bottom + 22), fill=dark)
            if target is draw:
                draw.ellipse((wheel - 10, bottom - 10, wheel + 10, bottom + 10), fill=(180,) * 3)
    for column in range(left + 14, right - 30, 44):
        draw.rectangle((column, top + 12, column + 34, top + 46), fill=(206, 224, 234))
        draw.ellipse((column + 10, top + 22, column + 24, top + 40), fill=(92, 66, 52))
    draw.rectangle((left + 10, top + 56, right - 10, top + 92), fill=(250, 238, 206))
    draw.text((left + 20, top + 58), "12  HARBOUR  ·  OLD TOWN", fill=(30, 34, 70), font=_font(24))


def _with_grain(pixels: NDArray, rng: np.random.Generator) -> NDArray:
    """Pixels with the fine texture that all real surfaces have."""
    fine = rng.normal(0, 1, pixels.shape[:2])
    grain = 7 * gaussian_filter(fine, 0.7) + 40 * gaussian_filter(fine, 4)
    return np.clip(pixels + grain[..., None], 0, 255).astype(np.uint8)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font."""
    return ImageFont.load_default(size)


def write(path: Path, pixels: NDArray) -> None:
    """Write an image, or a time-lapse with its axes, pixel size and interval."""
    if pixels.ndim == 3 and pixels.dtype == np.uint16:
        import tifffile

        tifffile.imwrite(
            path,
            pixels,
            ome=True,
            metadata={
                "axes": "TYX",
                "PhysicalSizeX": PIXEL_SIZE,
                "PhysicalSizeY": PIXEL_SIZE,
                "TimeIncrement": INTERVAL,
            },
        )
    else:
        Image.fromarray(pixels).save(path)


def main() -> None:
    """Draw one scene and write it."""
    parser = argparse.ArgumentParser(description="Draw a scene of the documentation.")
    parser.add_argument("scene", choices=SCENES)
    parser.add_argument("output", type=Path)
    parser.add_argument("--sharp", type=Path, help="write the scene before it was blurred, too")
    parser.add_argument("--truth", type=Path, help="write the kernel field, too")
    options = parser.parse_args()
    scene = SCENES[options.scene]()
    write(options.output, scene.blurry)
    if options.sharp:
        write(options.sharp, scene.sharp)
    if options.truth:
        scene.truth.save(options.truth)


if __name__ == "__main__":
    main()
