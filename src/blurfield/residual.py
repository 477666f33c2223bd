"""What a restored image leaves unexplained of the blurry one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .images import LinearImage
from .restoration import reblur
from .restoration.deblurring import recorded_gamma

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from .compute import ProgressCallback
    from .field import KernelField

__all__ = ["Residual", "reblur_residual"]

#: Channels of an image that are colours; a fourth one is alpha.
_COLOURS = 3


@dataclass(frozen=True)
class Residual:
    """Difference between a restored image, blurred again, and the blurry image.

    Attributes
    ----------
    image : numpy.ndarray
        float32, with the axes of the blurry image and in its values: above 0 where the restored
        image, blurred again, is too bright.
    rms : float
        Root of the mean square in the same values, without a border of half a kernel, where the
        blurry image depends on what lies beyond its edges.
    white : float
        The value that stands for white.
    """

    image: NDArray[np.float32]
    rms: float
    white: float

    @property
    def psnr(self) -> float:
        """The same as a peak signal-to-noise ratio in dB; infinite where nothing is left."""
        return math.inf if self.rms == 0 else 20 * math.log10(self.white / self.rms)


def reblur_residual(
    sharp: Any,
    blurry: Any,
    field: KernelField,
    gamma: float | str = "auto",
    device: str | torch.device = "auto",
    progress: ProgressCallback | None = None,
    *,
    channel_axis: int | None = None,
) -> Residual:
    """Blur a restored image again and subtract the blurry image.

    A restoration that explains the blurry image leaves its noise and nothing else. Edges that
    remain tell that the field is wrong there, or the restored image too soft or too crisp.

    Parameters
    ----------
    sharp : array_like
        The restored image, (H, W), (H, W, 3), (H, W, 4), whose alpha is left out, or with
        `channel_axis`.
    blurry : array_like
        The blurry image, of the same shape and value scale.
    field : KernelField
        The blur.
    gamma, device, progress, channel_axis
        As for `blurfield.reblur`; ``"auto"`` goes by the type of the blurry image.

    Raises
    ------
    ValueError
        If the images differ in size or colours, the field is for another size, or an option is not
        usable.
    TypeError
        If an image does not hold real numbers.
    """
    restored, target = (np.asarray(image) for image in (sharp, blurry))
    if channel_axis is None:
        restored, target = _without_alpha(restored), _without_alpha(target)
    seen = LinearImage.from_array(
        target, gamma=recorded_gamma(field, gamma), channel_axis=channel_axis
    )
    if restored.shape != target.shape:
        raise ValueError(
            f"the restored image has the shape {restored.shape}, but the blurry one "
            f"{target.shape}; both must be of the same size and have the same colours"
        )
    again = reblur(
        restored,
        field,
        gamma=seen.gamma,
        device=device,
        progress=progress,
        channel_axis=channel_axis,
        dtype=np.float32,
    )
    difference = again - target.astype(np.float32)
    axis = 2 if channel_axis is None else channel_axis
    planes = difference if difference.ndim == 2 else np.moveaxis(difference, axis, -1)
    return Residual(difference, _rms(planes, field.kernel_size // 2), seen.white)


def _rms(planes: NDArray[np.float32], margin: int) -> float:
    """Root mean square over (H, W) or (H, W, C) without a margin, as far as something is left."""
    height, width = planes.shape[:2]
    margin = min(margin, (height - 1) // 2, (width - 1) // 2)
    inner = planes[margin : height - margin, margin : width - margin].astype(np.float64)
    return float(np.sqrt(np.mean(np.square(inner))))


def _without_alpha(image: NDArray[Any]) -> NDArray[Any]:
    return image[..., :_COLOURS] if image.ndim == _COLOURS else image
