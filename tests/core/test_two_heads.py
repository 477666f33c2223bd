from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from conformance import close, fill, img

import blurfield
from blurfield import Cancelled, checkpoints
from blurfield.cli import main
from blurfield.compute import Reporter
from blurfield.estimation import installed_models, two_heads_network, two_heads_tiles
from blurfield.estimation.two_heads import load_two_heads, network_input
from blurfield.estimation.two_heads_network import SteppedConv2d, TwoHeads
from blurfield.estimation.two_heads_tiles import run_in_tiles, run_within_memory
from blurfield.files import write_image

if TYPE_CHECKING:
    from pathlib import Path


def on_meta(**config) -> TwoHeads:
    """A network without values, which costs no memory."""
    with torch.device("meta"):
        return TwoHeads(**config)


@pytest.fixture(scope="module")
def network() -> TwoHeads:
    """The network of the conformance vectors, in double precision."""
    network = on_meta().double().to_empty(device="cpu")
    fill(network, 1)
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    """An image of odd sizes that takes several tiles, as the network takes it."""
    return img(3, 141, 93)[None] - 0.5


@pytest.fixture(scope="module")
def whole(network, image) -> tuple[torch.Tensor, torch.Tensor]:
    kernels, maps = network(image)
    return kernels[0], maps[0]


@pytest.fixture(scope="module")
def data_folder(network, tmp_path_factory) -> Path:
    """A folder for the user's data with the same network's weights."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "weights").mkdir()
    checkpoints.write_checkpoint(
        folder / "weights" / "filled.safetensors",
        {name: values.half() for name, values in network.state_dict().items()},
        architecture="two-heads",
        config={},
        gamma=2.2,
        origin="the fill rule",
    )
    return folder


@pytest.fixture
def weights(data_folder, monkeypatch) -> checkpoints.Checkpoint:
    """The same network's weights, installed."""
    monkeypatch.setenv(checkpoints.DATA_VARIABLE, str(data_folder))
    return checkpoints.find_named("filled")


def quiet() -> Reporter:
    return Reporter(None, two_heads_tiles.STEPS)


# ------------------------------------------------------------------- the network


@pytest.mark.parametrize(
    ("config", "parameters", "tensors"),
    [
        ({}, 79_829_298, 118),
        ({"kernel_size": 65}, 79_956_530, 126),
        ({"generation": "A"}, 302_860_914, 110),
    ],
)
def test_sizes_of_the_published_networks(config, parameters, tensors):
    network = on_meta(**config)
    assert sum(values.numel() for values in network.parameters()) == parameters
    assert len(network.state_dict()) == tensors


@pytest.mark.parametrize(
    ("config", "name", "shape"),
    [
        ({}, "inc_gray.0.bias", (64,)),
        ({}, "down3.double_conv.2.weight", (256, 256, 3, 3)),
        ({}, "up1.up.weight", (1024, 1024, 2, 2)),
        ({}, "up5.feat.0.weight", (64, 128, 3, 3)),
        ({}, "masks_end.4.weight", (25, 64, 3, 3)),
        ({}, "kernel_up3.feat.0.weight", (256, 512, 3, 3)),
        ({}, "kernels_end.0.weight", (64, 64, 2, 2)),
        ({"kernel_size": 65}, "kernel_up6.feat.0.weight", (64, 64, 3, 3)),
        ({"generation": "A"}, "kernels_end.4.weight", (27225, 128, 8, 8)),
    ],
)
def test_names_and_shapes_of_the_published_files(config, name, shape):
    assert tuple(on_meta(**config).state_dict()[name].shape) == shape


@pytest.mark.parametrize("config", [{}, {"kernel_size": 65}, {"generation": "A"}])
def test_shapes_of_results(config):
    kernels, maps = on_meta(**config)(torch.empty(2, 3, 70, 101, device="meta"))
    side = config.get("kernel_size", 33)
    assert kernels.shape == (2, 25, side, side)
    assert maps.shape == (2, 25, 70, 101)


@pytest.mark.parametrize("config", [{"kernel_size": 35}, {"generation": "A", "kernel_size": 65}])
def test_unknown_networks(config):
    with pytest.raises(ValueError, match="33 or 65, generation 'A' has 33"):
        TwoHeads(**config)


