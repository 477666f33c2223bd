"""Whether a restored image, blurred again, is the blurry image ("blurring to deblur")."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from blurfield.images import decode, encode
from blurfield.operator import BlurOperator

from .images import GAMMA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blurfield.field import KernelField

#: From this value on a pixel is taken to be clipped, and below this light it is black: half a step
#: of 8 bits from white and black.
_CLIPPED, _BLACK = 1 - 0.5 / 255, (0.5 / 255) ** GAMMA


def reblur_errors(restored: Tensor, blurry: Tensor, fields: Sequence[KernelField]) -> Tensor:
    """Mean squared difference of restored images, blurred with their fields, and the blurry ones.

    It is ‖A_κ(v) F(v) − v‖² / n of the reblur-consistency term (Carbajal et al. 2021, Sec. 6) over
    the pixels whose kernels see nothing from beyond the image's edges. The blur A adds up light;
    what it gives is encoded and compared as the images are stored, where noise is even and PSNR is
    measured. (Gradients stay below 1: a sum of light is never darker than its parts.) A clipped
    pixel only says that there was at least so much light.

    Parameters
    ----------
    restored, blurry : Tensor
        F(v) and v, (N, C, S, S), encoded for display with white 1. The errors are differentiable
        in the former.
    fields : sequence of KernelField
        κ(v), one for each image, of its size.

    Returns
    -------
    Tensor
        (N,), float32.

    Raises
    ------
    ValueError
        If the numbers of images and fields differ, a field is for images of another size, or its
        kernels are larger than the images.
    """
    if not len(restored) == len(blurry) == len(fields):
        raise ValueError(
            f"there are {len(restored)} restored images, {len(blurry)} blurry ones and "
            f"{len(fields)} fields; each needs one of the others"
        )
    # Half precision is for networks: sums of coefficients would not be 1 any more.
    with torch.autocast(restored.device.type, enabled=False):
        light = decode(restored.float(), GAMMA)
        return torch.stack(
            [_error(*triple) for triple in zip(light, blurry.float(), fields, strict=True)]
        )


def _error(light: Tensor, target: Tensor, field: KernelField) -> Tensor:
    height, width = light.shape[-2:]
    margin = field.kernel_size // 2
    if field.shape != (height, width):
        raise ValueError(f"the field is for images of {field.shape}, not of {(height, width)}")
    if min(height, width) < 2 * field.kernel_size - 1:
        raise ValueError(
            f"samples of {height}×{width} pixels are too small for kernels of "
            f"{field.kernel_size}: they need at least {2 * field.kernel_size - 1}"
        )
    inner = field.crop((margin, margin), (height - 2 * margin, width - 2 * margin))
    seen = BlurOperator(inner, boundary="valid").forward(light)
    seen = encode(seen.clamp_min(_BLACK), GAMMA)
    target = target[..., margin : height - margin, margin : width - margin]
    difference = seen - target
    difference = torch.where(target >= _CLIPPED, difference.clamp(max=0), difference)
    return difference.square().mean()
