"""The unrolled network: the published one, its file, and what users get."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from conformance import F64, close, fill, img, kern, maps
from through_deblur import check_method

from blurfield.checkpoints import find, user_folder, write_checkpoint
from blurfield.field import KernelField
from blurfield.images import decode, encode
from blurfield.operator import BlurOperator
from blurfield.published_weights import import_weights
from blurfield.restoration.methods import METHODS, choose_method
from blurfield.restoration.noise import estimate_noise
from blurfield.restoration.unrolled import unrolled
from blurfield.restoration.unrolled_network import UnrolledNetwork

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor


@pytest.fixture(scope="module")
def published() -> UnrolledNetwork:
    network = UnrolledNetwork().double().requires_grad_(False)
    fill(network, 0.35)
    return network


def torus() -> tuple[Tensor, BlurOperator]:
    field = KernelField(kern(4, 9), maps(4, 21, 30))
    return img(3, 21, 30), BlurOperator(field, boundary="circular")


def check(image: Tensor, mean: float, ss: float, *values: float) -> None:
    assert image.dtype == F64
    assert close(image.mean(), mean)
    assert close(image.square().sum(), ss)
    for index, value in zip([(0, 0, 0), (1, 10, 17), (2, 20, 29)], values, strict=False):
        assert close(image[index], value)


def test_operator_on_a_torus():
    """Appendix A.3, last line."""
    image, operator = torus()
    seen, back = operator.forward(image), operator.adjoint(image)
    assert close(seen.square().sum(), 5.242694251992e2)
    assert close(seen[0, 0, 0], 5.636673536761e-1)
    assert close(seen[1, 10, 17], 5.936873372829e-1)
    assert close(back.square().sum(), 5.254099670664e2)
    assert close(back[0, 0, 0], 5.397913836371e-1)
    assert close(back[1, 10, 17], 5.945233549762e-1)


def test_step_sizes_a7(published):
    sizes = published.h(0.01).flatten()
    for size, expected in zip(sizes[:3], (0.6878, 0.6506, 0.7073), strict=True):
        assert float(size) == pytest.approx(expected, abs=5e-5)
    assert close(sizes[17], 0.6742896994352325)
    assert close(sizes[26], 0.7196948563464015)


def test_prior_a7(published):
    image = published._prior(img(3, 21, 30), torch.tensor(0.1, dtype=F64))
    check(image, 5.713379400977e-2, 3.347372026840e1, 1.024978524971e-1, -5.166401985643e-2)


def test_plain_a7(published):
    image, operator = torus()
    before = image.clone()
    check(
        published(image, operator),
        2.662575766015e-2,
        7.759827409620,
        7.081447389488e-3,
        -1.603101140866e-2,
        7.122896151074e-2,
    )
    assert torch.equal(image, before)


def test_saturation_a7(published):
    image, operator = torus()
    check(
        published(image, operator, saturation=True),
        2.612702449636e-2,
        7.317567837580,
        5.763530080464e-3,
        -1.138982007482e-2,
        6.984392632701e-2,
    )


def test_gradients_reach_all_parameters():
    torch.manual_seed(0)
    network = UnrolledNetwork([4, 8])
    image, field = torch.rand(3, 16, 16), KernelField(kern(2, 5), maps(2, 16, 16))
    field = field.to("cpu", torch.float32)
    network(image, BlurOperator(field, boundary="circular")).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_only_there_when_installed(tmp_path, monkeypatch):
    """A file as its authors publish them is recognised, and makes the method available."""
    monkeypatch.setenv("BLURFIELD_DATA", str(tmp_path / "data"))
    assert not METHODS["unrolled"].installed
    with pytest.raises(ValueError, match=r"'unrolled'.*not installed.*docs/weights.md"):
        choose_method("unrolled", {})
    state = UnrolledNetwork().state_dict()
    assert len(state) == 42
    assert sum(values.numel() for values in state.values()) == 17_016_731
    torch.save(state, tmp_path / "80000_G.pth")
    checkpoint = import_weights(tmp_path / "80000_G.pth")
    assert checkpoint.architecture == "unrolled"
    assert "NIMBUSR" in checkpoint.origin
    assert METHODS["unrolled"].installed
    assert choose_method("unrolled", {"sigma": 0.02}).variant == "saturation"


# What follows is done with a prior that changes nothing and equal step sizes, which makes the
# network a plain optimisation.


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, float], None]:
    """Install the weights of such a network in an empty folder; more with the function given."""
    monkeypatch.setenv("BLURFIELD_DATA", str(tmp_path / "data"))
    network = UnrolledNetwork([4, 8])
    state = {name: torch.zeros_like(values) for name, values in network.state_dict().items()}
    for colour in range(3):
        state["p.m_head.weight"][colour, colour, 1, 1] = 1
        state["p.m_tail.weight"][colour, colour, 1, 1] = 1
    state["h.mlp.4.bias"][9:18] = 1.0
    user_folder().mkdir(parents=True)

    def install(name: str, gamma: float) -> None:
        write_checkpoint(
            user_folder() / f"{name}.safetensors",
            state,
            architecture="unrolled",
            config=network.config,
            gamma=gamma,
            origin="a test",
        )

    install("identity", 2.2)
    return install


FIELD = KernelField(kern(4, 7), maps(4, 48, 60)).to("cpu", torch.float32)


def scene(exposure: float = 1.0) -> tuple[Tensor, Tensor]:
    """A sharp image and what a camera sees of it, both in linear light; borders don't match."""
    c = torch.arange(3.0)[:, None, None]
    y, x = torch.meshgrid(torch.arange(54.0), torch.arange(66.0), indexing="ij")
    pattern = torch.sin(0.6 * x + 0.3 * y + c) * torch.cos(0.5 * y - 0.1 * x)
    wide = exposure * (0.5 + 0.4 * pattern) * torch.linspace(0.4, 0.9, 66)
    blurry = BlurOperator(FIELD, boundary="valid").forward(wide)
    noise = torch.randn(blurry.shape, generator=torch.Generator().manual_seed(0))
    return wide[:, 3:-3, 3:-3], (blurry + 0.02 * noise).clamp(0, 1)


