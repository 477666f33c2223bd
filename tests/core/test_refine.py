"""Refinement of fields by the image: better kernels, no worse ones, reports, refusals."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from blurfield import Cancelled, KernelField, estimate, estimation, similarity, simulate
from blurfield.checkpoints import write_checkpoint
from blurfield.cli import main
from blurfield.estimation.flow import KernelFlow
from blurfield.estimation.kernels import centroid, resize
from blurfield.estimation.refine import refine_field
from blurfield.files import write_image
from blurfield.images import LinearImage
from blurfield.kernel_prior import KernelPrior, fit_kernels
from blurfield.simulation import camera_shake_kernels

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 112


@cache
def blurred() -> tuple[np.ndarray, KernelField]:
    from skimage.data import astronaut

    sharp = np.ascontiguousarray(astronaut()[10 : 10 + SIDE, 150 : 150 + SIDE])
    return simulate(sharp, kind="uniform", seed=4, max_extent=15, kernel_size=17, noise=0.01)


def planes() -> torch.Tensor:
    return LinearImage.from_array(blurred()[0], gamma=2.2).planes


def rough() -> KernelField:
    """The true kernel smeared out, with another one that has hardly any weight."""
    basis = blurred()[1].basis
    smeared = torch.nn.functional.avg_pool2d(basis[None], 5, stride=1, padding=2)[0]
    smeared = smeared / smeared.sum()
    mixing = torch.tensor([0.9, 0.1])[:, None, None].expand(2, 2, 2)
    delta = torch.zeros_like(smeared)
    delta[:, 8, 8] = 1
    maps = {"confidence": torch.full((3, 3), 0.5)}
    kernels = torch.cat([smeared, delta])
    return KernelField(kernels, mixing, (SIDE, SIDE), {"model": "windowed"}, maps)


def test_rough_kernels_become_like_the_true_one() -> None:
    field, truth = rough(), blurred()[1]
    before = field.basis.clone(), field.mixing.clone(), planes()
    light = planes()
    refined = refine_field(light, field, gamma=2.2)
    assert similarity(refined, truth).mean > similarity(field, truth).mean + 0.04
    assert refined.metadata == {"model": "windowed", "refined": 3}
    assert refined.basis.shape == field.basis.shape
    assert torch.equal(refined.maps["confidence"], field.maps["confidence"])
    assert refined.mixing.shape == (2, SIDE // 16, SIDE // 16)
    assert not refined.basis.requires_grad
    average = torch.einsum("b,bij->ij", refined.mixing.mean((1, 2)), refined.basis)
    assert float(centroid(average).abs().max()) <= 0.5
    for kept, now in zip(before, (field.basis, field.mixing, light), strict=True):
        assert torch.equal(kept, now)


def test_no_round_is_kept_that_explains_the_image_no_better(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("blurfield.estimation.refine._BETTER", 0.0)
    field = rough()
    reports: list[tuple[int, int]] = []
    refined = refine_field(
        planes(), field, gamma=2.2, rounds=2, progress=lambda *told: reports.append(told[:2])
    )
    assert refined.metadata["refined"] == 0
    assert reports[-1][0] == reports[-1][1]
    assert torch.equal(refined.basis, field.basis)
    assert torch.equal(refined.mixing, field.mixing)


def test_linear_grey_images() -> None:
    truth = blurred()[1]
    grey = planes()[1:2]
    refined = refine_field(0.05 * grey, rough(), gamma=1.0, rounds=1)
    assert refined.metadata["refined"] == 1
    assert similarity(refined, truth).mean > similarity(rough(), truth).mean


def test_a_coefficient_for_each_pixel_is_too_many() -> None:
    field = rough()
    dense = field.with_mixing(field.full_mixing())
    refined = refine_field(planes(), dense, gamma=2.2, rounds=1)
    assert refined.mixing.shape == (2, SIDE // 16, SIDE // 16)


@pytest.fixture
def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KernelPrior:
    """A small flow, trained for a moment, that is installed."""
    monkeypatch.setenv("BLURFIELD_DATA", str(tmp_path))
    (tmp_path / "weights").mkdir()
    torch.manual_seed(0)
    network = KernelFlow(9, hidden=8, blocks=2)
    kernels = camera_shake_kernels(200, 9, generator=torch.Generator().manual_seed(0))
    adam = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(30):
        points = network.preprocess(kernels, torch.rand(kernels.shape))
        adam.zero_grad()
        (-network.log_likelihood(points).mean()).backward()
        adam.step()
    write_checkpoint(
        tmp_path / "weights" / "flow.safetensors",
        network.state_dict(),
        architecture="flow",
        config=network.config,
        gamma=1,
        origin="test",
    )
    return KernelPrior.load()


def test_prior(flow: KernelPrior, monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger kernels than those of the flow become likelier, when they are made smaller."""

    def likely(field: KernelField) -> float:
        seen = fit_kernels(resize(field.basis[:1], 9), 9)[0]
        return float(flow.log_likelihood(seen))

    monkeypatch.setattr("blurfield.estimation.refine._BETTER", 10.0)  # any round will do
    without, slightly, mostly = (
        refine_field(planes(), rough(), gamma=2.2, rounds=1, prior=prior) for prior in (0, 0.1, 10)
    )
    assert likely(without) < likely(slightly) < likely(mostly)
    with pytest.raises(ValueError, match="prior must be a finite number ≥ 0"):
        refine_field(planes(), rough(), gamma=2.2, prior=-1)


