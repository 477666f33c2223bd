from __future__ import annotations

import pytest
import torch
from conformance import fill, img

from blurfield.checkpoints import Checkpoint, write_checkpoint
from blurfield.estimation import estimate, two_heads_tiles
from blurfield.estimation.two_heads_network import TwoHeads

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Checkpoint:
    with torch.device("meta"):
        network = TwoHeads()
    network = network.to_empty(device="cpu")
    fill(network, 1)
    return write_checkpoint(
        tmp_path_factory.mktemp("weights") / "filled.safetensors",
        network.state_dict(),
        architecture="two-heads",
        config={},
        gamma=2.2,
        origin="the fill rule",
    )


def run(weights: Checkpoint, device: str, **options):
    image = img(3, 301, 203).movedim(0, -1).float()
    return estimate(image, "two-heads", device=device, checkpoint=weights, **options)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 0.01), ("auto", 0.05)])
def test_agrees_with_the_cpu(weights, precision, tolerance):
    here = run(weights, "cpu", precision="float32")
    there = run(weights, "cuda", precision=precision)
    assert there.device.type == "cuda"
    torch.testing.assert_close(there.basis.cpu(), here.basis, rtol=tolerance, atol=0)
    torch.testing.assert_close(there.mixing.cpu(), here.mixing, rtol=tolerance, atol=0)


def test_tiles_are_halved_when_memory_runs_out(weights, monkeypatch):
    sides = []
    run_in_tiles = two_heads_tiles.run_in_tiles

    def scarce(network, image, side, reporter):
        sides.append(side)
        if side > 128:
            torch.empty(1 << 45, dtype=torch.uint8, device="cuda")  # 32 TiB
        return run_in_tiles(network, image, side, reporter)

    monkeypatch.setattr(two_heads_tiles, "run_in_tiles", scarce)
    monkeypatch.setattr(two_heads_tiles, "_SIDES", (256, 128))
    field = run(weights, "cuda")
    assert sides == [301, 256, 128]
    torch.testing.assert_close(
        field.mixing, run(weights, "cuda", tile=128).mixing, rtol=0.05, atol=0
    )
