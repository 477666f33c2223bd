"""Moving an image onto the truth before they are compared.

A blind estimate fixes kernel and image only up to a translation, and photographs of one scene are
taken from slightly different places.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .fidelity import require_same_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Fewest pixels, along each axis, that must be left to compare after a translation.
_FEWEST_LEFT = 16
#: Steps towards fractions of a pixel; each is quadratically closer.
_REFINEMENTS = 4
#: Steps of the ECC iteration and the side of its Gaussian filter (specification §6.1, step 2).
_ECC_STEPS, _ECC_FILTER = 100, 5


@dataclass(frozen=True)
class Registered:
    """What can be compared after a translation.

    Attributes
    ----------
    image, truth : numpy.ndarray
        float64, the same part of both, without the borders.
    shift : (float, float)
        By how many pixels the image was moved down and to the right.
    """

    image: NDArray[np.float64]
    truth: NDArray[np.float64]
    shift: tuple[float, float]


def register(
    image: NDArray[np.floating[Any]],
    truth: NDArray[np.floating[Any]],
    border: int,
    reach: int | None = None,
) -> Registered:
    """Translate an image to where it fits the truth best.

    The translation is the one with the least squared error, first among whole pixels, then among
    fractions, where the image is read by cubic interpolation.

    Parameters
    ----------
    image, truth : numpy.ndarray
        (H, W) or (H, W, C), of one shape, in the same value scale.
    border : int
        Pixels at each edge that are not to be trusted: half a kernel.
    reach : int, optional
        Largest translation in pixels, along each axis; by default `border`. Also left out at each
        edge, so that the same pixels are compared whatever the translation.

    Raises
    ------
    ValueError
        If the shapes differ, or fewer than 16 pixels along an axis are left to compare.
    """
    require_same_shape(truth, image)
    reach = border if reach is None else reach
    margin = border + reach
    if min(truth.shape[:2]) < 2 * margin + _FEWEST_LEFT:
        raise ValueError(
            f"images of {truth.shape[0]}×{truth.shape[1]} pixels are too small to be compared "
            f"with a border of {border} pixels and translations of up to {reach}"
        )
    reference = _inner(truth.astype(np.float64), margin)
    source = image.astype(np.float64)
    whole = _whole_translation(_inner(source, border), reference)
    shift, moved = whole, _inner(_translated(source, whole), margin)
    error = np.square(moved - reference).sum()
    for _ in range(_REFINEMENTS):
        step = _newton_step(moved, reference)
        tried = (shift[0] + step[0], shift[1] + step[1])
        candidate = _inner(_translated(source, tried), margin)
        found = np.square(candidate - reference).sum()
        if found >= error or max(abs(tried[0] - whole[0]), abs(tried[1] - whole[1])) > 1:
            break
        shift, moved, error = tried, candidate, found
    return Registered(moved, reference, shift)


def _inner(values: NDArray[np.float64], margin: int) -> NDArray[np.float64]:
    height, width = values.shape[:2]
    return values[margin : height - margin, margin : width - margin]


def _translated(
    values: NDArray[np.float64], down_right: tuple[float, float]
) -> NDArray[np.float64]:
    from scipy.ndimage import shift

    moved: NDArray[np.float64] = shift(
        values, (*down_right, 0)[: values.ndim], order=3, mode="nearest"
    )
    return moved


def _whole_translation(
    image: NDArray[np.float64], reference: NDArray[np.float64]
) -> tuple[float, float]:
    """Translation in whole pixels with the least squared error; the reference is the smaller."""
    from scipy.signal import correlate

    # The reference's own energy is the same at all translations.
    axes = (*image.shape[:2], -1), (*reference.shape[:2], -1)
    errors: NDArray[np.float64] = sum(
        correlate(u * u, np.ones_like(v), "valid", "fft") - 2 * correlate(u, v, "valid", "fft")
        for u, v in zip(
            np.moveaxis(image.reshape(axes[0]), -1, 0),
            np.moveaxis(reference.reshape(axes[1]), -1, 0),
            strict=True,
        )
    )
    down, right = np.unravel_index(int(errors.argmin()), errors.shape)
    # What starts there in the image fits, so it has to move back by as much.
    return float(errors.shape[0] // 2 - down), float(errors.shape[1] // 2 - right)


def _newton_step(image: NDArray[np.float64], reference: NDArray[np.float64]) -> tuple[float, float]:
    """Gauss-Newton step of the translation (Lucas and Kanade 1981)."""
    slopes = np.stack([np.gradient(image, axis=axis).ravel() for axis in (0, 1)], axis=1)
    residual = (image - reference).ravel()
    down, right = np.linalg.lstsq(slopes, residual, rcond=None)[0]
    return float(down), float(right)


@dataclass(frozen=True)
class Homography:
    """An image after the ECC alignment.

    Attributes
    ----------
    image : numpy.ndarray
        float64, (H, W) or (H, W, C): scaled in intensity and warped onto the truth.
    mask : numpy.ndarray
        float64, (H, W): 1 where the warped image has content, else 0.
    factor : float
        What the intensities were multiplied by.
    matrix : numpy.ndarray
        (3, 3), maps pixels (x, y, 1) of the truth to those of the image.
    converged : bool
        Whether the iteration found a homography; if not, `matrix` is the identity.
    """

    image: NDArray[np.float64]
    mask: NDArray[np.float64]
    factor: float
    matrix: NDArray[np.float64]
    converged: bool


def intensity_factor(truth: NDArray[np.floating[Any]], image: NDArray[np.floating[Any]]) -> float:
    """Return the factor α = Σ x z / Σ z z that brings the image z closest to the truth x."""
    require_same_shape(truth, image)
    energy = float(np.square(image, dtype=np.float64).sum())
    return float((truth * image.astype(np.float64)).sum()) / energy if energy > 0 else 1.0


def align_homography(
    image: NDArray[np.floating[Any]], truth: NDArray[np.floating[Any]]
) -> Homography:
    """Scale an image's intensity and warp it onto the truth by ECC maximisation.

    Steps 1 to 3 of the protocol of the RealBlur benchmark (Rim et al. 2020; specification §6.1):
    the factor α, a homography that maximises the enhanced correlation coefficient of the grey
    images (Evangelidis and Psarakis 2008), and cubic interpolation with mirrored edges.

    Parameters
    ----------
    image, truth : numpy.ndarray
        (H, W) or (H, W, 3), of one shape, white = 1.

    Raises
    ------
    ValueError
        If the shapes differ or OpenCV is not installed.
    """
    cv2 = _opencv()
    factor = intensity_factor(truth, image)
    # Single precision throughout: OpenCV 5.0 warps double precision wrongly in places.
    scaled = (factor * image).astype(np.float32)
    matrix, converged = np.eye(3, dtype=np.float32), True
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ECC_STEPS, 0.0)
    try:
        _, matrix = cv2.findTransformECC(
            _grey(truth, cv2),
            _grey(scaled, cv2),
            matrix,
            cv2.MOTION_HOMOGRAPHY,
            criteria,
            None,
            _ECC_FILTER,
        )
    except cv2.error:  # how it says that there is no correlation to maximise
        matrix, converged = np.eye(3, dtype=np.float32), False
    size = (truth.shape[1], truth.shape[0])
    warped = cv2.warpPerspective(
        scaled,
        matrix,
        size,
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT,
    )
    mask = cv2.warpPerspective(
        np.ones(truth.shape[:2], np.float32),
        matrix,
        size,
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    return Homography(
        image=warped.astype(np.float64),
        mask=mask.astype(np.float64),
        factor=factor,
        matrix=matrix.astype(np.float64),
        converged=converged,
    )


def _grey(values: NDArray[np.floating[Any]], cv2: Any) -> NDArray[np.float32]:
    single: NDArray[np.float32] = values.astype(np.float32)
    return single if single.ndim == 2 else cv2.cvtColor(single, cv2.COLOR_RGB2GRAY)


def _opencv() -> Any:
    try:
        return importlib.import_module("cv2")
    except ImportError:
        raise ValueError(
            "the protocol 'ecc' needs OpenCV, which is not installed: "
            "pip install 'napari-blurfield[evaluate]'"
        ) from None
