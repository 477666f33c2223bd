"""Estimation without trained weights, on overlapping windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blurfield.compute import Reporter
from blurfield.field import KernelField
from blurfield.images import to_grey

from .blind import BlindSettings, estimate_kernels

if TYPE_CHECKING:
    from torch import Tensor

    from blurfield.compute import ProgressCallback


def estimate_windowed(
    planes: Tensor, *, kernel_size: int = 33, progress: ProgressCallback | None = None
) -> KernelField:
    """Estimate the kernel field of an image by maximum a posteriori on windows."""
    settings = BlindSettings()
    reporter = Reporter(progress, 1, "Estimating the blur")
    kernels, _ = estimate_kernels(to_grey(planes)[None], kernel_size, settings, reporter.poll)
    shape = (int(planes.shape[-2]), int(planes.shape[-1]))
    metadata: dict[str, Any] = {"parameters": {"kernel_size": kernel_size}, "confidence": 1.0}
    reporter.advance()
    return KernelField.uniform(kernels[0, 0].flip(-2, -1), shape, metadata)
