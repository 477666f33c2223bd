"""Restoration with UFPNet: whose kernels, sizes, colours, tiles."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from conformance import fill

from blurfield import Cancelled, KernelField, deblur, estimate, published_weights
from blurfield.checkpoints import write_checkpoint
from blurfield.cli import main
from blurfield.estimation.flow import KernelFlow
from blurfield.files import read_image, write_image
from blurfield.published_weights import LAYOUTS, recognise
from blurfield.restoration import METHODS, ufpnet
from blurfield.restoration.ufpnet import restore_with_kernels
from blurfield.restoration.ufpnet_network import UFPNet
from blurfield.simulation import linear_kernel

if TYPE_CHECKING:
    from pathlib import Path

#: What is compared with sums by hand is not to be rounded to half precision.
pytestmark = pytest.mark.usefixtures("single_precision")

CONFIG = {
    "width": 4,
    "encoder": [1, 1],
    "middle": 1,
    "decoder": [1, 1],
    "window": 16,
    "estimator": {"kernel_size": 5, "widths": [4, 4, 4], "flow": {"hidden": 3, "blocks": 2}},
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(height: int, width: int, channels: int = 3) -> torch.Tensor:
    noise = torch.rand(1, channels, height, width, generator=generator())
    return torch.nn.functional.avg_pool2d(noise, 3, 1, 1)[0]


@pytest.fixture
def installed(weights_folder: Path) -> UFPNet:
    """A small network with weights by the fill rule, installed as the user's own."""
    return install(weights_folder)


def install(weights_folder: Path, **estimator: object) -> UFPNet:
    network = UFPNet(**{**CONFIG, "estimator": {**CONFIG["estimator"], **estimator}})
    fill(network, 1)
    network.ending.weight.data *= 1e-3
    write_checkpoint(
        weights_folder / "small.safetensors",
        network.state_dict(),
        architecture="ufpnet",
        config=network.config,
        gamma=1.0,
        origin="test",
    )
    return network.requires_grad_(False).eval()


def uniform(shape: tuple[int, int], size: int = 5) -> KernelField:
    return KernelField.uniform(linear_kernel(2, 0, size), shape)


def test_the_choice_says_what_to_import(weights_folder: Path) -> None:
    assert "blurfield weights import FILE" in METHODS["ufpnet"].lacks
    with pytest.raises(ValueError, match="'ufpnet' needs the weights of a network"):
        deblur(np.zeros((32, 32), np.float32), uniform((32, 32)), method="ufpnet")


def test_weights_that_are_not_installed(installed: UFPNet, weights_folder: Path) -> None:
    file = (weights_folder / "small.safetensors").rename(weights_folder.parent / "x.safetensors")
    image, field = np.full((32, 32, 3), 0.5, np.float32), uniform((32, 32))
    _, info = deblur(image, field, method="ufpnet", checkpoint=file, return_info=True)
    assert info["weights"]["name"] == "x"


def test_memory_is_a_limit(installed: UFPNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ufpnet, "_FEATURES", 100)  # more than methods usually need
    image, field = picture(32, 600).permute(1, 2, 0).numpy(), uniform((32, 600))
    for memory, parts in ((32 * 600 * 1700, 1), (32 * 600 * 1000, 4)):
        _, info = deblur(image, field, method="ufpnet", memory=memory, return_info=True)
        assert info["parts"] == parts
        assert "tiles" not in info


def test_deblur_is_the_network(installed: UFPNet) -> None:
    image = picture(37, 50)
    sharp, info = deblur(
        image.permute(1, 2, 0).numpy(),
        uniform((37, 50)),
        method="ufpnet",
        gamma=2.2,
        return_info=True,
    )
    expected = installed(image[None])[0].clamp(0, 1)
    assert (expected - image).abs().max() > 0.1
    np.testing.assert_allclose(sharp, expected.permute(1, 2, 0).numpy(), atol=2e-3)
    assert (info["kernels"], info["pooling"], info["parts"]) == ("own", "local", 1)
    assert info["weights"]["name"] == "small"
    again = deblur(image.permute(1, 2, 0).numpy(), uniform((37, 50)), method="ufpnet", gamma=2.2)
    assert np.array_equal(sharp, again)


def test_estimators_with_coarser_kernels(weights_folder: Path) -> None:
    network = install(weights_folder, stride=4)
    stored = picture(32, 48)
    expected = network(stored[None])[0].clamp(0, 1)
    found = restored(stored**2.2, uniform((32, 48)))
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


def restored(image: torch.Tensor, field: KernelField, **options: object) -> torch.Tensor:
    sharp, _ = restore_with_kernels(image, field, gamma=2.2, **options)
    return sharp ** (1 / 2.2)


