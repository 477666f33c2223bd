"""The whole path on one photograph: blur it, estimate the blur, find it, undo it, compare.

Needs no download: the photograph comes with scikit-image (the astronaut Eileen Collins, NASA,
public domain).
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import __version__
from .compute import choose_device
from .estimation import estimate
from .files import write_image
from .measure import blur_mask, kernel_mosaic, similarity
from .restoration import deblur
from .simulation import simulate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .compute import ProgressCallback
    from .field import KernelField

    Picture = NDArray[np.uint8]

#: Rounds in which the estimate is refined.
_ROUNDS = 3
#: The smallest photograph that is worth blurring.
SMALLEST = 128

#: What the figures of demo.json are.
PROTOCOL = (
    "PSNR and SSIM (skimage.metrics) of 8-bit encoded values against the sharp photograph. "
    "'registered': the picture is first moved as a whole, by a fraction of a pixel, to where it "
    "fits best, since an estimated field is known up to a translation only, and a border as wide "
    "as a kernel is left out. Similarity: greatest normalised cross-correlation of estimated and "
    "true kernel over all shifts, mean over a grid of pixels."
)

#: Pictures of the contact sheet: key of the file, caption.
_PANELS = {
    "blurry": "blurry",
    "mosaic": "estimated kernels",
    "mask": "blur mask",
    "deblurred": "deblurred, estimated field",
    "truth": "truth",
}


def run_demo(
    folder: str | os.PathLike[str] = "blurfield-demo",
    *,
    seed: int = 0,
    size: int = 512,
    device: str = "auto",
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Blur a photograph, estimate the blur, mask it, deblur it, and write all of it to a folder.

    Parameters
    ----------
    folder : path
        Where to write; created if it is not there. Files of an earlier run are replaced.
    seed : int
        Start of the random numbers that make the blur and the noise.
    size : int
        Side of the square photograph in pixels: the middle of the astronaut, 128 to 512.
    device : str
        Where to compute; see `blurfield.compute.choose_device`.
    progress : callable, optional
        Called as ``progress(done, total, message)``; what it raises stops the demo.

    Returns
    -------
    dict
        What ``demo.json`` in the folder holds: figures, seconds, versions and the files' paths.

    Raises
    ------
    ValueError
        If `size` is out of range or `device` is not available.
    OSError
        If the folder cannot be made or written to.
    """
    if not SMALLEST <= size <= 512:
        raise ValueError(f"size must be from {SMALLEST} to 512 pixels, but is {size}")
    choose_device(device)  # before anything is made
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)

    truth = _photograph(size)
    seconds = {}
    start = time.perf_counter()
    blurry, true_field = simulate(truth, kind="rotation", seed=seed, device=device)
    seconds["simulate"] = time.perf_counter() - start
    start = time.perf_counter()
    field = estimate(blurry, device=device, progress=progress, refine=_ROUNDS)
    seconds["estimate"] = time.perf_counter() - start
    start = time.perf_counter()
    deblurred = deblur(blurry, field, device=device, progress=progress)
    seconds["deblur"] = time.perf_counter() - start
    deblurred_true = deblur(blurry, true_field, device=device, progress=progress)

    pictures = {
        "blurry": blurry,
        "mosaic": _as_picture(kernel_mosaic(field, blurry)),
        "true_mosaic": _as_picture(kernel_mosaic(true_field, blurry)),
        "mask": blur_mask(field).astype(np.uint8) * 255,
        "deblurred": deblurred,
        "deblurred_with_true_field": deblurred_true,
        "truth": truth,
    }
    border = true_field.kernel_size // 2
    figures = {
        "photograph": "skimage.data.astronaut",
        "size": size,
        "seed": seed,
        "device": str(field.metadata.get("device", device)),
        "protocol": PROTOCOL,
        "blurry": fidelity(blurry, truth, border),
        "deblurred": fidelity(deblurred, truth, border),
        "deblurred_with_true_field": fidelity(deblurred_true, truth, border),
        "similarity": float(similarity(field, true_field).mean),
        "seconds": seconds,
        "versions": {
            "blurfield": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "scipy", "scikit-image")},
        },
    }
    figures["files"] = _write(folder, pictures, {"estimated": field, "true": true_field}, figures)
    return figures


def fidelity(picture: Picture, truth: Picture, border: int) -> dict[str, Any]:
    """Return how close an 8-bit picture is to the truth, in place and after registration.

    Parameters
    ----------
    picture, truth : array, uint8, shape (H, W, 3)
        What to judge, and what it should be.
    border : int
        Pixels to leave out at each side after registration, and the farthest that the picture is
        moved, for which as many are left out again.

    Returns
    -------
    dict
        ``psnr`` in dB and ``ssim`` of the whole picture as it is; ``psnr_registered`` and
        ``ssim_registered`` after a translation, which is ``shift`` = [down, right] in pixels.
    """
    from .evaluation.alignment import register

    found = register(picture.astype(float), truth.astype(float), border)
    plain = _quality(picture.astype(float), truth.astype(float))
    registered = _quality(found.image.clip(0, 255), found.truth)
    return {
        **plain,
        **{f"{name}_registered": value for name, value in registered.items()},
        "shift": list(found.shift),
    }


