"""Training of the network that gives each pixel a kernel: loss, what is trained, whole runs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from conformance import kern, maps
from drawings import photograph
from PIL import Image

import blurfield
from blurfield import KernelField
from blurfield.checkpoints import read_checkpoint, write_checkpoint
from blurfield.cli import main
from blurfield.estimation.flow import KernelFlow
from blurfield.estimation.ufp_network import PRIORS
from blurfield.images import decode, encode
from blurfield.operator import BlurOperator
from blurfield.training.kernel_codes import KernelTask, inner, load_flow, psnr, reblurred
from blurfield.training.loop import Trainer
from blurfield.training.restoration_samples import RestorationBatch
from blurfield.training.settings import RunSettings, Schedule

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"widths": [4, 6, 8], "stride": 4}
SIDE = 64


def true_field() -> KernelField:
    return KernelField(kern(4, 5).float(), maps(4, 16, 16).float(), (SIDE, SIDE))


def batch(known: bool = True) -> RestorationBatch:
    """Two photographs, blurred in linear light with a field on a coarse grid."""
    sharp = torch.stack([torch.from_numpy(photograph(SIDE, seed)) for seed in (0, 1)])
    sharp = sharp.movedim(-1, 1).float() / 255
    truth = true_field()
    blurry = BlurOperator(truth, boundary="replicate", prune=0).forward(decode(sharp, 2.2))
    return RestorationBatch(encode(blurry, 2.2), sharp, lambda: [truth] * 2 if known else [])


@dataclass
class Samples:
    """The same batch again and again."""

    side: int = SIDE
    device: torch.device = CPU
    held: list[RestorationBatch] = field(default_factory=lambda: [batch()])

    def make(self, generator: torch.Generator, number: int) -> RestorationBatch:
        del generator, number
        return self.held[0]


def small_flow() -> KernelFlow:
    torch.manual_seed(1)
    flow = KernelFlow(5, 6, 2).eval()
    flow.normalization.fill_(0.15)  # untrained, it would make kernels of much larger sums
    return flow


def task(**options: Any) -> KernelTask:
    flow = None if options.get("prior") == "none" else small_flow()
    settings: dict[str, Any] = {"config": SMALL, "kernel_size": 5, **options}
    return KernelTask(Samples(), flow, **settings)


def true_kernels() -> torch.Tensor:
    truth = true_field()
    kernels = torch.einsum("bij,byx->ijyx", truth.basis, truth.mixing).reshape(1, 25, 16, 16)
    return kernels.expand(2, -1, -1, -1)


def test_true_kernels_explain_the_blurry_image():
    made = batch()
    target = inner(made.blurry, 5)
    assert target.shape == (2, 3, SIDE - 4, SIDE - 4)
    torch.testing.assert_close(reblurred(made.sharp, true_kernels()), target)
    # Not if what is stored were added up in place of light.
    stored = reblurred(made.sharp, true_kernels(), 1.0)
    assert (stored - target).abs().max() > 0.01
    again = BlurOperator(true_field(), boundary="replicate", prune=0).forward(made.sharp)
    torch.testing.assert_close(stored, inner(again, 5))


def test_reblurring_takes_the_sums_of_kernels_as_they_are():
    made = batch()
    half = decode(reblurred(made.sharp, true_kernels()), 2.2) / 2
    torch.testing.assert_close(decode(reblurred(made.sharp, true_kernels() / 2), 2.2), half)


def test_psnr_of_each_image():
    truth = torch.zeros(2, 3, 4, 4)
    images = truth.clone()
    images[0] += 0.1
    torch.testing.assert_close(psnr(images, truth), torch.tensor([20.0, 60.0]))


@pytest.mark.parametrize("prior", PRIORS)
def test_training_explains_the_blurry_image_and_leaves_the_flow_alone(prior, tmp_path):
    made = task(prior=prior)
    settings = RunSettings(steps=25, schedule=Schedule(rate=1e-2, warmup=1, average=0.5))
    trainer = Trainer(made, settings, tmp_path, device=CPU, say=lambda line: None)
    before = made.losses(trainer.network, batch(), torch.Generator())
    result = trainer.run()
    after = made.losses(trainer.network, batch(), torch.Generator())
    assert set(before) == {"loss", "reblur", "sigma", "sum"}
    assert after["reblur"] < 0.8 * before["reblur"]
    assert set(result) >= {"psnr", "gain", "similarity", "delta"}
    # Parallel training needs a gradient of whatever is trained.
    losses = made.losses(trainer.network, batch(), torch.Generator())
    losses["loss"].backward()
    trained = [p for p in trainer.network.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in trained)
    exported = read_checkpoint(tmp_path / "ufp-kernels.safetensors")
    assert exported.config == made.config
    assert exported.gamma == 1
    names = set(exported.load())
    if prior == "none":
        assert not any(name.startswith("flow") for name in names)
        return
    for name, values in small_flow().state_dict().items():
        assert torch.equal(trainer.network.state_dict()[f"flow.{name}"], values)
    # What is exported is a model.
    image = photograph(SIDE)
    found = blurfield.estimate(image, model="ufp", checkpoint=exported.path)
    assert found.kernel_size == 5


def test_sums_and_uncertainty_in_the_loss():
    made, published = task(), task(raw_sums=True, uncertainty=0)
    network = made.network()
    generator = torch.Generator()
    ours, theirs = (
        one.losses(network, batch(), generator.manual_seed(0)) for one in (made, published)
    )
    assert theirs["loss"] == theirs["reblur"]
    assert theirs["sum"] == ours["sum"]
    extra = 0.1 * (ours["sum"] - 1) ** 2
    rewarded = ours["loss"] - ours["reblur"] - extra
    # −log is convex and σ hardly varies in an untrained network.
    assert float(rewarded.detach()) == pytest.approx(-1e-3 * float(ours["sigma"].log()), rel=0.01)
    kernels = 3 * true_kernels()
    torch.testing.assert_close(
        made.reblurred(batch().sharp, kernels), published.reblurred(batch().sharp, kernels / 3)
    )


def test_only_uncertain_codes_get_noise():
    for prior in PRIORS:
        made = task(prior=prior)
        network = made.network()
        first, second = (
            made.losses(network, batch(), torch.Generator().manual_seed(seed))["loss"]
            for seed in (0, 1)
        )
        assert (first == second) == (prior != "flow+uncertainty")


def test_validation_is_without_noise_and_knows_the_truth():
    made = task()
    network = made.network()
    figures = made.validate(network)
    assert figures == made.validate(network)
    truth = kern(4, 5)
    assert 0 < figures["delta"] < 1
    assert 0 < figures["similarity"] <= 1
    assert figures["delta"] == pytest.approx(float(truth.max() / truth[0].norm()), rel=0.3)
    figures = made.validate(lambda blurry: (true_kernels(), None))
    assert figures["similarity"] == pytest.approx(1, abs=1e-5)
    assert figures["psnr"] == pytest.approx(60)
    assert figures["gain"] > 20


def test_pairs_without_fields_have_no_similarity():
    made = KernelTask(Samples(held=[batch(known=False)]), small_flow(), config=SMALL)
    assert set(made.validate(made.network())) == {"psnr", "gain"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flow": None}, "'flow\\+uncertainty' needs a flow"),
        ({"flow": small_flow(), "prior": "none"}, "'none' needs no flow"),
        ({"flow": small_flow(), "samples": Samples(side=60)}, "at least 64"),
        ({"flow": small_flow(), "samples": Samples(side=66)}, "multiple of 4"),
        ({"flow": small_flow(), "reblur_gamma": 0.0}, "reblur_gamma"),
        ({"flow": small_flow(), "config": {"stride": 3}}, "stride"),
        ({"flow": small_flow(), "uncertainty": -1.0}, "uncertainty"),
    ],
)
def test_what_cannot_be_trained(options, message):
    with pytest.raises(ValueError, match=message):
        KernelTask(**{"samples": Samples(), **options})


@pytest.fixture
def flow_file(tmp_path: Path) -> Path:
    network = small_flow()
    facts = {"architecture": "flow", "config": network.config, "gamma": 1.0, "origin": "test"}
    write_checkpoint(tmp_path / "flow.safetensors", network.state_dict(), **facts)
    return tmp_path / "flow.safetensors"


def test_flow_is_loaded(flow_file: Path, weights_folder: Path) -> None:
    loaded = load_flow(flow_file)
    codes = torch.randn(3, 25, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loaded.decode(codes), small_flow().decode(codes).detach())
    assert not any(p.requires_grad for p in loaded.parameters())
    with pytest.raises(ValueError, match="no weights for 'flow' are installed"):
        load_flow()


def paired_folder(folder: Path) -> Path:
    """Pairs in the layout of GoPro."""
    made = batch()
    for number in range(4):
        for kind, images in (("blur", made.blurry), ("sharp", made.sharp)):
            path = folder / "train" / f"scene{number}" / kind
            path.mkdir(parents=True)
            values = (images[number % 2].movedim(0, -1) * 255).round().numpy()
            Image.fromarray(values.astype(np.uint8)).save(path / "000001.png")
    return folder


def test_command_line(tmp_path: Path, flow_file: Path, capsys: pytest.CaptureFixture) -> None:
    data = paired_folder(tmp_path / "pairs")
    command = ["train", "kernels", "--data", data, "--out", tmp_path / "run", "--device", "cpu"]
    command += ["--flow", flow_file, "--widths", "4", "6", "8", "--stride", "4", "--size", "64"]
    command += ["--batch", "2", "--json"]
    arguments = [str(word) for word in command]
    assert main([*arguments, "--steps", "2"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["step"], result["samples"]) == (2, 4)
    assert "similarity" not in result
    assert main([*arguments, "--steps", "3", "--resume"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 3
    direct = [*arguments[:5], str(tmp_path / "direct"), *arguments[6:], "--prior", "none"]
    assert main([*direct, "--steps", "1", "--kernel-size", "5", "--reblur-gamma", "1"]) == 0
    assert read_checkpoint(tmp_path / "direct" / "ufp-kernels.safetensors").config == {
        "kernel_size": 5,
        "widths": [4, 6, 8],
        "stride": 4,
        "prior": "none",
    }
