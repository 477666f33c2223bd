"""Deterministic inputs of the conformance vectors: the published code was run on the same ones."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

F64 = torch.float64


def hashed(j: int, n: int) -> Tensor:
    """hash(j, 0…n−1) of the specification, float64 in [−1, 1)."""
    values = np.empty(n)
    for start in range(0, n, 1 << 18):  # pieces that fit the cache
        stop = min(start + (1 << 18), n)
        x = (np.arange(start, stop) + 1000003 * j).astype(np.uint32)  # products wrap, as they must
        x ^= x >> np.uint32(16)
        x *= np.uint32(0x7FEB352D)
        x ^= x >> np.uint32(15)
        x *= np.uint32(0x846CA68B)
        x ^= x >> np.uint32(16)
        np.multiply(x, 2.0**-31, out=values[start:stop])
    return torch.from_numpy(values - 1)


def fill(module: nn.Module, gain: float) -> None:
    """Set the parameters of a network as the specification does; buffers are left as they are."""
    parameters = dict(module.named_parameters())
    for j, name in enumerate(sorted(parameters)):
        values = parameters[name].data
        numbers = hashed(j, values.numel()).reshape(values.shape)
        if values.ndim > 1:
            numbers *= gain * math.sqrt(6 / values[0].numel())
        elif name.endswith("weight"):
            numbers = 1 + 0.1 * numbers
        else:
            numbers *= 0.1
        values.copy_(numbers)


def img(channels: int, height: int, width: int) -> Tensor:
    """The test image, float64 (C, H, W)."""
    c = torch.arange(channels, dtype=F64)[:, None, None]
    y = torch.arange(height, dtype=F64)[None, :, None]
    x = torch.arange(width, dtype=F64)[None, None, :]
    return 0.5 + 0.25 * torch.sin(0.35 * x + 0.8 * c) + 0.2 * torch.cos(0.23 * y - 0.11 * x + c)


def kern(number: int, size: int) -> Tensor:
    """The test kernels, float64 (B, K, K)."""
    b = torch.arange(number, dtype=F64)[:, None, None]
    y = torch.arange(size, dtype=F64)[None, :, None]
    x = torch.arange(size, dtype=F64)[None, None, :]
    k = (1.5 + torch.sin(0.9 * x + 0.4 * y * (b + 1) + 0.3 * b)) ** 2
    return k / k.sum((-2, -1), keepdim=True)


def maps(number: int, height: int, width: int) -> Tensor:
    """The test mixing maps, float64 (B, H, W)."""
    b = torch.arange(number, dtype=F64)[:, None, None]
    y = torch.arange(height, dtype=F64)[None, :, None]
    x = torch.arange(width, dtype=F64)[None, None, :]
    return torch.softmax(2 * torch.sin(0.17 * x * (b + 1) + 0.11 * y + b), dim=0)


def close(value: float | Tensor, reference: float, rel: float = 1e-9) -> bool:
    """Whether a figure agrees with the printed reference (12 or 13 digits)."""
    return math.isclose(float(value), reference, rel_tol=rel, abs_tol=1e-12)
