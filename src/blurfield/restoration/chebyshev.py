"""Chebyshev iterations: linear systems are solved with steps that depend on no data."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = ["solve_by_chebyshev"]


def solve_by_chebyshev(
    matrix: Callable[[Tensor], Tensor],
    target: Tensor,
    row_sums: Tensor,
    *,
    least: float,
    steps: int,
    poll: Callable[[], None] | None = None,
) -> Tensor:
    """Solve M x = b approximately, from x = 0 (Saad 2003, Algorithm 12.1).

    The step lengths of conjugate gradients are inner products over the whole image. Those of
    Chebyshev's semi-iteration are constants, so that a part of an image is solved just as it is in
    the whole.

    Parameters
    ----------
    matrix : callable
        Returns M x as a new tensor, for a symmetric positive definite M.
    target : Tensor
        Right-hand side b, of any shape; not modified.
    row_sums : Tensor
        Sums of the absolute values of each row of M, or more: of M divided by them, no eigenvalue
        is above 1 (Gershgorin's theorem).
    least : float
        Above 0, below 1. What belongs to eigenvalues of that quotient from here on is reduced most
        evenly; what belongs to smaller ones, less.
    steps : int
        At least 1. Each but the last applies M once.
    poll : callable, optional
        Called without arguments before each step; what it raises stops the computation.

    Returns
    -------
    Tensor
        Of the shape of `target`.

    Raises
    ------
    ValueError
        If `least` or `steps` is out of range.
    """
    if not 0 < least < 1 or steps < 1:
        raise ValueError(
            f"least must be between 0 and 1 and steps at least 1, but are {least!r} and {steps!r}"
        )
    middle, half = (1 + least) / 2, (1 - least) / 2
    ratio = half / middle
    x = target.new_zeros(target.shape)
    residual = target.clone()
    direction = (residual / row_sums).div_(middle)
    for number in range(1, steps + 1):
        if poll is not None:
            poll()
        x.add_(direction)
        if number < steps:
            residual.sub_(matrix(direction))
            before, ratio = ratio, 1 / (2 * middle / half - ratio)
            direction.mul_(ratio * before).add_(residual / row_sums, alpha=2 * ratio / half)
    return x
