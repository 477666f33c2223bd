"""Whether UFPNet's uncertainty tells where estimated kernels are wrong.

    python benchmarks/uncertainty.py --images ../shared/data/train [--weights FILE]
        [--count 8] [--kinds rotation object segments uniform] [--max-extent 19] [--noise 0.01]
        [--side 192] [--seed 0] [--threads N] [--json]

The middles of held-out photographs are blurred as in ``blurfield evaluate synthetic``. At the cells
of a grid every 8 px the kernels of the model ``ufp`` are compared with the true ones by 1 − kernel
similarity, which allows a translation, and by the squared distance ‖κ̂ − κ‖² / ‖κ‖². The cells of
all images of a kind, and of all kinds, are ordered by their uncertainty. The figures are the mean
errors of the least and of the most uncertain tenth, their quotient, and the rank correlation of
uncertainty and error. Beside the uncertainty stands a guess that needs no network: the less texture
(mean squared gradient) there is within 19 px, the more uncertain.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import ndimage, stats

import blurfield
from blurfield.comparison import kernel_similarity
from blurfield.estimation.ufp import UNCERTAINTY
from blurfield.evaluation.fidelity import unit_values
from blurfield.evaluation.photographs import photograph_files, read_photograph
from blurfield.evaluation.restoration_scenes import middle
from blurfield.evaluation.scenes import SETTINGS, make_scene
from blurfield.grid import read_points

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blurfield import KernelField
    from blurfield.evaluation.scenes import Scene

KINDS = ("rotation", "object", "segments", "uniform")
#: Pixels between the cells that are compared, and of the window in which texture is measured.
_SPACING, _WINDOW = 8, 19


def points(shape: tuple[int, int]) -> NDArray[np.float64]:
    """The middles of cells (N, 2), away from the edges of the image."""
    axes = [np.arange(_SPACING, length - _SPACING, _SPACING) for length in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2).astype(float)


def kernel_errors(found: KernelField, truth: KernelField, where: Any) -> dict[str, Any]:
    """Errors of the kernels at points, by their names."""
    mine, true = found.kernels_at(where), truth.kernels_at(where)
    margin = (mine.shape[-1] - true.shape[-1]) // 2
    padded = torch.nn.functional.pad(true, (margin,) * 4)
    distance = (mine - padded).square().sum((1, 2)) / true.square().sum((1, 2))
    return {
        "1 - similarity": (1 - kernel_similarity(mine, true)).numpy(),
        "squared distance": distance.numpy(),
    }


def texture(scene: Scene, where: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean squared gradient of the blurry image around points."""
    values = unit_values(scene.blurry)
    grey = values if values.ndim == 2 else values.mean(-1)
    squares = sum(np.square(ndimage.sobel(grey, axis)) for axis in (0, 1))
    local: NDArray[np.float64] = ndimage.uniform_filter(squares, _WINDOW)
    return local[tuple(where.astype(int).T)]


def tenths(order: NDArray[Any], errors: NDArray[Any]) -> dict[str, float]:
    """Mean errors of the cells that come first and last in an order, and what else is told."""
    ranked = errors[np.argsort(order, kind="stable")]
    few = max(len(ranked) // 10, 1)
    least, most = float(ranked[:few].mean()), float(ranked[-few:].mean())
    return {
        "least": least,
        "most": most,
        "quotient": most / least,
        "rank correlation": float(stats.spearmanr(order, errors).statistic),
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures, by kind of scene."""
    cells: dict[str, list[dict[str, NDArray[Any]]]] = {kind: [] for kind in arguments.kinds}
    for kind in arguments.kinds:
        extent = {"max_extent": arguments.max_extent, "noise": arguments.noise}
        setting = replace(SETTINGS[kind], **extent)
        files = photograph_files(arguments.images, arguments.count)
        for number, path in enumerate(files):
            photograph = middle(read_photograph(path), arguments.side)
            scene = make_scene(photograph, path.stem, kind, setting, arguments.seed, number)
            found = blurfield.estimate(
                scene.blurry, model="ufp", gamma=scene.gamma, checkpoint=arguments.weights
            )
            where = points(found.shape)
            sigma = found.maps[UNCERTAINTY][None]
            values = read_points(sigma, found.shape, torch.from_numpy(where))[:, 0]
            cells[kind].append(
                {
                    "uncertainty": values.numpy(),
                    "little texture": -texture(scene, where),
                    **kernel_errors(found, scene.truth, where),
                }
            )
    cells["all"] = [each for kind in arguments.kinds for each in cells[kind]]
    results = {}
    for kind, parts in cells.items():
        together = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        sigma = together["uncertainty"]
        results[kind] = {
            "cells": len(sigma),
            "uncertainty": [float(value) for value in np.percentile(sigma, (5, 50, 95))],
            "errors": {
                error: {
                    order: tenths(together[order], together[error])
                    for order in ("uncertainty", "little texture")
                }
                for error in ("1 - similarity", "squared distance")
            },
        }
    return results


def show(results: dict[str, Any]) -> None:
    """Print a table for people."""
    print(
        f"{'':10}{'cells':>7}  {'error':18}{'ordered by':16}{'least':>8}{'most':>8}{'quotient':>10}"
        f"{'ranks':>8}"
    )
    for kind, figures in results.items():
        label = f"{kind:10}{figures['cells']:7}"
        for error, orders in figures["errors"].items():
            for order, f in orders.items():
                print(
                    f"{label}  {error:18}{order:16}{f['least']:8.3f}{f['most']:8.3f}"
                    f"{f['quotient']:10.2f}{f['rank correlation']:8.2f}"
                )
                label = " " * 17
    low, mid, high = results["all"]["uncertainty"]
    print(f"uncertainty, percentiles 5, 50 and 95: {low:.3f}, {mid:.3f}, {high:.3f}")


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--weights", help="a file, or the name of installed ones")
    parser.add_argument("--count", type=int, default=8, help="photographs of each kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--max-extent", type=float, default=19, help="pixels")
    parser.add_argument("--noise", type=float, default=0.01, help="relative to white")
    parser.add_argument("--side", type=int, default=192, help="of the photographs, pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="of PyTorch; all cores by default")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    results = measure(arguments)
    if arguments.json:
        settings = {name: str(value) for name, value in vars(arguments).items()}
        print(json.dumps({"settings": settings, "results": results}, indent=1))
    else:
        show(results)


if __name__ == "__main__":
    main()