def test_conformance(network):
    kernels, maps = (result[0] for result in network(img(3, 70, 101)[None] - 0.5))
    assert close(kernels.square().sum(), 2.321669066304e-2)
    assert close(kernels.min(), 5.443240985842e-4)
    assert close(kernels.max(), 1.422776970314e-3)
    assert close(kernels[0, 16, 16], 8.398013424449e-4)
    assert close(kernels[3, 5, 7], 1.029864765497e-3)
    assert close(kernels[24, 32, 32], 8.726659799883e-4)
    assert close(maps.square().sum(), 3.221596912021e2)
    assert close(maps.min(), 9.947243279407e-3)
    assert close(maps.max(), 1.004241565153e-1)
    assert close(maps[0, 0, 0], 3.652931785678e-2)
    assert close(maps[7, 33, 50], 5.740051678063e-2)
    assert close(maps[24, 69, 100], 4.094283012140e-2)


def test_conformance_of_the_branch_for_grey_images(network):
    kernels, maps = (result[0] for result in network(img(3, 70, 101)[None, :1] - 0.5))
    assert close(kernels.square().sum(), 2.315235144264e-2)
    assert close(kernels[0, 16, 16], 8.492723590631e-4)
    assert close(maps.square().sum(), 3.175980830553e2)
    assert close(maps[7, 33, 50], 6.483363350760e-2)


# ----------------------------------------------------------------- any image size


@pytest.mark.parametrize("side", [64, 80, 141])
def test_tiles_change_nothing(network, image, whole, side):
    kernels, maps = run_in_tiles(network, image, side, quiet())
    torch.testing.assert_close(kernels, whole[0], rtol=1e-11, atol=0)
    torch.testing.assert_close(maps, whole[1], rtol=1e-11, atol=0)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_bands_change_nothing(monkeypatch, layout):
    convolution = SteppedConv2d(3, 5).requires_grad_(False)
    x = torch.rand(1, 3, 23, 17).to(memory_format=layout)
    expected = convolution(x)
    monkeypatch.setattr(two_heads_network, "_STEP_DEFAULT", 5.0 * convolution.weight.numel() * 17)
    steps = []
    convolution.tick = steps.append
    result = convolution(x)
    torch.testing.assert_close(result, expected)
    assert result.is_contiguous(memory_format=layout)
    assert len(steps) == 5
    assert sum(steps) == convolution.weight.numel() * 23 * 17


def test_progress_is_steady_and_cancels(network, image):
    calls = []
    reporter = Reporter(lambda *call: calls.append(call), two_heads_tiles.STEPS)
    run_in_tiles(network, image, 96, reporter)
    done = np.array([call[0] for call in calls])
    assert (np.diff(done) >= 0).all()
    assert len(done) > 30
    assert np.diff(done).max() < 0.2 * two_heads_tiles.STEPS
    assert done[-1] == two_heads_tiles.STEPS

    def stop(done: int, total: int, message: str) -> None:
        if done > 100:
            raise Cancelled

    with pytest.raises(Cancelled):
        run_in_tiles(network, image, 96, Reporter(stop, two_heads_tiles.STEPS))


def test_memory_decides_on_the_tiles(network, image, monkeypatch):
    sides = []

    def record(network, image, side, reporter):
        sides.append(side)
        if len(sides) < 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return image, image

    monkeypatch.setattr(two_heads_tiles, "run_in_tiles", record)
    large = torch.empty(1, 3, 3000, 4000)
    monkeypatch.setattr(two_heads_tiles, "available_memory", lambda device: 100 << 30)
    run_within_memory(network, large, quiet())
    assert sides == [4000, 2048, 1024]  # smaller ones where the estimate was too low
    monkeypatch.setattr(two_heads_tiles, "available_memory", lambda device: 14 << 30)
    run_within_memory(network, large, quiet())
    assert sides[3:] == [1024]
    run_within_memory(network, large, quiet(), 640)
    assert sides[4:] == [640]
    monkeypatch.setattr(two_heads_tiles, "available_memory", lambda device: 1 << 30)
    with pytest.raises(MemoryError, match=r"3000×4000 pixels .* 1.0 GiB are free"):
        run_within_memory(network, large, quiet())


# ------------------------------------------------------------------- the estimator


def test_light_that_the_network_takes():
    planes = torch.tensor([-0.1, 0.0, 0.25, 1.0, 1.5]).expand(3, 2, 5)
    linear = network_input(planes, 2.2)
    torch.testing.assert_close(linear[0, 0, 0] + 0.5, torch.tensor([0.0, 0, 0.25, 1, 1]))
    stored = network_input(planes, 1.0)
    torch.testing.assert_close(stored[0, 0, 0, 2] + 0.5, torch.tensor(0.25 ** (1 / 2.2)))
    assert network_input(planes[:1], 2.2).shape == (1, 1, 2, 5)
    assert network_input(planes.repeat(2, 1, 1)[:4], 2.2).shape == (1, 1, 2, 5)


