"""How well a blurred estimate explains a noisy, clipped image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from blurfield.operator import saturate, saturate_derivative

from .total_variation import total

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PoissonLikelihood"]


class PoissonLikelihood:
    """Shifted Poisson likelihood of a sensor that saturates.

    The Kullback-Leibler divergence D(v + β, R(s) + β) of the image v from the blurred estimate s.
    The shift β accounts for noise that doesn't vanish in the dark (Snyder, Hammoud & White 1993);
    the saturation R keeps clipped pixels from being taken for their brightness (Whyte, Sivic &
    Zisserman 2014, Sec. 4).

    Parameters
    ----------
    blurry : Tensor, shape (C, H, W)
        The image v in linear light, clipped at 1; not negative.
    shift : float
        β > 0. Estimates given to the methods are shifted by it, too: s + β.
    """

    def __init__(self, blurry: Tensor, shift: float) -> None:
        self._target = blurry.clamp_min(0) + shift
        self._shift = shift

    @property
    def target(self) -> Tensor:
        """The shifted image v + β, (C, H, W)."""
        return self._target

    def divergence(self, seen: Tensor) -> float:
        """D(v + β, R(s) + β) for a shifted blurred estimate `seen` = s + β, in units of white."""
        return sum(
            total(torch.xlogy(v, v / model).sub_(v).add_(model))
            for v, model in zip(self._target, map(self._saturated, seen), strict=True)
        )

    def excess(self, seen: Tensor) -> Tensor:
        """What Richardson-Lucy projects back: R′(s)·((v + β) / (R(s) + β) − 1), (C, H, W).

        Minus the gradient of `divergence`, and the usual ratio image minus 1. Zero where the
        estimate is so bright that the sensor cannot tell.
        """
        excess = torch.empty_like(self._target)
        for out, v, s in zip(excess, self._target, seen, strict=True):
            torch.div(v, self._saturated(s), out=out)
            out.sub_(1).mul_(saturate_derivative(s - self._shift))
        return excess

    def _saturated(self, seen: Tensor) -> Tensor:
        return saturate(seen - self._shift).add_(self._shift)
