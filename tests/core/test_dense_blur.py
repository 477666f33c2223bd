from __future__ import annotations

import pytest
import torch
from conformance import F64, close, hashed, img
from torch.nn import functional

from blurfield import KernelField
from blurfield.dense_blur import blur_per_pixel
from blurfield.operator import BlurOperator


def dense_kernels(count: int, size: int, shape: tuple[int, int], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(count, size**2, *shape, generator=generator, dtype=F64)
    return torch.softmax(numbers, 1)


def unfolded(image: torch.Tensor, kernels: torch.Tensor, size: int) -> torch.Tensor:
    """The same by way of all patches, one image at a time."""
    padded = functional.pad(image, (size // 2,) * 4, mode="replicate")
    results = []
    for planes, maps in zip(padded, kernels, strict=True):
        patches = functional.unfold(planes[:, None], size)  # (C, K², HW)
        results.append((patches * maps.flatten(1)).sum(1).reshape(-1, *maps.shape[-2:]))
    return torch.stack(results)


def test_is_the_published_operator():
    kernels = torch.softmax(2 * hashed(11, 120 * 361).reshape(120, 361), 1)
    blurry = blur_per_pixel(img(3, 12, 10)[None], kernels.T.reshape(1, 361, 12, 10))[0]
    assert close(blurry.mean(), 5.265184316153e-1)
    assert close(blurry.square().sum(), 1.050319319067e2)
    assert close(blurry[0, 0, 0], 7.076119514175e-1)
    assert close(blurry[1, 5, 7], 5.017910422936e-1)
    assert close(blurry[2, 11, 9], 2.302189298399e-1)


@pytest.mark.parametrize(("count", "channels"), [(1, 1), (2, 3), (3, 5)])
def test_every_image_has_its_own_kernels(count, channels):
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(count, channels, 9, 7, generator=generator, dtype=F64)
    kernels = dense_kernels(count, 5, (9, 7))
    torch.testing.assert_close(blur_per_pixel(image, kernels), unfolded(image, kernels, 5))


def test_is_the_operator_of_a_one_tap_field():
    kernels = dense_kernels(1, 5, (12, 11))
    field = KernelField(torch.eye(25, dtype=F64).reshape(25, 5, 5), kernels[0])
    image = img(3, 12, 11)
    expected = BlurOperator(field, boundary="replicate").forward(image)
    torch.testing.assert_close(blur_per_pixel(image[None], kernels)[0], expected)


def test_gradients():
    image = img(2, 5, 6).reshape(2, 1, 5, 6).requires_grad_()
    kernels = dense_kernels(2, 3, (5, 6)).requires_grad_()
    assert torch.autograd.gradcheck(blur_per_pixel, (image, kernels))


def test_single_gradients_are_those_of_both():
    image, kernels = img(2, 5, 6)[None], dense_kernels(1, 3, (5, 6))
    both = [image.clone().requires_grad_(), kernels.clone().requires_grad_()]
    blur_per_pixel(*both).square().sum().backward()
    alone = image.clone().requires_grad_()
    blur_per_pixel(alone, kernels).square().sum().backward()
    torch.testing.assert_close(alone.grad, both[0].grad)
    alone = kernels.clone().requires_grad_()
    blur_per_pixel(image, alone).square().sum().backward()
    torch.testing.assert_close(alone.grad, both[1].grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_half_precision_adds_up_in_single_precision(dtype):
    image = img(1, 9, 8)[None].to(dtype).requires_grad_()
    kernels = dense_kernels(1, 7, (9, 8)).half().requires_grad_()
    blurry = blur_per_pixel(image, kernels)
    assert blurry.dtype == torch.float32
    torch.testing.assert_close(blurry, unfolded(image.float(), kernels.float(), 7))
    blurry.sum().backward()
    assert (image.grad.dtype, kernels.grad.dtype) == (dtype, torch.float16)


def test_inputs_stay_as_they_are():
    image, kernels = img(1, 9, 8)[None], dense_kernels(1, 3, (9, 8))
    before = image.clone(), kernels.clone()
    blur_per_pixel(image, kernels)
    assert torch.equal(image, before[0])
    assert torch.equal(kernels, before[1])


@pytest.mark.parametrize(
    ("image", "kernels", "message"),
    [
        ((3, 9, 9), (1, 9, 9, 9), r"\(N, C, H, W\)"),
        ((1, 3, 9, 9), (1, 16, 9, 9), "K odd, but have 16"),
        ((1, 3, 9, 9), (1, 10, 9, 9), "K odd, but have 10"),
        ((1, 3, 9, 9), (2, 9, 9, 9), "a kernel for each pixel"),
        ((1, 3, 9, 9), (1, 9, 9, 8), "a kernel for each pixel"),
    ],
)
def test_shapes_that_do_not_fit(image, kernels, message):
    with pytest.raises(ValueError, match=message):
        blur_per_pixel(torch.zeros(image), torch.zeros(kernels))
