"""See, measure and undo motion blur that changes across an image.

A blurry image goes in, a *kernel field* comes out: a few basis kernels and, for each pixel, the
coefficients that mix them. Everything else in this package consumes such a field.

Importing this package is cheap: PyTorch is loaded when a name is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .compute import Cancelled

if TYPE_CHECKING:
    from .estimation import estimate
    from .field import KernelField
    from .kernel_prior import kernel_log_likelihood, sample_kernels
    from .measure import (
        blur_extent,
        blur_map,
        blur_mask,
        blur_score,
        kernel_mosaic,
        motion_vectors,
        similarity,
    )
    from .operator import BlurOperator
    from .region_statistics import blur_statistics
    from .regional import deblur_part
    from .restoration import deblur, reblur
    from .similar_motion import motion_regions
    from .simulation import simulate
    from .storage import import_kernels

__all__ = [
    "BlurOperator",
    "Cancelled",
    "KernelField",
    "__version__",
    "blur_extent",
    "blur_map",
    "blur_mask",
    "blur_score",
    "blur_statistics",
    "deblur",
    "deblur_part",
    "estimate",
    "import_kernels",
    "kernel_log_likelihood",
    "kernel_mosaic",
    "motion_regions",
    "motion_vectors",
    "reblur",
    "sample_kernels",
    "similarity",
    "simulate",
]

_HOME = {
    "BlurOperator": "operator",
    "KernelField": "field",
    "blur_extent": "measure",
    "blur_map": "measure",
    "blur_mask": "measure",
    "blur_score": "measure",
    "blur_statistics": "region_statistics",
    "deblur": "restoration",
    "deblur_part": "regional",
    "estimate": "estimation",
    "import_kernels": "storage",
    "kernel_log_likelihood": "kernel_prior",
    "kernel_mosaic": "measure",
    "motion_regions": "similar_motion",
    "motion_vectors": "measure",
    "reblur": "restoration",
    "sample_kernels": "kernel_prior",
    "similarity": "measure",
    "simulate": "simulation",
}


def __getattr__(name: str) -> Any:
    try:
        home = _HOME[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value  # found directly from now on
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
