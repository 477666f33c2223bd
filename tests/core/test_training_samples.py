"""What the estimator is trained on: kernels, camera fields, blurry samples; and its losses."""

from __future__ import annotations

import pytest
import torch

from blurfield import BlurOperator, KernelField
from blurfield.images import encode
from blurfield.training.images import pack, textured_corners
from blurfield.training.kernels import GRID, bilinear_grid, camera_bank, kernel_bank, turn
from blurfield.training.losses import (
    absolute,
    cross_entropy,
    dissimilarity,
    gram_distance,
    mix,
    reblur_distance,
)
from blurfield.training.samples import (
    STRIDE,
    Batch,
    Capture,
    SampleMaker,
    _blur,
    _blur_on_grid,
)

SIZE, SIDE = 15, 64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def centroids(kernels: torch.Tensor) -> torch.Tensor:
    place = torch.arange(SIZE, dtype=torch.float32) - SIZE // 2
    flat = kernels.float()
    return torch.stack([(flat.sum(-1) * place).sum(-1), (flat.sum(-2) * place).sum(-1)], -1)


@pytest.fixture(scope="module")
def kernels() -> torch.Tensor:
    return kernel_bank(300, SIZE, max_extent=SIZE, generator=seeded())


@pytest.fixture(scope="module")
def cameras() -> torch.Tensor:
    return camera_bank(40, SIZE, side=SIDE, max_extent=SIZE, generator=seeded())


@pytest.fixture(scope="module")
def maker(kernels: torch.Tensor, cameras: torch.Tensor) -> SampleMaker:
    y, x = torch.meshgrid(torch.arange(120.0), torch.arange(150.0), indexing="ij")
    wave = 127 + 60 * torch.sin(x / 5) + 60 * torch.cos(y / 7 + x / 11)
    picture = torch.stack([wave, wave.flip(1), wave.flip(0)], -1).byte().numpy()
    labels = ((x > 60).int() + (y > 70).int()).byte().numpy()
    bank = pack([(picture, labels), (picture[:, ::-1].copy(), None)], 96)
    return SampleMaker(
        bank,
        kernels,
        cameras,
        side=SIDE,
        batch=24,
        capture=Capture(noise=0, exposure=(0.8, 0.8), lamps=0, grey=1),
    )


@pytest.fixture(scope="module")
def batch(maker: SampleMaker) -> Batch:
    return maker.make(seeded(5), 3)


@pytest.mark.parametrize("bank", ["kernels", "cameras"])
def test_kernels_are_normalised_and_centred(bank: str, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(bank)
    assert made.dtype == torch.float16
    assert made.min() >= 0
    sums = made.float().sum((-2, -1))
    torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=5e-3)
    assert centroids(made).abs().max() < 0.7
    assert centroids(made).abs().mean() < 0.1


