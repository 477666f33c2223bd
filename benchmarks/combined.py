"""Choose where the compact network is better than windows, on photographs with known blur.

    python benchmarks/combined.py --images ../shared/data/train [--count 24] [--apart 10]
        [--crop 448 300] [--samples FILE] [--seed 5] [--threads N]

Photographs are blurred as by ``blurfield evaluate synthetic``, and in more kinds of scenes with
short blur. For each, the fields of both models are told apart by what
`blurfield.estimation.combined` goes by, the lengths of the kernels that the network finds and how
well either's kernels agree with the image, and judged by the L1 distance of their kernels to the
true ones. The weights of `combined.ODDS` are fitted so that the expected distance of what is chosen
is least. Told are the mean distances of either model, of the choice (each photograph by weights
that were fitted without it), and of the best choice for each image.

Photographs are validation ones, which the network has not been trained with, except for those that
``blurfield evaluate synthetic --count APART`` takes. What was measured is kept in the file
``--samples``; a run that was ended goes on there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize

from blurfield.estimation.combined import ODDS, share_by, signs
from blurfield.estimation.compact import estimate_compact
from blurfield.estimation.windowed import estimate_windowed
from blurfield.evaluation.kernel_distance import kernel_l1_distance
from blurfield.evaluation.photographs import photograph_files, read_photograph
from blurfield.evaluation.restoration_scenes import middle
from blurfield.evaluation.scenes import SETTINGS, SHORT_SETTINGS, Setting, make_scene
from blurfield.files import atomic_write
from blurfield.images import LinearImage

KINDS = {
    **SETTINGS,
    **SHORT_SETTINGS,
    "short noisy": Setting("uniform", max_extent=8, min_extent=3, noise=0.03),
    "middle uniform": Setting("uniform", max_extent=15, min_extent=8),
    "middle rotation": Setting("rotation", max_extent=15, min_extent=8),
}

#: Starts of the fit, in order: constant, mean and deviation of the log lengths, evidence.
STARTS = ((0.0, 0.0, 0.0, 0.0), (2.0, -1.0, 1.0, -1.0), (4.0, -3.0, 3.0, 0.0))
#: Of the squared weights, so that they stay finite where scenes can be told apart without error.
PENALTY = 1e-4


def measured(path: Path, kind: str, crop: int, seed: int, number: int) -> dict[str, Any]:
    """Both fields of a scene: what tells them apart, and their distances to the truth."""
    photograph = middle(read_photograph(path), crop)
    scene = make_scene(photograph, path.name, kind, KINDS[kind], seed, number)
    planes = LinearImage.from_array(scene.blurry).planes
    learned, classical = estimate_compact(planes), estimate_windowed(planes)
    apart = signs(learned, classical, planes.mean(0), lambda: None)
    return {
        "photograph": path.name,
        "kind": kind,
        "signs": [float(plane.mean()) for plane in apart],
        "compact": kernel_l1_distance(learned, scene.truth).mean,
        "windowed": kernel_l1_distance(classical, scene.truth).mean,
    }


def collect(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure what is not known yet."""
    store = Path(arguments.samples) if arguments.samples else None
    samples: list[dict[str, Any]] = (
        json.loads(store.read_text()) if store and store.exists() else []
    )
    known = {(sample["photograph"], sample["kind"]) for sample in samples}
    apart = set(photograph_files(arguments.images, arguments.apart))
    files = photograph_files(arguments.images, arguments.count)
    for number, path in enumerate(path for path in files if path not in apart):
        crop = arguments.crop[number % len(arguments.crop)]
        for kind in KINDS:
            if (path.name, kind) in known:
                continue
            samples.append(measured(path, kind, crop, arguments.seed, number))
            print(path.name, kind, flush=True)
        if store:
            with atomic_write(store) as temporary:
                temporary.write_text(json.dumps(samples))
    return samples


def share(odds: tuple[float, ...], samples: list[dict[str, Any]]) -> np.ndarray:
    """Share of the network in each image."""
    apart = torch.tensor([sample["signs"] for sample in samples], dtype=torch.float64).T
    return share_by(apart, odds).numpy()


def distances(samples: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """L1 distances of the network and of windows."""
    return tuple(np.array([sample[name] for sample in samples]) for name in ("compact", "windowed"))


def fitted(samples: list[dict[str, Any]]) -> tuple[float, ...]:
    """Weights with the least expected distance."""
    learned, classical = distances(samples)

    def loss(odds: np.ndarray) -> float:
        chosen = share(tuple(odds), samples) * (learned - classical)
        return float(chosen.mean() + PENALTY * np.square(odds).sum())

    found = [
        minimize(loss, start, method="Nelder-Mead", options={"maxiter": 2000}) for start in STARTS
    ]
    return tuple(map(float, min(found, key=lambda result: result.fun).x))


def tell(samples: list[dict[str, Any]]) -> None:
    """Print weights and distances."""
    odds = fitted(samples)
    print("as they are:", ODDS, "fitted:", tuple(round(x, 2) for x in odds))
    part = share(ODDS, samples)
    apart = np.zeros(len(samples))
    names = np.array([sample["photograph"] for sample in samples])
    for name in dict.fromkeys(names):
        own = names == name
        rest = fitted([sample for sample, mine in zip(samples, own, strict=True) if not mine])
        apart[own] = share(rest, [s for s, mine in zip(samples, own, strict=True) if mine])
    learned, classical = distances(samples)
    kinds = np.array([sample["kind"] for sample in samples])
    print(f"{'':16} {'images':>6} compact windowed  as it is  apart  best  share")
    for kind in [*dict.fromkeys(kinds), "all"]:
        own = (kinds == kind) | (kind == "all")
        rows = [
            learned,
            classical,
            part * learned + (1 - part) * classical,
            apart * learned + (1 - apart) * classical,
            np.minimum(learned, classical),
            part,
        ]
        print(f"{kind:16} {own.sum():6}", *(f"{row[own].mean():7.3f}" for row in rows))


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", required=True)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--apart", type=int, default=10, help="as many as the evaluation takes")
    parser.add_argument("--crop", type=int, nargs="+", default=[448, 300])
    parser.add_argument("--samples", help="file in which samples are kept")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    tell(collect(arguments))


if __name__ == "__main__":
    main()
