"""Evaluation of ways to deblur on scenes whose blur is known."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import torch

from blurfield._version import __version__
from blurfield.compute import Reporter, choose_device

from .contenders import contenders
from .photographs import photograph_files, read_photograph
from .restoration_bench import Bench
from .restoration_scenes import NOISE, cases, middle
from .restorers import restorers
from .rows import Rows
from .scenes import check_seed
from .summaries import mean

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from blurfield.compute import ProgressCallback

    from .restoration_scenes import Case
    from .restorers import Restorer

__all__ = ["BLURRY", "evaluate_restoration"]

#: Name of the blurry image itself, the first one of each table.
BLURRY = "blurry image"


def evaluate_restoration(
    images: str | os.PathLike[str],
    *,
    kinds: Sequence[str] | None = None,
    noise: Sequence[float] = NOISE,
    count: int = 20,
    seed: int = 0,
    methods: Sequence[str] | None = None,
    estimator: str | None = None,
    kernel_size: int | None = None,
    crop: int | None = None,
    rows: str | os.PathLike[str] | None = None,
    device: str = "auto",
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Measure ways to deblur on photographs blurred with known fields.

    Parameters
    ----------
    images : path-like
        Folder of sharp photographs, see `photograph_files`.
    kinds : sequence of str, optional
        Kinds of scenes: uniform, segments, rotation, object, and with clipped light saturated and
        lights; all of these by default. With long blur, large; with short blur, short uniform,
        short segments and short rotation; without any, sharp.
    noise : sequence of float
        Standard deviations of the noise, white = 1. Scenes with clipped light have 0.01.
    count : int, default 20
        Photographs of each kind, at most.
    seed : int, default 0
        Fixes the blur and the noise.
    methods : sequence of str, optional
        What to compare, see `restorers`; by default all methods that are installed and those of
        scikit-image.
    estimator : str, optional
        Deblur with the field that this model estimates instead of the true one. Images are then
        registered before they are compared, and scikit-image's methods don't take part, which
        don't handle varying blur.
    kernel_size : int, optional
        Side of the kernels that are estimated, in pixels, for models that let it be chosen; by
        default the model chooses.
    crop : int, optional
        Take only the middle of each photograph, of so many pixels a side.
    rows : path-like, optional
        File to which the figures of each image are appended as they come, and from which they are
        taken where it has them, see `Rows`.
    device : str
        Where to estimate and to deblur; see `blurfield.compute.choose_device`.
    progress : callable, optional
        Called as ``progress(done, total, message)``, at least once a second while methods of ours
        run; what it raises stops the evaluation and propagates.

    Returns
    -------
    dict
        Plain JSON types, but for infinities. ``settings``: what was measured, and with what.
        ``cases``: for each kind of scene and level of noise ``kind``, ``noise``, ``images``,
        ``restorers`` and ``scenes``; the scenes have the `RestorationFigures` of each image under
        its name, the restorers their means, ``worst_gain`` and ``worst_image``.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If a kind, method or model is unknown or not installed, there are no photographs, one is too
        small, `rows` is of a run with other settings, a number is out of range, or there is a
        `kernel_size` without an `estimator`.
    TypeError
        If the model does not let the size of kernels be chosen.
    """
    chosen = cases(kinds, noise)
    check_seed(seed)
    if crop is not None and crop < 1:
        raise ValueError(f"crop must be at least 1 pixel, not {crop}")
    chosen_device = choose_device(device)
    rivals = restorers(methods)
    if kernel_size is not None and estimator is None:
        raise ValueError("kernel_size is for estimated fields; name an estimator")
    estimating = None if estimator is None else contenders([estimator], (), chosen_device)[0]
    if estimating is not None and kernel_size is not None:
        estimating = replace(estimating, options={"kernel_size": kernel_size})
    files = photograph_files(images, count)
    settings = {
        "seed": seed,
        "crop": crop,
        "estimator": estimator,
        "kernel_size": kernel_size,
        "device": str(chosen_device),
    }
    known = Rows(rows, settings)
    entrants = [_entrants(case, rivals, estimator) for case in chosen]
    reporter = Reporter(progress, len(files) * sum(map(len, entrants)), "Evaluating")
    scenes: list[list[dict[str, Any]]] = [[] for _ in chosen]
    # One photograph after the other, so that an unfinished run, too, has something on all kinds.
    for number, path in enumerate(files):
        photograph = middle(read_photograph(path), crop)
        for case, compared, measured in zip(chosen, entrants, scenes, strict=True):
            bench = Bench(
                case,
                photograph,
                path.stem,
                seed,
                number,
                chosen_device,
                estimating,
                reporter.poll,
            )
            try:
                figures = _measured(bench, compared, known, reporter)
            except ValueError as error:
                raise ValueError(f"{path.name}, kind of scene {case.kind!r}: {error}") from error
            measured.append({"name": path.stem, "images": figures})
    return {
        "settings": {
            **settings,
            "count": count,
            "photographs": [path.name for path in files],
            "threads": torch.get_num_threads(),
            "version": __version__,
            "torch": torch.__version__,
        },
        "cases": [
            {
                "kind": case.kind,
                "noise": case.setting.noise,
                "images": len(measured),
                "restorers": _summary(measured),
                "scenes": measured,
            }
            for case, measured in zip(chosen, scenes, strict=True)
        ],
    }


def _entrants(
    case: Case, chosen: Sequence[Restorer], estimator: str | None
) -> list[Restorer | None]:
    """Who takes part in a case; None is the blurry image."""
    if case.clips:
        taking_part = [variant for restorer in chosen for variant in restorer.for_clipped_light()]
    else:
        rivals_can = case.uniform and estimator is None
        taking_part = [restorer for restorer in chosen if rivals_can or not restorer.is_rival]
    return [None, *taking_part]


def _measured(
    bench: Bench, entrants: Sequence[Restorer | None], known: Rows, reporter: Reporter
) -> dict[str, dict[str, Any]]:
    """Figures of all images of a scene by name, measured unless they are known."""
    case, found = bench.case, {}
    for restorer in entrants:
        name = BLURRY if restorer is None else restorer.name
        key = (case.kind, case.setting.noise, bench.number, bench.name, name)
        figures = known.find(*key)
        if figures is None:
            figures = asdict(bench.blurry if restorer is None else bench.measure(restorer))
            known.add(*key, figures=figures)
        found[name] = figures
        reporter.advance(message=f"{case.kind}, noise {case.setting.noise:g}: {bench.name}")
    return found


def _summary(scenes: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Means over scenes that have images of the same names."""
    summary = {}
    for name in scenes[0]["images"]:
        rows = [scene["images"][name] for scene in scenes]
        worst = min(range(len(rows)), key=lambda index: rows[index]["gain"])
        summary[name] = {
            **{key: mean([row[key] for row in rows]) for key in rows[0] if key != "setting"},
            "worst_gain": rows[worst]["gain"],
            "worst_image": scenes[worst]["name"],
        }
    return summary