def raw_field(network: UFPNet, image: torch.Tensor, **metadata: object) -> KernelField:
    """A field with a kernel for each pixel, as the network estimates them."""
    height, width = image.shape[-2:]
    kernels = network.estimate(image[None])[0].clamp_min(0)
    sums = kernels.sum(0)
    basis = torch.eye(25).reshape(25, 5, 5)
    mixing = (kernels / sums)[:, :height, :width]
    return KernelField(basis, mixing, metadata=metadata, maps={"kernel_sum": sums})


def test_kernels_of_a_field(installed: UFPNet) -> None:
    image = picture(32, 48) ** 2.2
    stored = picture(32, 48)
    field = raw_field(installed, stored)
    own = restored(image, field)
    torch.testing.assert_close(restored(image, field, kernels="field"), own, atol=2e-3, rtol=0)
    other = uniform((32, 48))
    kernels = other.basis.flatten()[:, None, None].expand(-1, 32, 48)
    expected = installed(stored[None], kernels[None])[0].clamp(0, 1)
    found = restored(image, other, kernels="field")
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)
    assert (found - own).abs().max() > 0.05
    # Kernels of another size get zeros around, or lose them.
    for size in (3, 9):
        found = restored(image, uniform((32, 48), size), kernels="field")
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


def test_sides_that_are_no_multiples_with_a_field(installed: UFPNet) -> None:
    kernels = torch.rand(2, 5, 5, generator=generator())
    kernels /= kernels.sum((1, 2), keepdim=True)
    weight = torch.linspace(0, 1, 21)[:, None].expand(21, 19)
    field = KernelField(kernels, torch.stack([weight, 1 - weight]))
    stored = picture(21, 19)
    maps = torch.einsum("bt,bhw->thw", kernels.flatten(1), field.mixing)
    expected = installed(stored[None], maps[None])[0].clamp(0, 1)
    found = restored(stored**2.2, field, kernels="field")
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


def test_kernels_that_do_not_fit_are_refused(installed: UFPNet) -> None:
    large = KernelField.uniform(linear_kernel(9, 0, 11), (32, 32))
    with pytest.raises(ValueError, match=r"kernels of 5×5 pixels, but \d\d% of a kernel"):
        restored(picture(32, 32), large, kernels="field")


