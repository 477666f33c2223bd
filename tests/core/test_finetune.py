"""Fine-tuning of networks that restore: reblur consistency, pairs, import paths, whole runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from blurfield import KernelField
from blurfield.checkpoints import read_checkpoint
from blurfield.cli import main
from blurfield.images import decode, encode
from blurfield.operator import BlurOperator
from blurfield.simulation import linear_kernel
from blurfield.training.consistency import reblur_errors
from blurfield.training.factories import RestorerFactory, find_loss, find_object
from blurfield.training.loop import Trainer
from blurfield.training.pair_samples import PairSamples
from blurfield.training.pairs import TRUE, PairFolder, make_pairs
from blurfield.training.restoration_samples import SimulatedSamples
from blurfield.training.restorer import RestorerTask
from blurfield.training.settings import RunSettings, Schedule
from blurfield.training.source import Source

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")
SMALL = {"width": 4, "encoder": [1], "middle": 1, "decoder": [1]}
SIDE, EXTENT = 24, 7


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    numbers = np.random.default_rng(0)
    lines = ["file,mask,split,kind"]
    for name, split in (("a", "train"), ("b", "train"), ("c", "train"), ("d", "val")):
        coarse = numbers.integers(0, 256, (12, 14, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((84, 72)).save(folder / f"{name}.png")
        lines.append(f"{name}.png,,{split},photo")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def pairs(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> PairFolder:
    folder = PairFolder(tmp_path_factory.mktemp("pairs"))
    assert make_pairs(photographs, folder, count=9, side=48, max_extent=EXTENT, noise=0) == 3
    return folder


def source(data: Path) -> Source:
    return Source(data, side=SIDE, batch=4, device=CPU)


@pytest.fixture(scope="module")
def simulated(photographs: Path) -> SimulatedSamples:
    return SimulatedSamples(source(photographs), max_extent=EXTENT, kernels=40)


@pytest.fixture(scope="module")
def task(simulated: SimulatedSamples) -> RestorerTask:
    return RestorerTask(simulated, RestorerFactory(config=SMALL), reblur=30)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --------------------------------------------------------------- consistency


def blurred(light: torch.Tensor, field: KernelField) -> torch.Tensor:
    """Values of a blurry image that is smaller than its light."""
    return encode(BlurOperator(field, boundary="valid", prune=0).forward(light), 2.2)


def test_true_sharp_image_explains_the_blurry_one() -> None:
    kernel = linear_kernel(5, 30, 7)
    light = torch.rand(3, 46, 46, generator=generator())
    field = KernelField.uniform(kernel, (40, 40))
    blurry = blurred(light, field)[None]
    sharp = encode(light[None, :, 3:-3, 3:-3], 2.2)
    assert float(reblur_errors(sharp, blurry, [field])) < 1e-9
    assert float(reblur_errors(blurry, blurry, [field])) > 1e-4


def test_reblur_error_is_differentiable_through_the_operator() -> None:
    """With r = e(A d(u)) − v, the gradient is 2 d′(u) Aᵀ(e′(A d(u)) r) / n; e = d⁻¹ encodes."""
    numbers = generator(1)
    basis = torch.rand(3, 5, 5, generator=numbers)
    mixing = torch.rand(3, 20, 20, generator=numbers)
    field = KernelField(basis / basis.sum((1, 2), keepdim=True), mixing / mixing.sum(0))
    restored = torch.rand(1, 3, 20, 20, generator=numbers).requires_grad_()
    blurry = 0.9 * torch.rand(1, 3, 20, 20, generator=numbers)
    reblur_errors(restored, blurry, [field]).sum().backward()
    inner = BlurOperator(field.crop((2, 2), (16, 16)), boundary="valid")
    values = restored.detach()[0]
    light = inner.forward(decode(values, 2.2))
    residual = encode(light, 2.2) - blurry[0, :, 2:-2, 2:-2]
    back = inner.adjoint(residual * light ** (1 / 2.2 - 1) / 2.2)
    expected = 2 * 2.2 * values**1.2 * back / residual.numel()
    torch.testing.assert_close(restored.grad[0], expected, rtol=1e-3, atol=1e-7)
    assert field.basis.grad is None


def test_gradients_are_finite_in_the_dark() -> None:
    field = KernelField.uniform(linear_kernel(3, 0, 5), (12, 12))
    dark = torch.zeros(1, 3, 12, 12)
    dark[0, :, 6, 6] = 1e-6
    dark.requires_grad_()
    reblur_errors(dark, torch.ones(1, 3, 12, 12), [field]).sum().backward()
    assert dark.grad.abs().max() < 1


def test_clipped_pixels_may_be_brighter() -> None:
    field = KernelField.uniform(linear_kernel(0, 0, 3), (8, 8))
    white, dark = torch.ones(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.5)
    assert float(reblur_errors(1.2 * white, white, [field])) == 0
    assert float(reblur_errors(dark, white, [field])) == pytest.approx(0.25)
    assert float(reblur_errors(1.2 * white, 0.9 * white, [field])) == pytest.approx(0.09)


def test_fields_must_suit_the_images() -> None:
    images = torch.rand(1, 3, 12, 12, generator=generator())
    with pytest.raises(ValueError, match="1 restored images, 1 blurry ones and 0 fields"):
        reblur_errors(images, images, [])
    with pytest.raises(ValueError, match=r"\(10, 12\), not of \(12, 12\)"):
        reblur_errors(images, images, [KernelField.uniform(linear_kernel(3, 0, 5), (10, 12))])
    with pytest.raises(ValueError, match="at least 13"):
        reblur_errors(images, images, [KernelField.uniform(linear_kernel(3, 0, 7), (12, 12))])


# ------------------------------------------------------------------- samples


def test_simulated_fields_explain_the_samples(simulated: SimulatedSamples) -> None:
    batch = simulated.make(generator(2), 3)
    fields = batch.fields()
    assert batch.blurry.shape == batch.sharp.shape == (4, 3, SIDE, SIDE)
    good = reblur_errors(batch.sharp, batch.blurry, fields)
    plain = reblur_errors(batch.blurry, batch.blurry, fields)
    assert good.mean() < 0.3 * plain.mean()


def test_pairs_explain_themselves_whichever_way_they_are_turned(pairs: PairFolder) -> None:
    samples = PairSamples(source(pairs.path))
    for number in range(4):
        batch = samples.make(generator(number), number)
        errors = reblur_errors(batch.sharp, batch.blurry, batch.fields())
        # What is left comes from 8 bits.
        assert errors.max() < 1e-5
    assert sum(len(batch) for batch in samples.held) == 1


def test_fields_are_estimated_once(
    pairs: PairFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = []

    def estimator(image: np.ndarray, **options: Any) -> KernelField:
        calls.append(options)
        return KernelField.uniform(linear_kernel(3, 0, 5), image.shape[:2])

    monkeypatch.setattr("blurfield.training.pairs.estimate", estimator)
    lines: list[str] = []
    for _ in range(2):
        samples = PairSamples(source(pairs.path), model="windowed", kernel_size=5, say=lines.append)
    assert len(calls) == len(lines) == 3
    assert calls[0]["kernel_size"] == 5
    batch = samples.make(generator(), 0)
    assert {field.kernel_size for field in batch.fields()} == {5}
    assert not any(field.basis.requires_grad for field in batch.fields())


def test_pairs_without_true_fields_say_what_to_do(pairs: PairFolder, tmp_path: Path) -> None:
    for kind in ("blurry", "sharp"):
        (tmp_path / kind).mkdir()
        for name in pairs.names():
            image = getattr(pairs, kind)(name)
            (tmp_path / kind / name).write_bytes(image.read_bytes())
    with pytest.raises(ValueError, match="need fields by a model: windowed"):
        PairSamples(source(tmp_path))
    with pytest.raises(ValueError, match="or by one of windowed"):
        PairSamples(source(tmp_path), model="unknown")


def test_samples_must_hold_their_kernels(photographs: Path, pairs: PairFolder) -> None:
    with pytest.raises(ValueError, match="too small for blurs of 13"):
        SimulatedSamples(source(photographs), max_extent=13)
    small = Source(pairs.path, side=12, batch=4, device=CPU)
    with pytest.raises(ValueError, match="at least 13"):
        PairSamples(small, model=TRUE)
    with pytest.raises(ValueError, match="at least 64×64"):
        PairSamples(Source(pairs.path, side=64, batch=4, device=CPU))


# ------------------------------------------------------- networks of others


class Halver(nn.Module):
    """A network that does not keep the size of images."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 2, stride=2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images)


