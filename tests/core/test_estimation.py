"""Blind estimation as users call it."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import torch

import blurfield
from blurfield import Cancelled, KernelField
from blurfield.estimation import MODELS, estimate, installed_models
from blurfield.operator import BlurOperator
from blurfield.simulation import camera_shake_kernels, segment_field

SIZE = 13


def leaves(shape: tuple[int, int], seed: int = 0) -> torch.Tensor:
    """Overlapping discs of random size and brightness: edges as in photographs."""
    random = np.random.default_rng(seed)
    image = np.full(shape, 0.5, dtype=np.float32)
    y, x = np.mgrid[: shape[0], : shape[1]]
    for _ in range(shape[0] * shape[1] // 60):
        radius = 3 / random.uniform(0.06, 1) ** 0.9
        centre = random.uniform(-5, np.array(shape) + 5)
        inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
        image[inside] = random.uniform(0.05, 0.95)
    return torch.from_numpy(image)


def blurred(field: KernelField, seed: int = 0, noise: float = 0.005) -> np.ndarray:
    height, width = field.shape
    margin = field.kernel_size - 1
    sharp = leaves((height + margin, width + margin), seed)[None]
    image = BlurOperator(field, boundary="valid").forward(sharp)[0].numpy()
    return image + noise * np.random.default_rng(seed).standard_normal(image.shape, np.float32)


def shakes(n: int, seed: int) -> torch.Tensor:
    return camera_shake_kernels(
        n, SIZE, min_extent=8, generator=torch.Generator().manual_seed(seed)
    )


@pytest.fixture(scope="module")
def uniform() -> tuple[np.ndarray, KernelField]:
    truth = KernelField.uniform(shakes(1, 3)[0], (128, 144))
    return blurred(truth), truth


@pytest.fixture(scope="module")
def estimated(uniform) -> KernelField:
    return estimate(uniform[0], gamma=1, kernel_size=SIZE, device="cpu")


def delta(shape: tuple[int, int]) -> KernelField:
    kernel = torch.zeros(SIZE, SIZE)
    kernel[SIZE // 2, SIZE // 2] = 1
    return KernelField.uniform(kernel, shape)


def test_uniform_blur_is_found(uniform, estimated):
    _, truth = uniform
    found = blurfield.similarity(estimated, truth).mean
    assert found > 0.8
    assert blurfield.similarity(delta(truth.shape), truth).mean < 0.6
    # In the convention of the package, not rotated by 180°.
    assert found > blurfield.similarity(estimated.rotated(), truth).mean + 0.1


def test_field_says_where_it_comes_from(uniform, estimated):
    assert estimated.shape == uniform[0].shape
    assert estimated.kernel_size == SIZE
    assert estimated.num_kernels <= 25
    facts = estimated.metadata
    assert facts["model"] == "windowed"
    assert "the best of the models installed that take kernel_size" in facts["reason"]
    assert facts["gamma"] == 1
    assert facts["version"] == blurfield.__version__
    assert facts["source"] == {"shape": list(uniform[0].shape)}
    assert facts["parameters"]["kernel_size"] == SIZE
    assert 0 < facts["confidence"] <= 1
    windows = facts["windows"]
    grid = (len(windows["rows"]), len(windows["columns"]))
    assert np.shape(windows["confidence"]) == grid
    json.dumps(facts)
    assert "reason" not in estimate(uniform[0][:40, :40], "windowed", kernel_size=5).metadata


def test_same_input_same_output(uniform):
    first, second = (
        estimate(uniform[0][:60, :90], gamma=1, kernel_size=7, device="cpu") for _ in range(2)
    )
    assert torch.equal(first.basis, second.basis)
    assert torch.equal(first.mixing, second.mixing)
    assert first.metadata == second.metadata


def test_two_segments_get_their_own_kernels():
    labels = torch.zeros(128, 256, dtype=torch.long)
    labels[:, 128:] = 1
    straight = torch.zeros(2, SIZE, SIZE)
    straight[0, SIZE // 2, 1:-1] = 1 / (SIZE - 2)
    straight[1, 1:-1, SIZE // 2] = 1 / (SIZE - 2)
    truth = segment_field(labels, straight)
    field = estimate(blurred(truth, seed=1), gamma=1, kernel_size=SIZE, device="cpu")
    points = [(y, x) for y in (32, 64, 96) for x in (32, 64, 192, 224)]
    right = blurfield.similarity(field, truth, points=points).values
    assert right.mean() > 0.75
    for kernel in straight:
        assert right.mean() > (
            blurfield.similarity(KernelField.uniform(kernel, truth.shape), truth).mean + 0.1
        )


@pytest.mark.parametrize("dtype", [np.uint16, np.float64])
def test_colour_images_of_any_type(uniform, dtype):
    grey = np.clip(uniform[0][:40, :44], 0, 1)
    top = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    image = (np.stack([grey] * 3, axis=-1) * top).astype(dtype)
    before = image.copy()
    field = estimate(image, gamma=1, kernel_size=5, device="cpu")
    assert np.array_equal(image, before)
    assert field.shape == (40, 44)
    assert field.dtype == torch.float32
    channels_first = estimate(
        np.moveaxis(image, -1, 0), gamma=1, kernel_size=5, device="cpu", channel_axis=0
    )
    assert torch.equal(channels_first.basis, field.basis)


def test_eight_bits_are_decoded(uniform):
    image = (np.clip(uniform[0][:48, :48], 0, 1) * 255).astype(np.uint8)
    assert estimate(image, kernel_size=5, device="cpu").metadata["gamma"] == 2.2


@pytest.mark.parametrize("shape", [(32, 32), (33, 120)])
def test_small_and_narrow_images(shape):
    field = estimate(leaves(shape).numpy(), device="cpu")
    assert field.shape == shape
    assert field.kernel_size <= (min(shape) + 2) // 2
    assert torch.isfinite(field.basis).all()


@pytest.mark.parametrize("value", [0, 128, 255])
def test_image_without_texture_gets_no_blur_and_no_confidence(value):
    field = estimate(np.full((48, 64, 3), value, np.uint8), device="cpu")
    assert field.num_kernels == 1
    assert float(field.l2_norms()) == 1
    assert field.metadata["confidence"] == 0
    assert "no texture" in field.metadata["note"]


def test_basis_is_compressed_on_request(uniform):
    field = estimate(uniform[0][:40, :60], kernel_size=5, max_kernels=3, device="cpu")
    assert field.num_kernels == 3
    assert field.metadata["compression"]["kernels_before"] > 3
    assert field.metadata["model"] == "windowed"


def test_progress_comes_often_and_ends_at_the_total(uniform):
    calls = []
    estimate(
        uniform[0],
        gamma=1,
        kernel_size=9,
        device="cpu",
        progress=lambda *call: calls.append((time.monotonic(), call)),
    )
    done = [call[0] for _, call in calls]
    assert done == sorted(done)
    assert {call[1] for _, call in calls} == {calls[0][1][1]}
    assert calls[-1][1][0] == calls[-1][1][1]
    assert len({call[2] for _, call in calls}) >= 3
    assert max(np.diff([when for when, _ in calls])) < 1


@pytest.mark.parametrize("after", [0, 5, 25])
def test_cancel_stops_at_once(uniform, after):
    calls = 0

    def progress(done: int, total: int, message: str) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise Cancelled

    with pytest.raises(Cancelled):
        estimate(uniform[0], gamma=1, kernel_size=7, device="cpu", progress=progress)
    assert calls == after + 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": "nonsense"}, ValueError, "'nonsense' is unknown; known: windowed, compact"),
        ({"model": "two-heads"}, ValueError, "'two-heads' is not installed.*docs/weights.md"),
        ({"windows": 3}, TypeError, "'combined' has no option 'windows'"),
        ({"kernel_size": 12}, ValueError, "odd number from 3 up, got 12"),
        ({"kernel_size": 1}, ValueError, "odd number from 3 up, got 1"),
        ({"kernel_size": 51}, ValueError, "only 48 pixels.*51×51; choose a smaller"),
        ({"max_kernels": 0}, ValueError, "at least 1, got 0"),
        ({"gamma": -1}, ValueError, "gamma"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        estimate(leaves((48, 60)).numpy(), device="cpu", **arguments)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((1, 1), np.float32), "1×1 pixels is too small.*32×32"),
        (np.zeros((31, 200), np.float32), "31×200 pixels is too small"),
        (np.full((40, 40), np.nan), "NaN"),
    ],
)
def test_unusable_images(image, message):
    with pytest.raises(ValueError, match=message):
        estimate(image, device="cpu")


def test_models_are_listed():
    assert "windowed" in installed_models()
    assert set(installed_models()) <= set(MODELS)
