"""Windows on images, and kernels that leave images in place."""

from __future__ import annotations

import torch

from blurfield.estimation.windows import in_place
from blurfield.windows import Windows


def test_centres() -> None:
    windows = Windows.on((10, 24), 10, 7, 100)
    assert windows.centres() == [(4.5, 4.5), (4.5, 11.5), (4.5, 18.5)]


def test_windows_of_parts_are_among_those_of_the_whole() -> None:
    whole = Windows.every((100, 90), 20, 12)
    part = Windows.every((60, 50), 20, 12, (31, 24))
    assert whole.rows[:3] == (0, 12, 24)
    assert {31 + row for row in part.rows} == {row for row in whole.rows if 31 <= row <= 71}
    assert {24 + column for column in part.columns} <= set(whole.columns)
    assert Windows.every((15, 90), 20, 45).rows == (0,)


def test_values_between_the_middles_of_windows() -> None:
    windows = Windows.every((9, 30), 10, 10)
    assert windows.columns == (0, 10, 20)
    values = windows.on_pixels(torch.tensor([[0.0], [1.0], [4.0]]))
    assert values.shape == (1, 9, 30)
    row = values[0, 3]
    assert float(row[:5].max()) == 0
    assert float(row[25:].min()) == 4
    torch.testing.assert_close(row[[7, 14, 17]], torch.tensor([0.25, 0.95, 1.75]))


def lopsided() -> torch.Tensor:
    """Light that stays at (4, 4) for most of the time, and then moves to the right."""
    kernel = torch.zeros(1, 13, 13)
    kernel[0, 4, 4:10] = torch.tensor([8.0, 1, 1, 1, 1, 1])
    return kernel / kernel.sum()


def test_where_most_light_is_stays_in_place() -> None:
    moved = in_place(lopsided(), torch.ones(1))
    torch.testing.assert_close(moved, lopsided().roll((2, 2), (-2, -1)))


def test_all_kernels_move_alike() -> None:
    other = lopsided().roll(-3, -1)
    moved = in_place(torch.cat([lopsided(), other]), torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(moved[1], other[0].roll((2, 2), (-2, -1)))


def test_nothing_is_cut_off() -> None:
    kernel = torch.zeros(1, 9, 9)
    kernel[0, 4, 1:9] = torch.tensor([8.0, 1, 1, 1, 1, 1, 1, 1])
    torch.testing.assert_close(in_place(kernel / 15, torch.ones(1)), kernel / 15)


def test_symmetric_kernels_stay() -> None:
    kernel = torch.zeros(1, 9, 9)
    kernel[0, 4, 2:7] = 0.2
    torch.testing.assert_close(in_place(kernel, torch.ones(1)), kernel)
