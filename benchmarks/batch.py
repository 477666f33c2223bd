"""Time-lapses: how fast frames are made by threads of this computer, and by workers of a cluster.

    python benchmarks/batch.py [--frames 16] [--size 256] [--workers 1 2] [--json]

Each frame is estimated and deblurred (``windowed``, ``tikhonov``). Contenders are as many threads
of one process, and as many processes of a local Dask cluster with one thread each, as ``--workers``
says. All have to give the same results, to the last bit, which is checked. ``speedup`` is against
one thread. Processes are started, and have loaded their libraries, before the time is taken.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from distributed import LocalCluster

from blurfield import simulate
from blurfield.frames import frames_of
from blurfield.series import Series, process

SETTINGS: dict[str, Any] = {
    "estimate": {"kernel_size": 9},
    "deblur": {"method": "tikhonov"},
}


def time_lapse(count: int, side: int) -> np.ndarray[Any, Any]:
    """Frames of moving bars, each with the same blur and other noise."""
    y, x = np.mgrid[:side, :side]
    frames = []
    for number in range(count):
        bars = ((x + 3 * number) // 11 + (y + 2 * number) // 17) % 2
        sharp = (8000 + 20000 * bars).astype(np.uint16)
        frames.append(simulate(sharp, seed=0, max_extent=7)[0])
    return np.stack(frames)


def run(folder: Path, values: np.ndarray[Any, Any], **how: Any) -> tuple[float, str]:
    """Seconds for a series, and a hash of its results."""
    frames = frames_of(values, "TYX")
    series = Series.create(folder, frames, **SETTINGS)
    start = time.perf_counter()
    reports = process(series, frames, **how)
    seconds = time.perf_counter() - start
    assert all(report.ok for report in reports)
    digest = hashlib.sha256()
    for number in series.numbers:
        digest.update(series.field_path(number).read_bytes())
        digest.update(series.image_path(number).read_bytes())
    return seconds, digest.hexdigest()


def measure(count: int, side: int, workers: list[int]) -> dict[str, Any]:
    """All figures."""
    values = time_lapse(count, side)
    rows: dict[str, float] = {}
    digests = set()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run(folder / "warm", values[:1])
        for number in workers:
            name = f"{number} threads"
            rows[name], digest = run(folder / name, values, workers=number)
            digests.add(digest)
        for number in workers:
            name = f"{number} processes"
            with LocalCluster(
                n_workers=number, threads_per_worker=1, dashboard_address=":0"
            ) as cluster:
                how = {"scheduler": cluster.scheduler_address}
                run(folder / f"warm {number}", values[: 2 * number], **how)
                rows[name], digest = run(folder / name, values, **how)
            digests.add(digest)
    first = next(iter(rows.values()))
    return {
        "frames": count,
        "side": side,
        "processors": os.cpu_count(),
        "same": len(digests) == 1,
        "contenders": {
            name: {
                "seconds": seconds,
                "frames_per_second": count / seconds,
                "speedup": first / seconds,
            }
            for name, seconds in rows.items()
        },
    }


def show(results: dict[str, Any]) -> None:
    """Print a table for people."""
    print(
        f"{results['frames']} frames of {results['side']}×{results['side']} pixels, "
        f"{results['processors']} processors; results "
        + ("the same" if results["same"] else "DIFFER")
    )
    print(f"{'':20}{'seconds':>10}{'frames/s':>10}{'speedup':>10}")
    for name, row in results["contenders"].items():
        print(
            f"{name:20}{row['seconds']:10.2f}{row['frames_per_second']:10.2f}{row['speedup']:10.2f}"
        )


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    arguments = parser.parse_args()
    results = measure(arguments.frames, arguments.size, arguments.workers)
    if arguments.json:
        print(json.dumps(results, indent=1))
    else:
        show(results)


if __name__ == "__main__":
    main()
