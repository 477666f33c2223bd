"""A time-lapse, made in a process of its own: its memory can be measured, and it can be killed.

python time_lapse.py FOLDER FRAMES: makes the first so many of 20 frames of 512×512 pixels, which
are computed when they are asked for, and prints the bytes of resident memory before the work and at
its peak.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dask.array as da
import numpy as np

from blurfield.frames import frames_of
from blurfield.series import Series, process

COUNT, SIDE = 20, 512
SETTINGS: dict[str, Any] = {
    "estimate": {"kernel_size": 3, "edges": "L0"},
    "deblur": {"method": "tikhonov", "iterations": 1},
}


def picture(number: int, side: int) -> np.ndarray:
    """Bars and noise that move a little from frame to frame, smeared along x."""
    y, x = np.mgrid[:side, : side + 4]
    bars = ((x + 3 * number) // 11 + (y + 2 * number) // 17) % 2
    values = 8000 + 20000 * bars + np.random.default_rng(number).integers(0, 2000, bars.shape)
    return np.mean([values[:, i : i + side] for i in range(5)], axis=0).astype(np.uint16)


def time_lapse(count: int, side: int) -> da.Array:
    """Frames that are computed when they are asked for."""

    def block(block_info: Any = None) -> np.ndarray:
        return picture(block_info[None]["chunk-location"][0], side)[None]

    chunks = ((1,) * count, (side,), (side,))
    return da.map_blocks(block, chunks=chunks, dtype=np.uint16, meta=np.empty((0, 0, 0), np.uint16))


def make(folder: Path, numbers: range, count: int = COUNT, side: int = SIDE) -> None:
    """Make a series, or go on with it."""
    frames = frames_of(time_lapse(count, side), "TYX")
    series = Series.create(folder, frames, numbers=numbers, **SETTINGS)
    reports = process(series, frames)
    assert all(report.ok for report in reports), reports


def resident(entry: str) -> int:
    """Bytes of memory of this process; VmRSS now, or VmHWM at the peak."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith(entry))
    return int(line.split()[1]) << 10


def main(folder: str, count: str) -> None:
    """Load all libraries for a small image, then do the work."""
    with TemporaryDirectory() as other:
        make(Path(other), range(1), 1, 64)
    start = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins here
    make(Path(folder), range(int(count)))
    print(json.dumps({"start": start, "peak": resident("VmHWM")}))


if __name__ == "__main__":
    main(*sys.argv[1:])
