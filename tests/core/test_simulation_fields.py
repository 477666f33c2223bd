from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import grid_sample, interpolate

from blurfield.field import KernelField
from blurfield.operator import BlurOperator
from blurfield.simulation.fields import (
    camera_motion_extent,
    camera_motion_field,
    object_motion_field,
    random_segments,
    segment_field,
)
from blurfield.simulation.kernels import camera_shake_kernels, linear_kernel
from blurfield.simulation.trajectories import camera_shake_angles

SHAPE = (120, 160)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _image(shape: tuple[int, int] = SHAPE) -> torch.Tensor:
    """Something with edges in all directions, band-limited enough to be warped."""
    coarse = torch.rand((1, 1, shape[0] // 4, shape[1] // 4), generator=_generator(7))
    return interpolate(coarse, size=shape, mode="bicubic", align_corners=False)[0, 0]


def _psnr(a: torch.Tensor, b: torch.Tensor, margin: int = 20) -> float:
    inner = (a - b)[margin:-margin, margin:-margin]
    return -10 * math.log10(float(inner.square().mean()))


def _average_of_warps(
    image: torch.Tensor, angles: torch.Tensor, focal: float, zoom: torch.Tensor
) -> torch.Tensor:
    """What a camera sees that turns about its axes one after the other, by casting rays.

    Written apart from the code it checks: rotations about single axes, small enough to commute.
    """
    height, width = image.shape
    y, x = torch.meshgrid(
        torch.arange(height) - (height - 1) / 2,
        torch.arange(width) - (width - 1) / 2,
        indexing="ij",
    )
    total = torch.zeros_like(image)
    for (yaw, pitch, roll), magnification in zip(angles.tolist(), zoom.tolist(), strict=True):
        # Undo each step of the content's motion: zoom, roll, pitch, yaw.
        px, py, pz = x / magnification, y / magnification, torch.full_like(x, focal)
        cos, sin = math.cos(roll), math.sin(roll)
        px, py = cos * px + sin * py, cos * py - sin * px
        cos, sin = math.cos(pitch), math.sin(pitch)
        py, pz = cos * py - sin * pz, cos * pz + sin * py
        cos, sin = math.cos(yaw), math.sin(yaw)
        px, pz = cos * px - sin * pz, cos * pz + sin * px
        place = torch.stack([px / pz * focal / (width / 2), py / pz * focal / (height / 2)], dim=-1)
        total += grid_sample(
            image[None, None], place[None], padding_mode="reflection", align_corners=False
        )[0, 0]
    return total / len(angles)


def test_point_moving_right_leaves_its_trail() -> None:
    # The content moves along +x, fast at first and then slowly, so the trail is not symmetric.
    time = torch.linspace(0, 1, 200)
    angles = torch.zeros(200, 3)
    angles[:, 0] = 0.05 * (1 - (1 - time) ** 3)
    image = torch.zeros(61, 61)
    image[30, 30] = 1
    field = camera_motion_field((61, 61), angles, focal=300.0, kernel_size=25)
    trail = BlurOperator(field).forward(image[None])[0]
    # Most of the light is where the point dwells: at the right end of its trail.
    peak = int(trail.argmax())
    assert peak // 61 == 30
    assert 32 <= peak % 61 <= 36
    assert float(trail[:, :24].sum()) > 0.05
    # The kernel is that trail rotated by 180°.
    torch.testing.assert_close(
        field.kernel_at(30, 30), trail[18:43, 18:43].flip(0, 1), atol=3e-3, rtol=0
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_rotation_field_averages_warped_images(seed: int) -> None:
    focal = 1.2 * max(SHAPE)
    angles = camera_shake_angles(1, 200, generator=_generator(seed))[0]
    angles[:, 2] *= 3  # a strong roll, so that kernels differ across the image
    angles = angles * (12 / camera_motion_extent(SHAPE, angles, focal=focal)[1])
    image = _image()
    expected = _average_of_warps(image, angles, focal, torch.ones(200))
    finest = camera_motion_field(SHAPE, angles, focal=focal)
    assert _psnr(BlurOperator(finest).forward(image[None])[0], expected) > 45
    coarse = camera_motion_field(SHAPE, angles, focal=focal, max_cells=2)
    assert _psnr(BlurOperator(coarse).forward(image[None])[0], expected) < 42
    # Neither the other orientation nor the average kernel explains the image.
    for wrong in (finest.rotated(), KernelField.uniform(finest.mean_kernel(), SHAPE)):
        assert _psnr(BlurOperator(wrong).forward(image[None])[0], expected) < 38


def test_zoom_field_averages_scaled_images() -> None:
    zoom = torch.linspace(0, 0.15, 150).exp()
    still = torch.zeros(150, 3)
    image = _image()
    expected = _average_of_warps(image, still, 200.0, zoom / zoom.log().mean().exp())
    field = camera_motion_field(SHAPE, still, focal=200.0, zoom=zoom)
    assert _psnr(BlurOperator(field).forward(image[None])[0], expected) > 43


def test_roll_turns_about_the_centre() -> None:
    angles = torch.zeros(101, 3)
    angles[:, 2] = torch.linspace(-0.1, 0.1, 101)
    field = camera_motion_field((101, 101), angles, focal=100.0, max_cells=15)
    centre = field.kernel_at(50, 50)
    assert float(centre[15:18, 15:18].sum()) > 0.99
    right, below = field.kernel_at(50, 90), field.kernel_at(90, 50)
    # On the right motion is vertical, below the middle it is horizontal.
    assert (right.sum(0) > 0.02).sum() <= 3 < (right.sum(1) > 0.02).sum()
    assert (below.sum(1) > 0.02).sum() <= 3 < (below.sum(0) > 0.02).sum()
    extent, reach = camera_motion_extent((101, 101), angles, focal=100.0)
    assert reach == pytest.approx(50.5 * 0.1, abs=0.5)
    assert extent == pytest.approx(1 + 50.5 * 0.2, abs=0.8)


def test_motion_is_centred_as_a_whole() -> None:
    angles = camera_shake_angles(1, 200, generator=_generator(5))[0]
    angles = angles * (10 / camera_motion_extent(SHAPE, angles, focal=150.0)[1])
    field = camera_motion_field(SHAPE, angles + 0.3, focal=150.0, kernel_size=25)
    taps = torch.arange(25.0) - 12
    mean = field.mean_kernel()
    assert abs(float((mean.sum(1) * taps).sum())) < 0.05
    assert abs(float((mean.sum(0) * taps).sum())) < 0.05


def test_little_change_needs_few_kernels() -> None:
    shift = torch.zeros(64, 3)
    shift[:, 0] = torch.linspace(0, 0.001, 64)
    field = camera_motion_field(SHAPE, shift, focal=5000.0)
    assert field.num_kernels <= 4


def test_motion_that_does_not_fit() -> None:
    angles = torch.zeros(64, 3)
    angles[:, 0] = torch.linspace(0, 0.4, 64)
    with pytest.raises(ValueError, match="does not fit into 33×33"):
        camera_motion_field(SHAPE, angles, focal=200.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"angles": torch.zeros(5, 2)}, r"\(T, 3\)"),
        ({"focal": 0.0}, "focal"),
        ({"zoom": torch.ones(4)}, "zoom"),
        ({"zoom": torch.zeros(5)}, "zoom"),
    ],
)
def test_bad_motion(arguments: dict[str, object], message: str) -> None:
    defaults = {"angles": torch.zeros(5, 3), "focal": 100.0}
    with pytest.raises(ValueError, match=message):
        camera_motion_field(SHAPE, **{**defaults, **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("shape", [(64, 64), (50, 333)])
def test_random_segments_are_large_enough(n: int, shape: tuple[int, int]) -> None:
    for seed in range(10):
        labels = random_segments(shape, n, generator=_generator(seed))
        assert labels.shape == shape
        areas = torch.bincount(labels.flatten(), minlength=n)
        assert len(areas) == n
        assert areas.min() >= 400
        assert areas.max() <= 3 * areas.min() + 3 * n


def test_random_segments_are_blobs() -> None:
    labels = random_segments((200, 300), 3, generator=_generator())
    borders = (labels.diff(dim=0) != 0).sum() + (labels.diff(dim=1) != 0).sum()
    assert 200 < borders < 4000  # noise would have 80 000
    assert torch.equal(labels, random_segments((200, 300), 3, generator=_generator()))


def test_random_segments_need_room() -> None:
    with pytest.raises(ValueError, match="too small for 3 segments"):
        random_segments((40, 40), 3, generator=_generator())


def test_segments_have_their_kernels_and_soft_borders() -> None:
    labels = torch.zeros(80, 120, dtype=torch.long)
    labels[:, 60:] = 1
    kernels = torch.stack([linear_kernel(20.0, 0.0, 25), linear_kernel(8.0, 90.0, 25)])
    field = segment_field(labels, kernels)
    assert field.shape == (80, 120)
    torch.testing.assert_close(field.kernel_at(40, 10), kernels[0])
    torch.testing.assert_close(field.kernel_at(40, 110), kernels[1])
    # The left segment moves across the border: its mask falls from 1 to 0 in 20 pixels. The right
    # one moves along the border: its mask is a step. Divided by their sum:
    left = field.full_mixing()[0, 40]
    torch.testing.assert_close(left[:60], torch.ones(60))
    ramp = (0.5 - (torch.arange(60, 70) - 59.5) / 20).clamp(min=0)
    torch.testing.assert_close(left[60:70], ramp / (1 + ramp), atol=0.01, rtol=0)
    assert bool((left[72:] == 0).all())


def test_segment_field_sums_where_nothing_reaches() -> None:
    # Kernels off their centre: both masks move away from the border between them.
    kernels = torch.zeros(2, 9, 9)
    kernels[0, 4, 8] = 1
    kernels[1, 4, 0] = 1
    labels = torch.zeros(32, 40, dtype=torch.long)
    labels[:, 20:] = 1
    field = segment_field(labels, kernels)
    torch.testing.assert_close(field.full_mixing().sum(0), torch.ones(32, 40))


def test_bad_labels() -> None:
    kernels = camera_shake_kernels(2, 9, generator=_generator())
    with pytest.raises(ValueError, match="integers of shape"):
        segment_field(torch.zeros(20, 20), kernels)
    with pytest.raises(ValueError, match=r"0…1, one kernel each, got 0…2"):
        segment_field(torch.arange(400).reshape(20, 20).clamp(max=2), kernels)


def test_object_moves_in_front_of_a_still_background() -> None:
    mask = torch.zeros(60, 90, dtype=torch.bool)
    mask[20:40, 30:60] = True
    motion = linear_kernel(10.0, 0.0, 21)
    field = object_motion_field(mask, motion)
    moved = field.full_mixing()[1]
    assert float(moved[30, 45]) == pytest.approx(1, abs=1e-5)
    assert float(moved[30, 30]) == pytest.approx(0.5, abs=0.06)
    assert float(moved[17:19].abs().max()) < 1e-5  # it does not move up or down
    assert float(field.kernel_at(5, 5)[10, 10]) == pytest.approx(1, abs=1e-5)
    shaken = object_motion_field(mask, motion, linear_kernel(2.0, 90.0, 21))
    assert float(shaken.kernel_at(5, 5)[10, 10]) < 0.6
    with pytest.raises(ValueError, match="same shape"):
        object_motion_field(mask, motion, torch.ones(3, 3) / 9)
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        object_motion_field(mask[None], motion)
