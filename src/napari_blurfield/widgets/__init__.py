"""The dock widgets. Opening one imports no PyTorch: that happens in the first job's thread."""

from __future__ import annotations

from .deblur import DeblurWidget
from .estimate import EstimateWidget
from .inspector import InspectorWidget
from .mask import MaskWidget
from .measure import MeasureWidget
from .reblur import ReblurWidget

__all__ = [
    "DeblurWidget",
    "EstimateWidget",
    "InspectorWidget",
    "MaskWidget",
    "MeasureWidget",
    "ReblurWidget",
]
