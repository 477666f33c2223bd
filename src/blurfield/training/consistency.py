"""Whether a restored image, blurred again, is the blurry image ("blurring to deblur")."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from blurfield.images import decode
from blurfield.operator import BlurOperator

from .images import GAMMA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blurfield.field import KernelField

#: From this value on, in linear light, a pixel is taken to be clipped: half a step of 8 bits.
_CLIPPED = (1 - 0.5 / 255) ** GAMMA


def reblur_errors(restored: Tensor, blurry: Tensor, fields: Sequence[KernelField]) -> Tensor:
    """Mean squared difference of restored images, blurred with their fields, and the blurry ones.

    It is ‖A_κ(v) F(v) − v‖² / n of the reblur-consistency term (Carbajal et al. 2021, Sec. 6), in
    linear light, in which blur is linear, and over the pixels whose kernels see nothing from beyond
    the image's edges. A clipped pixel only says that there was at least so much light.

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
    light, target = decode(restored.float(), GAMMA), decode(blurry.float(), GAMMA)
    return torch.stack([_error(*triple) for triple in zip(light, target, fields, strict=True)])


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
    target = target[..., margin : height - margin, margin : width - margin]
    difference = seen - target
    difference = torch.where(target >= _CLIPPED, difference.clamp(max=0), difference)
    return difference.square().mean()
