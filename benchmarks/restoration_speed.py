"""Deblurring: time of each method by its parts, and memory, on a photograph's size.

    python benchmarks/restoration_speed.py [--size 720 1280] [--kind rotation] [--rounds 2]
        [--threads 2] [--methods plug-and-play:fast tikhonov] [--json]

Contenders are all methods of `blurfield.deblur` that are installed, with their defaults, as
`blurfield evaluate restoration` names them. The image has texture of all sizes, blurred by
`blurfield.simulate` (kernels of 33 pixels, 1 % noise, 8 bits), and is deblurred with the true
field. What takes CPU time is told apart by where the program is:

* ``operator``: in `blurfield.BlurOperator`, its construction included;
* ``network``: in a network of PyTorch, that is in the denoiser, or the learned part of the unrolled
  method; blurring that a network does in between counts as ``operator``;
* ``other``: everywhere else.

Times are those of the fastest round of each contender; rounds take turns, so a change of the
machine's speed meets all of them. CPU time, that of all threads together, is less disturbed by
other load. Each run has a fresh process, which has deblurred a small image before. Memory is the
rise of its peak resident size above libraries, image and field, with weights (Linux only).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from blur_operator import resident_peak
from blurfield import BlurOperator, deblur, simulate
from blurfield.evaluation.restorers import restorers
from estimation_speed import photograph

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from blurfield import KernelField
    from blurfield.evaluation.restorers import Restorer

    Scene = tuple[NDArray[np.uint8], KernelField]

PARTS = ("operator", "network", "other")
#: What belongs to which part.
PLACES = (
    (BlurOperator, "__init__", "operator"),
    (BlurOperator, "forward", "operator"),
    (BlurOperator, "adjoint", "operator"),
    (torch.nn.Module, "__call__", "network"),
)


class Clock:
    """CPU seconds spent in each part; time in a part within another counts for the inner one."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._within = ["other"]
        self._since = time.process_time()

    def enter(self, part: str) -> None:
        """From now on, time counts for `part`."""
        self._count()
        self._within.append(part)

    def leave(self) -> None:
        """Time counts for the part outside of this one again."""
        self._count()
        self._within.pop()

    def _count(self) -> None:
        now = time.process_time()
        self.seconds[self._within[-1]] += now - self._since
        self._since = now


@contextmanager
def clocked() -> Iterator[Clock]:
    """Measure the parts of what happens within."""
    clock = Clock()
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in PLACES]
    for owner, name, part in PLACES:
        setattr(owner, name, _timed(getattr(owner, name), part, clock))
    try:
        yield clock
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)
        clock.leave()


def _timed(function: Callable[..., Any], part: str, clock: Clock) -> Callable[..., Any]:
    @wraps(function)
    def timed(*arguments: Any, **options: Any) -> Any:
        clock.enter(part)
        try:
            return function(*arguments, **options)
        finally:
            clock.leave()

    return timed


def blurry_scene(height: int, width: int, kind: str) -> Scene:
    """A blurry image with its true field."""
    return simulate(photograph(height, width), kind=kind, seed=0)  # type: ignore[no-any-return]


def run(restorer: Restorer, scene: Scene) -> dict[str, Any]:
    """Deblur; returns seconds, CPU seconds by part and iterations."""
    start = time.perf_counter()
    with clocked() as clock:
        _, info = deblur(
            *scene, restorer.method, device="cpu", return_info=True, **restorer.options
        )
    return {
        "seconds": time.perf_counter() - start,
        "cpu": sum(clock.seconds.values()),
        **clock.seconds,
        "iterations": info.get("iterations"),
    }


def _measure(restorer: Restorer, scene: Scene, warm_up: Scene, threads: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    run(restorer, warm_up)
    # The scene comes in memory that is shared, which is not resident before it is read.
    for values in (scene[1].basis, scene[1].mixing):
        values.sum()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is resident
    before = resident_peak()
    taken = run(restorer, scene)
    return {**taken, "peak MiB": (resident_peak() - before) / 1024}


def interleaved(
    contenders: list[Restorer], scene: Scene, warm_up: Scene, rounds: int, threads: int
) -> dict[str, dict[str, Any]]:
    """The fastest round of each contender; each one in a fresh process."""
    context = multiprocessing.get_context("spawn")
    best: dict[str, dict[str, Any]] = {}
    for _ in range(rounds):
        for restorer in contenders:
            with ProcessPoolExecutor(1, context) as pool:
                taken = pool.submit(_measure, restorer, scene, warm_up, threads).result()
            known = best.setdefault(restorer.name, taken)
            if taken["seconds"] < known["seconds"]:
                best[restorer.name] = taken
    return best


def show(results: dict[str, Any]) -> None:
    """Print a table for people."""
    height, width = results["image"]
    print(
        f"{width}×{height}×3 pixels, {results['kind']}, {results['kernels']} kernels, "
        f"{results['threads']} threads"
    )
    headings = ("seconds", "cpu", *PARTS, "iterations", "peak MiB")
    print(f"{'':28}" + "".join(f"{heading:>11}" for heading in headings))
    for name, row in results["contenders"].items():
        numbers = "".join(f"{row[key]:11.2f}" for key in headings[:5])
        print(f"{name:28}{numbers}{row['iterations'] or '–':>11}{row['peak MiB']:11.0f}")


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", nargs=2, type=int, default=[720, 1280], metavar=("H", "W"))
    parser.add_argument("--kind", default="rotation", help="kind of blur of blurfield.simulate")
    parser.add_argument("--methods", nargs="+", metavar="METHOD[:VARIANT]")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    contenders = [other for other in restorers(arguments.methods) if not other.is_rival]
    scene = blurry_scene(*arguments.size, arguments.kind)
    warm_up = blurry_scene(96, 96, arguments.kind)
    rows = interleaved(contenders, scene, warm_up, arguments.rounds, arguments.threads)
    results = {
        "image": arguments.size,
        "kind": arguments.kind,
        "kernels": scene[1].num_kernels,
        "threads": arguments.threads,
        "torch": torch.__version__,
        "contenders": rows,
    }
    if arguments.json:
        print(json.dumps(results, indent=1))
    else:
        show(results)


if __name__ == "__main__":
    main()
