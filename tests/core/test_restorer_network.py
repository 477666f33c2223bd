"""Our network that restores: its blocks, its size, and images of any size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from conformance import close, img
from torch import nn

from blurfield import KernelField, deblur
from blurfield.checkpoints import write_checkpoint
from blurfield.restoration.naf import NAFBlock, local_mean
from blurfield.restoration.restorer import restore_end_to_end
from blurfield.restoration.restorer_network import RestorerNetwork
from blurfield.simulation import linear_kernel

if TYPE_CHECKING:
    from pathlib import Path


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_local_mean_conforms() -> None:
    """Specification A.12: a box mean whose edges repeat the nearest whole window."""
    found = local_mean(img(1, 10, 13), (5, 4))
    assert found.shape == (1, 10, 13)
    assert close(found.mean(), 7.255217431069e-1)
    assert close(found.square().sum(), 7.046601323214e1)
    for place, value in (
        ((0, 0, 0), 7.959279240087e-1),
        ((0, 5, 6), 8.468714498997e-1),
        ((0, 9, 12), 5.514179696108e-1),
    ):
        assert close(found[place], value)


def test_local_mean_of_what_fits_the_window_is_the_mean() -> None:
    image = torch.rand(2, 3, 6, 9, generator=generator())
    torch.testing.assert_close(local_mean(image, (6, 20)), image.mean((2, 3), keepdim=True))
    rows = local_mean(image, (3, 9))
    assert rows.shape == (2, 3, 6, 1)
    torch.testing.assert_close(rows[:, :, 2, 0], image[:, :, 1:4].mean((2, 3)))


def test_blocks_have_the_published_names() -> None:
    names = {name.rpartition(".")[0] for name, _ in NAFBlock(8, 16).named_parameters()}
    assert names == {"", "norm1", "norm2", "sca.1", *(f"conv{number}" for number in range(1, 6))}


def test_network_starts_as_identity_and_is_small() -> None:
    network = RestorerNetwork()
    image = torch.rand(1, 3, 32, 40, generator=generator())
    torch.testing.assert_close(network(image), image)
    assert sum(values.numel() for values in network.parameters()) < 4_000_000


def test_unequal_ways_down_and_up_are_refused() -> None:
    with pytest.raises(ValueError, match="as many sizes"):
        RestorerNetwork(encoder=(1, 1), decoder=(1,))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RestorerNetwork:
    """A network with random weights, installed as the user's own."""
    monkeypatch.setenv("BLURFIELD_DATA", str(tmp_path))
    torch.manual_seed(0)
    network = RestorerNetwork(width=4, encoder=(1,), middle=1, decoder=(1,))
    nn.init.normal_(network.ending.weight, std=0.03)
    path = tmp_path / "weights" / "random.safetensors"
    path.parent.mkdir()
    write_checkpoint(
        path,
        network.state_dict(),
        architecture="restorer",
        config=network.config,
        gamma=1.0,
        origin="test",
    )
    return network.requires_grad_(False)


def test_deblur_with_the_network(installed: RestorerNetwork) -> None:
    image = torch.rand(20, 24, 3, generator=generator()).numpy()
    field = KernelField.uniform(linear_kernel(3, 0, 5), (20, 24))
    sharp, info = deblur(image, field, method="end-to-end", gamma=2.2, return_info=True)
    planes = torch.from_numpy(image).permute(2, 0, 1)[None]
    expected = installed(planes)[0].permute(1, 2, 0).clamp(min=0).numpy()
    np.testing.assert_allclose(sharp, expected, atol=1e-2)
    assert info["weights"]["name"] == "random"


def test_network_restores_grey_images_of_any_size(installed: RestorerNetwork) -> None:
    image = (0.3 + 0.4 * torch.rand(21, 19, generator=generator())).numpy()
    field = KernelField.uniform(linear_kernel(3, 0, 5), (21, 19))
    sharp = deblur(image, field, method="end-to-end", gamma=2.2)
    coloured = deblur(np.stack([image] * 3, -1), field, method="end-to-end", gamma=2.2)
    assert sharp.shape == image.shape
    np.testing.assert_allclose(sharp, (coloured ** (1 / 2.2)).mean(-1) ** 2.2, atol=1e-2)


def test_tiles_do_not_show(installed: RestorerNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    blurry = torch.rand(3, 60, 200, generator=generator())
    field = KernelField.uniform(linear_kernel(3, 0, 5), (60, 200))
    whole, _ = restore_end_to_end(blurry, field, gamma=2.2)
    calls: list[int] = []
    monkeypatch.setattr("blurfield.restoration.restorer._MOST_FEATURES", 4 * 60 * 100)
    tiled, _ = restore_end_to_end(
        blurry, field, gamma=2.2, progress=lambda _, total, __: calls.append(total)
    )
    assert calls[0] > 1
    assert (tiled - whole).abs().max() < 1e-3