def summary(figures: dict[str, Any]) -> str:
    """Say in a few lines what `run_demo` found and where its files are."""
    rows = [
        ("blurry", "blurry"),
        ("deblurred, estimated field", "deblurred"),
        ("deblurred, true field", "deblurred_with_true_field"),
    ]
    seconds = figures["seconds"]
    lines = [
        f"{'':28}PSNR / dB  SSIM   registered",
        *(
            f"{label:28}{figures[key]['psnr']:6.2f}    {figures[key]['ssim']:6.3f}"
            f"   {figures[key]['psnr_registered']:6.2f}  {figures[key]['ssim_registered']:6.3f}"
            for label, key in rows
        ),
        f"similarity of estimated and true kernels: {figures['similarity']:.2f}",
        f"estimated in {seconds['estimate']:.1f} s, deblurred in {seconds['deblur']:.1f} s",
        f"look at {figures['files']['sheet']}",
        f"all pictures, fields and figures: {Path(figures['files']['figures']).parent}",
    ]
    return "\n".join(lines)


def open_in_napari(figures: dict[str, Any]) -> str | None:
    """Open the results of `run_demo` in napari and wait until its window is closed.

    Returns
    -------
    str or None
        Why that is not possible here, or None if it was.
    """
    if importlib.util.find_spec("napari") is None:
        return "napari is not installed (pip install 'napari-blurfield[napari]')"
    displays = ("DISPLAY", "WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not any(map(os.environ.get, displays)):
        return "there is no display"
    shown = ("truth", "deblurred", "blurry", "field")
    command = [sys.executable, "-m", "napari", *(figures["files"][name] for name in shown)]
    status = subprocess.call(command)  # noqa: S603 - our own paths
    return None if status == 0 else f"napari ended with status {status}"


def _photograph(size: int) -> Picture:
    from skimage.data import astronaut

    photograph: Picture = astronaut()
    first = (photograph.shape[0] - size) // 2
    return photograph[first : first + size, first : first + size].copy()


def _quality(picture: NDArray[np.float64], truth: NDArray[np.float64]) -> dict[str, float]:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    return {
        "psnr": float(peak_signal_noise_ratio(truth, picture, data_range=255)),
        "ssim": float(structural_similarity(truth, picture, data_range=255, channel_axis=-1)),
    }


def _as_picture(mosaic: NDArray[np.floating[Any]]) -> Picture:
    rounded: NDArray[np.floating[Any]] = np.rint(mosaic * 255)
    return rounded.astype(np.uint8)


def _write(
    folder: Path,
    pictures: dict[str, Picture],
    fields: dict[str, KernelField],
    figures: dict[str, Any],
) -> dict[str, str]:
    """Write everything and return {name: path}."""
    files = {}
    for name, picture in pictures.items():
        files[name] = folder / f"{name}.png"
        write_image(files[name], picture)
    files["field"] = folder / "estimated.blurfield"
    files["true_field"] = folder / "true.blurfield"
    fields["estimated"].save(files["field"])
    fields["true"].save(files["true_field"])

    files["sheet"] = folder / "sheet.png"
    captions = [
        f"{caption}, {figures[key]['psnr']:.1f} dB" if key in figures else caption
        for key, caption in _PANELS.items()
    ]
    write_image(files["sheet"], contact_sheet([pictures[key] for key in _PANELS], captions))
    files["figures"] = folder / "demo.json"
    names = {key: str(path) for key, path in files.items()}
    text = json.dumps({**figures, "files": names}, indent=2, ensure_ascii=False)
    files["figures"].write_text(text + "\n", encoding="utf-8")
    return names


def contact_sheet(pictures: Sequence[Picture], captions: Sequence[str]) -> Picture:
    """Put pictures side by side on pale grey, each below its caption.

    Parameters
    ----------
    pictures : sequence of array, uint8, shape (H, W) or (H, W, 3)
        At their own size.
    captions : sequence of str
        One for each.

    Returns
    -------
    array, uint8, shape (H', W', 3)
    """
    from PIL import Image, ImageDraw, ImageFont

    gap, height = 8, max(len(picture) for picture in pictures)
    font_size = max(12, min(20, height // 24))
    bar = 2 * font_size
    width = sum(picture.shape[1] + gap for picture in pictures) + gap
    sheet = Image.new("RGB", (width, height + bar + gap), (225, 225, 225))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(font_size)
    left = gap
    for picture, caption in zip(pictures, captions, strict=True):
        draw.text((left, bar // 2), caption, fill="black", font=font, anchor="lm")
        sheet.paste(Image.fromarray(picture).convert("RGB"), (left, bar))
        left += picture.shape[1] + gap
    return np.asarray(sheet)