def test_estimate(weights, network):
    assert "two-heads" in installed_models()
    image = np.rint(255 * img(3, 70, 101).movedim(0, -1).numpy()).astype(np.uint8)
    calls = []
    field = blurfield.estimate(
        image, "two-heads", device="cpu", precision="float32", progress=lambda *c: calls.append(c)
    )
    light = torch.from_numpy(image / 255.0) ** 2.2
    expected, maps = network(light.movedim(-1, 0)[None] - 0.5)
    torch.testing.assert_close(field.basis.double(), expected[0], rtol=2e-3, atol=0)
    torch.testing.assert_close(field.mixing.double(), maps[0], rtol=2e-3, atol=0)
    assert field.shape == (70, 101)
    facts = field.metadata
    assert facts["model"] == "two-heads"
    assert facts["parameters"] == {"precision": "float32"}
    assert facts["weights"] == {
        "name": "filled",
        "origin": "the fill rule",
        "sha256": weights.sha256,
        "gamma": 2.2,
    }
    assert {call[1] for call in calls} == {calls[0][1]}
    assert calls[-1][0] == calls[-1][1]
    assert len({call[2] for call in calls}) == 2


def test_half_precision_is_close(weights):
    image = img(1, 64, 48)[0].float()
    exact, rounded = (
        blurfield.estimate(image, "two-heads", device="cpu", precision=precision)
        for precision in ("float32", "bfloat16")
    )
    assert rounded.metadata["parameters"]["precision"] == "bfloat16"
    torch.testing.assert_close(rounded.basis, exact.basis, rtol=0.05, atol=0)
    torch.testing.assert_close(rounded.mixing, exact.mixing, rtol=0.05, atol=0)
    assert not torch.equal(rounded.mixing, exact.mixing)


def test_loading_can_be_cancelled(weights):
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls == 50:
            raise Cancelled

    reporter = quiet()
    reporter.poll = stop
    with pytest.raises(Cancelled):
        load_two_heads(weights, torch.device("cpu"), reporter=reporter)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "half"}, "'float32' or 'bfloat16', but is 'half'"),
        ({"tile": 63}, "at least 64 pixels, got 63"),
        ({"checkpoint": "missing"}, "no weights named 'missing', nor a file; installed: .*filled"),
    ],
)
def test_wrong_options(weights, options, message):
    with pytest.raises(ValueError, match=message):
        blurfield.estimate(np.zeros((40, 40)), "two-heads", device="cpu", **options)


def test_automatic_choice_tells_what_it_knows(weights):
    image = np.full((40, 40), 0.5)
    facts = blurfield.estimate(image, device="cpu", max_kernels=3).metadata
    assert facts["model"] == "combined"
    assert "not measured: two-heads" in facts["reason"]


def test_weights_decide_on_the_model(weights):
    image = img(1, 40, 40)[0].float()
    for given in ("filled", weights.path, weights):
        facts = blurfield.estimate(image, device="cpu", checkpoint=given).metadata
        assert facts["model"] == "two-heads"
        assert "weights that were asked for" in facts["reason"]


def test_command_line(weights, tmp_path, capsys):
    write_image(tmp_path / "x.png", img(1, 40, 40)[0].numpy())
    words = [str(tmp_path / "x.png"), "--device", "cpu", "-o", str(tmp_path / "x.blurfield")]
    assert main(["estimate", *words, "--weights", "filled", "--json"]) == 0
    field = blurfield.KernelField.load(tmp_path / "x.blurfield")
    assert field.metadata["weights"]["sha256"] == weights.sha256


def test_checkpoint_of_another_network(weights, tmp_path):
    other = checkpoints.write_checkpoint(
        tmp_path / "other.safetensors",
        {"a": torch.zeros(1)},
        architecture="denoiser",
        config={},
        gamma=1,
        origin="a test",
    )
    for given in (other, other.path):
        with pytest.raises(ValueError, match="weights for 'denoiser', not for 'two-heads'"):
            blurfield.estimate(np.zeros((40, 40)), "two-heads", device="cpu", checkpoint=given)
        with pytest.raises(ValueError, match="'denoiser', which is not a way to estimate blur"):
            blurfield.estimate(np.zeros((40, 40)), device="cpu", checkpoint=given)