def error(image: Tensor, sharp: Tensor) -> float:
    return float((image - sharp).square().mean().sqrt())


def test_deblurs_up_to_the_frame(installed):
    sharp, blurry = scene()
    before = blurry.clone()
    result, info = unrolled(blurry, FIELD)
    assert torch.equal(blurry, before)
    assert result.shape == sharp.shape
    assert result.min() >= 0
    assert info["iterations"] == 8
    assert info["light"] == "linear"
    assert info["weights"]["name"] == "identity"
    assert error(result, sharp) < 0.75 * error(blurry, sharp)
    frame = torch.ones_like(sharp, dtype=torch.bool)
    frame[:, 6:-6, 6:-6] = False
    assert error(result[frame], sharp[frame]) < 0.8 * error(blurry[frame], sharp[frame])


@pytest.mark.parametrize("channels", [1, 2])
def test_other_numbers_of_channels(installed, channels):
    sharp, blurry = scene()
    colours, _ = unrolled(blurry, FIELD)
    result, _ = unrolled(blurry[:channels], FIELD)
    assert result.shape == (channels, 48, 60)
    torch.testing.assert_close(result, colours[:channels], rtol=0, atol=0.02)
    assert error(result, sharp[:channels]) < error(blurry[:channels], sharp[:channels])


def test_clipped_light(installed):
    """Both variants do the same in the dark; the one that knows of clipping restores lights."""
    _, blurry = scene()
    plain, _ = unrolled(0.8 * blurry, FIELD, variant="plain")
    aware, _ = unrolled(0.8 * blurry, FIELD, variant="saturation")
    torch.testing.assert_close(plain, aware, rtol=0, atol=0.01)
    network = UnrolledNetwork([4, 8])
    network.load_state_dict(find("unrolled").load())
    wide = torch.full((3, 54, 66), 0.2)
    wide[:, 20:24, 30:34] = 10.0
    operator = BlurOperator(FIELD, boundary="valid")
    blurry = operator.forward(wide).clamp(0, 1)
    with torch.no_grad():
        plain, aware = (network(blurry, operator, saturation=aware) for aware in (False, True))
    assert aware.max() > 1.05 * plain.max() > 1.05


def test_light_of_the_weights(installed):
    """As published, stored values are blurred with the kernels."""
    _, blurry = scene()
    installed("stored", 1.0)
    by_weights, info = unrolled(blurry, FIELD, gamma=2.2)
    assert info["light"] == "encoded"
    stored = decode(unrolled(encode(blurry, 2.2), FIELD, light="linear")[0], 2.2)
    torch.testing.assert_close(by_weights, stored, rtol=0, atol=0.02)
    linear, _ = unrolled(blurry, FIELD, gamma=2.2, light="linear")
    assert error(linear, by_weights) > 0.005


def test_noise_level(installed):
    _, blurry = scene()
    _, info = unrolled(blurry, FIELD, sigma="auto", smoothing=2.0)
    assert info["sigma"] == pytest.approx(2 * estimate_noise(blurry).std(0.3))
    _, info = unrolled(blurry, FIELD, smoothing=0.5)
    assert info["sigma"] == pytest.approx(0.005)


def test_through_deblur_and_cancelled(installed):
    _, blurry = scene()
    assert check_method("unrolled", blurry, FIELD, 9, variant="plain")["variant"] == "plain"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "best"}, r"'best'.*saturation, plain"),
        ({"light": "sRGB"}, r"linear, encoded.*'sRGB'"),
        ({"sigma": 0}, "sigma must be a finite number > 0, but is 0"),
        ({"sigma": "image"}, "'image'"),
        ({"smoothing": float("nan")}, "smoothing"),
    ],
)
def test_mistakes(installed, options, message):
    with pytest.raises(ValueError, match=message):
        unrolled(scene()[1], FIELD, **options)
