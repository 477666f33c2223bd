"""Sharp images from blurry ones and their kernel field."""

from __future__ import annotations

from .deblurring import METHODS, deblur
from .noise import NoiseModel, estimate_noise
from .published import VARIANTS, published_richardson_lucy
from .reblurring import reblur
from .richardson_lucy import richardson_lucy

__all__ = [
    "METHODS",
    "VARIANTS",
    "NoiseModel",
    "deblur",
    "estimate_noise",
    "published_richardson_lucy",
    "reblur",
    "richardson_lucy",
]
