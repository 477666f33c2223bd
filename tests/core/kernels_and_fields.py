"""Kernels and fields for tests of what is read from them."""

from __future__ import annotations

import torch

from blurfield.field import KernelField


def line(length: int, size: int = 33, *, vertical: bool = False) -> torch.Tensor:
    kernel = torch.zeros(size, size)
    start = (size - length) // 2
    kernel[size // 2, start : start + length] = 1 / length
    return kernel.T.clone() if vertical else kernel


def delta(size: int = 33) -> torch.Tensor:
    return line(1, size)


def random_field(
    seed: int = 0, shape: tuple[int, int] = (40, 52), cells: tuple[int, int] | None = None
) -> KernelField:
    generator = torch.Generator().manual_seed(seed)
    basis = torch.rand(5, 9, 9, generator=generator, dtype=torch.float64) ** 6
    mixing = torch.rand(5, *(cells or shape), generator=generator, dtype=torch.float64) ** 3
    return KernelField(basis / basis.sum((1, 2), keepdim=True), mixing / mixing.sum(0), shape)
