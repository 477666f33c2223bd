"""The mosaic that shows the kernels of a field."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kernels_and_fields import line

from blurfield.field import KernelField
from blurfield.measure import kernel_mosaic


def hook(size: int = 9) -> torch.Tensor:
    kernel = torch.zeros(size, size)
    kernel[1, 2:6] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    kernel[1:5, 2] = 1
    return kernel / kernel.sum()


def test_mosaic_shows_the_rotated_kernel_in_red_at_every_site() -> None:
    kernel = hook()
    mosaic = kernel_mosaic(KernelField.uniform(kernel, (18, 30)))
    assert (mosaic.shape, mosaic.dtype) == ((18, 30, 4), np.float32)
    expected = (kernel / kernel.max()).flip(0, 1).numpy()
    alpha = mosaic[..., 3]
    np.testing.assert_allclose(alpha[:9, 1:10], expected, atol=1e-6)
    np.testing.assert_allclose(alpha[9:, 19:28], expected, atol=1e-6)
    assert not alpha[:, 28:].any()
    assert not mosaic[..., 1:3].any()
    assert (mosaic[alpha > 0, 0] == 1).all()


def test_mosaic_over_an_image() -> None:
    image = np.full((18, 30, 3), 255, np.uint8)
    image[:, :15] = 0
    mosaic = kernel_mosaic(KernelField.uniform(hook(), (18, 30)), image)
    assert mosaic.shape == (18, 30, 3)
    assert (mosaic.min(), mosaic.max()) == (0, 1)
    np.testing.assert_allclose(mosaic[0, 0], 0.4)
    np.testing.assert_allclose(mosaic[0, -1], 1)
    brightest = np.unravel_index(hook().flip(0, 1).argmax(), (9, 9))
    np.testing.assert_allclose(mosaic[brightest[0], 1 + brightest[1]], [1, 0, 0], atol=1e-6)
    assert (image[:, :15] == 0).all()


def test_mosaic_resizes_the_image() -> None:
    ramp = np.linspace(0, 1, 60, dtype=np.float32)[None].repeat(36, 0)
    mosaic = kernel_mosaic(KernelField.uniform(hook(), (18, 30)), ramp)
    assert mosaic.shape == (18, 30, 3)
    assert (np.diff(mosaic[0, :, 1]) > 0).mean() > 0.8


def test_mosaic_of_varying_kernels() -> None:
    basis = torch.stack([line(9, 9), line(9, 9, vertical=True)])
    mixing = torch.zeros(2, 9, 18)
    mixing[0, :, :9], mixing[1, :, 9:] = 1, 1
    alpha = kernel_mosaic(KernelField(basis, mixing))[..., 3]
    np.testing.assert_array_equal(np.argwhere(alpha[:, :9])[:, 0], 4)
    np.testing.assert_array_equal(np.argwhere(alpha[:, 9:])[:, 1], 4)


def test_mosaic_with_other_spacings_and_small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    field = KernelField.uniform(hook(), (20, 33))
    dense, sparse = (kernel_mosaic(field, spacing=n)[..., 3] for n in (4, 16))
    assert (dense > 0).sum() > (sparse > 0).sum()
    monkeypatch.setattr("blurfield.mosaic._BATCH_KERNELS", 2)
    np.testing.assert_array_equal(kernel_mosaic(field, spacing=4)[..., 3], dense)
    small = KernelField.uniform(hook(), (3, 4))
    assert kernel_mosaic(small).shape == (3, 4, 4)
    assert (kernel_mosaic(KernelField.uniform(torch.ones(1, 1), (3, 4)))[..., 3] == 1).all()
    with pytest.raises(ValueError, match="spacing must be"):
        kernel_mosaic(field, spacing=0)
    with pytest.raises(ValueError, match="NaN"):
        kernel_mosaic(field, np.full((20, 33), np.nan))
