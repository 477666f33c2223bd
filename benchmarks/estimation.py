"""Accuracy of blind estimation on photographs blurred with known kernels.

    python benchmarks/estimation.py --images ../shared/data/train [--test ../shared/data/test]
        [--count 30] [--seed 0] [--models windowed] [--kinds uniform segments rotation]
        [--max-extent 33] [--noise 0.01] [--device cpu] [--threads N] [--verbose] [--json]

Each photograph is blurred by `blurfield.simulate`: in linear light (gamma 2.2), by camera shakes
that cover between a third of ``--max-extent`` and all of it, then encoded, with Gaussian noise
added to the encoded values, and rounded to 8 bits. The blur takes what it needs from beyond the
edges of the blurry image (boundary "valid"), as in a real photograph. ``uniform`` is one shake for
the whole image, ``segments`` two with a soft border, ``rotation`` a camera that yaws, pitches and
rolls. ``levin`` is the real photograph in ``--test``, whose values are linear light (gamma 1).

The figure is the kernel similarity, the maximum over shifts of the normalised cross-correlation of
the estimated and the true kernel, averaged over a grid of pixels every 16 px and then over images.
Beside the models stand two guesses that don't look at the image: no blur at all (``delta``) and the
average of 2000 simulated shakes (``mean kernel``).
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np
import torch

import blurfield
from blurfield import KernelField
from blurfield.simulation import camera_shake_kernels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

#: Kinds of rows of the manifest that are photographs.
PHOTOGRAPHS = ("photo", "crop", "zoom")
KINDS = ("uniform", "segments", "rotation")
TRAINING_KERNELS = 2000


@dataclass(frozen=True)
class Case:
    """A blurry image with its true field."""

    kind: str
    name: str
    image: NDArray[Any]
    truth: KernelField
    gamma: float


def photographs(folder: Path, count: int) -> list[Path]:
    """Validation photographs, evenly spread over the manifest."""
    with (folder / "manifest.csv").open(newline="") as stream:
        files = [
            folder / row["file"]
            for row in csv.DictReader(stream)
            if row["split"] == "val" and row["kind"] in PHOTOGRAPHS
        ]
    chosen = np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int)
    return [files[index] for index in chosen]


def simulated(kind: str, files: list[Path], arguments: argparse.Namespace) -> Iterator[Case]:
    """Blur each photograph with a field of its own."""
    for index, path in enumerate(files):
        blurry, truth = blurfield.simulate(
            iio.imread(path),
            kind=kind,
            seed=1000 * arguments.seed + index,
            max_extent=arguments.max_extent,
            noise=arguments.noise,
            segments=2,
            boundary="valid",
        )
        yield Case(kind, path.stem, blurry, truth, truth.metadata["gamma"])


def levin(folder: Path) -> Iterator[Case]:
    """Real camera shake (Levin et al. 2009): image 1 and kernel 4."""
    image = iio.imread(folder / "levin" / "im1_kernel4.png")
    # Stored as a convolution kernel; fields hold correlation kernels.
    kernel = np.rot90(iio.imread(folder / "levin" / "kernel4.png").astype(np.float32), 2)
    truth = KernelField.uniform(kernel / kernel.sum(), image.shape)
    yield Case("levin", "im1_kernel4", image, truth, 1.0)


def guesses(arguments: argparse.Namespace) -> dict[str, torch.Tensor]:
    """Kernels that need no image: no blur, and the average of simulated shakes."""
    size = 2 * int(np.ceil((arguments.max_extent - 1) / 2)) + 1
    delta = torch.zeros(size, size)
    delta[size // 2, size // 2] = 1
    shakes = camera_shake_kernels(
        TRAINING_KERNELS,
        size,
        max_extent=arguments.max_extent,
        min_extent=max(1.0, arguments.max_extent / 3),
        generator=torch.Generator().manual_seed(arguments.seed),
    )
    return {"delta": delta, "mean kernel": shakes.mean(dim=0)}


def assess(case: Case, baselines: dict[str, torch.Tensor], arguments: Any) -> dict[str, Any]:
    """Similarity of all guesses and models, and the models' seconds, for one image."""
    scores = {
        name: blurfield.similarity(KernelField.uniform(kernel, case.truth.shape), case.truth).mean
        for name, kernel in baselines.items()
    }
    seconds = {}
    for model in arguments.models:
        start = time.perf_counter()
        field = blurfield.estimate(
            case.image, model=model, gamma=case.gamma, device=arguments.device
        )
        seconds[model] = time.perf_counter() - start
        scores[model] = blurfield.similarity(field.to("cpu"), case.truth).mean
    return {"name": case.name, "similarity": scores, "seconds": seconds}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Figures over the images of one kind."""
    similarity = {name: [row["similarity"][name] for row in rows] for name in rows[0]["similarity"]}
    return {
        "images": len(rows),
        "mean": {name: float(np.mean(values)) for name, values in similarity.items()},
        "median": {name: float(np.median(values)) for name, values in similarity.items()},
        "worst": {name: float(np.min(values)) for name, values in similarity.items()},
        "seconds": {
            name: float(np.mean([row["seconds"][name] for row in rows]))
            for name in rows[0]["seconds"]
        },
        "rows": rows,
    }


def show(results: dict[str, dict[str, Any]]) -> None:
    """Print a table for people."""
    print(f"\n{'':12}{'images':>7}  {'':14}{'mean':>8}{'median':>8}{'worst':>8}{'s/image':>9}")
    for kind, figures in results.items():
        for position, name in enumerate(figures["mean"]):
            label = f"{kind:12}{figures['images']:7}" if position == 0 else f"{'':19}"
            values = "".join(f"{figures[key][name]:8.3f}" for key in ("mean", "median", "worst"))
            seconds = figures["seconds"].get(name)
            print(f"{label}  {name:14}{values}" + (f"{seconds:9.2f}" if seconds else ""))


def arguments_from(command_line: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--test", type=Path, help="folder with levin/; left out by default")
    parser.add_argument("--count", type=int, default=30, help="photographs of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", nargs="+", default=["windowed"])
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--max-extent", type=float, default=33, help="pixels")
    parser.add_argument("--noise", type=float, default=0.01, help="relative to white")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of PyTorch; all cores by default")
    parser.add_argument("--verbose", action="store_true", help="a line for each image")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    arguments = parser.parse_args(command_line)
    if arguments.count < 1:
        parser.error("--count must be at least 1")
    if not (arguments.images / "manifest.csv").is_file():
        parser.error(f"there is no manifest.csv in {arguments.images}")
    return arguments


def main(command_line: list[str] | None = None) -> None:
    """Parse arguments, measure, print."""
    arguments = arguments_from(sys.argv[1:] if command_line is None else command_line)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    files = photographs(arguments.images, arguments.count)
    cases = {kind: simulated(kind, files, arguments) for kind in arguments.kinds}
    if arguments.test:
        cases["levin"] = levin(arguments.test)
    baselines = guesses(arguments)
    results = {}
    for kind, blurred in cases.items():
        rows = []
        for case in blurred:
            rows.append(assess(case, baselines, arguments))
            if arguments.verbose and not arguments.json:
                row = rows[-1]
                scores = "  ".join(f"{name} {s:.3f}" for name, s in row["similarity"].items())
                times = "  ".join(f"{s:.1f} s" for s in row["seconds"].values())
                print(f"{kind:10}{row['name']:16}{scores}  {times}", flush=True)
        results[kind] = summary(rows)
    if arguments.json:
        settings = {
            "count": arguments.count,
            "seed": arguments.seed,
            "max_extent": arguments.max_extent,
            "noise": arguments.noise,
            "device": arguments.device,
            "threads": torch.get_num_threads(),
            "version": blurfield.__version__,
            "torch": torch.__version__,
        }
        print(json.dumps({"settings": settings, **results}, indent=1))
    else:
        show(results)


if __name__ == "__main__":
    main()