def test_banks_follow_from_the_generator() -> None:
    one, two, other = (kernel_bank(50, SIZE, max_extent=9, generator=seeded(n)) for n in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert one[..., :2, :].max() == 0  # 9 pixels of 15


def test_grid_reads_like_a_field() -> None:
    weights = bilinear_grid(GRID, SIDE)
    torch.testing.assert_close(weights.sum(0), torch.ones(SIDE, SIDE))
    cells = torch.eye(GRID * GRID).reshape(GRID * GRID, GRID, GRID)
    expected = torch.nn.functional.interpolate(cells[None], (SIDE, SIDE), mode="bilinear")[0]
    torch.testing.assert_close(weights, expected, rtol=1e-5, atol=1e-6)


def test_eight_symmetries() -> None:
    kernel = torch.arange(9.0).reshape(1, 3, 3)
    turned = {tuple(turn(kernel, which, ((1, 2),)).flatten().tolist()) for which in range(8)}
    assert len(turned) == 8
    with pytest.raises(ValueError, match="8 symmetries"):
        turn(kernel, 8, ((1, 2),))


def test_batches_follow_from_the_generator(maker: SampleMaker, batch: Batch) -> None:
    again = maker.make(seeded(5), 3)
    assert torch.equal(batch.seen, again.seen)
    assert all(torch.equal(a, b) for a, b in zip(batch.mixing, again.mixing, strict=True))


def test_blurry_images_are_what_the_truth_makes_of_the_sharp_ones(batch: Batch) -> None:
    assert batch.seen.shape == (24, 3, SIDE, SIDE)
    start = 0
    for kernels, mixing in zip(batch.kernels, batch.mixing, strict=True):
        torch.testing.assert_close(mixing.sum(1), torch.ones_like(mixing[:, 0]))
        for number in range(len(kernels)):
            field = KernelField(
                kernels[number] / kernels[number].sum((1, 2), keepdim=True),
                mixing[number],
                (SIDE, SIDE),
            )
            light = BlurOperator(field, boundary="valid", prune=0).forward(batch.grey[start])
            expected = (encode(light.clamp(0, 1)[None], 2.2)[0] * 255).round() / 255
            difference = (batch.seen[start] - expected).abs()
            # Borders of segments are coarser in the truth.
            assert difference.mean() < 0.01
            assert difference.max() < 0.2
            start += 1
    assert start == len(batch)


def test_squares_are_cut_where_there_is_texture() -> None:
    picture = torch.full((128, 256, 3), 90, dtype=torch.uint8).numpy()
    picture[:, 160::2] = 200
    corners = textured_corners(picture, 64)
    assert len(corners) > 0
    assert corners[:, 1].min() + 64 >= 160
    assert corners.max() <= 192
    assert textured_corners(picture[:, :100], 160).tolist() == [[0, 0]]


def test_targets_are_the_kernels_of_cells(batch: Batch) -> None:
    cells = torch.tensor([0, 37, 255])
    targets = batch.targets(cells)
    assert targets.shape == (24, 3, SIZE * SIZE)
    row, col = divmod(37, SIDE // STRIDE)
    weights = batch.mixing[1][2, :, row, col]
    expected = (weights[:, None, None] * batch.kernels[1][2]).sum(0)
    torch.testing.assert_close(targets[len(batch.kernels[0]) + 2, 1], expected.flatten())


def test_small_segments_count_more_for_each_pixel(batch: Batch) -> None:
    cells = torch.arange((SIDE // STRIDE) ** 2)
    weights = batch.segment_weights(cells, 0.5)
    assert weights.min() > 0
    assert weights.mean() == pytest.approx(1, abs=0.15)
    torch.testing.assert_close(batch.segment_weights(cells, 0.0), torch.ones_like(weights))


def test_gram_distance_is_the_direct_one() -> None:
    generator = seeded()

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64).softmax(1).float()

    kernels, mixing, true_kernels, true = (
        draw(2, 5, 49),
        draw(2, 5, 11),
        draw(2, 3, 49),
        draw(2, 3, 11),
    )
    direct = (mix(kernels, mixing) - mix(true_kernels, true)).square().sum(-1)
    torch.testing.assert_close(
        gram_distance(kernels, mixing, true_kernels, true), direct, rtol=1e-3, atol=1e-6
    )


def test_losses_are_least_for_the_truth() -> None:
    truth = torch.rand(4, 6, 81, generator=seeded()).softmax(-1)
    other = torch.rand(4, 6, 81, generator=seeded(1)).mul(5).softmax(-1)
    assert absolute(truth, truth).max() == 0
    assert dissimilarity(truth, truth).abs().max() < 1e-5
    assert (cross_entropy(other, truth) > cross_entropy(truth, truth)).all()
    delta, far = torch.zeros(9), torch.zeros(9)
    delta[4], far[0] = 1, 1
    assert absolute(delta, far) == 2
    assert dissimilarity(delta, far) == 1


@pytest.mark.parametrize("side", [32, 84, 100])
def test_kernels_of_a_grid_blur_only_their_squares(side: int) -> None:
    light = torch.rand(3, 3, side + 8, side + 8, generator=seeded())
    kernels = torch.rand(3, GRID**2, 9, 9, generator=seeded())
    grid = bilinear_grid(GRID, side)
    expected = _blur(light, kernels, grid.expand(3, -1, -1, -1))
    torch.testing.assert_close(_blur_on_grid(light, kernels, grid), expected, rtol=1e-4, atol=1e-3)


def test_reblur_distance_is_that_of_the_images() -> None:
    sharp = torch.rand(1, 16 + 4, 16 + 4, generator=seeded())
    one, two = (torch.rand(5, 5, generator=seeded(n)) for n in (1, 2))
    one, two = one / one.sum(), two / two.sum()
    cells = torch.tensor([0, 6, 15])
    fields = (KernelField.uniform(k, (16, 16)) for k in (one, two))
    first, second = (BlurOperator(f, boundary="valid", prune=0).forward(sharp[0]) for f in fields)
    places = [(2 + 4 * (cell // 4), 2 + 4 * (cell % 4)) for cell in cells.tolist()]
    expected = torch.stack([(first - second)[y, x].square() for y, x in places])
    kernels = (k.flatten().expand(1, 3, -1) for k in (one, two))
    torch.testing.assert_close(
        reblur_distance(*kernels, sharp, cells, 4)[0], expected, rtol=1e-3, atol=1e-7
    )


@pytest.mark.parametrize(("side", "batch_size"), [(66, 24), (64, 2)])
def test_bad_sizes(
    kernels: torch.Tensor, cameras: torch.Tensor, side: int, batch_size: int
) -> None:
    bank = pack([(torch.zeros(80, 80, 3, dtype=torch.uint8).numpy(), None)], 80)
    with pytest.raises(ValueError, match="multiple of 4"):
        SampleMaker(bank, kernels, cameras, side=side, batch=batch_size)
