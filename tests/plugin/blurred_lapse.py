"""A time-lapse in which some frames are blurred."""

from __future__ import annotations

import numpy as np

#: Blur of each frame in pixels: three frames are bad.
LENGTHS = [1, 1, 1, 1, 9, 1, 1, 7, 1, 1, 1, 9]
SHAPE = (24, 32)


def line(length):
    """A motion across so many pixels, an odd number."""
    kernel = np.zeros((15, 15))
    kernel[7, 7 - length // 2 : 8 + length // 2] = 1 / length
    return kernel
