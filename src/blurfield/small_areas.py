"""Masks without specks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["without_small_areas"]


def without_small_areas(mask: NDArray[np.bool_], min_area: int) -> NDArray[np.bool_]:
    """Return a mask without small regions, and then without small gaps.

    Parameters
    ----------
    mask : ndarray of bool, shape (H, W)
        True in the regions. Pixels that touch at a side belong together.
    min_area : int
        Number of pixels from which on a region or gap stays.
    """
    if min_area <= 1:
        return mask
    from scipy import ndimage

    for value in (True, False):
        areas, count = ndimage.label(mask == value)
        if count:
            small = np.bincount(areas.ravel(), minlength=count + 1) < min_area
            small[0] = False
            mask = np.where(small[areas], not value, mask)
    return mask
