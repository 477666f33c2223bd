"""How contrast in linear light looks once it is encoded for display, and how dark images are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DARK", "MID_LEVEL", "encoding_slope", "exposure_of"]

#: Light added before the slope of the encoding is taken, which is infinite in the dark.
DARK = 0.02
#: Brightness at which the noise of an image is taken where one number has to do.
MID_LEVEL = 0.3

#: Of the brightest pixels, this part is left out: lamps and hot pixels.
_BRIGHTEST = 1e-3
#: Pixels that are looked at.
_SAMPLE = 1_000_000


def exposure_of(light: Tensor) -> float:
    """Return how dark an image is: 1 for usual ones, ½, ¼, … for darker ones.

    In steps of two, so that a sample of an image nearly always has the exposure of the whole.

    Parameters
    ----------
    light : Tensor, shape (C, H, W)
        Linear light, white 1.
    """
    step = math.ceil(math.sqrt(light.numel() / _SAMPLE))
    values = light[:, ::step, ::step].flatten().cpu()  # not every device can select
    rank = max(1, math.ceil((1 - _BRIGHTEST) * values.numel()))
    brightest = float(torch.kthvalue(values, rank).values)
    return float(2.0 ** round(math.log2(min(1.0, max(brightest, torch.finfo(torch.float32).eps)))))


def encoding_slope(light: Tensor, gamma: float, exposure: float = 1.0) -> Tensor:
    """Derivative of the display encoding at the brightness of each value.

    Parameters
    ----------
    light : Tensor
        Linear light, white 1, of any shape; not modified.
    gamma : float
        Exponent of the display encoding.
    exposure : float
        See `exposure_of`.

    Returns
    -------
    Tensor
        A new tensor of that shape.
    """
    return light.add(DARK * exposure).pow_(1 / gamma - 1).div_(gamma)
