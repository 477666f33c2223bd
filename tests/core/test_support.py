"""Supports of kernels: other sizes, and what they cut off."""

from __future__ import annotations

import pytest
import torch
from kernels_and_fields import line

from blurfield import KernelField
from blurfield.support import cut_off, padded


def test_kernels_keep_their_middle() -> None:
    kernels = torch.rand(2, 3, 7, 7)
    larger = padded(kernels, 11)
    assert larger.shape == (2, 3, 11, 11)
    assert torch.equal(larger[..., 2:9, 2:9], kernels)
    assert float(larger.sum()) == pytest.approx(float(kernels.sum()))
    assert torch.equal(padded(larger, 7), kernels)
    assert torch.equal(padded(kernels, 7), kernels)


def test_what_is_cut_off() -> None:
    mixing = torch.stack([torch.ones(4, 5), torch.zeros(4, 5)])
    mixing[:, :, 3:] = mixing[:, :, 3:].flip(0)
    field = KernelField(torch.stack([line(29), line(33)]), mixing, (40, 50))
    lost = cut_off(field)
    assert lost.shape == (4, 5)
    torch.testing.assert_close(lost[:, :3], torch.zeros(4, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(lost[:, 3:], torch.full((4, 2), 4 / 33))


def test_the_rim_grows_with_the_kernel() -> None:
    field = KernelField.uniform(line(61, 65), (40, 50))
    assert float(cut_off(field)) == pytest.approx(4 / 61, abs=1e-5)
