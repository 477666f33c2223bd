"""Motion kernels as a prior: what likelihoods do not depend on, samples, refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from blurfield import kernel_log_likelihood, sample_kernels, simulate
from blurfield.checkpoints import write_checkpoint
from blurfield.estimation.flow import KernelFlow
from blurfield.estimation.kernels import centroid
from blurfield.kernel_prior import KernelPrior, fit_kernels, is_connected
from blurfield.simulation import camera_shake_kernels

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 9


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small flow that nobody has trained."""
    torch.manual_seed(0)
    flow = KernelFlow(SIZE, hidden=6, blocks=2)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    write_checkpoint(
        path, flow.state_dict(), architecture="flow", config=flow.config, gamma=1, origin="test"
    )
    return path


def shakes(number: int, size: int = SIZE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return camera_shake_kernels(number, size, generator=generator)


def likelihood(kernels: Any, weights: Path, **options: Any) -> Any:
    return kernel_log_likelihood(kernels, checkpoint=weights, device="cpu", **options)


def test_kernels_are_fitted() -> None:
    kernels = 3 * torch.nn.functional.pad(shakes(5), (1, 6, 5, 2))
    fitting, outside = fit_kernels(kernels, SIZE)
    torch.testing.assert_close(fitting, shakes(5), rtol=0, atol=2e-6)
    torch.testing.assert_close(outside, torch.zeros(5), rtol=0, atol=1e-6)
    # Between whole pixels, taps are shared out.
    apart = torch.tensor([[[0.75, 0.25]]])
    fitting, _ = fit_kernels(apart, 3)
    assert centroid(fitting).abs().max() < 1e-6
    assert fitting.sum() == pytest.approx(1)
    lost = torch.zeros(1, 9, 9)
    lost[0, 4] = 1
    fitting, outside = fit_kernels(lost, 3)
    assert float(outside) == pytest.approx(6 / 9)
    torch.testing.assert_close(fitting[0, 1], torch.full((3,), 1 / 3))


def test_neither_scale_nor_place_nor_company_matters(weights: Path) -> None:
    kernels = shakes(4).numpy().astype(np.float64)
    before = kernels.copy()
    found = likelihood(kernels, weights)
    assert found.shape == (4,)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert np.ptp(found) > 1
    np.testing.assert_array_equal(kernels, before)
    np.testing.assert_allclose(likelihood(7 * kernels[2], weights), found[2], rtol=1e-5)
    moved = np.pad(kernels, ((0, 0), (0, 8), (3, 5)))
    np.testing.assert_allclose(likelihood(moved, weights), found, rtol=1e-4)
    small = kernels[:, 2:7, 2:7]
    padded = np.pad(small, ((0, 0), (2, 2), (2, 2)))
    np.testing.assert_allclose(likelihood(small, weights), likelihood(padded, weights), rtol=1e-5)
    assert np.array_equal(likelihood(kernels, weights), found)
    assert not np.array_equal(likelihood(kernels, weights, seed=1), found)


def test_shapes_and_types(weights: Path) -> None:
    kernels = shakes(6).reshape(2, 3, SIZE, SIZE)
    found = likelihood(kernels, weights)
    assert isinstance(found, torch.Tensor)
    assert found.shape == (2, 3)
    single = likelihood(kernels[1, 2].tolist(), weights)
    assert single.shape == ()
    assert float(single) == pytest.approx(float(found[1, 2]), rel=1e-5)


@pytest.mark.parametrize(
    ("kernels", "error", "words"),
    [
        (np.ones(5), ValueError, "shape"),
        (np.ones((0, 5, 5)), ValueError, "shape"),
        (-np.ones((3, 3)), ValueError, "not negative"),
        (np.full((3, 3), np.nan), ValueError, "finite"),
        (np.zeros((2, 3, 3)), ValueError, "the sum of one of them is 0"),
        (np.ones((2, 21, 21)), ValueError, r"fit into 9×9 taps, but of kernel 0 8\d% of the light"),
        (np.ones((3, 3), complex), TypeError, "real numbers"),
        ([["a"]], TypeError, "real numbers"),
    ],
)
def test_refusals(kernels: Any, error: type[Exception], words: str, weights: Path) -> None:
    with pytest.raises(error, match=words):
        likelihood(kernels, weights)
    with pytest.raises(ValueError, match="draws must be a whole number"):
        likelihood(shakes(1), weights, draws=0)
    with pytest.raises(ValueError, match="number must be a whole number"):
        sample_kernels(0, checkpoint=weights)
    with pytest.raises(ValueError, match="temperature must be a finite number > 0"):
        sample_kernels(1, temperature=0, checkpoint=weights)


def test_gradients(weights: Path) -> None:
    """A step along the gradient makes kernels likelier."""
    prior = KernelPrior.load(weights)
    kernels = shakes(3).requires_grad_(True)
    before = prior.log_likelihood(fit_kernels(kernels, SIZE)[0], draws=2)
    (slope,) = torch.autograd.grad(before.sum(), kernels)
    with torch.no_grad():
        step = 1e-4 * slope / slope.norm() * (kernels > 0)
        after = prior.log_likelihood(fit_kernels(kernels + step, SIZE)[0], draws=2)
    assert after.sum() > before.sum() + 0.01


def test_samples(weights: Path) -> None:
    found = sample_kernels(40, seed=2, checkpoint=weights, device="cpu")
    assert found.shape == (40, SIZE, SIZE)
    assert found.dtype == np.float32
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum((1, 2)), 1, rtol=1e-5)
    assert centroid(torch.from_numpy(found)).abs().max() < 1
    assert is_connected(torch.from_numpy(found)).all()
    again = sample_kernels(40, seed=2, checkpoint=weights, device="cpu")
    assert np.array_equal(found, again)
    assert np.array_equal(found[:9], sample_kernels(9, seed=2, checkpoint=weights, device="cpu"))
    assert not np.array_equal(found, sample_kernels(40, seed=3, checkpoint=weights, device="cpu"))
    sharp = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    assert simulate(sharp, kernels=found)[1].kernel_size == SIZE


def test_connected() -> None:
    kernels = torch.zeros(3, 5, 5)
    kernels[0, 0, 0] = kernels[0, 1, 1] = kernels[1, 2, 2] = 1
    kernels[2, 0, 0] = kernels[2, 0, 2] = 1
    assert is_connected(kernels).tolist() == [True, True, False]


def test_flows_without_connected_samples(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "blurfield.kernel_prior.is_connected", lambda k: torch.zeros(len(k), dtype=torch.bool)
    )
    with pytest.raises(ValueError, match="has it been trained"):
        sample_kernels(1, checkpoint=weights, device="cpu")


def test_weights_of_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BLURFIELD_DATA", str(tmp_path))  # nothing that a user has imported
    kernels = shakes(200, 19)
    order = torch.randperm(361, generator=torch.Generator().manual_seed(0))
    shuffled = kernels.flatten(1)[:, order].reshape(kernels.shape)
    shuffled = shuffled + shuffled.flip(-2, -1)  # the centroid stays in the middle
    likely, unlikely, seen = (
        float(kernel_log_likelihood(k, device="cpu", draws=2).mean())
        for k in (kernels, shuffled, torch.from_numpy(sample_kernels(200, device="cpu")))
    )
    assert likely > -520
    assert unlikely < likely - 100
    assert abs(seen - likely) < 60
