"""Sharp images from blurry ones and their kernel field."""

from __future__ import annotations

from .deblurring import METHODS, VARIANTS, deblur
from .reblurring import reblur

__all__ = ["METHODS", "VARIANTS", "deblur", "reblur"]
