"""What deblurring adds to an image: ringing beside edges and noise in calm regions.

PSNR adds up all errors. These two figures look only at pixels where the truth is smooth, so that
fine detail which was not restored doesn't count, and part them by what surrounds them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .fidelity import require_same_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Artefacts", "measure_artefacts"]

#: A pixel is smooth if within its neighbourhood of this side the truth varies by less than this.
_SIDE, _SMOOTH = 5, 0.06
#: The part of the smooth pixels that is busiest, and the part that is calmest.
_PART = 0.25
#: Fewest smooth pixels of which anything can be said.
_FEWEST = 400


class Artefacts(NamedTuple):
    """Root mean squared errors in smooth parts of an image, white = 1.

    Attributes
    ----------
    ringing : float or None
        How much more error there is in the busiest quarter of the smooth pixels, those with most
        edges within the kernels' reach, than in the calmest: the root of the difference of the
        mean squared errors, 0 if there is less. Of a blurry image it is the light that edges have
        spread into smooth parts; deblurring takes that away and puts its waves there instead.
        None where hardly any pixel is smooth.
    noise : float or None
        The error in the calmest quarter.
    """

    ringing: float | None
    noise: float | None


def measure_artefacts(
    truth: NDArray[np.floating[Any]],
    image: NDArray[np.floating[Any]],
    reach: int,
    mask: NDArray[np.floating[Any]] | None = None,
) -> Artefacts:
    """Measure ringing and noise in the smooth parts of a restored image.

    Which pixels are smooth, busy and calm depends on the truth alone, so that figures of several
    images of one scene can be compared. A pixel is smooth if the truth varies by less than 0.06 of
    white around it (5×5 pixels, in each channel), and the busier, the larger the mean squared
    gradient within `reach`.

    Parameters
    ----------
    truth, image : numpy.ndarray
        (H, W) or (H, W, C), of one shape, values as displayed with white = 1.
    reach : int
        Pixels up to which an edge has an effect, at least 1: half a kernel.
    mask : numpy.ndarray, optional
        (H, W), pixels where it is 0 don't count; by default all do.

    Raises
    ------
    ValueError
        If the shapes differ or `reach` is below 1.
    """
    from scipy.ndimage import maximum_filter, minimum_filter, uniform_filter

    require_same_shape(truth, image)
    if reach < 1:
        raise ValueError(f"reach must be at least 1 pixel, not {reach}")
    planes = truth if truth.ndim == 3 else truth[..., None]
    window = (_SIDE, _SIDE, 1)
    variation = (maximum_filter(planes, window) - minimum_filter(planes, window)).max(axis=2)
    smooth = variation < _SMOOTH
    if mask is not None:
        smooth &= mask > 0
    if smooth.sum() < _FEWEST:
        return Artefacts(None, None)
    down, right = np.gradient(planes.mean(axis=2))
    activity = uniform_filter(down**2 + right**2, 2 * reach + 1)
    low, high = np.quantile(activity[smooth], [_PART, 1 - _PART])
    squares = np.square(image - truth).reshape(planes.shape).mean(axis=2)
    calm = float(squares[smooth & (activity <= low)].mean())
    busy = float(squares[smooth & (activity >= high)].mean())
    return Artefacts(math.sqrt(max(0.0, busy - calm)), math.sqrt(calm))
