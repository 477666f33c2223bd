"""How well a blurred estimate explains a noisy, clipped image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from blurfield.operator import saturate, saturate_derivative

from .total_variation import total

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from .pilot import Part

__all__ = ["PoissonLikelihood"]

#: Up to this brightness R(s) = s and R′(s) = 1 within 1e-6.
_LINEAR_UP_TO = 0.7


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
    saturation : bool
        Whether the sensor saturates; if not, R(s) = s.
    poll : callable
        Called without arguments between channels; what it raises stops the computation.
    """

    def __init__(
        self, blurry: Tensor, shift: float, saturation: bool, poll: Callable[[], None]
    ) -> None:
        self._linear_up_to = _LINEAR_UP_TO if saturation else math.inf
        self._target = blurry.clamp_min(0) + shift
        self._shift = shift
        self._poll = poll

    @property
    def target(self) -> Tensor:
        """The shifted image v + β, (C, H, W)."""
        return self._target

    def divergence(self, seen: Tensor, part: Part = (slice(None), slice(None))) -> float:
        """D(v + β, R(s) + β) for a shifted blurred estimate `seen` = s + β, in units of white.

        Of all pixels, or those of a part of the image.
        """
        return sum(
            total(torch.div(v[part], model).log_().mul_(v[part]).sub_(v[part]).add_(model))
            for v, model in zip(self._target, (self._saturated(s[part]) for s in seen), strict=True)
        )

    def excess(self, seen: Tensor) -> Tensor:
        """What Richardson-Lucy projects back: R′(s)·((v + β) / (R(s) + β) − 1), (C, H, W).

        Minus the gradient of `divergence`, and the usual ratio image minus 1. Zero where the
        estimate is so bright that the sensor cannot tell.
        """
        excess = torch.empty_like(self._target)
        for out, v, s in zip(excess, self._target, seen, strict=True):
            torch.div(v, self._saturated(s), out=out)
            out.sub_(1)
            bright = self._bright(s)
            out[bright] *= saturate_derivative(s[bright] - self._shift)
            self._poll()
        return excess

    def _saturated(self, seen: Tensor) -> Tensor:
        """R(s) + β of one plane."""
        self._poll()
        model = seen.clamp_min(self._shift)
        bright = self._bright(seen)
        model[bright] = saturate(seen[bright] - self._shift) + self._shift
        return model

    def _bright(self, seen: Tensor) -> tuple[Tensor, ...]:
        """Pixels where R is not linear; most images have few of them."""
        return torch.nonzero(seen > self._shift + self._linear_up_to, as_tuple=True)
