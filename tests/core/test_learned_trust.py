"""The network that judges restored images: samples, training, and what it does to restoration."""

from __future__ import annotations

import csv
import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from drawings import photograph
from PIL import Image
from torch import Tensor

import blurfield
from blurfield import KernelField, checkpoint_files
from blurfield.cli import main
from blurfield.evaluation.restoration_scenes import cases
from blurfield.restoration.estimated import observed
from blurfield.restoration.learned_trust import (
    ARCHITECTURE,
    CAUTION,
    CELL,
    TOLD,
    LearnedTrust,
    TrustNetwork,
    limited,
    log_odds,
    on_cells,
    views,
)
from blurfield.restoration.local_statistics import mean_around, most_around
from blurfield.training.kernels import turn
from blurfield.training.trust import TrustBatch, TrustTask, gain
from blurfield.training.trust_samples import BLOCK, TrustSample, read_samples, samples_of
from blurfield.training.wrong_fields import wrong_field

if TYPE_CHECKING:
    from pathlib import Path

    from blurfield.restoration.estimated import Judged

CPU = torch.device("cpu")
SMALL = {"widths": [4, 4, 6, 8], "layers": 1}


def nothing() -> None:
    pass


def write_weights(folder: Path, **values: float) -> Path:
    """Weights of a small network; biases of the last layer as given."""
    torch.manual_seed(0)
    network = TrustNetwork(**SMALL)
    with torch.no_grad():
        for name, value in values.items():
            getattr(network.out, name).fill_(value)
    path = folder / "trust.safetensors"
    checkpoint_files.write_checkpoint(
        path,
        network.state_dict(),
        architecture=ARCHITECTURE,
        config=network.config,
        gamma=1.0,
        origin="a test",
    )
    return path


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for weights of the user."""
    monkeypatch.setenv("BLURFIELD_DATA", str(tmp_path))
    folder = tmp_path / "weights"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two photographs."""
    folder = tmp_path_factory.mktemp("photographs")
    with (folder / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("file", "mask", "split", "kind"))
        for split, side in (("train", 112), ("val", 128)):
            Image.fromarray(photograph(side)).save(folder / f"{split}.png")
            rows.writerow((f"{split}.png", "", split, "photo"))
    return folder


