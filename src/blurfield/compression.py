"""Fewer basis kernels for a kernel field: factorisation with both factors on simplices.

The kernels of a field are convex mixtures of its basis, K = M·B with rows of M and of B
non-negative and of sum 1. A smaller basis is found by alternating minimisation of ‖K − M′B′‖ over
the two factors, each by accelerated projected gradients (Beck and Teboulle 2009) onto the simplex
(Michelot 1986), started from the kernels that successive projection picks as extreme (Gillis
and Vavasis 2014).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .compute import Reporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from .compute import ProgressCallback
    from .field import KernelField

#: Kernels that the new basis is learnt from, at most.
_MOST_SAMPLES = 2048
#: Grid cells whose mixing coefficients are solved for at a time.
_CELLS = 2**16


def compress(
    field: KernelField,
    rank: int = 25,
    tol: float | None = None,
    progress: ProgressCallback | None = None,
) -> KernelField:
    """Approximate a field with fewer basis kernels; see `KernelField.compress`.

    Raises
    ------
    ValueError
        If `rank` is below 1 or `tol` is negative.
    """
    if rank < 1:
        raise ValueError(f"rank must be at least 1, but is {rank}")
    if tol is not None and not tol >= 0:
        raise ValueError(f"tol must not be negative, but is {tol}")
    before = field.num_kernels
    poll = Reporter(progress, 1, "Finding fewer basis kernels").poll
    candidates = [rank] if tol is None else list(range(1, min(rank, before) + 1))
    if before <= rank:
        best = _noted(field, before, _errors(field, field, poll))
        if tol is None:
            return best
    else:
        best = _approximate(field, rank, poll)
    # The error falls with the rank, so the fewest kernels that are good enough by bisection.
    low, high = 0, len(candidates) - 1
    while tol is not None and low < high:
        middle = (low + high) // 2
        trial = _approximate(field, candidates[middle], poll)
        if trial.metadata["compression"]["rms_error"] <= tol:
            best, high = trial, middle
        else:
            low = middle + 1
    return best


def _approximate(field: KernelField, rank: int, poll: Callable[[], None]) -> KernelField:
    with torch.no_grad():
        basis = _learn_basis(field.basis.detach().flatten(1), _sample(field), rank, poll)
        basis = basis.reshape(-1, field.kernel_size, field.kernel_size)
        mixing = _fit_mixing(field, basis, poll)
    smaller = type(field)(basis, mixing, field.shape, field.metadata, field.maps)
    return _noted(smaller, field.num_kernels, _errors(field, smaller, poll))


def _noted(field: KernelField, before: int, errors: dict[str, float]) -> KernelField:
    facts: dict[str, Any] = {"kernels_before": before, "kernels": field.num_kernels, **errors}
    return field.with_metadata(compression=facts)


def _sample(field: KernelField) -> Tensor:
    """Mixing coefficients of grid cells spread evenly over the image, shape (n, B)."""
    flat = field.mixing.detach().flatten(1)
    # Steps of the golden section spread over rows and columns alike, whatever the grid's width.
    count = min(_MOST_SAMPLES, flat.shape[1])
    places = torch.arange(count, dtype=torch.float64) * (math.sqrt(5) - 1) / 2
    chosen = (
        (places % 1 * flat.shape[1]).long().unique()
        if count < flat.shape[1]
        else torch.arange(count)
    )
    return flat[:, chosen.to(flat.device)].T


def _learn_basis(old: Tensor, cells: Tensor, rank: int, poll: Callable[[], None]) -> Tensor:
    """A smaller basis (rank, K²) for the kernels `cells` @ `old`, which are never made."""
    basis = cells[_extreme(old, cells, rank)] @ old
    mixing = cells.new_full((len(cells), len(basis)), 1 / len(basis))
    for _ in range(30):
        mixing = _minimise(mixing, basis @ basis.T, cells @ (old @ basis.T), 20, poll)
        target = old.T @ (cells.T @ mixing)
        basis = _minimise(basis.T, mixing.T @ mixing, target, 5, poll, columns=True).T
    return basis / basis.sum(1, keepdim=True)


def _extreme(old: Tensor, cells: Tensor, rank: int) -> list[int]:
    """Indices of at most `rank` kernels of which the others are nearly convex mixtures."""
    # Coordinates in the span of the old basis have the same inner products as the kernels.
    values, vectors = torch.linalg.eigh((old.double() @ old.double().T).cpu())
    rest = cells.cpu().double() @ (vectors * values.clamp(min=0).sqrt())
    chosen: list[int] = []
    for _ in range(min(rank, len(cells))):
        norms = rest.square().sum(1)
        index = int(norms.argmax())
        if norms[index] < 1e-12:
            break
        chosen.append(index)
        direction = rest[index] / norms[index].sqrt()
        rest = rest - (rest @ direction)[:, None] * direction
    return chosen


def _fit_mixing(field: KernelField, basis: Tensor, poll: Callable[[], None]) -> Tensor:
    """Mixing coefficients of a new basis, on the grid of the field."""
    cells = field.mixing.detach().flatten(1)
    new = basis.flatten(1)
    gram, cross = new @ new.T, field.basis.detach().flatten(1) @ new.T
    parts = []
    for start in range(0, cells.shape[1], _CELLS):
        target = cells[:, start : start + _CELLS].T @ cross
        uniform = torch.full_like(target, 1 / len(new))
        parts.append(_minimise(uniform, gram, target, 150, poll))
    mixing = torch.cat(parts).T.reshape(len(new), *field.mixing.shape[1:])
    return mixing / mixing.sum(0)


def _minimise(
    start: Tensor,
    gram: Tensor,
    target: Tensor,
    steps: int,
    poll: Callable[[], None],
    columns: bool = False,
) -> Tensor:
    """Minimise ½ x·G·xᵀ − x·t for each row of x on the simplex (of each column, if `columns`)."""
    step = 1 / torch.linalg.matrix_norm(gram, 2).clamp(min=1e-12)
    x, ahead, momentum = start, start, 1.0
    for _ in range(steps):
        poll()
        moved = ahead - step * (ahead @ gram - target)
        new = _onto_simplex(moved.T).T if columns else _onto_simplex(moved)
        following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + ((momentum - 1) / following) * (new - x)
        x, momentum = new, following
    return x


def _onto_simplex(rows: Tensor) -> Tensor:
    """Closest point to each row that is non-negative and sums to 1 (Michelot 1986)."""
    threshold = (rows.sum(1, keepdim=True) - 1) / rows.shape[1]
    while True:
        above = (rows > threshold).to(rows)
        raised = ((rows * above).sum(1, keepdim=True) - 1) / above.sum(1, keepdim=True)
        # It rises until the entries above it stay the same; that it falls is rounding.
        if bool((raised <= threshold).all()):
            return (rows - threshold).clamp(min=0)
        threshold = torch.maximum(raised, threshold)


def _errors(field: KernelField, smaller: KernelField, poll: Callable[[], None]) -> dict[str, float]:
    """Root-mean-square distance of the kernels over all grid cells, absolute and relative."""
    with torch.no_grad():
        old, new = field.mixing.flatten(1), smaller.mixing.flatten(1)
        kernels = torch.cat([field.basis.flatten(1), -smaller.basis.flatten(1)]).double()
        gram = kernels @ kernels.T
        distance = size = 0.0
        for start in range(0, old.shape[1], _CELLS):
            poll()
            part = slice(start, start + _CELLS)
            both = torch.cat([old[:, part], new[:, part]]).double()
            distance += float(((gram @ both) * both).sum().clamp(min=0))
            own, before = gram[: len(old), : len(old)], both[: len(old)]
            size += float(((own @ before) * before).sum())
    return {
        "rms_error": math.sqrt(distance / old.shape[1]),
        "relative_error": math.sqrt(distance / size),
    }
