"""Evaluation of estimated fields on scenes whose blur is known."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from blurfield._version import __version__
from blurfield.compute import Reporter, choose_device
from blurfield.measure import similarity
from blurfield.restoration import deblur

from .alignment import register
from .contenders import contenders
from .fidelity import psnr, unit_values
from .kernel_distance import kernel_l1_distance
from .photographs import photograph_files, read_photograph
from .scenes import SETTINGS, check_seed, guesses, make_scene
from .summaries import mean

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from blurfield.compute import ProgressCallback
    from blurfield.field import KernelField

    from .contenders import Contender
    from .scenes import Scene, Setting

__all__ = ["evaluate_synthetic"]

#: The name of the field that a scene was made with, the last one of each table.
TRUE_FIELD = "true field"


@dataclass(frozen=True)
class FieldFigures:
    """How good one field of one scene is.

    Attributes
    ----------
    similarity : float
        Mean kernel similarity to the true field, see `blurfield.similarity`.
    l1 : float
        Mean L1 distance to the true field, see `kernel_l1_distance`.
    reblur_psnr : float
        PSNR in dB of the sharp photograph blurred with the field, registered, against the same
        blurred with the true field, both without noise; infinite for the true field.
    psnr : float or None
        PSNR in dB of the image deblurred with the field, registered, against the sharp photograph.
    gain : float or None
        `psnr` minus that of the blurry image, also registered.
    seconds : float or None
        What the estimation took, where there was one.
    """

    similarity: float
    l1: float
    reblur_psnr: float
    psnr: float | None
    gain: float | None
    seconds: float | None


@dataclass(frozen=True)
class _Judge:
    """Judges the fields of one scene."""

    scene: Scene
    device: torch.device
    poll: Callable[[], None]
    sharp: NDArray[np.float64]
    clean: NDArray[np.float64]
    blurry_psnr: float | None

    @classmethod
    def of(
        cls, scene: Scene, device: torch.device, deblurring: bool, poll: Callable[[], None]
    ) -> _Judge:
        sharp, clean = scene.sharp(), scene.reblurred(scene.truth, poll)
        blurry = _registered_psnr(unit_values(scene.blurry), sharp, scene) if deblurring else None
        return cls(scene, device, poll, sharp, clean, blurry)

    def figures(self, field: KernelField, seconds: float | None) -> FieldFigures:
        """Return the figures of a field that lies on the CPU."""
        scene, gain, deblurred_psnr = self.scene, None, None
        if self.blurry_psnr is not None:
            deblurred = deblur(
                scene.blurry,
                field,
                # The same for all fields: what "auto" takes depends on where a field is from.
                "richardson-lucy",
                gamma=scene.gamma,
                device=self.device,
                progress=lambda *_: self.poll(),
            )
            deblurred_psnr = _registered_psnr(unit_values(deblurred), self.sharp, scene)
            gain = deblurred_psnr - self.blurry_psnr
        is_true = field is scene.truth
        again = self.clean if is_true else scene.reblurred(field, self.poll)
        return FieldFigures(
            similarity=similarity(field, scene.truth).mean,
            l1=kernel_l1_distance(field, scene.truth).mean,
            reblur_psnr=math.inf if is_true else _registered_psnr(again, self.clean, scene),
            psnr=deblurred_psnr,
            gain=gain,
            seconds=seconds,
        )


def _registered_psnr(image: NDArray[np.float64], truth: NDArray[np.float64], scene: Scene) -> float:
    """PSNR after the translation, of at most half a kernel, that the estimate leaves open."""
    found = register(image, truth, scene.truth.kernel_size // 2)
    return psnr(found.truth, found.image)


def evaluate_synthetic(
    images: str | os.PathLike[str],
    *,
    kinds: Sequence[str] | None = None,
    count: int = 10,
    seed: int = 0,
    models: Sequence[str] | None = None,
    checkpoints: Sequence[str | os.PathLike[str]] = (),
    deblurring: bool = True,
    device: str = "auto",
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Measure estimators on photographs blurred with known fields.

    Parameters
    ----------
    images : path-like
        Folder of sharp photographs, see `photograph_files`.
    kinds : sequence of str, optional
        Kinds of scenes, of `SETTINGS`; all by default.
    count : int, default 10
        Photographs of each kind, at most.
    seed : int, default 0
        Fixes the blur and the noise.
    models : sequence of str, optional
        Names of installed models; all of them by default.
    checkpoints : sequence of path-like
        Checkpoint files to be measured besides, each under its file's name.
    deblurring : bool, default True
        Also deblur with each field, which takes most of the time.
    device : str
        Where to estimate and to deblur; see `blurfield.compute.choose_device`.
    progress : callable, optional
        Called as ``progress(done, total, message)`` at least once a second; what it raises stops
        the evaluation and propagates.

    Returns
    -------
    dict
        Plain JSON types, but for infinities. ``settings``: what was measured, and with what.
        ``kinds``: for each kind ``images``, ``blurry_psnr``, ``fields`` and ``scenes``; the scenes
        have the `FieldFigures` of each field, the fields their means (``median_similarity`` and
        ``worst_similarity``, too) and ``gain_fraction``, the mean gain divided by that of the true
        field. ``all``: the same over the scenes of all kinds.

    Raises
    ------
    FileNotFoundError
        If there is no such folder or checkpoint.
    ValueError
        If a kind or model is unknown or not installed, there are no photographs, one is too small,
        or `count` or `seed` is out of range.
    """
    kinds = list(SETTINGS if kinds is None else kinds)
    for kind in kinds:
        if kind not in SETTINGS:
            raise ValueError(f"unknown kind of scene {kind!r}; known: {', '.join(SETTINGS)}")
    check_seed(seed)
    chosen = choose_device(device)
    rivals = contenders(models, checkpoints, chosen)
    files = photograph_files(images, count)
    fields_each = len(rivals) + 3  # no blur, the mean kernel and the true field
    reporter = Reporter(progress, len(kinds) * len(files) * fields_each, "Evaluating")
    results = {}
    for kind in kinds:
        scenes = [
            _evaluate_scene(kind, number, path, seed, rivals, chosen, deblurring, reporter)
            for number, path in enumerate(files)
        ]
        results[kind] = {**_summary(scenes), "scenes": scenes}
    return {
        "settings": {
            "count": count,
            "seed": seed,
            "kinds": {kind: asdict(SETTINGS[kind]) for kind in kinds},
            "photographs": [path.name for path in files],
            "deblurring": deblurring,
            "device": str(chosen),
            "threads": torch.get_num_threads(),
            "version": __version__,
            "torch": torch.__version__,
        },
        "kinds": results,
        "all": _summary([scene for kind in kinds for scene in results[kind]["scenes"]]),
    }


