"""The network that finds sharp edges: what it does untrained, and how it learns."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from blurfield.checkpoints import read_checkpoint, write_checkpoint
from blurfield.cli import main
from blurfield.estimation import estimate
from blurfield.estimation.kernels import normal_equations, salient_edges, shift, solve
from blurfield.estimation.learned_gradients import (
    ARCHITECTURE,
    GradientNetwork,
    clues,
    edges_from,
    load_gradients,
)
from blurfield.estimation.level import Level
from blurfield.estimation.spectral import gradient, moved
from blurfield.simulation import camera_shake_kernels
from blurfield.training.gradients import GradientsTask
from blurfield.training.images import pack
from blurfield.training.kernel_step import kernel_losses, offsets, shifted_similarity
from blurfield.training.source import Source
from blurfield.training.window_samples import WindowMaker

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")
SMALL = {"width": 8, "dilations": [1, 2]}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shakes(count: int, size: int, seed: int = 0) -> torch.Tensor:
    return camera_shake_kernels(count, size, min_extent=size / 2, generator=generator(seed))


def blocks(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    numbers = np.random.default_rng(seed)
    coarse = numbers.integers(0, 256, (shape[0] // 12, shape[1] // 12, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.NEAREST))


@pytest.fixture(scope="module")
def level() -> Level:
    picture = torch.from_numpy(blocks((60, 72)).astype(np.float32).mean(2) / 255)
    return Level(picture[None], 1.0, 9)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    with (folder / "manifest.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "mask", "split", "kind"])
        for seed, split in enumerate(("train", "train", "val")):
            Image.fromarray(blocks((120, 132), seed)).save(folder / f"{seed}.png")
            table.writerow([f"{seed}.png", "", split, "photo"])
    return folder


@pytest.fixture(scope="module")
def trained(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few steps by the command, in two calls."""
    folder = tmp_path_factory.mktemp("run")
    words = ["train", "gradients", "--data", str(photographs), "--out", str(folder), "--quiet"]
    words += ["--size", "32", "--batch", "3", "--kernel-size", "7", "--device", "cpu"]
    assert main([*words, "--steps", "1"]) == 0
    assert main([*words, "--steps", "3", "--resume"]) == 0
    return folder / "gradients.safetensors"


@torch.no_grad()
def found(level: Level, network: GradientNetwork) -> tuple[torch.Tensor, torch.Tensor]:
    kernels, latent = shakes(2, level.side)[None], level.blurry.expand(-1, 2, -1, -1)
    seen, edges, unit = clues(level, kernels, latent, 40)
    sharp = edges_from(network, seen, edges, unit)
    return sharp, torch.stack(salient_edges(*gradient(latent), 40, level.inside), 2)


def test_untrained_network_lets_the_salient_edges_through(level: Level) -> None:
    sharp, salient = found(level, GradientNetwork())
    strongest = float(salient.abs().max())
    assert float((sharp - salient).abs().max()) < 0.05 * strongest
    assert strongest > 0


def test_network_is_blind_to_contrast(level: Level) -> None:
    torch.manual_seed(0)
    network = GradientNetwork(**SMALL)
    torch.nn.init.normal_(network.last.weight, std=0.1)
    faint = Level(0.1 * level.images, 1.0, level.side)
    (bright, _), (dark, _) = found(level, network), found(faint, network)
    # Highlights are seen as such, everything else is relative.
    assert torch.allclose(10 * dark, bright, atol=0.1 * float(bright.abs().max()))


@pytest.mark.parametrize("shape", [(20, 24), (21, 23)])
def test_network_takes_images_of_any_size(shape: tuple[int, int]) -> None:
    assert GradientNetwork(**SMALL)(torch.zeros(2, 10, *shape)).shape == (2, 3, *shape)


