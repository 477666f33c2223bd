"""Whole protocols of comparing a restored image with the truth.

Figures of different protocols must not be compared: always name the protocol with a figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .alignment import align_homography
from .fidelity import psnr, ssim, ssim_3d, unit_values

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    _Image = NDArray[np.float64]


def _plain(truth: _Image, image: _Image) -> dict[str, Any]:
    return {"psnr": psnr(truth, image), "ssim": ssim(truth, image)}


def _ecc(truth: _Image, image: _Image) -> dict[str, Any]:
    aligned = align_homography(image, truth)
    mask = aligned.mask if truth.ndim == 2 else aligned.mask[..., None]
    x, z = mask * truth, mask * aligned.image
    return {
        "psnr": psnr(x, z, aligned.mask),
        "ssim": ssim(x, z, aligned.mask),
        "intensity_factor": aligned.factor,
        "homography": aligned.matrix.tolist(),
        "aligned": aligned.converged,
    }


def _ufpnet(truth: _Image, image: _Image) -> dict[str, Any]:
    x, z = (np.rint(values.clip(0, 1) * 255) / 255 for values in (truth, image))
    return {"psnr": psnr(x, z), "ssim": ssim_3d(x, z)}


_PROTOCOLS: dict[str, Callable[[_Image, _Image], dict[str, Any]]] = {
    "plain": _plain,
    "ecc": _ecc,
    "ufpnet": _ufpnet,
}
#: Names of the protocols of `compare`.
PROTOCOLS = tuple(_PROTOCOLS)


def compare(truth: Any, image: Any, protocol: str = "plain") -> dict[str, Any]:
    """Return PSNR and structural similarity of a restored image under a protocol.

    Parameters
    ----------
    truth, image : array_like
        (H, W), (H, W, 3) or (H, W, 4) of one height and width, of values as they are displayed;
        alpha is left out. Integers are divided by the largest value of their type; floats have
        white = 1. A grey image is compared with a colour one channel by channel.
    protocol : {"plain", "ecc", "ufpnet"}
        ``"plain"``: as the images are. ``"ecc"``: after scaling the intensity and warping by a
        homography, over the pixels that the warped image covers (RealBlur, Rim et al. 2020).
        ``"ufpnet"``: rounded to 8 bits, with the structural similarity `ssim_3d`.

    Returns
    -------
    dict
        ``psnr`` in dB, ``ssim`` and ``protocol``; for ``"ecc"`` also ``intensity_factor``,
        ``homography`` (3×3, pixels (x, y, 1) of the truth to the image's) and ``aligned``, which
        is False where no homography was found and the image was compared in place.

    Raises
    ------
    ValueError
        If the protocol is unknown, the sizes differ, the images are too small (11×11), or
        OpenCV is needed and not installed.
    TypeError
        If the images do not hold usable numbers.
    """
    if protocol not in _PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; known: {', '.join(PROTOCOLS)}")
    pair = [unit_values(truth), unit_values(image)]
    if {values.ndim for values in pair} == {2, 3} or protocol == "ufpnet":
        pair = [_with_channels(values) for values in pair]
    return {**_PROTOCOLS[protocol](*pair), "protocol": protocol}


def _with_channels(values: _Image) -> _Image:
    return values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)
