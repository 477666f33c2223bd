"""How close an image is to the truth: PSNR and structural similarity.

All functions take images (H, W) or (H, W, C) of values as they are displayed, black 0 and white 1;
`unit_values` makes such images of files. They say nothing about alignment: see
`blurfield.evaluation.protocols` for whole protocols.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Standard deviation, in pixels, of the Gaussian window of structural similarity, and its radius.
SSIM_SIGMA, SSIM_RADIUS = 1.5, 5
#: Constants of structural similarity for values with white = 1 (Wang et al. 2004, Sec. III-B).
_C1, _C2 = 0.01**2, 0.03**2


def unit_values(image: Any) -> NDArray[np.float64]:
    """Return an image's values on the scale of black 0 and white 1.

    Parameters
    ----------
    image : array_like
        (H, W), (H, W, 3) or (H, W, 4), whose last channel is alpha and left out. Booleans and
        unsigned integers are divided by the largest value of their type; floats are taken as they
        are.

    Returns
    -------
    numpy.ndarray
        float64, (H, W) or (H, W, 3), a copy.

    Raises
    ------
    ValueError
        If the shape is another one, or a value is NaN or infinite.
    TypeError
        If the values are not booleans, unsigned integers or real floats.
    """
    array = np.asarray(image)
    if array.dtype.kind not in "buf":
        raise TypeError(
            f"image values must be booleans, unsigned integers or floats, not {array.dtype}"
        )
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))) or 0 in array.shape:
        raise ValueError(f"an image must be (H, W) or (H, W, 3 or 4), not {array.shape}")
    white = float(np.iinfo(array.dtype).max) if array.dtype.kind == "u" else 1.0
    values: NDArray[np.float64] = (
        array[..., :3].astype(np.float64) if array.ndim == 3 else (array.astype(np.float64))
    )
    if not np.isfinite(values).all():
        raise ValueError(
            f"the image has {int((~np.isfinite(values)).sum())} NaN or infinite values"
        )
    return values / white


def psnr(
    truth: NDArray[np.floating[Any]],
    image: NDArray[np.floating[Any]],
    mask: NDArray[np.floating[Any]] | None = None,
) -> float:
    """Return the peak signal-to-noise ratio −10 log₁₀ of the mean squared error, in dB.

    Parameters
    ----------
    truth, image : numpy.ndarray
        (H, W) or (H, W, C), white = 1.
    mask : numpy.ndarray, optional
        (H, W), weights of the pixels; all count alike by default.

    Returns
    -------
    float
        Infinite for equal images.

    Raises
    ------
    ValueError
        If the shapes differ, or no pixel counts.
    """
    require_same_shape(truth, image)
    squares = np.square(truth.astype(np.float64) - image)
    error = _weighted_mean(squares, mask)
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(
    truth: NDArray[np.floating[Any]],
    image: NDArray[np.floating[Any]],
    mask: NDArray[np.floating[Any]] | None = None,
    crop: int = SSIM_RADIUS,
) -> float:
    """Return the mean structural similarity (Wang et al. 2004), at most 1.

    A Gaussian window of standard deviation 1.5 px and population covariances, on each channel by
    itself, as in scikit-image.

    Parameters
    ----------
    truth, image : numpy.ndarray
        (H, W) or (H, W, C), white = 1, at least 11×11 pixels.
    mask : numpy.ndarray, optional
        (H, W), weights of the pixels; all count alike by default.
    crop : int, default 5
        Pixels left out at each edge, where the window reaches beyond it.

    Raises
    ------
    ValueError
        If the shapes differ, the image is too small, or no pixel counts.
    """
    from skimage.metrics import structural_similarity

    require_same_shape(truth, image)
    least = 2 * max(crop, SSIM_RADIUS) + 1
    if min(truth.shape[:2]) < least:
        raise ValueError(
            f"structural similarity needs at least {least}×{least} pixels, but the images have "
            f"{truth.shape[0]}×{truth.shape[1]}"
        )
    _, values = structural_similarity(
        truth.astype(np.float64),
        image.astype(np.float64),
        data_range=1.0,
        channel_axis=-1 if truth.ndim == 3 else None,
        gaussian_weights=True,
        sigma=SSIM_SIGMA,
        use_sample_covariance=False,
        full=True,
    )
    inner = slice(crop, values.shape[0] - crop), slice(crop, values.shape[1] - crop)
    return _weighted_mean(values[inner], None if mask is None else mask[inner])


def ssim_3d(truth: NDArray[np.floating[Any]], image: NDArray[np.floating[Any]]) -> float:
    """Return the structural similarity whose window spans the channels too.

    This is what UFPNet's published GoPro and HIDE figures are (specification §6.3): an 11×11×11
    Gaussian window of standard deviation 1.5 over height, width and channels, edges repeated, and
    the mean of the whole map. It is higher than `ssim` of the same images; don't compare the two.

    Parameters
    ----------
    truth, image : numpy.ndarray
        (H, W, C), white = 1.

    Raises
    ------
    ValueError
        If the shapes differ or the images are grey.
    """
    from scipy.ndimage import gaussian_filter

    require_same_shape(truth, image)
    if truth.ndim != 3:
        raise ValueError(f"3-D structural similarity needs (H, W, C), not {truth.shape}")

    def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
        smoothed: NDArray[np.float64] = gaussian_filter(
            values, SSIM_SIGMA, mode="nearest", radius=SSIM_RADIUS
        )
        return smoothed

    x, y = truth.astype(np.float64), image.astype(np.float64)
    mean_x, mean_y = smooth(x), smooth(y)
    variances = smooth(x * x) - mean_x**2 + smooth(y * y) - mean_y**2
    covariance = smooth(x * y) - mean_x * mean_y
    values = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    values /= (mean_x**2 + mean_y**2 + _C1) * (variances + _C2)
    return float(values.mean())


def require_same_shape(truth: NDArray[Any], image: NDArray[Any]) -> None:
    """Raise ValueError unless two images have the same height, width and channels."""
    if truth.shape != image.shape:
        raise ValueError(
            f"the images differ in shape: the truth is {truth.shape}, the other {image.shape}"
        )


def _weighted_mean(values: NDArray[np.float64], mask: NDArray[np.floating[Any]] | None) -> float:
    """Mean over pixels and channels of (H, W) or (H, W, C), with weights (H, W)."""
    if mask is None:
        return float(values.mean())
    weights = np.broadcast_to(mask if values.ndim == 2 else mask[..., None], values.shape)
    total = float(weights.sum(dtype=np.float64))
    if total <= 0:
        raise ValueError("no pixel is left to compare: the mask is 0 everywhere")
    return float((weights * values).sum(dtype=np.float64)) / total
