"""Blurring of arrays with a kernel field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blurfield.boundary import check_boundary
from blurfield.compute import Reporter, choose_device
from blurfield.images import LinearImage
from blurfield.operator import BlurOperator

from .deblurring import check_size, explained_memory_errors, recorded_gamma

if TYPE_CHECKING:
    import torch

    from blurfield.compute import ProgressCallback
    from blurfield.field import KernelField

__all__ = ["reblur"]


def reblur(
    sharp: Any,
    field: KernelField,
    gamma: float | str = "auto",
    boundary: str = "reflect",
    device: str | torch.device = "auto",
    progress: ProgressCallback | None = None,
    *,
    channel_axis: int | None = None,
    dtype: Any = None,
) -> Any:
    """Blur a sharp image with a field, in linear light.

    Parameters
    ----------
    sharp : numpy.ndarray, torch.Tensor or array_like
        As the image of `blurfield.deblur`; not modified.
    field : KernelField
        For images of H×W pixels.
    gamma : float or "auto"
        Exponent from the image's values to linear light; see `blurfield.deblur`.
    boundary : {"reflect", "replicate", "circular"}
        What lies beyond the edges, see `blurfield.BlurOperator`.
    device : str or torch.device
        Where to compute, see `blurfield.compute.choose_device`.
    progress : callable, optional
        Called as ``progress(done, total, message)``; what it raises stops the run.
    channel_axis : int, optional
        Axis of the channels, where it is not the last one of 3 or 4.
    dtype : numpy.dtype or torch.dtype, optional
        Number type of the result, by default that of the image.

    Returns
    -------
    numpy.ndarray or torch.Tensor
        The blurry image, without noise, of the shape, type and value scale of `sharp`.

    Raises
    ------
    ValueError
        If the boundary, gamma or device is not usable, the field is for an image of another size,
        or the image is too small or not finite.
    TypeError
        If the image does not hold real numbers.
    MemoryError
        If the image does not fit into the device's memory.
    """
    check_boundary(boundary)
    if boundary == "valid":
        raise ValueError(
            "boundary 'valid' makes a smaller image; use 'reflect', 'replicate' or 'circular' "
            "here, or BlurOperator"
        )
    chosen = choose_device(device)
    with explained_memory_errors("blur", chosen):
        source = LinearImage.from_array(
            sharp, gamma=recorded_gamma(field, gamma), channel_axis=channel_axis, device=chosen
        )
        check_size(source, field)
        reporter = Reporter(progress, 1, "Blurring")
        operator = BlurOperator(field.to(chosen), boundary=boundary, poll=reporter.poll)
        blurry = source.to_array(operator.forward(source.planes), dtype)
        reporter.advance()
    return blurry
