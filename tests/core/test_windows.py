"""Windows on images, and kernels that leave images in place."""

from __future__ import annotations

import torch

from blurfield.estimation.windows import in_place
from blurfield.windows import Windows


def test_centres() -> None:
    windows = Windows.on((10, 24), 10, 7, 100)
    assert windows.centres() == [(4.5, 4.5), (4.5, 11.5), (4.5, 18.5)]


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