def counting() -> nn.Module:
    """A network of others with statistics and a counter."""
    return nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))


READY = nn.Conv2d(3, 3, 1)
NUMBER = 3


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("nowhere", ValueError, "no import path of the form package.module:name"),
        ("no_such_package.module:factory", ValueError, "no module 'no_such_package'"),
        ("blurfield.no_such_module:factory", ValueError, "no module 'blurfield.no_such_module'"),
        ("blurfield.field:nothing", ValueError, "'blurfield.field' has no 'nothing'"),
        (f"{__name__}:NUMBER", TypeError, "of type int"),
        (f"{__name__}:generator", TypeError, "returned no torch.nn.Module"),
        (f"{__name__}:Halver", ValueError, r"returns \(1, 3, 12, 12\)"),
        ("torch.nn:Identity", ValueError, "no parameters that can be trained"),
        ("torch.nn:Conv2d", TypeError, "callable without arguments"),
    ],
)
def test_wrong_import_paths(path: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        RestorerFactory(path).network(SIDE)


def test_errors_within_a_module_are_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needs_another.py").write_text("import missing_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="missing_dependency"):
        find_object("needs_another:factory")


def test_networks_that_exist_are_copied() -> None:
    network = RestorerFactory(f"{__name__}:READY").network(SIDE)
    assert isinstance(network, nn.Conv2d)
    assert network is not READY
    assert torch.equal(network.weight, READY.weight)


