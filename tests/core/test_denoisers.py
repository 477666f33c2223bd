"""The denoiser: the published network, images of any size, what training asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import conformance
import numpy as np
import pytest
import torch
from PIL import Image

from blurfield.checkpoints import write_checkpoint
from blurfield.compute import Cancelled
from blurfield.precision import network_dtype
from blurfield.restoration import denoisers
from blurfield.restoration.denoisers import COMPACT, Denoiser, DRUNet
from blurfield.restoration.overlapping_tiles import overlapping_tiles
from blurfield.training.denoiser import MOST_NOISE, DenoiserTask
from blurfield.training.source import Source

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")
SMALL = {"channels": 3, "widths": [4, 8], "blocks": 1, "residual": True}


def test_published_network_a6() -> None:
    network = DRUNet().double()
    conformance.fill(network, 0.5)
    with torch.no_grad():
        out = network(
            conformance.img(3, 24, 32)[None], torch.tensor([25 / 255], dtype=torch.float64)
        )[0]
    assert conformance.close(out.mean(), -1.116353023991e-1)
    assert conformance.close(out.square().sum(), 1.839227215319e2)
    assert conformance.close(out[0, 0, 0], -3.272651745852e-1)
    assert conformance.close(out[1, 12, 17], -3.962041013117e-1)
    assert conformance.close(out[2, 23, 31], 1.359875881251e-1)


def test_published_layout() -> None:
    with torch.device("meta"):
        network = DRUNet()
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert len(shapes) == 64
    assert sum(value.numel() for value in network.parameters()) == 32_640_960
    assert shapes["m_head.weight"] == (64, 4, 3, 3)
    assert shapes["m_down2.4.weight"] == (256, 128, 2, 2)
    assert shapes["m_up3.0.weight"] == (512, 256, 2, 2)
    assert shapes["m_up1.4.res.2.weight"] == (64, 64, 3, 3)
    assert shapes["m_tail.weight"] == (3, 64, 3, 3)


def test_compact_network_fits_in_six_mebibytes() -> None:
    with torch.device("meta"):
        network = DRUNet(**COMPACT)
    assert 2 * sum(value.numel() for value in network.parameters()) <= 6 * 2**20


def test_brightness_scales_through() -> None:
    network = DRUNet(**SMALL)
    image = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        once, twice = network(image, torch.tensor([0.1])), network(2 * image, torch.tensor([0.2]))
    torch.testing.assert_close(twice, 2 * once)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(1, 37, 50), (3, 37, 50), (2, 3, 33, 64), (2, 1, 9, 8)])
def test_images_of_any_size(channels: int, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    denoiser = Denoiser(DRUNet(channels, [4, 8, 12], 1), CPU)
    image = torch.rand(shape, dtype=torch.float64)
    before = image.clone()
    clean = denoiser(image, 0.1)
    assert clean.shape == image.shape
    assert clean.dtype == image.dtype
    assert torch.equal(image, before)


def test_levels_of_each_image_count() -> None:
    torch.manual_seed(0)
    denoiser = Denoiser(DRUNet(1, [4, 8], 1), CPU)
    image = torch.rand(2, 3, 16, 16)
    both = denoiser(image, torch.tensor([0.05, 0.2]))
    torch.testing.assert_close(both[1], denoiser(image[1], 0.2), rtol=0.02, atol=0.02)
    assert not torch.allclose(both[1], denoiser(image[1], 0.05), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("shape", [(8, 8), (1, 1, 4, 8, 8)])
def test_other_numbers_of_axes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected an image"):
        Denoiser(DRUNet(**SMALL), CPU)(torch.zeros(shape), 0.1)


def test_other_numbers_of_channels_are_denoised_alone() -> None:
    torch.manual_seed(0)
    denoiser = Denoiser(DRUNet(**SMALL), CPU)
    image = torch.rand(2, 5, 16, 16)
    clean = denoiser(image, torch.tensor([0.05, 0.2]))
    assert clean.shape == image.shape
    torch.testing.assert_close(clean[1, 3], denoiser(image[1, 3:4], 0.2)[0], rtol=0.02, atol=0.02)


def test_tiles_differ_little_from_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    y, x = torch.meshgrid(torch.arange(331.0), torch.arange(270.0), indexing="ij")
    image = 0.5 + 0.3 * torch.stack([torch.sin(x / 9), torch.cos(y / 7), torch.sin((x + y) / 8)])
    noisy = image + 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
    denoiser = Denoiser.load(device=CPU)
    whole = denoiser(noisy, 0.1)
    assert (whole - image).square().mean() < 0.05 * 0.1**2
    seen = []
    denoiser.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    monkeypatch.setattr(denoisers, "_MOST_FEATURES", 32 * 45_000)
    monkeypatch.setattr(denoisers, "_SIDE", 2)
    tiled = denoiser(noisy, 0.1)
    assert len(seen) > 3
    assert all(shape[-2] * shape[-1] <= 45_000 + 8 * 500 for shape in seen)
    bound = 5e-3 if network_dtype(CPU) == torch.bfloat16 else 1e-4
    torch.testing.assert_close(tiled, whole, rtol=0, atol=bound)


@pytest.mark.parametrize(("height", "width"), [(331, 270), (64, 1000), (17, 5), (500, 500)])
def test_tiles_cover_an_image_once(height: int, width: int) -> None:
    count = torch.zeros(height, width)
    for tile in overlapping_tiles(height, width, most=20_000, overlap=20, multiple=8):
        count[tile.written] += 1
        seen = torch.arange(height * width).reshape(height, width)[tile.seen]
        assert seen.numel() <= 20_000 + 8 * (height + width)
        own = torch.arange(height * width).reshape(height, width)[tile.written]
        assert torch.equal(seen[tile.inside], own)
        assert all(part.start % 8 == 0 for part in tile.seen)
    assert (count == 1).all()


def test_cancelled_between_layers() -> None:
    calls = []

    def poll() -> None:
        calls.append(0)
        if len(calls) > 5:
            raise Cancelled

    denoiser = Denoiser(DRUNet(**SMALL), CPU, poll)
    with pytest.raises(Cancelled):
        denoiser(torch.rand(3, 16, 16), 0.1)
    assert len(calls) == 6


def test_one_width_is_refused() -> None:
    with pytest.raises(ValueError, match="two widths"):
        DRUNet(widths=[8])


def test_load_installed_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLURFIELD_DATA", str(tmp_path))
    network = DRUNet(**SMALL)
    folder = tmp_path / "weights"
    folder.mkdir()
    state = {name: value.half() for name, value in network.state_dict().items()}
    write_checkpoint(
        folder / "mine.safetensors",
        state,
        architecture="denoiser",
        config=SMALL,
        gamma=1.0,
        origin="test",
    )
    image = torch.rand(3, 16, 24)
    loaded, direct = Denoiser.load(device=CPU), Denoiser(network, CPU)
    torch.testing.assert_close(loaded(image, 0.1), direct(image, 0.1), rtol=0.02, atol=0.02)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two smooth colour pictures, one to train on and one held out."""
    folder = tmp_path_factory.mktemp("photographs")
    y, x = np.mgrid[:150, :170] / 40
    picture = np.stack([np.sin(x), np.cos(y), np.sin(x + y)], -1)
    for name in ("a", "b"):
        Image.fromarray((127 + 100 * picture).astype(np.uint8)).save(folder / f"{name}.png")
    rows = ["file,mask,split,kind", "a.png,,train,photo", "b.png,,val,photo"]
    (folder / "manifest.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture(scope="module")
def task(photographs: Path) -> DenoiserTask:
    return DenoiserTask(Source(photographs, 48, 40, CPU), config=SMALL)


def test_batches(task: DenoiserTask) -> None:
    batch = task.make(torch.Generator().manual_seed(1), 0)
    again = task.make(torch.Generator().manual_seed(1), 7)
    assert len(batch) == 40
    assert batch.clean.shape == (40, 3, 48, 48)
    assert torch.equal(batch.noisy, again.noisy)
    assert 0 <= batch.sigma.min() < 0.2 * MOST_NOISE
    assert 0.8 * MOST_NOISE < batch.sigma.max() <= MOST_NOISE
    spread = (batch.noisy - batch.clean).std((1, 2, 3))
    torch.testing.assert_close(spread, batch.sigma, rtol=0.05, atol=1e-4)
    grey = (batch.noisy[:, :1] == batch.noisy).all((1, 2, 3))
    assert 0 < grey.sum() < 20


def test_a_few_steps_beat_the_noisy_image(task: DenoiserTask) -> None:
    torch.manual_seed(0)
    network = task.network()
    before = task.validate(network)
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    for step in range(40):
        generator = torch.Generator().manual_seed(step)
        terms = task.losses(network, task.make(generator, step), generator)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
    after = task.validate(network)
    assert before["psnr_25"] == pytest.approx(20.3, abs=0.6)  # that of the noise itself
    assert after["psnr_50"] > before["psnr_50"] + 4
    assert after["psnr_25"] > before["psnr_25"] + 4


def test_side_must_suit_the_network(photographs: Path) -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        DenoiserTask(Source(photographs, 100, 2, CPU))