def test_dense_fields_are_refused() -> None:
    basis = torch.eye(9).reshape(9, 3, 3)
    field = KernelField(basis, torch.full((9, 1, 1), 1 / 9), (SIDE, SIDE))
    with pytest.raises(ValueError, match="one tap each"):
        refine_field(planes(), field, gamma=2.2)


@pytest.fixture
def guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An estimator that needs no time."""

    def guess(planes: torch.Tensor, progress: Any = None) -> KernelField:
        if progress is not None:
            progress(0, 2, "guessing")
            progress(2, 2, "guessing")
        return rough()

    model = estimation._Model(lambda: guess)
    monkeypatch.setitem(estimation._MODELS, "windowed", model)


@pytest.mark.usefixtures("guessed")
def test_after_an_estimate() -> None:
    reports: list[tuple[int, int, str]] = []
    field = estimate(
        blurred()[0], "windowed", refine=1, progress=lambda *report: reports.append(report)
    )
    assert field.metadata["refined"] == 1
    assert field.metadata["gamma"] == 2.2
    done = [report[0] for report in reports]
    assert done == sorted(done)
    assert reports[-1][:2] == (2000, 2000)
    assert {message for _, _, message in reports} == {"guessing", "Refining the field"}
    assert "refined" not in estimate(blurred()[0], "windowed").metadata

    def cancel(done: int, total: int, message: str) -> None:
        if done > 1300:
            raise Cancelled

    with pytest.raises(Cancelled):
        estimate(blurred()[0], "windowed", refine=1, progress=cancel)


def test_nothing_to_refine_where_no_blur_can_be_told() -> None:
    field = estimate(np.full((64, 64), 100, np.uint8), "windowed", refine=2)
    assert field.is_one_tap


@pytest.mark.parametrize("refine", [-1, 0.5])
def test_rounds_are_whole_numbers(refine: float) -> None:
    with pytest.raises(ValueError, match="refine must be a whole number ≥ 0"):
        estimate(blurred()[0], "windowed", refine=refine)  # type: ignore[arg-type]


@pytest.mark.usefixtures("guessed")
def test_command(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    image, out = tmp_path / "image.png", tmp_path / "out.blurfield"
    write_image(image, blurred()[0])
    assert (
        main(["estimate", str(image), "-o", str(out), "--model", "windowed", "--refine", "1"]) == 0
    )
    assert KernelField.load(out).metadata["refined"] == 1
    assert main(["estimate", str(image), "-o", str(out), "--refine", "-1"]) == 2
    assert "must be a whole number from 0" in capsys.readouterr().err