@pytest.fixture(scope="module")
def samples(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten scenes with wrong fields."""
    folder = tmp_path_factory.mktemp("samples")
    command = ["train", "trust-samples", "--data", str(data), "--out", str(folder), "--device=cpu"]
    assert main([*command, "--count=10", "--models", "wrong", "--quiet"]) == 0
    return folder


def test_means_and_maxima_around_are_cut_off_at_edges() -> None:
    values = torch.arange(12.0).reshape(1, 1, 3, 4)
    mean, most = mean_around(values, 1), most_around(values, 1)
    assert mean[0, 0, 0, 0] == (0 + 1 + 4 + 5) / 4
    assert mean[0, 0, 1, 1] == values[0, 0, :3, :3].mean()
    assert most[0, 0, 0].tolist() == [5, 6, 7, 7]
    assert (mean_around(values, 99) == values.mean()).all()


def test_untrained_network_is_a_little_more_cautious_than_the_rules(installed: Path) -> None:
    weights = write_weights(installed)
    trust = LearnedTrust.load(CPU, weights)
    assert trust is not None
    doubt = torch.rand(1, 50, 70, generator=torch.Generator().manual_seed(0))
    image = torch.rand(1, 50, 70, generator=torch.Generator().manual_seed(1))
    told = torch.randn(TOLD, 4, 5)
    told[-1] = 0
    found = trust(doubt, image, image.sqrt(), told, 9, nothing)
    less = 1 / (1 + (1 - doubt) / doubt * np.exp(-CAUTION))
    torch.testing.assert_close(found, less, rtol=0, atol=0.005)


def test_network_shifts_the_odds(installed: Path) -> None:
    trust = LearnedTrust.load(CPU, write_weights(installed, bias=2.0))
    assert trust is not None
    doubt = torch.full((1, 32, 32), 0.5)
    image = torch.rand(1, 32, 32)
    found = trust(doubt, image, image, torch.zeros(TOLD, 2, 2), 9, nothing)
    torch.testing.assert_close(found, torch.full_like(found, 1 / (1 + np.exp(2.0 - CAUTION))))


def test_kernels_of_a_network_are_left_to_the_rules(installed: Path) -> None:
    trust = LearnedTrust.load(CPU, write_weights(installed, bias=2.0))
    assert trust is not None
    image = torch.rand(1, 32, 32)
    doubt = image.square()
    told = torch.zeros(TOLD, 2, 2)
    told[-1] = 1
    found = trust(doubt, image, image, told, 9, nothing)
    torch.testing.assert_close(found, doubt, rtol=0, atol=0.003)


def test_network_cannot_overrule_certainty() -> None:
    shift = torch.tensor([[-20.0, 2.0, 20.0]])
    assert limited(shift, torch.zeros(TOLD, 1, 3)).tolist() == [[-20.5, 1.5, 2.5]]
    sure = log_odds(torch.ones(1, 1)) + limited(torch.full((1, 1), 99.0), torch.zeros(TOLD, 1, 1))
    assert float(sure.sigmoid()) < 0.002


def test_what_is_far_away_has_no_influence() -> None:
    """Within kernels by which tiles overlap: so they may lie anywhere, at multiples of a cell."""
    torch.manual_seed(0)
    network = TrustNetwork(**SMALL)
    torch.nn.init.normal_(network.out.weight)
    sharp, blurry = torch.rand(2, 1, 480, 64)
    told = torch.randn(TOLD, 30, 4)
    size, start = 9, 15 * CELL

    def shift(image: Tensor, seen: Tensor, numbers: Tensor) -> Tensor:
        found: Tensor = network(views(image, seen), numbers[None], [size])
        return found

    with torch.no_grad():
        whole = shift(sharp, blurry, told)
        part = shift(sharp[:, start:], blurry[:, start:], told[:, 15:])
    far = -(-(8 * size + 48) // CELL)
    torch.testing.assert_close(part[:, far:], whole[:, 15 + far :], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(part[:, 0], whole[:, 15], rtol=1e-3)


def test_restoration_asks_the_installed_network(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_files, "BUNDLED", installed / "none")
    picture = photograph(96)
    blurry, truth = blurfield.simulate(picture, kind="linear", max_extent=7, noise=0.01, seed=3)
    field = truth.with_metadata(model="windowed", source={})
    assert blurfield.restoration.methods.is_estimated(field)

    def given_back() -> float:
        _, facts = blurfield.deblur(
            blurry, field, "richardson-lucy", device="cpu", return_info=True
        )
        return float(facts["unexplained"])

    by_rules = given_back()
    assert 0 < by_rules < 1
    write_weights(installed, bias=-9.0)
    assert given_back() > max(by_rules, 0.9)
    write_weights(installed, bias=9.0)
    assert given_back() < min(by_rules, 0.5)


def test_observer_is_told_and_nothing_is_given_back() -> None:
    picture = photograph(96)
    blurry, truth = blurfield.simulate(picture, kind="linear", max_extent=7, noise=0.01, seed=3)
    field = truth.with_metadata(model="windowed", source={})
    judged: list[Judged] = []
    with observed(judged.append):
        _, facts = blurfield.deblur(
            blurry, field, "richardson-lucy", device="cpu", return_info=True
        )
    assert facts["unexplained"] == 0
    [one] = judged
    assert one.told().shape == (TOLD, 96, 96)
    assert one.doubt.shape == one.sharp.shape == one.blurry.shape == (1, 96, 96)
    assert float(one.doubt.mean()) > 0
    blurfield.deblur(blurry, field, "richardson-lucy", device="cpu")
    assert len(judged) == 1


def test_wrong_fields_are_wrong_by_degrees(data: Path) -> None:
    [case] = cases(["uniform"], [0.01])
    truth = case.scene(photograph(96), "drawing", 0, 0).truth
    found = [
        blurfield.similarity(wrong_field(truth, np.random.default_rng(seed)), truth).mean
        for seed in range(12)
    ]
    assert min(found) < 0.7 < 0.95 < max(found)
    [sharp] = cases(["sharp"], [0.01])
    still = sharp.scene(photograph(96), "drawing", 0, 0).truth
    moved = wrong_field(still, np.random.default_rng(0))
    assert float(moved.basis.amax()) < 0.9
    assert moved.shape == still.shape


def test_sample_tells_the_gain_of_the_restored_image() -> None:
    [case] = cases(["uniform"], [0.01])
    scene = case.scene(photograph(128), "drawing", 0, 0)
    [sample] = samples_of(
        scene, scene.truth.with_metadata(model="windowed", source={}), ["tikhonov"], CPU
    )
    assert sample.size == scene.truth.kernel_size
    height, width = (n // CELL * CELL for n in scene.blurry.shape[:2])
    assert sample.sharp.shape == sample.blurry.shape == (height, width)
    blocks = torch.zeros(height // BLOCK, width // BLOCK)
    assert float(gain(sample, blocks)) == pytest.approx(0, abs=0.05)
    assert float(gain(sample, blocks + 1)) > 1


def test_samples_survive_files(tmp_path: Path) -> None:
    tensor = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    sample = TrustSample("a", tensor, tensor, tensor, tensor, tensor, 12, 21.5, 33)
    sample.save(tmp_path / "a.npz")
    again = TrustSample.load(tmp_path / "a.npz")
    for field in dataclasses.fields(sample):
        wanted, found = getattr(sample, field.name), getattr(again, field.name)
        assert torch.equal(wanted, found) if isinstance(wanted, Tensor) else wanted == found
    (tmp_path / "b.npz").write_bytes(b"no sample")
    with pytest.raises(ValueError, match=r"b\.npz is no sample of a restored image"):
        TrustSample.load(tmp_path / "b.npz")


def test_samples_are_made_once(samples: Path, data: Path) -> None:
    assert len(read_samples(samples, "train")) == 18
    held = read_samples(samples, "val")
    assert len(held) == 2
    before = {file: file.stat().st_mtime_ns for file in samples.rglob("*.npz")}
    command = ["train", "trust-samples", "--data", str(data), "--out", str(samples), "--quiet"]
    assert main([*command, "--count=10", "--models", "wrong", "--device=cpu"]) == 0
    assert {file: file.stat().st_mtime_ns for file in samples.rglob("*.npz")} == before


def test_missing_samples_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="blurfield train trust-samples"):
        TrustTask(tmp_path, 4, CPU)


def test_orientations_lead_back(samples: Path) -> None:
    """What the network says is turned back to where the image was."""
    task = TrustTask(samples, 4, CPU, config=SMALL)
    sample = read_samples(samples, "train")[0]

    class Place(torch.nn.Module):
        def forward(self, seen: Tensor, told: Tensor, sizes: list[int]) -> Tensor:
            return told[:, 0]

    numbers = sample.told.clone()
    numbers[0] = torch.arange(numbers[0].numel()).reshape(numbers[0].shape) / 10
    marked = dataclasses.replace(sample, told=numbers, doubt=torch.full_like(sample.doubt, 0.5))
    straight = task._trust(Place(), TrustBatch([marked]))
    for orientation in range(1, 8):
        turned = task._trust(Place(), TrustBatch([marked], orientation))
        torch.testing.assert_close(turned, straight)
    assert not torch.equal(turn(straight, 4, ((-2, -1),)), straight)


def test_training_makes_images_better_than_the_rules_do(samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["train", "trust", "--data", str(samples), "--out", str(out), "--device=cpu"]
    assert main([*command, "--steps=3", "--quiet", "--batch=4"]) == 0
    task = TrustTask(samples, 8, CPU, config=SMALL)
    torch.manual_seed(0)
    network = task.network()
    generator = torch.Generator().manual_seed(0)
    batch = task.make(generator, 0)
    assert len(batch) > 1
    with torch.no_grad():
        before = float(task.losses(network, batch, generator)["loss"])
    steps = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(40):
        steps.zero_grad()
        task.losses(network, batch, generator)["loss"].backward()
        steps.step()
    with torch.no_grad():
        assert float(task.losses(network, batch, generator)["loss"]) < before - 0.1
    weights = checkpoint_files.read_checkpoint(out / "trust.safetensors")
    assert weights.architecture == ARCHITECTURE
    assert LearnedTrust.load(CPU, out / "trust.safetensors") is not None


def test_network_that_takes_caution_back_gains_what_the_rules_do(samples: Path) -> None:
    task = TrustTask(samples, 8, CPU, config=SMALL)
    network = task.network()
    assert isinstance(network, TrustNetwork)
    torch.nn.init.constant_(network.out.bias, CAUTION)
    figures = task.validate(network)
    assert set(figures) == {"gain", "worst", "worse", "rules", "rules_worst", "undoubted"}
    assert figures["gain"] == pytest.approx(figures["rules"], abs=1e-6)
    assert figures["worst"] == pytest.approx(figures["rules_worst"], abs=1e-6)


def test_odds_and_cells() -> None:
    assert log_odds(torch.tensor([0.5, 0.25])).tolist() == pytest.approx([0, np.log(3)])
    cells = on_cells(torch.ones(2, 20, 33))
    assert cells.shape == (2, 2, 3)
    assert (cells == 1).all()


def test_uniform_field_is_an_estimate_with_model() -> None:
    """Wrong fields pass for estimated ones, otherwise they would not be judged."""
    truth = KernelField.uniform(torch.ones(3, 3) / 9, (40, 40))
    found = wrong_field(truth, np.random.default_rng(1))
    assert blurfield.restoration.methods.is_estimated(found)
