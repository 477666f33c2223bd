"""Images drawn for tests of evaluation."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter


def photograph(side: int = 96, seed: int = 0) -> np.ndarray:
    """Soft blobs with sharp outlines, uint8 (side, side, 3)."""
    noise = np.random.default_rng(seed).standard_normal((side, side, 3))
    smooth = gaussian_filter(noise, (4, 4, 0))
    steps = np.digitize(smooth / smooth.std(), [-0.7, 0.1, 0.8])
    return (40 + 60 * steps).astype(np.uint8)
