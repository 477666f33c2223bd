"""The parts of the blind estimator, one by one."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from blurfield.comparison import kernel_similarity
from blurfield.compute import Reporter
from blurfield.estimation.blind import BlindSettings, Hypothesis, estimate_kernels, work
from blurfield.estimation.evidence import (
    Evidence,
    SparsityEvidence,
    SpectralEvidence,
    quiet_noise,
    share_noise,
)
from blurfield.estimation.kernels import (
    align,
    centre,
    centroid,
    narrow_support,
    normal_equations,
    prune,
    resize,
    salient_edges,
    shift,
    solve,
    weighted_mean,
)
from blurfield.estimation.latent import sharpen
from blurfield.estimation.spectral import (
    divergence_adjoint,
    gradient,
    laplacian_spectrum,
    pad_periodic,
    transfer_function,
)
from blurfield.estimation.windows import common_frame, judge, judge_own
from blurfield.windows import Windows


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def squares(n: int, shape: tuple[int, int], seed: int = 0) -> torch.Tensor:
    """Periodic images of random rectangles."""
    images = torch.full((n, *shape), 0.5)
    numbers = torch.rand(n, 60, 5, generator=generator(seed))
    for image, rectangles in zip(images, numbers, strict=True):
        for y, x, height, width, value in rectangles.tolist():
            top, left = int(y * shape[0]), int(x * shape[1])
            image[top : top + 3 + int(20 * height), left : left + 3 + int(20 * width)] = value
    return images


def blur(images: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    shape = (images.shape[-2], images.shape[-1])
    return torch.fft.irfft2(torch.fft.rfft2(images) * transfer_function(kernels, shape), s=shape)


def hook(size: int = 9) -> torch.Tensor:
    """A kernel without any symmetry."""
    kernel = torch.zeros(size, size)
    kernel[1:-1, 2] = 1.0
    kernel[-2, 2:-1] = 2.0
    return kernel / kernel.sum()


def roomy_hook() -> torch.Tensor:
    """The same with room to move."""
    return torch.nn.functional.pad(hook(), (3, 3, 3, 3))


@pytest.mark.parametrize(("shape", "margin"), [((40, 53), 7), ((8, 8), 30), ((1, 5), 3)])
def test_padding_is_periodic_without_a_step(shape, margin):
    ramp = torch.arange(shape[0] * shape[1], dtype=torch.float32).reshape(1, *shape)
    padded = pad_periodic(ramp, margin)
    assert torch.equal(padded[:, : shape[0], : shape[1]], ramp)
    assert all(p >= n + margin for p, n in zip(padded.shape[1:], shape, strict=True))
    assert ramp.min() <= padded.min()
    assert padded.max() <= ramp.max()
    along_x, along_y = gradient(padded)
    # Without padding the steps would be as high as the ramp is long.
    assert float(along_x.abs().amax()) < 4 * (1 + shape[1] / margin)
    assert float(along_y.abs().amax()) < 4 * shape[1] * (1 + shape[0] / margin)


def test_divergence_is_the_adjoint_of_the_gradient():
    u, p, q = torch.rand(3, 12, 17, generator=generator(), dtype=torch.float64)
    along_x, along_y = gradient(u)
    expected = (along_x * p).sum() + (along_y * q).sum()
    assert torch.allclose((u * divergence_adjoint(p, q)).sum(), expected)
    spectrum = torch.fft.rfft2(u) * laplacian_spectrum((12, 17), u)
    assert torch.allclose(
        torch.fft.irfft2(spectrum, s=(12, 17)), divergence_adjoint(along_x, along_y)
    )


def test_latent_image_has_few_edges_and_fits_the_blurry_one():
    sharp = squares(1, (72, 80))
    kernel = hook()[None]
    blurry = blur(sharp, kernel)
    shape = (72, 80)
    laplacian = laplacian_spectrum(shape, sharp)
    strength = torch.full((1, 1, 1), 1e-4)
    latent = sharpen(
        blurry,
        torch.fft.rfft2(blurry),
        laplacian,
        torch.ones_like(laplacian),
        kernel,
        strength,
        lambda: None,
    )
    assert float((latent - sharp).square().mean()) < 0.2 * float((blurry - sharp).square().mean())
    assert float((blur(latent, kernel) - blurry).square().mean().sqrt()) < 0.01


def test_kernel_is_recovered_from_sharp_edges():
    sharp, kernel = squares(2, (72, 80)), torch.stack([hook(), hook().T])
    blurry = blur(sharp, kernel)
    optics = torch.ones(72, 41)
    auto, cross = normal_equations(gradient(sharp), gradient(blurry), optics, 9)
    start = torch.full((2, 9, 9), 1 / 81)
    found = solve(auto, cross, start, 0.01, torch.ones(9, 9), lambda: None)
    assert float(found.min()) >= 0
    assert torch.allclose(found, kernel, atol=5e-3)
    middle = narrow_support(9, torch.tensor([0.5, 1.0]), start)
    narrow = solve(auto, cross, start, 0.01, middle, lambda: None)
    assert float(narrow[0, 0].sum()) == 0
    assert torch.allclose(narrow[1], kernel[1], atol=5e-3)


def test_salient_edges_are_the_strongest_of_every_orientation():
    field = torch.randn(2, 1, 40, 40, generator=generator())
    allowed = torch.ones(40, 40)
    allowed[:, :15] = 0
    along_x, along_y = salient_edges(field[0], field[1], 10, allowed)
    kept = (along_x != 0) | (along_y != 0)
    assert torch.equal(along_x[kept], field[0][kept])
    assert not bool(kept[..., :15].any())
    strength = field.square().sum(0)
    assert strength[kept].min() > strength[~kept & (allowed > 0)].max()
    angle = torch.rad2deg(torch.atan2(along_y, along_x)[kept]) % 180
    counts = [int(((angle - a + 22.5) % 180 < 45).sum()) for a in (0, 45, 90, 135)]
    assert min(counts) == 10


def test_pruning():
    kernels = torch.zeros(3, 9, 9)
    kernels[0, 4, 2:7] = 1
    kernels[0, 0, 0] = 0.3  # separate and small
    kernels[0, 5, 4] = 0.01  # faint
    kernels[1, 1, 1:4] = 1
    kernels[1, 7, 5:8] = 1  # two parts of equal rights
    pruned = prune(kernels, 0.05, torch.zeros(3))
    assert torch.allclose(pruned.sum((1, 2)), torch.ones(3))
    assert int((pruned[0] > 0).sum()) == 5
    assert int((pruned[1] > 0).sum()) == 6
    assert pruned[2, 4, 4] == 1  # nothing left: no blur
    dots = kernels[:1].clone()
    dots[0, 4, 8] = 0.3
    assert prune(dots, 0.05, torch.tensor([0.5]))[0, 4, 8] == 0


def test_shifting_centring_aligning():
    kernel = roomy_hook()
    offset = torch.tensor([[2, -1], [0, 3]])
    moved = shift(kernel.expand(2, 15, 15), offset)
    assert torch.allclose(moved[0], kernel.roll((2, -1), (0, 1)))
    assert torch.allclose(align(moved, kernel), kernel)
    assert float(centroid(centre(moved)).abs().max()) <= 0.5
    assert torch.allclose(centre(moved)[0], centre(moved)[1])
    assert torch.allclose(shift(kernel, torch.tensor([9, 0])).sum(), torch.tensor(1.0))


def test_resizing_keeps_the_shape():
    kernel = roomy_hook()[None]
    for size in (11, 21, 31):
        other = resize(kernel, size)
        assert torch.allclose(other.sum(), torch.tensor(1.0))
        assert float(other.min()) >= 0
        assert float(kernel_similarity(resize(other, 15), kernel)) > 0.8


def test_mean_leans_to_the_better_kernels():
    good, bad = roomy_hook(), roomy_hook().T.flip(0)
    kernels = torch.stack([shift(good, torch.tensor([1, 1])), good, bad])[None]
    mean = weighted_mean(kernels, torch.tensor([[0.0, 0.0, 1.0]]), 0.1)
    assert float(kernel_similarity(mean[0], good)) > 0.99
    equal = weighted_mean(kernels, torch.zeros(1, 3), 0.1)
    assert float(kernel_similarity(equal[0], good)) < 0.98


def test_evidence_knows_how_much_blur_there_is():
    noise = torch.randn(1, 96, 128, generator=generator())
    spectrum = laplacian_spectrum((96, 128), noise)
    spectrum[0, 0] = 1
    sharp = torch.fft.irfft2(torch.fft.rfft2(noise) * spectrum**-0.6, s=(96, 128))
    sharp = 0.1 * sharp / sharp.std()
    line = torch.zeros(11, 11)
    line[5] = 1 / 11
    none = torch.zeros(11, 11)
    none[5, 5] = 1
    short = torch.zeros(11, 11)
    short[5, 3:8] = 1 / 5
    candidates = torch.stack([none, short, line, line.T])[None]
    for truth in (0, 1, 2, 3):
        blurry = blur(sharp, candidates[0, truth])
        blurry = blurry + 0.003 * torch.randn(blurry.shape, generator=generator(1))
        scores = SpectralEvidence(blurry)(candidates)
        assert scores.shape == (1, 4)
        assert int(scores.argmin()) == truth


def test_sparsity_knows_which_way_round_a_kernel_is():
    kernel = hook(13)
    candidates = torch.stack([kernel.flip(-2, -1), kernel])[None]
    blurry = blur(squares(2, (96, 128), seed=5), kernel)
    blurry = blurry + 0.003 * torch.randn(blurry.shape, generator=generator(2))
    polled: list[int] = []
    spectral = SpectralEvidence(blurry)
    sparsity = SparsityEvidence(blurry, spectral.noise, lambda: polled.append(1))
    power, phase = spectral(candidates), sparsity(candidates)
    assert float((power[:, 0] - power[:, 1]).abs().max()) < 1e-3
    assert bool((phase[:, 1] < phase[:, 0] - 0.02).all())
    assert len(polled) == 2
    both = Evidence(blurry, lambda: None)(candidates)
    torch.testing.assert_close(
        both[:, 1] - both[:, 0], 5 * (phase[:, 1] - phase[:, 0]), atol=2e-3, rtol=0
    )


def test_estimator_recovers_kernels_of_a_batch():
    kernels = torch.stack([hook(13), hook(13).T])
    images = blur(squares(2, (120, 120), seed=3), kernels)
    settings = BlindSettings(hypotheses=(Hypothesis(1.0, 6e-3, 0.1), Hypothesis(1.0, 8e-3, 0.05)))
    done: list[int] = []
    reporter = Reporter(lambda n, total, _: done.append(n), work(13, settings))
    mean, found, scores = estimate_kernels(images, 13, settings, reporter)
    assert mean.shape == (2, 13, 13)
    assert found.shape == (2, 2, 13, 13)
    assert scores.shape == (2, 2)
    assert done[-1] == work(13, settings)
    assert float(kernel_similarity(mean, kernels).min()) > 0.75
    alone, _, _ = estimate_kernels(images[1:], 13, settings, Reporter(None, 1))
    assert float(kernel_similarity(alone[0], mean[1])) > 0.95


@pytest.mark.parametrize(
    ("shape", "side", "stride", "most"),
    [((100, 130), 40, 30, 100), ((20, 300), 50, 25, 100), ((5000, 4000), 190, 140, 16)],
)
def test_windows_span_the_image(shape, side, stride, most):
    windows = Windows.on(shape, side, stride, most)
    assert len(windows.rows) * len(windows.columns) <= most
    for first, size, length in zip(
        (windows.rows, windows.columns), windows.size, shape, strict=True
    ):
        assert first[0] == 0
        assert first[-1] + size == length
        if most == 100:
            assert all(b - a <= stride + 1 for a, b in pairwise(first))
    if shape[0] < 1000:
        image = torch.arange(shape[0] * shape[1]).reshape(shape)
        cut = windows.cut(image)
        assert cut.shape == (len(windows.rows) * len(windows.columns), *windows.size)
        assert cut[-1, -1, -1] == image[-1, -1]


def test_values_are_interpolated_between_window_centres():
    windows = Windows.on((100, 200), 40, 30, 100)
    x = torch.tensor([c + 19.5 for _ in windows.rows for c in windows.columns])
    y = torch.tensor([r + 19.5 for r in windows.rows for _ in windows.columns])
    maps = windows.on_cells(torch.stack([y, x], dim=1), 10)
    assert maps.shape == (2, 10, 20)
    # Windows start at whole pixels, which makes them equidistant only to half a pixel.
    for found, length in ((maps[0, :, 0], 100), (maps[1, 0], 200)):
        centres = torch.arange(length // 10) * 10 + 4.5
        assert torch.allclose(found, centres.clamp(19.5, length - 20.5), rtol=0, atol=0.5)


def test_like_kernels_come_to_lie_on_each_other():
    kernel = roomy_hook()
    away = shift(kernel, torch.tensor([2, 1]))
    other = torch.zeros(15, 15)
    other[7, 7] = 1
    back = shift(away, torch.tensor([-3, -3]))
    moved = common_frame(torch.stack([kernel, away, other, back]), lambda: None)
    assert torch.allclose(moved[0], moved[1])
    assert torch.allclose(moved[0], moved[3])
    assert torch.equal(moved[2], other)


def test_windows_are_judged_one_like_all():
    image = squares(1, (96, 96), seed=5)[0]
    kernels = torch.stack([hook(), hook().T])
    windows = Windows.on((96, 96), 48, 48, 10).cut(blur(image[None], kernels[:1])[0])
    quiet = torch.tensor(0.003)
    together = judge(windows, kernels, quiet, lambda: None)
    assert together.shape == (4, 3)
    assert torch.allclose(judge(windows[2:3], kernels, quiet, lambda: None)[0], together[2])
    own = kernels.expand(len(windows), -1, -1, -1)
    assert torch.allclose(judge_own(windows, own, quiet, lambda: None), together[:, 1:])
    assert int((together[:, 1] < together[:, 2]).sum()) >= 3


def test_no_blur_is_an_answer_only_where_there_are_fine_details():
    generator = torch.Generator().manual_seed(3)
    texture = 0.5 + 0.2 * torch.rand(96, 192, generator=generator)
    noise = 0.003 * torch.randn(96, 192, generator=generator)
    image = 0.5 * squares(1, (96, 192), seed=5)[0] + 0.5 * texture
    kernel = hook()[None]
    blurred = blur(image[None], kernel)[0]
    plain = torch.full((96, 96), 0.5)
    image = torch.cat([image[:, :96], blurred[:, 96:], plain], 1)
    image[:, :192] += noise
    image[:, 192:] += noise[:, :96]
    windows = Windows.on((96, 288), 96, 96, 10).cut(image)
    sharp, blurry, nothing = judge(windows, kernel, quiet_noise(image), lambda: None)
    assert sharp[0] < sharp[1]
    assert blurry[1] < blurry[0]
    assert nothing[0] > nothing[1] + 1


def test_noise_is_shared_by_the_windows_of_an_image():
    generator = torch.Generator().manual_seed(4)
    noise = torch.randn(192, 192, generator=generator)
    bright, dark = 0.8 + 0.01 * noise, 0.2 + 0.005 * noise
    rough = 0.2 + 0.05 * noise
    image = torch.cat([bright, dark, rough])
    quiet = quiet_noise(image)
    assert float(quiet) == pytest.approx(0.0112, rel=0.15)
    found, detail = share_noise(torch.stack([bright, dark, rough]), quiet)
    assert found.sqrt().tolist() == pytest.approx([0.01, 0.005, 1.3 * 0.005], rel=0.15)
    assert detail.tolist() == pytest.approx([1, 1, 10], rel=0.15)
