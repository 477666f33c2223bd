"""Preconditioned conjugate gradients for linear systems that are given as functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from .total_variation import total

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = ["Solution", "solve_symmetric"]


class Solution(NamedTuple):
    """What `solve_symmetric` found.

    Attributes
    ----------
    x : Tensor
        The solution, of the shape of the right-hand side.
    iterations : int
        Steps taken, each of which applied the operator once.
    residual : float
        ‖b − M x‖ / ‖b‖ in the norm of the preconditioner.
    converged : bool
        Whether the residual came below the tolerance.
    """

    x: Tensor
    iterations: int
    residual: float
    converged: bool


def solve_symmetric(
    operator: Callable[[Tensor], Tensor],
    target: Tensor,
    start: Tensor | None = None,
    *,
    preconditioner: Callable[[Tensor], Tensor] | None = None,
    iterations: int = 20,
    tolerance: float = 1e-4,
    poll: Callable[[], None] | None = None,
) -> Solution:
    """Solve M x = b for a symmetric positive definite M (Hestenes & Stiefel 1952).

    Parameters
    ----------
    operator : callable
        Returns M x as a new tensor.
    target : Tensor
        Right-hand side b, of any shape; not modified.
    start : Tensor, optional
        Where to begin, by default 0; not modified.
    preconditioner : callable, optional
        Returns P r as a new tensor, for a symmetric positive definite P that approximates the
        inverse of M. By default P = 1.
    iterations : int
        At most so many steps, ≥ 0.
    tolerance : float
        Stop once (r·Pr)^½ ≤ `tolerance`·(b·Pb)^½ for the residual r = b − M x and the
        preconditioner P. 0 runs all iterations, unless the residual vanishes.
    poll : callable, optional
        Called without arguments before each step; what it raises stops the computation.

    Returns
    -------
    Solution

    Raises
    ------
    ValueError
        If `iterations` or `tolerance` is negative, or M is found not to be positive definite.
    """
    if iterations < 0 or not tolerance >= 0:
        raise ValueError(
            f"iterations and tolerance must be ≥ 0, but are {iterations!r} and {tolerance!r}"
        )
    improve = preconditioner or torch.clone
    if start is None:
        x, residual = target.new_zeros(target.shape), target.clone()
    else:
        x, residual = start.clone(), target - operator(start)
    preconditioned = improve(residual)
    product = _dot(residual, preconditioned)
    reference = product if start is None else _dot(target, improve(target))
    direction = preconditioned.clone()
    done = 0
    while done < iterations and product > tolerance**2 * reference:
        if poll is not None:
            poll()
        image = operator(direction)
        curvature = _dot(direction, image)
        if not curvature > 0:
            raise ValueError(
                f"the operator is not positive definite: it has the curvature {curvature:.3g}"
            )
        step = product / curvature
        x.add_(direction, alpha=step)
        residual.sub_(image, alpha=step)
        preconditioned = improve(residual)
        before, product = product, _dot(residual, preconditioned)
        direction.mul_(product / before).add_(preconditioned)
        done += 1
    relative = (product / reference) ** 0.5 if reference > 0 else 0.0
    return Solution(x, done, relative, product <= tolerance**2 * reference)


def _dot(a: Tensor, b: Tensor) -> float:
    return total(a * b)