def test_loss_of_kernels_has_the_right_gradient() -> None:
    size = 5
    picture = torch.from_numpy(blocks((36, 36), 3).astype(np.float64).mean(2) / 255)
    level = Level(picture[None], 1.0, size)
    truth = shakes(1, size).double()[None]
    noise = torch.randn(
        2, 1, 1, *level.blurry.shape[-2:], dtype=torch.float64, generator=generator()
    )
    edges = [
        (slope + 0.02 * n).requires_grad_() for slope, n in zip(level.slopes, noise, strict=True)
    ]

    def loss(edges: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        auto, cross = normal_equations((edges[0], edges[1]), level.slopes, level.optics, size)
        support = torch.ones(size, size, dtype=torch.float64)
        solved = torch.full((1, 1, size, size), 1 / size**2, dtype=torch.float64)
        for _ in range(10):  # until it is exact
            solved = solve(auto.detach(), cross.detach(), solved, 0.5, support, lambda: None)
        kept = solved > 0.02 * solved.max()
        exact = 1 - shifted_similarity(solved * kept, truth)
        return kernel_losses(solved, kept, truth, auto, cross, 0.5).sum(), exact.sum()

    slopes = torch.autograd.grad(loss(edges)[0], edges)
    step = [1e-6 * torch.randn(e.shape, dtype=e.dtype, generator=generator(1)) for e in edges]
    with torch.no_grad():
        ahead, behind = (
            loss([e + sign * s for e, s in zip(edges, step, strict=True)])[1] for sign in (1, -1)
        )
    expected = float(sum((g * s).sum() for g, s in zip(slopes, step, strict=True)))
    assert abs(expected) > 1e-9
    assert float(ahead - behind) / 2 == pytest.approx(expected, rel=1e-3)


def test_kernels_are_compared_wherever_they_are() -> None:
    truth = torch.zeros(1, 2, 11, 11)
    truth[0, :, 3:7, 3:7] = shakes(2, 4 + 1)[:, :4, :4]
    kernels = shift(truth[:, :1], torch.tensor([2, -3]).expand(1, 1, 2))
    assert float(shifted_similarity(kernels, truth)) == pytest.approx(1, abs=1e-5)
    assert offsets(kernels, truth)[0, 0].tolist() == [-2, 3]
    smooth = torch.exp(-0.1 * ((torch.arange(11) - 5.0).square()))
    smooth = (smooth[:, None] * smooth)[None, None]
    half = moved(smooth, torch.tensor([0.5, 0.0]))
    assert float(shifted_similarity(half, smooth)) > 0.999
    assert offsets(half, smooth)[0, 0].tolist() == [-0.5, 0]


def test_windows_are_their_sharp_images_blurred() -> None:
    bank = pack([(blocks((96, 96)), None)], 60)
    batch = WindowMaker(bank, size=9, side=48, batch=6).make(generator(3))
    assert batch.images.shape == batch.sharp.shape == (6, 48, 48)
    kernels = batch.kernels
    assert torch.allclose(kernels.sum((-2, -1)), torch.ones(6, 2), atol=1e-5)
    whole = (kernels[:, 0] == kernels[:, 1]).flatten(1).all(1)
    assert 0 < int(whole.sum()) < 6
    # What is blurred without looking beyond the edges.
    seen = torch.nn.functional.conv2d(
        batch.sharp[whole][None], kernels[whole, :1].flip(-2, -1), groups=int(whole.sum())
    )[0]
    unclipped = batch.sharp[whole].amax((1, 2)) < 1
    error = (seen - batch.images[whole, 4:-4, 4:-4])[unclipped].square().mean().sqrt()
    assert float(error) < 0.04
    again = WindowMaker(bank, size=9, side=48, batch=6).make(generator(3))
    assert torch.equal(again.images, batch.images)


def test_training_by_command(trained: Path) -> None:
    weights = read_checkpoint(trained)
    assert weights.architecture == ARCHITECTURE
    assert weights.facts["samples"] == 9
    network = GradientNetwork(**weights.config)
    network.load_state_dict(weights.load())
    assert bool((network.last.weight != 0).any())


def test_loss_falls_on_one_batch(photographs: Path) -> None:
    task = GradientsTask(Source(photographs, 40, 3, CPU), size=7, config=SMALL)
    torch.manual_seed(0)
    network = task.network()
    # It has something to unlearn.
    torch.nn.init.normal_(network.last.weight, std=0.1)
    batch = task.make(generator(), 0)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    errors = []
    for _ in range(12):
        terms = task.losses(network, batch, generator())
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        errors.append(float(terms["edges"].detach()))
    assert np.mean(errors[-3:]) < 0.9 * errors[0], errors


def test_samples_smaller_than_twice_the_kernels_are_refused(photographs: Path) -> None:
    with pytest.raises(ValueError, match="at least 66"):
        GradientsTask(Source(photographs, 64, 3, CPU))


def test_estimator_says_which_edges_it_used(trained: Path) -> None:
    image = blocks((48, 60), 5)
    options = {"model": "windowed", "kernel_size": 5, "device": "cpu"}
    plain = estimate(image, edges="L0", **options)
    learned = estimate(image, edges=trained, **options)
    assert plain.metadata["parameters"]["edges"] == "L0"
    assert "weights" not in plain.metadata
    assert learned.metadata["parameters"]["edges"] == "L0 and network"
    assert learned.metadata["weights"]["sha256"] == read_checkpoint(trained).sha256
    assert not torch.equal(plain.basis, learned.basis)


def test_installed_weights_are_used(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLURFIELD_DATA", str(tmp_path))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "mine.safetensors").write_bytes(trained.read_bytes())
    chosen = load_gradients("auto", CPU)
    assert chosen is not None
    assert chosen.weights.name == "mine"
    assert load_gradients("L0", CPU) is None


def test_other_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    write_checkpoint(
        path, {"x": torch.zeros(1)}, architecture="denoiser", config={}, gamma=1.0, origin="a test"
    )
    with pytest.raises(ValueError, match="not for 'gradients'"):
        load_gradients(path, CPU)
    with pytest.raises(ValueError, match="no weights named"):
        load_gradients("missing", CPU)
