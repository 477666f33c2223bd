"""Accuracy of blind estimation on photographs blurred with known kernels.

    python benchmarks/estimation.py --images ../shared/data/train [--test ../shared/data/test]
        [--count 30] [--seed 0] [--models windowed] [--edges auto]
        [--kinds uniform segments rotation] [--max-extent 33] [--noise 0.01] [--montage N]
        [--refine N] [--device cpu] [--threads N] [--verbose] [--json]

Each photograph is blurred by `blurfield.simulate`: in linear light (gamma 2.2), by camera shakes
that cover between a third of ``--max-extent`` and all of it, then encoded, with Gaussian noise
added to the encoded values, and rounded to 8 bits. The blur takes what it needs from beyond the
edges of the blurry image (boundary "valid"), as in a real photograph. ``uniform`` is one shake for
the whole image, ``segments`` two with a soft border, ``rotation`` a camera that yaws, pitches and
rolls. ``levin`` is the real photograph in ``--test``, whose values are linear light (gamma 1).

The figure is the kernel similarity, the maximum over shifts of the normalised cross-correlation of
the estimated and the true kernel, averaged over a grid of pixels every 16 px and then over images.
Beside the models stand two guesses that don't look at the image: no blur at all (``delta``) and the
average of 2000 simulated shakes (``mean kernel``). With ``--edges L0 auto``, or names or files of
weights, the windowed estimator is measured once with each, see `blurfield.estimation.windowed`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np
import torch
from skimage.transform import resize

import blurfield
from blurfield import KernelField
from blurfield.evaluation.photographs import MANIFEST, photograph_files, read_photograph
from blurfield.evaluation.scenes import SETTINGS, Setting, guesses, make_scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

KINDS = ("uniform", "segments", "rotation")
#: Side in pixels of each photograph in a montage.
CELL = 320


@dataclass(frozen=True)
class Case:
    """A blurry image with its true field."""

    kind: str
    name: str
    image: NDArray[Any]
    truth: KernelField
    gamma: float


def setting_of(kind: str, arguments: argparse.Namespace) -> Setting:
    """What is done to the photographs of a kind."""
    return replace(SETTINGS[kind], max_extent=arguments.max_extent, noise=arguments.noise)


def simulated(kind: str, files: list[Path], arguments: argparse.Namespace) -> Iterator[Case]:
    """Blur each photograph with a field of its own."""
    setting = setting_of(kind, arguments)
    for number, path in enumerate(files):
        photograph = read_photograph(path)
        if arguments.montage > 1:
            photograph = montage(arguments.images, arguments.montage, number)
        scene = make_scene(photograph, path.stem, kind, setting, arguments.seed, number)
        yield Case(kind, scene.name, scene.blurry, scene.truth, scene.gamma)


def montage(folder: Path, along: int, number: int) -> NDArray[np.uint8]:
    """Grey squares of as many photographs along each side; each number begins with another one."""
    files = photograph_files(folder, sys.maxsize)
    cells = []
    for cell in range(along**2):
        photograph = read_photograph(files[(number + cell) % len(files)])
        grey = photograph if photograph.ndim == 2 else photograph.mean(-1)
        side = min(grey.shape)
        cells.append(resize(grey[:side, :side], (CELL, CELL), preserve_range=True))
    rows = [cells[first : first + along] for first in range(0, along**2, along)]
    return np.rint(np.block(rows)).astype(np.uint8)


def levin(folder: Path) -> Iterator[Case]:
    """Real camera shake (Levin et al. 2009): image 1 and kernel 4."""
    image = iio.imread(folder / "levin" / "im1_kernel4.png")
    # Stored as a convolution kernel; fields hold correlation kernels.
    kernel = np.rot90(iio.imread(folder / "levin" / "kernel4.png").astype(np.float32), 2)
    truth = KernelField.uniform(kernel / kernel.sum(), image.shape)
    yield Case("levin", "im1_kernel4", image, truth, 1.0)


def contenders(arguments: argparse.Namespace) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Label, model and options of what is measured."""
    for model in arguments.models:
        if model != "windowed" or arguments.edges == ["auto"]:
            yield model, model, {}
            continue
        for edges in arguments.edges:
            yield f"windowed {Path(edges).stem}", model, {"edges": edges}


def assess(case: Case, arguments: argparse.Namespace) -> dict[str, Any]:
    """Similarity of all guesses and models, and the models' seconds, for one image."""
    baselines = guesses(setting_of(KINDS[0], arguments), case.truth.shape, arguments.seed)
    scores = {
        name: blurfield.similarity(field, case.truth).mean for name, field in baselines.items()
    }
    seconds = {}
    for name, model, options in contenders(arguments):
        start = time.perf_counter()
        field = blurfield.estimate(
            case.image,
            model=model,
            gamma=case.gamma,
            device=arguments.device,
            refine=arguments.refine,
            **options,
        )
        seconds[name] = time.perf_counter() - start
        scores[name] = blurfield.similarity(field.to("cpu"), case.truth).mean
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
    print(f"\n{'':12}{'images':>7}  {'':18}{'mean':>8}{'median':>8}{'worst':>8}{'s/image':>9}")
    for kind, figures in results.items():
        for position, name in enumerate(figures["mean"]):
            label = f"{kind:12}{figures['images']:7}" if position == 0 else f"{'':19}"
            values = "".join(f"{figures[key][name]:8.3f}" for key in ("mean", "median", "worst"))
            seconds = figures["seconds"].get(name)
            print(f"{label}  {name:18}{values}" + (f"{seconds:9.2f}" if seconds else ""))


def arguments_from(command_line: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--test", type=Path, help="folder with levin/; left out by default")
    parser.add_argument("--count", type=int, default=30, help="photographs of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", nargs="+", default=["windowed"])
    parser.add_argument(
        "--edges", nargs="+", default=["auto"], help="ways of the windowed estimator to find edges"
    )
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--max-extent", type=float, default=33, help="pixels")
    parser.add_argument("--noise", type=float, default=0.01, help="relative to white")
    parser.add_argument(
        "--montage", type=int, default=1, metavar="N", help="photographs along each side"
    )
    parser.add_argument("--refine", type=int, default=0, metavar="N", help="rounds at most")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of PyTorch; all cores by default")
    parser.add_argument("--verbose", action="store_true", help="a line for each image")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    arguments = parser.parse_args(command_line)
    if arguments.count < 1:
        parser.error("--count must be at least 1")
    if not (arguments.images / MANIFEST).is_file():
        parser.error(f"there is no {MANIFEST} in {arguments.images}")
    return arguments


def main(command_line: list[str] | None = None) -> None:
    """Parse arguments, measure, print."""
    arguments = arguments_from(sys.argv[1:] if command_line is None else command_line)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    files = photograph_files(arguments.images, arguments.count)
    cases = {kind: simulated(kind, files, arguments) for kind in arguments.kinds}
    if arguments.test:
        cases["levin"] = levin(arguments.test)
    results = {}
    for kind, blurred in cases.items():
        rows = []
        for case in blurred:
            rows.append(assess(case, arguments))
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
            "montage": arguments.montage,
            "refine": arguments.refine,
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
