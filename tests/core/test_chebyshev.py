"""Chebyshev iterations: the solution, how fast, and that all steps are known beforehand."""

from __future__ import annotations

import pytest
import torch

from blurfield.restoration.chebyshev import solve_by_chebyshev


def system(size: int = 24) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A badly scaled positive definite matrix, its row sums, and a right-hand side."""
    generator = torch.Generator().manual_seed(0)
    root = torch.rand(size, size, generator=generator, dtype=torch.float64)
    scale = torch.logspace(0, 3, size, dtype=torch.float64)
    matrix = root @ root.T / size + torch.diag(scale)
    return matrix, matrix.sum(1), torch.randn(size, generator=generator, dtype=torch.float64)


def error(steps: int, least: float = 0.05) -> float:
    matrix, row_sums, target = system()
    found = solve_by_chebyshev(lambda x: matrix @ x, target, row_sums, least=least, steps=steps)
    exact = torch.linalg.solve(matrix, target)
    return float((found - exact).norm() / exact.norm())


def test_solves() -> None:
    assert error(120) < 1e-9


def test_as_fast_as_promised() -> None:
    """By 2 ρⁿ with ρ = (1 − √least) / (1 + √least), where no eigenvalue is below `least`."""
    matrix, row_sums, _ = system()
    scaled = matrix / row_sums.sqrt()[:, None] / row_sums.sqrt()
    least = float(torch.linalg.eigvalsh(scaled)[0])
    rate = (1 - least**0.5) / (1 + least**0.5)
    # The bound is for the norm that M itself defines; scaled rows differ by up to 10³.
    assert error(20, least) < 2 * rate**20 * 1e3**0.5


def test_one_step_is_a_division() -> None:
    _, row_sums, target = system()
    found = solve_by_chebyshev(lambda x: x, target, row_sums, least=0.2, steps=1)
    torch.testing.assert_close(found, target / row_sums / 0.6)


def test_linear_in_the_target() -> None:
    matrix, row_sums, target = system()

    def solution(scale: float) -> torch.Tensor:
        return solve_by_chebyshev(
            lambda x: matrix @ x, scale * target, row_sums, least=0.05, steps=7
        )

    torch.testing.assert_close(solution(3.0), 3 * solution(1.0))


def test_counts_and_stops() -> None:
    matrix, row_sums, target = system()
    calls: list[str] = []

    def times(x: torch.Tensor) -> torch.Tensor:
        calls.append("matrix")
        return matrix @ x

    solve_by_chebyshev(
        times, target, row_sums, least=0.1, steps=5, poll=lambda: calls.append("poll")
    )
    assert calls.count("matrix") == 4
    assert calls.count("poll") == 5


@pytest.mark.parametrize(("least", "steps"), [(0.0, 5), (1.0, 5), (0.1, 0), (float("nan"), 5)])
def test_refuses(least: float, steps: int) -> None:
    _, row_sums, target = system()
    with pytest.raises(ValueError, match="least must be between 0 and 1 and steps at least 1"):
        solve_by_chebyshev(lambda x: x, target, row_sums, least=least, steps=steps)
