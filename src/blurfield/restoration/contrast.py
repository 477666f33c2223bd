"""How contrast in linear light looks once it is encoded for display."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DARK", "encoding_slope"]

#: Light added before the slope of the encoding is taken, which is infinite in the dark.
DARK = 0.02


def encoding_slope(light: Tensor, gamma: float) -> Tensor:
    """Derivative of the display encoding at the brightness of each value.

    Parameters
    ----------
    light : Tensor
        Linear light, white 1, of any shape; not modified.
    gamma : float
        Exponent of the display encoding.

    Returns
    -------
    Tensor
        A new tensor of that shape.
    """
    return light.add(DARK).pow_(1 / gamma - 1).div_(gamma)
