"""Estimation with the compact network: sizes, scales, options and what it says about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import blurfield
from blurfield import Cancelled, KernelField
from blurfield.checkpoints import write_checkpoint
from blurfield.estimation import compact, installed_models
from blurfield.estimation.compact_network import CompactNetwork, limited

if TYPE_CHECKING:
    from pathlib import Path

SMALL: dict[str, Any] = {
    "widths": [8, 8, 8, 8, 16],
    "width": 16,
    "heads": 2,
    "layers": [1, 1],
    "kernel_widths": [4, 4, 8],
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = CompactNetwork(**SMALL)
    path = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    state = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    write_checkpoint(
        path, state, architecture="compact", config=network.config, gamma=2.2, origin="test"
    )
    return path


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(32, 32, 3), (64, 96), (50, 77, 3), (131, 45)])
def test_images_of_any_size(weights: Path, shape: tuple[int, ...]) -> None:
    image = picture(*shape)
    before = image.copy()
    field = blurfield.estimate(image, model="compact", checkpoint=weights, scales=[1])
    assert field.shape == shape[:2]
    assert 1 <= field.num_kernels <= 25
    assert field.mixing.shape[1:] == (-(-shape[0] // 4), -(-shape[1] // 4))
    assert field.kernel_size == 33
    assert field.metadata["model"] == "compact"
    assert field.metadata["weights"]["name"] == "mine"
    assert field.metadata["parameters"]["scales"] == [1]
    np.testing.assert_array_equal(image, before)


def test_same_again(weights: Path) -> None:
    image = picture(64, 64, 3)
    one, two = (blurfield.estimate(image, model="compact", checkpoint=weights) for _ in range(2))
    assert torch.equal(one.basis, two.basis)
    assert torch.equal(one.mixing, two.mixing)


def test_padding_is_read_away_exactly() -> None:
    # A ramp over 96 padded pixels is a ramp over the first 70 of them.
    ramp = (torch.arange(24) + 0.5) * 4 - 0.5
    grid = ramp[None, :, None].expand(1, 24, 3)
    read = compact._without_padding(grid, 1, 70, 96)
    assert read.shape == (1, 18, 3)
    centres = (torch.arange(18) + 0.5) * (70 / 18) - 0.5
    torch.testing.assert_close(read[0, :, 1], centres.clamp_min(1.5), rtol=1e-5, atol=1e-4)


def blob(size: int, radius: int) -> torch.Tensor:
    kernel = torch.zeros(size, size)
    c = size // 2
    kernel[c - radius : c + radius + 1, c - radius : c + radius + 1] = 1
    return kernel / kernel.sum()


def test_coarse_scale_takes_over_where_kernels_are_cut_off() -> None:
    # Left: a kernel that reaches the rim at the fine scale; right: a small one.
    side = torch.linspace(0, 1, 32).round()
    mixing = torch.stack([1 - side, side])[:, None].expand(2, 32, 32)
    fine = KernelField(torch.stack([blob(9, 4), blob(9, 1)]), mixing, (128, 128))
    coarse = KernelField(torch.stack([blob(9, 3)]), torch.ones(1, 16, 16), (64, 64)).resize(
        (128, 128)
    )
    joined = compact._join([fine, coarse])
    assert joined.shape == (128, 128)
    assert joined.kernel_size == coarse.kernel_size == 17
    torch.testing.assert_close(joined.kernel_at(64, 4), coarse.kernel_at(64, 4))
    middle = joined.kernel_at(64, 120)[4:13, 4:13]
    torch.testing.assert_close(middle, fine.kernel_at(64, 120), rtol=1e-4, atol=1e-6)


def test_large_images_are_looked_at_smaller(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture(256, 256)
    taken = compact._PIXEL_BYTES / compact._SHARE
    monkeypatch.setattr(compact, "available_memory", lambda device: taken * 128 * 128)
    field = blurfield.estimate(image, model="compact", checkpoint=weights)
    assert field.metadata["parameters"]["scales"][0] == 0.5
    assert field.kernel_size > 33
    monkeypatch.setattr(compact, "available_memory", lambda device: taken * 40 * 40)
    field = blurfield.estimate(image, model="compact", checkpoint=weights)
    assert field.metadata["parameters"]["scales"] == [pytest.approx(40 / 256)]


def test_never_more_kernels_than_asked_for(weights: Path) -> None:
    field = blurfield.estimate(
        picture(160, 192), model="compact", checkpoint=weights, max_kernels=3, scales=[1]
    )
    assert 2 <= field.num_kernels <= 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scales": []}, "scales"),
        ({"scales": [0.5, 1]}, "fall"),
        ({"scales": [2]}, "in \\(0, 1\\]"),
        ({"max_kernels": 0}, "max_kernels"),
        ({"checkpoint": "nothing"}, "nothing"),
    ],
)
def test_bad_options(weights: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        blurfield.estimate(picture(64, 64), model="compact", **{"checkpoint": weights, **options})


def test_cancel(weights: Path) -> None:
    def stop(done: int, total: int, message: str) -> None:
        if done:
            raise Cancelled

    with pytest.raises(Cancelled):
        blurfield.estimate(picture(64, 64), model="compact", checkpoint=weights, progress=stop)


def test_installed_weights_make_the_model_available(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLURFIELD_DATA", str(tmp_path))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "mine.safetensors").write_bytes(weights.read_bytes())
    assert "compact" in installed_models()
    field = blurfield.estimate(picture(64, 64), model="compact")
    assert field.metadata["weights"]["name"] == "mine"


def test_features_cannot_grow_without_limit() -> None:
    generator = torch.Generator().manual_seed(0)
    usual = torch.randn(2, 3, 8, 8, generator=generator)
    assert torch.equal(limited(usual), usual)
    strong = torch.stack([usual[0], 1e6 * usual[1]])
    found = limited(strong)
    assert torch.equal(found[0], usual[0])
    assert float(found[1].square().mean().sqrt()) == pytest.approx(32, rel=1e-3)
    assert torch.allclose(found[1] / found[1].norm(), usual[1] / usual[1].norm(), atol=1e-6)
    assert limited(strong.bfloat16()).dtype == torch.bfloat16
