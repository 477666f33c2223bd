"""Training of UFPNet's deblurring network: stage III."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from conformance import fill
from PIL import Image

from blurfield.checkpoints import read_checkpoint, write_checkpoint
from blurfield.cli import main
from blurfield.dense_blur import blur_per_pixel
from blurfield.estimation.ufp_network import KernelEstimator
from blurfield.restoration.ufpnet_network import UFPNet
from blurfield.training.folder_samples import FolderSamples
from blurfield.training.loop import Trainer
from blurfield.training.settings import RunSettings, Schedule
from blurfield.training.source import Source
from blurfield.training.ufpnet import UFPNetTask

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")
SMALL = {"width": 4, "encoder": [1, 2], "middle": 1, "decoder": [1, 1]}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs in the layout of GoPro, of which the blurry image is a little darker."""
    folder = tmp_path_factory.mktemp("pairs")
    numbers = np.random.default_rng(0)
    for number in range(4):
        coarse = numbers.integers(40, 256, (6, 7, 3), dtype=np.uint8)
        sharp = Image.fromarray(coarse).resize((48, 40))
        for kind, image in (("sharp", sharp), ("blur", sharp.point(lambda value: value * 0.8))):
            path = folder / "train" / f"S{number}" / kind / "0.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    return folder


def estimator(**changes: Any) -> KernelEstimator:
    config = {"kernel_size": 5, "widths": [4, 4, 4], "flow": {"hidden": 3, "blocks": 2}}
    network = KernelEstimator(**{**config, **changes})
    fill(network, 1)
    return network


def task(pairs: Path, **options: Any) -> UFPNetTask:
    stride = options.pop("stride", 1)
    samples = FolderSamples(Source(pairs, side=32, batch=2, device=CPU))
    return UFPNetTask(samples, estimator(stride=stride), config=SMALL, **options)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("stride", "raw_sums"), [(1, True), (4, True), (1, False)])
def test_loss_is_that_of_the_paper(pairs: Path, stride: int, raw_sums: bool) -> None:
    torch.manual_seed(0)
    one = task(pairs, reblur=0.5, reblur_gamma=1.0, raw_sums=raw_sums, stride=stride)
    network, batch = one.network(), one.make(generator(), 0)
    torch.nn.init.normal_(network.ending.weight, std=0.05)
    terms = one.losses(network, batch, generator())
    restored = network(batch.blurry)
    psnr = -10 * ((restored - batch.sharp) ** 2).mean((1, 2, 3)).log10().mean()
    torch.testing.assert_close(terms["psnr"], psnr, rtol=1e-4, atol=0)
    kernels = network.estimate(batch.blurry)
    if not raw_sums:
        kernels = kernels / kernels.sum(1, keepdim=True)
    again = blur_per_pixel(restored.clamp_min(0), kernels)
    difference = (again.clamp_min(0.5 / 255) - batch.blurry)[..., 2:-2, 2:-2].abs().mean()
    torch.testing.assert_close(terms["reblur"], difference, rtol=1e-3, atol=0)
    torch.testing.assert_close(terms["loss"], 0.5 * difference - psnr, rtol=1e-4, atol=0)
    assert set(task(pairs, reblur=0).losses(network, batch, generator())) == {"loss", "psnr"}


def test_only_what_restores_is_trained(pairs: Path) -> None:
    torch.manual_seed(0)
    one = task(pairs)
    network = one.network()
    torch.nn.init.normal_(network.ending.weight, std=0.05)
    for values in (network.encoders[0][0].beta, network.encoders[0][0].gamma):
        torch.nn.init.ones_(values)
    one.losses(network, one.make(generator(), 0), generator())["loss"].backward()
    without = {name for name, values in network.named_parameters() if values.grad is None}
    assert {name.split(".")[0] for name in without} == {"kernel_extra", "flow", "kernel_down"}
    frozen = {name for name, values in network.named_parameters() if not values.requires_grad}
    assert without == frozen  # others would stop several processes


def test_noise_only_if_asked_for(pairs: Path) -> None:
    plain, noisy = task(pairs), task(pairs, noise=True)
    network, batch = plain.network(), plain.make(generator(), 0)
    losses = [
        float(one.losses(network, batch, generator(seed))["reblur"].detach())
        for one, seed in ((plain, 0), (plain, 1), (noisy, 0), (noisy, 0), (noisy, 1))
    ]
    assert losses[0] == losses[1]
    assert losses[2] == losses[3]
    assert len({losses[0], losses[2], losses[4]}) == 3


def test_new_networks_leave_images_as_they_are(pairs: Path) -> None:
    one = task(pairs)
    figures = one.validate(one.network().eval())
    assert figures["gain"] == pytest.approx(0, abs=1e-4)
    assert figures["worse"] == 0
    assert 10 < figures["psnr"] < 25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reblur": -1}, "at least 0, got -1"),
        ({"reblur": math.nan}, "at least 0, got nan"),
        ({"reblur_gamma": 0}, "above 0, got 0"),
    ],
)
def test_options_are_checked(pairs: Path, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        task(pairs, **options)


def test_samples_have_to_fit_the_network(pairs: Path) -> None:
    samples = FolderSamples(Source(pairs, side=24, batch=2, device=CPU))
    with pytest.raises(ValueError, match="must be a multiple of 16, got 24"):
        UFPNetTask(samples, estimator(), config=SMALL)


@pytest.fixture
def kernels(weights_folder: Path, tmp_path: Path) -> Path:
    network = estimator()
    write_checkpoint(
        tmp_path / "kernels.safetensors",
        network.state_dict(),
        architecture="ufp-kernels",
        config=network.config,
        gamma=1.0,
        origin="test",
    )
    return tmp_path / "kernels.safetensors"


def test_a_run_and_its_continuation(
    pairs: Path, kernels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    common = ["train", "ufpnet", "--data", str(pairs), "--device", "cpu", "--quiet"]
    common += ["--size", "32", "--batch", "2", "--warmup", "1", "--threads", "1"]
    new = ["--kernels", str(kernels), "--width", "4", "--blocks", "1", "2", "--out", str(out)]
    assert main([*common, *new, "--steps", "12"]) == 0
    weights = read_checkpoint(out / "ufpnet.safetensors")
    assert (weights.architecture, weights.gamma) == ("ufpnet", 1.0)
    assert weights.config["encoder"] == [1, 2]
    assert weights.config["window"] == 48  # 1.5 times the size of the samples
    network = UFPNet(**weights.config)
    network.load_state_dict(weights.load())
    for name, values in read_checkpoint(kernels).load().items():
        torch.testing.assert_close(network.state_dict()[name], values, rtol=1e-3, atol=1e-6)
    curve = (out / "curve.csv").read_text()
    kernels.unlink()
    assert main([*common, "--resume", "--out", str(out), "--steps", "14"]) == 0
    assert (out / "curve.csv").read_text().startswith(curve)
    start = ["--from", str(out / "ufpnet.safetensors"), "--out", str(tmp_path / "second")]
    assert main([*common, *start, "--steps", "1"]) == 0
    again = read_checkpoint(tmp_path / "second" / "ufpnet.safetensors")
    assert again.config == weights.config
    capsys.readouterr()


def test_training_restores(pairs: Path, tmp_path: Path) -> None:
    settings = RunSettings(
        batch=2,
        side=32,
        steps=40,
        compile="off",
        schedule=Schedule(3e-3, 1, average=0.8, clip=0.01),
    )
    result = Trainer(task(pairs), settings, tmp_path / "run", device=CPU, say=str).run()
    assert result["gain"] > 1
