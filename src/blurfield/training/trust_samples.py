"""Restored photographs of which it is known where they are better than the blurry ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from blurfield.estimation import estimate
from blurfield.evaluation.alignment import register
from blurfield.evaluation.fidelity import psnr, unit_values
from blurfield.evaluation.photographs import photograph_files, read_photograph
from blurfield.evaluation.restoration_scenes import cases, middle
from blurfield.files import atomic_write
from blurfield.restoration import deblur
from blurfield.restoration.estimated import observed
from blurfield.restoration.learned_trust import CELL, on_cells

from .wrong_fields import wrong_field

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from blurfield.evaluation.scenes import Scene
    from blurfield.field import KernelField
    from blurfield.restoration.estimated import Judged

__all__ = ["BLOCK", "SPLITS", "WRONG", "TrustSample", "make_samples", "read_samples", "samples_of"]

#: Pixels along each side of the blocks whose errors are summed; a cell has two by two.
BLOCK = CELL // 2
#: Kinds of scenes and how frequent they are, levels of noise, and methods.
_KINDS = {
    "uniform": 0.17,
    "segments": 0.17,
    "rotation": 0.17,
    "object": 0.13,
    "large": 0.08,
    "sharp": 0.2,
    "short uniform": 0.04,
    "short segments": 0.04,
}
_NOISE = (0.005, 0.01, 0.03)
_METHODS = ("richardson-lucy", "tikhonov", "plug-and-play")
#: Side of the scenes in pixels.
_SIDE = 256
#: What stands for true fields with errors, in the place of an estimator.
WRONG = "wrong"
#: A folder for each split.
SPLITS = ("train", "val")


@dataclass(frozen=True)
class TrustSample:
    """A photograph that was restored with an estimated field, without any doubt.

    Attributes
    ----------
    name : str
        Photograph, kind of blur, noise, method.
    sharp, blurry : Tensor
        Restored and blurry image, grey, linear light with usual exposure, float16, (H, W), with
        sides that are multiples of 16.
    told : Tensor
        `blurfield.restoration.estimated.evidence` on cells, float16, (6, H / 16, W / 16).
    doubt : Tensor
        Of the rules, float16, (H / 16, W / 16).
    errors : Tensor
        Sums over blocks of 8 pixels of d², d·e and e², with the change d that restoration has made
        and the error e of the blurry image, encoded for display: (2, 3, H / 8, W / 8), for images
        that were moved to where the restored or the blurry one fits the truth best.
    values : int
        Numbers, pixels times channels, that went into them.
    before : float
        PSNR of the blurry image in dB.
    size : int
        Side K of the kernels in pixels.
    """

    name: str
    sharp: Tensor
    blurry: Tensor
    told: Tensor
    doubt: Tensor
    errors: Tensor
    values: int
    before: float
    size: int

    def save(self, path: Path) -> None:
        """Write a file of plain arrays."""
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            arrays: dict[str, Any] = {name: np.asarray(v) for name, v in vars(self).items()}
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> TrustSample:
        """Read such a file.

        Raises
        ------
        ValueError
            If it is none.
        """
        try:
            with np.load(path, allow_pickle=False) as content:
                found = {name: content[name] for name in cls.__dataclass_fields__}
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"{path} is no sample of a restored image: {error}") from error
        tensors = ("sharp", "blurry", "told", "doubt", "errors")
        made: dict[str, Any] = {
            name: torch.from_numpy(value) if name in tensors else value.item()
            for name, value in found.items()
        }
        return cls(**made)


def samples_of(
    scene: Scene, field: KernelField, methods: Sequence[str], device: torch.device
) -> list[TrustSample]:
    """Restore a scene with an estimated field, by all methods."""
    blurry, sharp = unit_values(scene.blurry), scene.sharp()
    radius = scene.truth.kernel_size // 2
    before = register(blurry, sharp, radius)
    made = []
    for method in methods:
        judged: list[Judged] = []
        with observed(judged.append):
            image = deblur(scene.blurry, field, method, gamma=scene.gamma, device=device)
        restored = unit_values(image)
        after = register(restored, sharp, radius)
        errors = torch.stack(
            [
                _errors(restored, blurry, found.truth, found.shift, 2 * radius)
                for found in (after, before)
            ]
        )
        [one] = judged
        height, width = (n // CELL * CELL for n in one.sharp.shape[1:])
        half = torch.float16
        made.append(
            TrustSample(
                method,
                one.sharp[0, :height, :width].to("cpu", half),
                one.blurry[0, :height, :width].to("cpu", half),
                on_cells(one.told()[:, :height, :width]).to("cpu", half),
                on_cells(one.doubt[:, :height, :width])[0].to("cpu", half),
                errors[..., : height // BLOCK, : width // BLOCK],
                int(after.truth.size),
                float(psnr(before.truth, before.image)),
                field.kernel_size,
            )
        )
    return made


def _errors(
    restored: NDArray[np.float64],
    blurry: NDArray[np.float64],
    truth: NDArray[np.float64],
    shift: tuple[float, float],
    margin: int,
) -> Tensor:
    """See `TrustSample.errors`; nothing is known within the margin."""
    from scipy.ndimage import shift as moved

    inner = tuple(slice(margin, n - margin) for n in blurry.shape[:2])
    after, before = (
        moved(values, (*shift, 0)[: values.ndim], order=3, mode="nearest")[inner].clip(0, 1)
        for values in (restored, blurry)
    )
    change, error = after - before, truth - before
    found = torch.zeros(3, *blurry.shape[:2])
    for number, product in enumerate((change * change, change * error, error * error)):
        summed = product if product.ndim == 2 else product.sum(-1)
        found[number][inner] = torch.from_numpy(summed).float()
    return functional.avg_pool2d(found, BLOCK) * BLOCK**2


def make_samples(
    data: str | os.PathLike[str],
    folder: Path,
    *,
    count: int,
    models: Sequence[str],
    device: torch.device,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> int:
    """Blur photographs, estimate their fields, and restore them without any doubt.

    Every tenth scene is of a photograph that is held out for validation.

    Parameters
    ----------
    data : path-like
        Folder of photographs, see `blurfield.evaluation.photographs.photograph_files`.
    folder : Path
        Where to put the samples, two for each scene; scenes that are there are kept.
    count : int
        Number of scenes.
    models : sequence of str
        Estimators, each as frequent as it is named; ``"wrong"`` stands for true fields with
        errors, which take no time.
    device : torch.device
        Where to compute.
    seed : int
        Determines all scenes.
    say : callable
        Called with a line of text for each scene.

    Returns
    -------
    int
        Number of samples in the folder.
    """
    everything = 10**9
    files = {split: photograph_files(data, everything, split) for split in SPLITS}
    for number in range(count):
        draw = np.random.default_rng([seed, number])
        split = "val" if number % 10 == 9 else "train"
        path = files[split][draw.integers(len(files[split]))]
        kind = str(draw.choice(list(_KINDS), p=list(_KINDS.values())))
        noise = float(draw.choice(_NOISE))
        other = str(draw.choice(_METHODS[1:]))
        place = folder / split
        name = f"{seed} {number:05d} {path.stem} {kind} {noise:g}"
        files_of = {method: place / f"{name} {method}.npz" for method in (_METHODS[0], other)}
        if all(file.is_file() for file in files_of.values()):
            continue
        [case] = cases([kind], [noise])
        scene = case.scene(middle(read_photograph(path), _SIDE), path.stem, seed, number)
        model = str(draw.choice(list(models)))
        if model == WRONG:
            field = wrong_field(scene.truth, draw).to(device)
        else:
            field = estimate(scene.blurry, model=model, gamma=scene.gamma, device=device)
        place.mkdir(parents=True, exist_ok=True)
        for sample in samples_of(scene, field, list(files_of), device):
            sample.save(files_of[sample.name])
        say(f"{name} ({number + 1} of {count})")
    return sum(len(list((folder / split).glob("*.npz"))) for split in SPLITS)


def read_samples(folder: str | os.PathLike[str], split: str) -> list[TrustSample]:
    """Read the samples of a split.

    Raises
    ------
    ValueError
        If there are none, or one cannot be read.
    """
    files = sorted((Path(folder) / split).glob("*.npz"))
    if not files:
        raise ValueError(
            f"{Path(folder) / split} holds no samples of restored images; make them with: "
            "blurfield train trust-samples"
        )
    return [TrustSample.load(file) for file in files]
