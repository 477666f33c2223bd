"""Estimation of a camera's motion: poses, their kernels, and what windows make of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from blurfield import KernelField, simulate
from blurfield.comparison import kernel_similarity, similarity
from blurfield.compute import Reporter
from blurfield.estimation.blind import BlindSettings, work
from blurfield.estimation.camera import (
    CameraMotion,
    CameraSettings,
    CameraStart,
    estimate_camera,
    unclipped,
)
from blurfield.estimation.contest import Contest
from blurfield.estimation.kernels import align_together, projected_gradients, prune, shift
from blurfield.estimation.level import Level
from blurfield.estimation.poses import Poses, align_poses, centre_poses, resize_poses
from blurfield.images import DISPLAY_GAMMA, decode
from blurfield.simulation.fields import camera_motion_field
from blurfield.windows import Windows

from .drawings import photograph

SHAPE, SIDE = (120, 160), 15
FOCAL = 160.0
POINTS = np.array([[60.0, 80.0], [20.0, 20.0], [20.0, 140.0], [100.0, 30.0]])


def volume_of(paths: torch.Tensor) -> torch.Tensor:
    """Volume (A, A, A) of a path (T, 3) in steps along y, x and turn, spread over neighbours."""
    volume = torch.zeros(SIDE, SIDE, SIDE)
    low = paths.floor()
    for corner in range(8):
        step = torch.tensor([corner >> axis & 1 for axis in range(3)])
        weight = (1 - (paths - low - step).abs()).prod(1)
        index = (low + step).long() + SIDE // 2
        volume.index_put_(tuple(index.T), weight, accumulate=True)
    return volume / volume.sum()


def bend() -> torch.Tensor:
    """Yaw, pitch and roll of a camera that moves on a bend, (T, 3), of mean 0."""
    time = torch.linspace(-1, 1, 200, dtype=torch.float64)
    angles = torch.stack([0.02 * time, 0.015 * time.square(), 0.04 * time], 1)
    return angles - angles.mean(0)


def test_kernels_of_poses_are_those_of_the_turning_camera() -> None:
    angles = bend()
    yaw, pitch, roll = angles.unbind(1)
    corner = math.hypot(*SHAPE) / 2
    path = torch.stack([FOCAL * pitch, FOCAL * yaw, corner * roll], 1).float()
    kernels = Poses(SHAPE, SIDE, FOCAL).kernels_at(volume_of(path)[None], POINTS)[:, 0]
    truth = camera_motion_field(SHAPE, angles, focal=FOCAL, kernel_size=SIDE)
    true = truth.kernels_at(torch.from_numpy(POINTS)).flip(-2, -1)

    # Poses are spread over neighbours, and so are taps: paths are a little too wide.
    assert float(kernel_similarity(kernels, true).min()) > 0.92
    # They differ so much that one for all would not do, nor would others of the same path.
    assert float(kernel_similarity(kernels[1], kernels[2])) < 0.8
    assert float(kernel_similarity(kernels.flip(-1), true).min()) < 0.8
    assert kernels.sum((-2, -1)) == pytest.approx(1, abs=1e-5)


def test_a_moved_camera_blurs_everything_alike_if_the_focal_length_is_long() -> None:
    volume = torch.zeros(1, SIDE, SIDE, SIDE)
    volume[0, SIDE // 2, 3:9, SIDE // 2] = 1 / 6
    kernels = Poses(SHAPE, SIDE, 1e9).kernels_at(volume, POINTS)[:, 0]
    expected = torch.zeros(SIDE, SIDE)
    expected[SIDE // 2, 3:9] = 1 / 6
    assert torch.allclose(kernels, expected.expand_as(kernels), atol=1e-5)


def test_poses_that_lead_out_of_a_kernel_are_left_out() -> None:
    poses = Poses(SHAPE, SIDE, FOCAL)
    volume = torch.zeros(1, SIDE, SIDE, SIDE)
    volume[0, SIDE // 2, SIDE // 2, SIDE // 2] = 0.5
    volume[0, 0, 0, 0] = 0.5  # as far as it goes, and turned as well
    chosen = torch.ones(SIDE**3, dtype=torch.bool)
    matrix = poses.matrix(POINTS, chosen)
    mass = np.asarray(matrix.sum(0)).reshape(SIDE, SIDE, SIDE)
    assert mass[SIDE // 2, SIDE // 2, SIDE // 2] == pytest.approx(len(POINTS))
    assert mass[0, 0, 0] == 0
    kernels = poses.kernels_at(volume, POINTS)[:, 0]
    assert kernels[:, SIDE // 2, SIDE // 2] == pytest.approx(1, abs=1e-5)


def test_volumes_are_pruned_centred_aligned_and_resized() -> None:
    volume = torch.zeros(9, 9, 9)
    volume[1:5, 3, 5] = 0.2
    dotted = volume.clone()
    dotted[8, 8, 8] = 0.05  # far from the rest
    dotted[4, 4, 5] = 0.001  # faint
    pruned = prune(
        torch.stack([dotted, torch.zeros(9, 9, 9)]), 0.02, torch.tensor([0.1, 0]), axes=3
    )
    assert torch.allclose(pruned[0], volume / volume.sum())
    assert pruned[1, 4, 4, 4] == 1  # nothing is left but no motion

    centred = centre_poses(pruned[:1])[0]
    assert torch.equal(centred, pruned[0].roll((2, 1, -1), (0, 1, 2)))
    assert torch.equal(align_poses(centred[None], pruned[0])[0], pruned[0])

    larger = resize_poses(pruned[:1], 13)
    assert larger.shape == (1, 13, 13, 13)
    assert float(larger.sum()) == pytest.approx(1)


def test_kernels_are_aligned_together() -> None:
    generator = torch.Generator().manual_seed(0)
    references = torch.zeros(3, 11, 11)
    references[:, 3:8, 3:8] = torch.rand(3, 5, 5, generator=generator)
    references /= references.sum((-2, -1), keepdim=True)
    moved = shift(references, torch.tensor([[2.0, -1.0]]).expand(3, 2))
    moved[1] = references[1]  # one of them alone would not move
    aligned = align_together(moved, references)
    assert torch.allclose(aligned[0], references[0])
    assert torch.allclose(aligned[1], shift(references[1], torch.tensor([-2.0, 1.0])))


@pytest.fixture(scope="module")
def shaken() -> tuple[torch.Tensor, KernelField]:
    """A drawing that a turning camera blurred, grey in linear light, and the true field."""
    values, truth = simulate(
        photograph(224, seed=3), kind="rotation", max_extent=13, kernel_size=13, noise=0.002, seed=4
    )
    light = decode(torch.from_numpy(np.asarray(values)).float() / 255, DISPLAY_GAMMA)
    return light.mean(-1), truth


def test_the_motion_of_a_camera_is_found(shaken: tuple[torch.Tensor, KernelField]) -> None:
    image, truth = shaken
    done: list[tuple[int, int]] = []
    reporter = Reporter(
        lambda now, total, _: done.append((now, total)), work(13, BlindSettings()), "camera"
    )
    camera = estimate_camera(image, 13, reporter)

    assert done[-1] == (done[-1][1], done[-1][1])
    assert camera.volumes.shape == (2, 13, 13, 13)
    assert camera.volumes.sum((1, 2, 3)) == pytest.approx(1, abs=1e-5)
    windows = Windows.on(truth.shape, 40, 30, 100)
    true = truth.kernels_at(torch.tensor(windows.centres())).flip(-2, -1)
    found = camera.kernels_at(windows.centres())[:, 0]
    alike = float(kernel_similarity(found, true).mean())
    assert alike > 0.75
    assert alike > float(kernel_similarity(torch.ones(13, 13), true).mean()) + 0.2


def test_it_takes_part_in_estimation(shaken: tuple[torch.Tensor, KernelField]) -> None:
    from blurfield.estimation.windowed import estimate_windowed

    image, truth = shaken
    field = estimate_windowed(image[None], kernel_size=13)
    assert 0 < field.metadata["camera"] <= 1
    assert similarity(field, truth).mean > 0.75


def test_camera_kernels_compete_in_each_window_with_the_others() -> None:
    image = torch.from_numpy(photograph(96)).float().mean(-1) / 255
    windows = Windows.on((96, 96), 60, 36, 10)
    kernels = torch.zeros(2, 9, 9)
    kernels[0, 4, 2:7], kernels[1, 1:8, 4] = 0.2, 1 / 7
    contest = Contest.of(image, kernels, windows, lambda: None)
    assert contest.kernels[0, 4, 4] == 1  # no blur is the first
    alone, weights = contest.shares(0.1)
    assert alone is contest.kernels
    assert weights.sum(1) == pytest.approx(1, abs=1e-5)

    volume = torch.zeros(1, 7, 7, 7)
    volume[0, 3, 2:5, 3] = 1 / 3
    camera = CameraMotion(Poses((96, 96), 7, 96.0), volume)
    both = contest.with_camera(camera, lambda: None)
    assert torch.equal(both.scores, contest.scores)
    assert both.own.shape == (len(weights), 1, 9, 9)
    kernels, shares = both.shares(0.1)
    count = len(weights)
    assert torch.allclose(kernels[-count:], both.own[:, 0])
    assert shares.sum(1) == pytest.approx(1, abs=1e-5)
    # Kernels of a window are for that window only.
    own = shares[:, -count:]
    assert torch.equal(own, torch.diag(own.diagonal()))
    assert bool((own.diagonal() > 0).all())


def test_it_can_be_stopped() -> None:
    image = torch.from_numpy(photograph(96)).float().mean(-1) / 255

    class Stopped(Exception):
        pass

    def stop(done: int, total: int, message: str) -> None:
        if done > total // 4:
            raise Stopped

    settings = CameraSettings(starts=(CameraStart(6e-3, 0.1, 10.0),) * 2)
    with pytest.raises(Stopped):
        estimate_camera(image, 9, Reporter(stop, work(9, settings.blind), "camera"), settings)


def test_edges_near_clipped_light_do_not_count_unless_nothing_else_is_left() -> None:
    image = torch.from_numpy(photograph(96)).float().mean(-1) / 500
    image[40:44, 40:44] = 1
    level = Level(image[None], 1.0, 9)
    allowed = unclipped(level)
    assert allowed.shape == (1, *level.blurry.shape[1:])
    assert not allowed[0, 0, 36:48, 36:48].any()
    assert torch.equal(allowed[0, 0, 48:92, :92], level.inside[48:92, :92])
    assert torch.equal(allowed[0, 0, :92, 48:92], level.inside[:92, 48:92])

    image[::10, ::10] = 1
    dotted = Level(image[None], 1.0, 9)
    assert torch.equal(unclipped(dotted)[0, 0], dotted.inside)


def test_projected_gradients_find_the_least_squares_that_are_not_negative() -> None:
    generator = torch.Generator().manual_seed(2)
    matrix = torch.randn(4, 30, 8, generator=generator)
    squares = matrix.mT @ matrix
    target = torch.randn(4, 8, generator=generator) * 10

    def squared(vectors: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nij,nj->ni", squares, vectors)

    start = torch.zeros(4, 8)
    support = torch.ones(8)
    support[0] = 0
    found = projected_gradients(squared, target, start, 2.0, support, lambda: None, 300)
    slope = squared(found) + 2 * found - target
    assert not found[:, 0].any()
    assert bool((found >= 0).all())
    # Karush, Kuhn and Tucker: no slope where there is weight, none downhill where there is none.
    assert float(slope[:, 1:][found[:, 1:] > 0].abs().max()) < 1e-3
    assert float(slope[:, 1:].min()) > -1e-3
    short = projected_gradients(squared, target, start, 2.0, support, lambda: None, 2)
    assert not torch.allclose(short, found)
