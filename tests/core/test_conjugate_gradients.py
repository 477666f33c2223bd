"""Conjugate gradients: the solution, the start, the preconditioner, when it ends."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from blurfield.restoration.conjugate_gradients import solve_symmetric


def system(size: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """A positive definite matrix of badly scaled rows, and a right-hand side."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    scale = torch.logspace(0, 3, size, dtype=torch.float64)
    matrix = root @ root.T / size + torch.diag(scale)
    return matrix, torch.randn(size, generator=generator, dtype=torch.float64)


def test_solves() -> None:
    matrix, target = system()
    found = solve_symmetric(lambda x: matrix @ x, target, iterations=200, tolerance=1e-10)
    assert found.converged
    assert found.residual <= 1e-10
    torch.testing.assert_close(found.x, torch.linalg.solve(matrix, target))


def test_ends_after_as_many_steps_as_unknowns() -> None:
    matrix, target = system(6)
    found = solve_symmetric(lambda x: matrix @ x, target, iterations=100, tolerance=1e-9)
    assert found.iterations <= 7


def test_preconditioner_saves_steps() -> None:
    matrix, target = system()

    def steps(**options: Any) -> int:
        return solve_symmetric(
            lambda x: matrix @ x, target, iterations=500, tolerance=1e-6, **options
        ).iterations

    assert steps(preconditioner=lambda r: r / matrix.diagonal()) < 0.5 * steps()


def test_good_start_saves_steps() -> None:
    matrix, target = system()
    solution = torch.linalg.solve(matrix, target)
    start = solution + 1e-8
    before = start.clone()
    found = solve_symmetric(lambda x: matrix @ x, target, start, tolerance=1e-4)
    assert found.iterations == 0
    assert found.converged
    assert torch.equal(start, before)
    assert found.x is not start


def test_limits() -> None:
    matrix, target = system()
    found = solve_symmetric(lambda x: matrix @ x, target, iterations=3, tolerance=0)
    assert found.iterations == 3
    assert not found.converged
    assert found.residual > 0
    assert solve_symmetric(lambda x: matrix @ x, target, iterations=0).iterations == 0


def test_nothing_to_solve() -> None:
    found = solve_symmetric(lambda x: 2 * x, torch.zeros(3, 4), tolerance=0)
    assert found.converged
    assert found.iterations == 0
    assert torch.equal(found.x, torch.zeros(3, 4))


def test_polls_before_each_step() -> None:
    matrix, target = system()
    calls = []
    solve_symmetric(
        lambda x: matrix @ x, target, iterations=5, tolerance=0, poll=lambda: calls.append(1)
    )
    assert len(calls) == 5


def test_refuses() -> None:
    target = torch.ones(4)
    with pytest.raises(ValueError, match="positive definite"):
        solve_symmetric(lambda x: -x, target)
    with pytest.raises(ValueError, match="must be ≥ 0"):
        solve_symmetric(lambda x: x, target, iterations=-1)
    with pytest.raises(ValueError, match="must be ≥ 0"):
        solve_symmetric(lambda x: x, target, tolerance=float("nan"))
