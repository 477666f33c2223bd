"""Folders of blurry images with their sharp ones, and with fields that are estimated once.

A folder holds ``blurry/NAME`` and ``sharp/NAME``, and ``fields/MODEL/NAME.blurfield`` for each
model whose fields have been asked for; those of the model ``true`` are what images were blurred
with.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from blurfield.estimation import MODELS, estimate
from blurfield.field import KernelField
from blurfield.files import write_image
from blurfield.simulation import simulate

from .images import read_manifest, read_rgb, textured_corners

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    import torch

#: What stands for the fields with which images were blurred, in the place of a model.
TRUE = "true"
#: Names of the folders within.
_BLURRY, _SHARP, _FIELDS = "blurry", "sharp", "fields"
#: Kinds of simulated blur, in turn.
_KINDS = ("uniform", "segments", "rotation")
#: The seed of a pair is this many times the seed of the folder plus its number.
_SEED_STEP = 100_000


@dataclass(frozen=True)
class PairFolder:
    """A folder of pairs.

    Attributes
    ----------
    path : pathlib.Path
        The folder.
    """

    path: Path

    @property
    def exists(self) -> bool:
        """Whether there are pairs."""
        return all((self.path / name).is_dir() for name in (_BLURRY, _SHARP))

    def names(self) -> list[str]:
        """File names of the pairs, sorted."""
        return sorted(file.name for file in (self.path / _BLURRY).iterdir() if file.is_file())

    def blurry(self, name: str) -> Path:
        """The blurry image of a pair."""
        return self.path / _BLURRY / name

    def sharp(self, name: str) -> Path:
        """The sharp image of a pair."""
        return self.path / _SHARP / name

    def field(self, name: str, model: str) -> Path:
        """The field of a pair by a model, which may not have been estimated yet."""
        return self.path / _FIELDS / model / f"{name}.blurfield"

    def estimate_fields(
        self,
        model: str,
        *,
        device: torch.device | str = "auto",
        kernel_size: int | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        """Estimate the fields that are missing.

        Parameters
        ----------
        model : str
            See `blurfield.estimate`, or ``"true"`` for what cannot be estimated.
        device : torch.device or str
            Where to compute.
        kernel_size : int, optional
            Side of the kernels in pixels, for models that leave it open.
        say : callable
            Called with a line of text for each image.

        Raises
        ------
        ValueError
            If true fields are missing, or the model is unknown or not installed.
        """
        if model not in (TRUE, *MODELS):
            raise ValueError(
                f"fields must be {TRUE!r} or by one of {', '.join(MODELS)}, not {model!r}"
            )
        options: dict[str, Any] = {} if kernel_size is None else {"kernel_size": kernel_size}
        missing = [name for name in self.names() if not self.field(name, model).is_file()]
        if missing and model == TRUE:
            raise ValueError(
                f"{self.field(missing[0], model)} is missing; pairs whose blur is not known need "
                f"fields by a model: {', '.join(MODELS)}"
            )
        for number, name in enumerate(missing, start=1):
            say(f"estimating the field of {name} ({number} of {len(missing)})")
            path = self.field(name, model)
            path.parent.mkdir(parents=True, exist_ok=True)
            estimate(read_rgb(self.blurry(name)), model=model, device=device, **options).save(path)


def make_pairs(
    data: str | os.PathLike[str],
    folder: PairFolder,
    *,
    count: int,
    side: int = 192,
    max_extent: float = 17.0,
    noise: float = 0.005,
    seed: int = 0,
    split: str = "train",
) -> int:
    """Blur sharp images with fields that are known.

    Parameters
    ----------
    data : path-like
        Folder of sharp images with their manifest, see `read_manifest`.
    folder : PairFolder
        Where to put the pairs; those that are there are kept.
    count : int
        Number of pairs, from as many images, evenly spread over the manifest.
    side : int
        Side of the images in pixels, cut from where there is texture.
    max_extent, noise : float
        See `blurfield.simulate`.
    seed : int
        Determines all pairs.
    split : str
        Rows of the manifest to use.

    Returns
    -------
    int
        Number of pairs; fewer than asked for if there are not as many images of that size.

    Raises
    ------
    ValueError
        If no image is large enough.
    """
    files = [Path(data) / row["file"] for row in read_manifest(data, split)]
    large = [file for file in files if _shorter_side(file) >= side]
    if not large:
        raise ValueError(f"no image of {data} with split={split} has {side}×{side} pixels")
    chosen = np.linspace(0, len(large) - 1, min(count, len(large))).round().astype(int)
    for number, index in enumerate(chosen.tolist()):
        name = f"{large[index].stem}.png"
        own = seed * _SEED_STEP + number
        picture = read_rgb(large[index])
        corners = textured_corners(picture, side)
        y, x = corners[np.random.default_rng(own).integers(len(corners))].tolist()
        sharp = np.ascontiguousarray(picture[y : y + side, x : x + side])
        blurry, truth = simulate(
            sharp, kind=_KINDS[number % 3], seed=own, max_extent=max_extent, noise=noise
        )
        for path in (folder.sharp(name), folder.blurry(name), folder.field(name, TRUE)):
            path.parent.mkdir(parents=True, exist_ok=True)
        truth.save(folder.field(name, TRUE))
        write_image(folder.sharp(name), sharp)
        write_image(folder.blurry(name), blurry)
    return len(chosen)


def read_field(folder: PairFolder, name: str, model: str, shape: tuple[int, int]) -> KernelField:
    """Read a field of a pair whose images have this shape.

    Raises
    ------
    ValueError
        If it is for images of another shape.
    """
    path = folder.field(name, model)
    field = KernelField.load(path)
    if field.shape != shape:
        raise ValueError(f"{path} is for images of {field.shape}, not of {shape}")
    return field


def _shorter_side(file: Path) -> int:
    with Image.open(file) as opened:
        return min(opened.size)
