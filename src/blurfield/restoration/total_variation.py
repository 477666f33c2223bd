"""Isotropic total variation of colour images, and its proximal map in a diagonal metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from .pilot import Part

__all__ = ["TotalVariation", "total"]


def total(values: Tensor) -> float:
    """Sum of many values: in rows on the device, then in double precision on the CPU.

    Not every device has double precision, and single precision would hide small changes.
    """
    return float(values.sum(-1).cpu().double().sum())


class TotalVariation:
    """TV(x) = Σ_i weight_i · (Σ_c ‖∇x_c(i)‖²)^½, with forward differences.

    Channels share one norm (Bresson & Chan 2008), so that edges in all of them fall together and
    have no coloured fringes.

    Parameters
    ----------
    weights : Tensor, shape (1, H, W)
        Positive weight of each pixel.
    channels : int
        Number C of channels.
    poll : callable
        Called without arguments between channels; what it raises stops the computation.

    Notes
    -----
    Keeps the dual field of the last proximal map as the start of the next one. In an outer
    iteration, where neighbouring problems resemble each other, a few inner steps then suffice.
    """

    def __init__(self, weights: Tensor, channels: int, poll: Callable[[], None]) -> None:
        self._weights = weights
        self._poll = poll
        shape = (channels, *weights.shape[-2:])
        # Dual variables of the vertical and horizontal differences. Their last row and column,
        # for which there is no difference, stay 0.
        self._down = weights.new_zeros(shape)
        self._across = weights.new_zeros(shape)

    def __call__(self, x: Tensor, part: Part = (slice(None), slice(None))) -> float:
        """Return TV(x) of an image (C, H, W), or of a part of it."""
        weights = self._weights[:, *part]
        squares = torch.zeros_like(weights)
        for plane in x[:, *part]:
            squares[0, :-1].add_((plane[1:] - plane[:-1]).square_())
            squares[0, :, :-1].add_((plane[:, 1:] - plane[:, :-1]).square_())
            self._poll()
        return total(squares.sqrt_().mul_(weights))

    def proximal(self, z: Tensor, metric: Tensor, minimum: float, steps: int) -> Tensor:
        """Approximate argmin_{x ≥ minimum} TV(x) + ½ Σ (x − z)² / metric.

        Projected gradient ascent on the dual problem (Chambolle 2004; Beck & Teboulle 2009,
        Sec. 4), with the step of each pixel adapted to the metric around it.

        Parameters
        ----------
        z, metric : Tensor, shape (C, H, W)
            The point, and the positive diagonal of the inverse metric.
        minimum : float
            Lower limit of the result.
        steps : int
            Number of dual steps, at least 1.

        Returns
        -------
        Tensor, shape (C, H, W)
            A new tensor.
        """
        # ‖∇‖² ≤ 8, and differences of a pixel reach its neighbours.
        step = 0.125 / _largest_around(metric.amax(0, keepdim=True))
        self._poll()
        x = self._primal(z, metric, minimum)
        for _ in range(steps):
            self._ascend(x, step)
            x = self._primal(z, metric, minimum, out=x)
        return x

    def _ascend(self, x: Tensor, step: Tensor) -> None:
        """One gradient step on the dual variables, and their projection to length ≤ weight."""
        squares = torch.zeros_like(self._weights)[0]
        for plane, down, across in zip(x, self._down, self._across, strict=True):
            down[:-1].addcmul_(step[0, :-1], plane[1:] - plane[:-1])
            across[:, :-1].addcmul_(step[0, :, :-1], plane[:, 1:] - plane[:, :-1])
            squares.addcmul_(down, down).addcmul_(across, across)
            self._poll()
        length = squares.sqrt_()
        shrink = self._weights[0] / torch.maximum(length, self._weights[0])
        self._down.mul_(shrink)
        self._across.mul_(shrink)

    def _primal(
        self, z: Tensor, metric: Tensor, minimum: float, out: Tensor | None = None
    ) -> Tensor:
        """The image that belongs to the dual variables: z − metric·∇ᵀ(dual), limited."""
        x = torch.empty_like(z) if out is None else out
        for plane, point, scale, down, across in zip(
            x, z, metric, self._down, self._across, strict=True
        ):
            torch.add(down, across, out=plane)
            plane[1:].sub_(down[:-1])
            plane[:, 1:].sub_(across[:, :-1])
            plane.mul_(scale).add_(point).clamp_(min=minimum)
            self._poll()
        return x


def _largest_around(plane: Tensor) -> Tensor:
    """Maximum over the 3×3 pixels around each one; several times faster than max pooling."""
    rows = plane.clone()
    torch.maximum(rows[:, 1:], plane[:, :-1], out=rows[:, 1:])
    torch.maximum(rows[:, :-1], plane[:, 1:], out=rows[:, :-1])
    both = rows.clone()
    torch.maximum(both[..., 1:], rows[..., :-1], out=both[..., 1:])
    torch.maximum(both[..., :-1], rows[..., 1:], out=both[..., :-1])
    return both