def _evaluate_scene(
    kind: str,
    number: int,
    path: Path,
    seed: int,
    rivals: Sequence[Contender],
    device: torch.device,
    deblurring: bool,
    reporter: Reporter,
) -> dict[str, Any]:
    setting = SETTINGS[kind]
    try:
        scene = make_scene(read_photograph(path), path.stem, kind, setting, seed, number)
        judge = _Judge.of(scene, device, deblurring, reporter.poll)
    except ValueError as error:
        raise ValueError(f"{path.name}, kind of scene {kind!r}: {error}") from error
    figures = {}
    for name, field, seconds in _fields(scene, setting, seed, rivals, reporter.poll):
        figures[name] = asdict(judge.figures(field, seconds))
        reporter.advance(message=f"{kind}: {path.stem}")
    return {"name": path.stem, "blurry_psnr": judge.blurry_psnr, "fields": figures}


def _fields(
    scene: Scene,
    setting: Setting,
    seed: int,
    rivals: Sequence[Contender],
    poll: Callable[[], None],
) -> Iterator[tuple[str, KernelField, float | None]]:
    """Name, field on the CPU and seconds of all fields that are compared on a scene."""
    for name, field in guesses(setting, scene.truth.shape, seed).items():
        yield name, field, None
    for rival in rivals:
        start = time.perf_counter()
        field = rival.estimate(scene.blurry, scene.gamma, lambda *_: poll()).to("cpu")
        yield rival.name, field, time.perf_counter() - start
    yield TRUE_FIELD, scene.truth, None


def _summary(scenes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return figures over scenes that have the same fields."""
    names = list(scenes[0]["fields"]) if scenes else []
    fields = {}
    for name in names:
        rows = [scene["fields"][name] for scene in scenes]
        similarities = [row["similarity"] for row in rows]
        fields[name] = {
            **{key: mean([row[key] for row in rows]) for key in rows[0]},
            "median_similarity": float(np.median(similarities)),
            "worst_similarity": float(np.min(similarities)),
        }
    for figures in fields.values():
        figures["gain_fraction"] = _fraction(figures["gain"], fields[TRUE_FIELD]["gain"])
    return {
        "images": len(scenes),
        "blurry_psnr": mean([scene["blurry_psnr"] for scene in scenes]),
        "fields": fields,
    }


def _fraction(gain: float | None, possible: float | None) -> float | None:
    """Part of the possible gain, where there is anything to be gained."""
    if gain is None or possible is None or possible <= 0:
        return None
    return gain / possible
