"""Evaluation of blur maps against masks drawn by people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from blurfield.compute import Reporter
from blurfield.estimation import estimate
from blurfield.files import read_image
from blurfield.measure import blur_map, blur_score

from .fidelity import unit_values
from .photographs import image_files
from .precision import average_precision

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from numpy.typing import NDArray

    from blurfield.compute import ProgressCallback

#: What may follow an image's name in that of its mask.
_MASK_ENDING = "_mask"


def evaluate_masks(
    images: str | os.PathLike[str],
    masks: str | os.PathLike[str],
    *,
    model: str = "auto",
    threshold: float = 0.25,
    gamma: float | str = "auto",
    device: str = "auto",
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Return the average precision of blur maps against masks of what is blurred.

    The protocol for the motion-blurred images of the CUHK data set (Shi et al. 2014; Carbajal et
    al. 2021, motion-blur segmentation): average precision over the pixels of each image, then the
    mean over the images.

    Parameters
    ----------
    images, masks : path-like
        Folders; the same one is possible. The mask of ``NAME.ext`` is an image called ``NAME`` or
        ``NAME_mask``, brighter than middle grey where the image is blurred. Images without a mask
        are left out.
    model, gamma, device
        As for `blurfield.estimate`.
    threshold : float
        L2 norm up to which a basis kernel is blur; see `blurfield.blur_map`.
    progress : callable, optional
        Called as ``progress(done, total, message)`` at least once a second; what it raises stops
        the evaluation.

    Returns
    -------
    dict
        ``images``: for each its ``name``, and the average precision of the blur ``map`` and of the
        continuous ``score`` (`blurfield.blur_score`). ``mean``: both, over the images.
        ``settings``: model, threshold.

    Raises
    ------
    FileNotFoundError
        If a folder is missing.
    ValueError
        If no image has a mask, one is of another size or empty, or an option is out of range.
    """
    pairs = mask_pairs(images, masks)
    reporter = Reporter(progress, len(pairs), "Evaluating")
    rows, models = [], set()
    for image_path, mask_path in pairs:
        image, mask = read_image(image_path), _read_mask(mask_path)
        if mask.shape != image.shape[:2]:
            raise ValueError(
                f"{mask_path} is of {mask.shape[0]}×{mask.shape[1]} pixels, but its image of "
                f"{image.shape[0]}×{image.shape[1]}"
            )
        if not mask.any():
            raise ValueError(f"{mask_path} has no pixel that is brighter than middle grey")
        field = estimate(
            image, model=model, gamma=gamma, device=device, progress=lambda *_: reporter.poll()
        )
        rows.append(
            {
                "name": image_path.stem,
                "map": average_precision(mask, blur_map(field, threshold)),
                "score": average_precision(mask, blur_score(field)),
            }
        )
        models.add(field.metadata["model"])
        reporter.advance(message=image_path.stem)
    return {
        "settings": {"model": ", ".join(sorted(models)), "threshold": threshold},
        "images": rows,
        "mean": {key: float(np.mean([row[key] for row in rows])) for key in ("map", "score")},
    }


def mask_pairs(
    images: str | os.PathLike[str], masks: str | os.PathLike[str]
) -> list[tuple[Path, Path]]:
    """Return (image, mask) for all images that have a mask; see `evaluate_masks`."""
    by_stem = {path.stem: path for path in image_files(masks)}
    pairs = []
    for path in image_files(images):
        for stem in (path.stem + _MASK_ENDING, path.stem):
            mask = by_stem.get(stem)
            if mask is not None and mask.resolve() != path.resolve():
                pairs.append((path, mask))
                break
    if not pairs:
        raise ValueError(
            f"no image of {images} has a mask in {masks}: the mask of NAME.png must be called "
            f"NAME.png or NAME{_MASK_ENDING}.png"
        )
    return pairs


def _read_mask(path: Path) -> NDArray[np.bool_]:
    values = unit_values(read_image(path))
    if values.ndim == 3:
        values = values.mean(axis=2)
    result: NDArray[np.bool_] = values > 0.5
    return result
