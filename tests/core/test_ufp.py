"""Estimation with UFPNet's network: grids, tiles, draws and what it says about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from conformance import img

import blurfield
from blurfield import Cancelled, KernelField
from blurfield.checkpoints import write_checkpoint
from blurfield.compute import Reporter
from blurfield.estimation import installed_models, ufp
from blurfield.estimation.ufp import find_weights, load_estimator
from blurfield.estimation.ufp_network import PRIORS, KernelEstimator
from blurfield.evaluation.contenders import contenders
from blurfield.images import decode

if TYPE_CHECKING:
    from pathlib import Path

SMALL: dict[str, Any] = {
    "kernel_size": 5,
    "widths": [4, 6, 8],
    "flow": {"hidden": 6, "blocks": 2},
}


def small(**config: Any) -> KernelEstimator:
    torch.manual_seed(0)
    network = KernelEstimator(**{**SMALL, **config})
    with torch.no_grad():
        # Kernels that differ from pixel to pixel even though nothing was learnt.
        network.kernel_extra.Conv_tail.mean[2].weight *= 20
    return network.requires_grad_(False).eval()


def save(path: Path, network: KernelEstimator, **facts: Any) -> Path:
    settings = {"architecture": "ufp-kernels", "config": network.config, **facts}
    write_checkpoint(path, network.state_dict(), gamma=1.0, origin="test", **settings)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("weights") / "mine.safetensors", small())


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(32, 32, 3), (50, 77, 3), (131, 45)])
def test_images_of_any_size(weights: Path, shape: tuple[int, ...]) -> None:
    image = picture(*shape)
    before = image.copy()
    field = blurfield.estimate(image, model="ufp", checkpoint=weights)
    assert field.shape == shape[:2]
    assert field.is_one_tap
    assert field.num_kernels == 25
    cells = (-(-shape[0] // 4), -(-shape[1] // 4))
    assert field.mixing.shape[1:] == cells
    assert {name: grid.shape for name, grid in field.maps.items()} == {
        "uncertainty": cells,
        "kernel_sum": cells,
    }
    assert 0 < field.maps["uncertainty"].min() < field.maps["uncertainty"].max() < 1
    assert field.metadata["model"] == "ufp"
    assert field.metadata["weights"]["name"] == "mine"
    assert field.metadata["parameters"] == {
        "draws": 0,
        "seed": 0,
        "spacing": 4,
        **small().config,
        "widths": [4, 6, 8],
    }
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("prior", PRIORS)
def test_kernels_of_every_pixel_are_the_networks(tmp_path: Path, prior: str) -> None:
    network = small(prior=prior)
    path = save(tmp_path / "mine.safetensors", network)
    image = img(3, 40, 36)
    field = blurfield.estimate(
        image.movedim(0, -1), model="ufp", gamma=2.2, checkpoint=path, spacing=1
    )
    # Reflected at the right and below, to multiples of 16.
    padded = torch.nn.functional.pad(image[None].float(), (0, 12, 0, 8), mode="reflect")
    raw, sigma = network(padded)
    sums = raw.sum(1)[0, :40, :36]
    torch.testing.assert_close(field.mixing, raw[0, :, :40, :36] / sums, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(field.maps["kernel_sum"], sums, rtol=1e-3, atol=0)
    if prior == "flow+uncertainty":
        torch.testing.assert_close(field.maps["uncertainty"], sigma[0, 0, :40, :36])
    else:  # what the others say about it was never trained
        assert "uncertainty" not in field.maps


def test_linear_images_are_encoded(weights: Path) -> None:
    stored = img(3, 40, 36).float().movedim(0, -1)
    options = {"model": "ufp", "checkpoint": weights}
    encoded = blurfield.estimate(stored, gamma=2.2, **options)
    linear = blurfield.estimate(decode(stored, 2.2), gamma=1, **options)
    assert torch.equal(encoded.mixing, linear.mixing)


def test_grey_images_are_colour_images_without_colour(weights: Path) -> None:
    grey = picture(40, 36)
    options = {"model": "ufp", "checkpoint": weights}
    field = blurfield.estimate(grey, **options)
    colour = blurfield.estimate(np.stack([grey] * 3, -1), **options)
    assert torch.equal(field.mixing, colour.mixing)


def test_cells_are_means(weights: Path) -> None:
    image, options = picture(48, 40, 3), {"model": "ufp", "checkpoint": weights}
    fine = blurfield.estimate(image, spacing=1, **options)
    for spacing, cells in ((4, (12, 10)), (2.5, (20, 16)), (7, (7, 6)), (100, (1, 1))):
        coarse = blurfield.estimate(image, spacing=spacing, **options)
        assert coarse.mixing.shape[1:] == cells
        for name in ("mixing", "uncertainty", "kernel_sum"):
            old, new = (
                field.mixing if name == "mixing" else field.maps[name][None]
                for field in (fine, coarse)
            )
            # Pixels are cut where cells end within them.
            tall = old.repeat_interleave(cells[0], 1).repeat_interleave(cells[1], 2)
            expected = tall.unflatten(1, (cells[0], 48)).unflatten(3, (cells[1], 40)).mean((2, 4))
            torch.testing.assert_close(new, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [2, 4])
def test_coarse_networks_lie_right_over_images(tmp_path: Path, stride: int) -> None:
    network = small(stride=stride)
    path = save(tmp_path / "mine.safetensors", network)
    options = {"model": "ufp", "checkpoint": path, "spacing": 1}
    field = blurfield.estimate(picture(48, 64, 3), **options)
    assert field.mixing.shape[1:] == (48 // stride, 64 // stride)
    # Of a side that is no multiple, the cells are a little smaller.
    field = blurfield.estimate(picture(50, 61, 3), **options)
    assert field.mixing.shape[1:] == (-(-50 // stride), -(-61 // stride))
    torch.testing.assert_close(field.mixing.sum(0), torch.ones(field.mixing.shape[1:]))


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_tiles_make_up_the_whole(monkeypatch: pytest.MonkeyPatch, stride: int) -> None:
    network = small(stride=stride).double()
    image = img(3, 150, 215)
    whole = list(ufp.code_parts(network, image, Reporter(None, 1)))
    monkeypatch.setattr(ufp, "_TILE", 64)
    monkeypatch.setattr(ufp, "_BAND", 25 * 64 * 5)
    parts = list(ufp.code_parts(network, image, Reporter(None, 1)))
    assert len(whole) == 1
    assert len(parts) >= 12
    seen = torch.zeros(whole[0][0].shape[-2:])
    for code, sigma, rows, cols in parts:
        for mine, all_of_it in ((code, whole[0][0]), (sigma, whole[0][1])):
            torch.testing.assert_close(mine, all_of_it[:, :, rows, cols], rtol=1e-9, atol=1e-12)
        seen[rows, cols] += 1
    assert bool((seen == 1).all())


def test_tiles_do_not_show_in_the_field(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, options = picture(150, 165, 3), {"model": "ufp", "checkpoint": weights, "spacing": 3}
    whole = blurfield.estimate(image, **options)
    monkeypatch.setattr(ufp, "_TILE", 64)
    monkeypatch.setattr(ufp, "_BAND", 25 * 64 * 5)
    tiled = blurfield.estimate(image, **options)
    torch.testing.assert_close(tiled.mixing, whole.mixing, rtol=1e-3, atol=1e-5)
    for name, grid in whole.maps.items():
        torch.testing.assert_close(tiled.maps[name], grid, rtol=1e-3, atol=1e-5)


def test_same_again(weights: Path) -> None:
    image, options = picture(40, 50, 3), {"model": "ufp", "checkpoint": weights}

    def estimate(**more: int) -> torch.Tensor:
        return blurfield.estimate(image, **options, **more).mixing

    plain, drawn = estimate(), estimate(draws=2, seed=3)
    assert torch.equal(plain, estimate(seed=3))
    assert torch.equal(drawn, estimate(draws=2, seed=3))
    assert not torch.equal(drawn, plain)
    assert not torch.equal(drawn, estimate(draws=2, seed=4))
    assert not torch.equal(drawn, estimate(draws=3, seed=3))


def test_draws_are_averaged(weights: Path) -> None:
    image = picture(40, 50, 3)
    fields = [
        blurfield.estimate(image, model="ufp", checkpoint=weights, draws=draws, seed=seed)
        for draws, seed in ((1, 0), (1, 1), (100, 2), (100, 3))
    ]
    one, other, many, more = (field.mixing for field in fields)
    assert (many - more).square().mean() < 0.05 * (one - other).square().mean()


@pytest.mark.parametrize("prior", ["flow", "none"])
def test_without_uncertainty_draws_change_nothing(tmp_path: Path, prior: str) -> None:
    path = save(tmp_path / "mine.safetensors", small(prior=prior))
    image, options = picture(40, 50, 3), {"model": "ufp", "checkpoint": path}
    drawn = blurfield.estimate(image, draws=3, **options)
    assert torch.equal(drawn.mixing, blurfield.estimate(image, **options).mixing)


def test_kernels_of_nothing_become_no_blur(tmp_path: Path) -> None:
    network = small()
    network.flow.normalization.fill_(1e-12)
    path = save(tmp_path / "mine.safetensors", network)
    field = blurfield.estimate(picture(40, 50), model="ufp", checkpoint=path)
    assert field.mixing[12].min() > 0.9999


def test_parts_of_a_restoration_network_will_do(weights: Path, weights_folder: Path) -> None:
    network = small()
    state = {**network.state_dict(), "intro.weight": torch.zeros(3, 3)}
    config = {"width": 8, "estimator": network.config}
    facts = {"architecture": "ufpnet", "config": config, "gamma": 1.0, "origin": "test"}
    write_checkpoint(weights_folder / "whole.safetensors", state, **facts)
    image = picture(40, 50)
    assert "ufp" in installed_models()
    field = blurfield.estimate(image, model="ufp")
    assert field.metadata["weights"]["name"] == "whole"
    expected = blurfield.estimate(image, model="ufp", checkpoint=weights)
    assert torch.equal(field.mixing, expected.mixing)
    # Those of the kernel network alone come first.
    save(weights_folder / "kernels.safetensors", network)
    assert find_weights().name == "kernels"


def test_weights_decide_on_the_model(weights: Path) -> None:
    assert blurfield.estimate(picture(40, 50), checkpoint=weights).metadata["model"] == "ufp"


def test_missing_weights_are_asked_for(weights_folder: Path) -> None:
    assert "ufp" not in installed_models()
    with pytest.raises(ValueError, match=r"'ufp' is not installed.*weights import"):
        blurfield.estimate(picture(40, 50), model="ufp")
    with pytest.raises(ValueError, match=r"net_g_latest\.pth.*train kernels.*weights import"):
        find_weights()


def test_weights_of_other_networks(weights_folder: Path) -> None:
    path = save(weights_folder / "flow.safetensors", small(), architecture="flow")
    with pytest.raises(ValueError, match="weights for 'flow', not for 'ufp-kernels' or 'ufpnet'"):
        blurfield.estimate(picture(40, 50), model="ufp", checkpoint=path)


@pytest.mark.parametrize(
    "options", [{"draws": -1}, {"draws": 0.5}, {"spacing": 0.5}, {"spacing": float("nan")}]
)
def test_options_out_of_range(weights: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        blurfield.estimate(picture(40, 50), model="ufp", checkpoint=weights, **options)


def test_progress_and_cancellation(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ufp, "_TILE", 64)
    calls: list[tuple[int, int, str]] = []
    options = {"model": "ufp", "checkpoint": weights}
    blurfield.estimate(picture(100, 130), progress=lambda *call: calls.append(call), **options)
    done = [call[0] for call in calls]
    assert done == sorted(done)
    assert calls[-1][0] == calls[-1][1] == 2 * 100 * 130
    assert {call[2] for call in calls} == {
        "Loading the network for kernels",
        "Estimating a kernel for each pixel",
    }

    def stop(done: int, total: int, message: str) -> None:
        if done > total / 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        blurfield.estimate(picture(100, 130), progress=stop, **options)


def test_the_network_polls_while_it_runs(weights: Path) -> None:
    calls = []
    reporter = Reporter(None, 1)
    reporter.poll = lambda: calls.append(1)  # type: ignore[method-assign]
    network = load_estimator(find_weights(weights), torch.device("cpu"), reporter)
    calls.clear()
    network.kernel_extra(torch.rand(1, 3, 32, 32))
    assert len(calls) > 50


def test_compressing_reports_the_error(weights: Path) -> None:
    field = blurfield.estimate(picture(80, 60), model="ufp", checkpoint=weights)
    small_field = field.compress(6)
    assert small_field.num_kernels == 6
    assert not small_field.is_one_tap
    points = [(1.5 + 4 * y, 1.5 + 4 * x) for y in range(20) for x in range(15)]
    distance = small_field.kernels_at(points) - field.kernels_at(points)
    facts = small_field.metadata["compression"]
    measured = float(distance.square().sum((1, 2)).mean().sqrt())
    assert facts["rms_error"] == pytest.approx(measured, rel=1e-3)
    assert facts["kernels_before"] == 25
    assert set(small_field.maps) == {"uncertainty", "kernel_sum"}


def test_dense_fields_get_a_basis_before_they_are_refined(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def refine(planes: torch.Tensor, field: KernelField, **options: Any) -> KernelField:
        seen.append(field)
        return field

    monkeypatch.setattr("blurfield.estimation.refine.refine_field", refine)
    monkeypatch.setattr("blurfield.estimation._BASIS", 6)
    field = blurfield.estimate(picture(40, 50), model="ufp", checkpoint=weights, refine=1)
    assert seen[0].num_kernels == 6
    assert field.metadata["compression"]["kernels_before"] == 25


def test_weights_are_for_a_model(weights: Path) -> None:
    (contender,) = contenders([], [weights], torch.device("cpu"))
    assert contender.name == "mine"
    image = picture(40, 50)
    field = contender.estimate(image, 2.2, lambda *_: None)
    assert field.metadata["model"] == "ufp"
