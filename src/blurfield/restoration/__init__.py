"""Sharp images from blurry ones and their kernel field."""

from __future__ import annotations

from .deblurring import deblur
from .methods import METHODS, Method, choose_method, installed_methods
from .reblurring import reblur

__all__ = ["METHODS", "Method", "choose_method", "deblur", "installed_methods", "reblur"]