def test_foreign_networks_are_trained_and_exported(
    simulated: SimulatedSamples, tmp_path: Path
) -> None:
    task = RestorerTask(simulated, RestorerFactory(f"{__name__}:counting"), reblur=10)
    result = run(task, tmp_path, 3)
    checkpoint = read_checkpoint(result["export"])
    assert checkpoint.architecture == "foreign-restorer"
    assert checkpoint.config == {"factory": f"{__name__}:counting"}
    weights = checkpoint.load()
    counting().load_state_dict(weights)
    assert int(weights["1.num_batches_tracked"]) == 3
    assert run(task, tmp_path, 4, resume=True)["step"] == 4


# ---------------------------------------------------------------------- runs


def run(task: RestorerTask, folder: Path, steps: int, **options: Any) -> dict[str, Any]:
    settings = RunSettings(
        batch=4, side=SIDE, steps=steps, report_seconds=0, schedule=Schedule(rate=3e-3, warmup=1)
    )
    return Trainer(task, settings, folder, device=CPU, say=lambda _: None, **options).run()


def test_term_is_added_and_only_the_network_learns(task: RestorerTask) -> None:
    network = task.network()
    batch = task.make(generator(3), 0)
    fields = batch.fields()
    terms = task.losses(network, batch, generator())
    torch.testing.assert_close(terms["loss"], terms["own"] + 30 * terms["reblur"])
    terms["reblur"].backward()
    assert network.ending.weight.grad.abs().sum() > 0
    assert not any(f.basis.requires_grad or f.mixing.requires_grad for f in fields)


def test_losses_of_others(simulated: SimulatedSamples) -> None:
    factory = RestorerFactory(config=SMALL)
    batch = simulated.make(generator(), 0)
    task = RestorerTask(simulated, factory, loss=find_loss("torch.nn.functional:mse_loss"))
    terms = task.losses(task.network(), batch, generator())
    # A new network leaves images as they are.
    torch.testing.assert_close(terms["own"], (batch.blurry - batch.sharp).square().mean())
    with pytest.raises(TypeError, match="cannot be called"):
        find_loss(f"{__name__}:NUMBER")


def test_without_weight_no_fields_are_made(simulated: SimulatedSamples) -> None:
    task = RestorerTask(simulated, RestorerFactory(config=SMALL))
    batch = task.make(generator(), 0)
    object.__setattr__(batch, "fields", None)
    assert "reblur" not in task.losses(task.network(), batch, generator())
    with pytest.raises(ValueError, match="at least 0, got -1"):
        RestorerTask(simulated, RestorerFactory(config=SMALL), reblur=-1)


def test_term_alone_makes_restored_images_explain_the_blurry_ones(task: RestorerTask) -> None:
    torch.manual_seed(0)
    network = task.network()
    batch = task.make(generator(), 0)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    errors = []
    for _ in range(16):
        term = task.losses(network, batch, generator())["reblur"]
        errors.append(float(term.detach()))
        term.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert errors[-1] < 0.8 * errors[0]


def test_resumed_is_as_if_never_stopped(pairs: PairFolder, tmp_path: Path) -> None:
    task = RestorerTask(PairSamples(source(pairs.path)), RestorerFactory(config=SMALL), reblur=30)
    run(task, tmp_path / "whole", 4)
    run(task, tmp_path / "parts", 2)
    run(task, tmp_path / "parts", 4, resume=True)
    one, two = (
        read_checkpoint(tmp_path / name / "restorer.safetensors").load()
        for name in ("whole", "parts")
    )
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_command_line(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "pairs")
    make = ["train", "pairs", "--data", str(photographs), "--out", folder, "--size", "48"]
    assert main([*make, "--max-extent", "7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == 3
    small = ["--size", "24", "--batch", "2", "--device", "cpu", "--threads", "1", "--json"]

    def train(what: str, *more: str) -> int:
        return main(["train", what, "--data", folder, *small, *more])

    start, tuned = str(tmp_path / "start"), str(tmp_path / "tuned")
    assert train("restorer", "--width", "4", "--steps", "1", "--out", start) == 0
    weights = json.loads(capsys.readouterr().out)["export"]
    assert train("finetune", "--from", weights, "--steps", "1", "--out", tuned) == 0
    assert train("finetune", "--resume", "--steps", "2", "--out", tuned) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["step"] == 2
    assert read_checkpoint(result["export"]).config["width"] == 4
    for more, words in (
        ([], "no weights for 'restorer' are installed"),
        (["--restorer", "nowhere"], "is no import path"),
        (["--from", weights, "--fields", "two-heads"], "'two-heads' is not installed"),
    ):
        assert train("finetune", *more, "--steps", "1", "--out", str(tmp_path / "new")) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