def test_automatic_kernels(installed: UFPNet, weights_folder: Path) -> None:
    image = picture(40, 32)

    def chosen(field: KernelField) -> str:
        _, info = restore_with_kernels(image, field, gamma=2.2)
        return str(info["kernels"])

    assert chosen(uniform((40, 32))) == "own"
    field = estimate(image.permute(1, 2, 0).numpy(), model="ufp")
    assert chosen(field) == "field"
    # The same estimator in a file of its own is as good, another one is not.
    state = {
        name: values.clone()
        for name, values in installed.state_dict().items()
        if name.startswith(("kernel_extra.", "flow."))
    }
    for name, expected in (("same", "field"), ("other", "own")):
        if name == "other":
            state["kernel_extra.Conv_tail.mean.2.bias"] += 0.1 * torch.arange(25)
        write_checkpoint(
            weights_folder / f"{name}.safetensors",
            state,
            architecture="ufp-kernels",
            config=installed.config["estimator"],
            gamma=1.0,
            origin="test",
        )
        field = estimate(image.permute(1, 2, 0).numpy(), model="ufp", checkpoint=name)
        assert chosen(field) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernels": "none"}, "kernels must be one of auto, field, own, but is 'none'"),
        ({"pooling": 3}, "pooling must be one of local, global, but is 3"),
    ],
)
def test_options_are_checked(installed: UFPNet, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        restored(picture(32, 32), uniform((32, 32)), **options)


def test_pooling(installed: UFPNet) -> None:
    image = picture(64, 64)
    image[:, 32:] **= 3
    field = uniform((64, 64))
    local, whole = (restored(image, field, pooling=name) for name in ("local", "global"))
    assert (local - whole).abs().max() > 0.01


def test_other_channels_are_restored_alone(installed: UFPNet) -> None:
    stored = picture(32, 32, channels=2)
    mean = (stored**2.2).mean(0) ** (1 / 2.2)
    field = uniform((32, 32))
    found = restored(stored**2.2, field)
    kernels = installed.estimate(stored.mean(0).expand(1, 3, -1, -1))
    for plane, one in zip(stored, found, strict=True):
        expected = installed(plane.expand(1, 3, -1, -1), kernels)[0].clamp(0, 1).mean(0)
        torch.testing.assert_close(one, expected, atol=2e-3, rtol=0)
    assert (mean - found[0]).abs().max() > 0.01
    grey = restored(stored[:1] ** 2.2, field)
    assert grey.shape == (1, 32, 32)


def test_light_beyond_white_stays(installed: UFPNet) -> None:
    image = picture(32, 32)
    brighter = image.clone()
    image[:, 8, 8], brighter[:, 8, 8] = 1, 3
    one, other = (restored(light, uniform((32, 32))) for light in (image, brighter))
    assert (other[:, 8, 8] - one[:, 8, 8]).min() > 0.6
    other[:, 8, 8] = one[:, 8, 8]
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kernels", ["own", "field"])
def test_tiles_do_not_show(installed: UFPNet, kernels: str) -> None:
    """Where the windows of local means are small; with large ones, features may differ a little."""
    image = picture(40, 500) ** 2.2
    field = raw_field(installed, picture(40, 500))
    whole = restored(image, field, kernels=kernels)
    tiled, info = restore_with_kernels(image, field, gamma=2.2, kernels=kernels, memory=1)
    assert info["parts"] > 2
    assert (tiled ** (1 / 2.2) - whole).abs().max() < 1e-3


def test_progress_and_cancelling(installed: UFPNet) -> None:
    image, field = picture(64, 64), uniform((64, 64))
    told: list[tuple[int, int]] = []
    restore_with_kernels(
        image, field, gamma=2.2, progress=lambda done, total, _: told.append((done, total))
    )
    shares = [done / total for done, total in told]
    assert shares[-1] == 1
    assert len(set(shares)) > 5

    def cancel(done: int, total: int, message: str) -> None:
        if done > total / 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        restore_with_kernels(image, field, gamma=2.2, progress=cancel)


def published(config: dict[str, object]) -> dict[str, torch.Tensor]:
    """The tensors of a file that the authors could have published, by the fill rule."""
    with torch.device("meta"):
        network = UFPNet(**config)
    network.to_empty(device="cpu")
    for name, values in KernelFlow(**network.flow.config).named_buffers():
        network.flow.get_buffer(name).copy_(values)
    fill(network, 0.5)
    return {name: values.half() for name, values in network.state_dict().items()}


def import_and_use(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Install a file, estimate with it and restore, on the command line."""
    assert main(["weights", "import", str(file), "--name", "authors"]) == 0
    assert "authors: UFPNet" in capsys.readouterr().out
    picture_file, field, sharp = (str(file.with_name(n)) for n in ("p.png", "f.blurfield", "s.png"))
    values = (picture(32, 40) * 255).byte().permute(1, 2, 0).numpy()
    write_image(picture_file, values)
    common = ["--device", "cpu", "-q"]
    assert main(["estimate", picture_file, "--model", "ufp", "-o", field, *common]) == 0
    assert KernelField.load(field).metadata["weights"]["name"] == "authors"
    assert main(["deblur", picture_file, "--method", "ufpnet", "-o", sharp, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metadata"]["model"] == "ufp"
    restored = read_image(sharp)
    assert restored.shape == values.shape
    assert not np.array_equal(restored, values)


@pytest.mark.parametrize("wrapper", [None, "params", "state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_files_run_from_end_to_end(
    weights_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wrapper: str | None,
    prefix: str,
) -> None:
    """In the form of the published ones, but small."""
    layout = next(layout for layout in LAYOUTS if layout.architecture == "ufpnet")
    small = layout._replace(config=CONFIG)
    monkeypatch.setattr(published_weights, "LAYOUTS", (small,))
    content: object = {f"{prefix}{name}": v for name, v in published(CONFIG).items()}
    torch.save({wrapper: content} if wrapper else content, tmp_path / "net_g_latest.pth")
    import_and_use(tmp_path / "net_g_latest.pth", capsys)


@pytest.mark.slow
def test_a_published_file_of_full_size(
    weights_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = published({})
    assert len(content) == 852
    torch.save({"params": content}, tmp_path / "net_g_latest.pth")
    del content
    import_and_use(tmp_path / "net_g_latest.pth", capsys)


def lacking(content: dict[str, torch.Tensor]) -> str:
    del content["encoders.0.0.kernel_atttion.conv_1.0.bias"]
    return (
        r"UFPNet, but of its tensors it lacks 1: encoders\.0\.0\.kernel_atttion\.conv_1\.0\.bias$"
    )


def unknown(content: dict[str, torch.Tensor]) -> str:
    content["kernel_down.4.bias"] = torch.empty(361)
    return r"UFPNet, but of its tensors it has unknown 1: kernel_down\.4\.bias$"


@pytest.mark.parametrize("spoil", [lacking, unknown])
def test_incomplete_published_files_are_refused(spoil: object) -> None:
    layout = next(layout for layout in LAYOUTS if layout.architecture == "ufpnet")
    content = {name: torch.empty(s, device="meta") for name, s in layout.shapes().items()}
    assert recognise(content) is layout
    message = spoil(content)
    with pytest.raises(ValueError, match=message):
        recognise(content)
