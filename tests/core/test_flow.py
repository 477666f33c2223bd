"""The flow of motion kernels: conformance, tensor names, inverses, modes, refusals."""

from __future__ import annotations

import pytest
import torch
from conformance import F64, close, fill, hashed

from blurfield.estimation.flow import DEQUANTISATION, KernelFlow
from blurfield.simulation import camera_shake_kernels


def filled(kernel_size: int = 19) -> KernelFlow:
    flow = KernelFlow(kernel_size).double().eval()
    fill(flow, 0.5)
    return flow


@torch.no_grad()
def test_conformance() -> None:
    """Vectors A.8 of the specification."""
    flow = filled()
    codes = 1.7 * hashed(7, 722).reshape(2, 361)
    x, log_det = flow.inverse(codes)
    assert close(x.mean(), 2.178221964886e-2)
    assert close(x.square().sum(), 9.374124384752e2)
    assert close(x[0, 0], -7.627183267359e-1)
    assert close(x[0, 1], 7.968328888959e-1)
    assert close(x[1, 360], 1.813852882847)
    assert log_det.tolist() == pytest.approx([-0.5512, -6.1145], abs=5e-5)
    z, back = flow(x)
    torch.testing.assert_close(z, codes, rtol=0, atol=1e-14)
    torch.testing.assert_close(back, -log_det)
    assert flow.log_likelihood(x).tolist() == pytest.approx([-486.7372, -492.9531], abs=5e-5)
    kernels = flow.decode(codes)
    assert kernels.shape == (2, 19, 19)
    assert close(kernels.mean(), 5.049077767564e-1)
    assert close(kernels.square().sum(), 2.216185777129e2)
    assert close(kernels[0, 9, 9], 3.699865496224e-1)
    assert close(kernels[1, 0, 1], 2.598185767419e-1)


def test_tensors_of_the_published_weights() -> None:
    flow = KernelFlow()
    assert sum(p.numel() for p in flow.parameters()) == 194_470
    vector = (361,)
    expected = dict.fromkeys(("kernel_size", "alpha", "normalization"), (1,))
    expected |= dict.fromkeys(("base_dist_mean", "base_dist_var"), vector)
    for block in range(0, 10, 2):
        expected[f"net.{block}.mask"] = vector
        for net in ("s_net", "t_net"):
            for layer, (rows, columns) in {0: (25, 361), 2: (25, 25), 4: (361, 25)}.items():
                expected[f"net.{block}.{net}.{layer}.weight"] = (rows, columns)
                expected[f"net.{block}.{net}.{layer}.bias"] = (rows,)
        for name in ("log_gamma", "beta", "running_mean", "running_var"):
            expected[f"net.{block + 1}.{name}"] = vector
    state = flow.state_dict()
    assert {name: tuple(values.shape) for name, values in state.items()} == expected
    assert state["net.0.mask"][:4].tolist() == [0, 1, 0, 1]
    assert state["net.2.mask"][:4].tolist() == [1, 0, 1, 0]
    assert float(state["alpha"]) == pytest.approx(1e-6)


@torch.no_grad()
def test_other_sizes_and_single_precision() -> None:
    flow = KernelFlow(7, hidden=9, blocks=3).eval()
    assert flow.config == {"kernel_size": 7, "hidden": 9, "blocks": 3}
    assert flow.side == 7
    generator = torch.Generator().manual_seed(0)
    kernels = camera_shake_kernels(1000, 7, generator=generator)
    torch.testing.assert_close(flow.decode(flow.encode(kernels)), kernels, rtol=0, atol=1e-5)
    codes = torch.randn(1000, 49, generator=generator)
    torch.testing.assert_close(flow.encode(flow.decode(codes)), codes, rtol=0, atol=1e-3)


def test_the_log_determinant_is_that_of_the_jacobian() -> None:
    flow = filled(3)
    x = hashed(5, 9)
    jacobian = torch.autograd.functional.jacobian(lambda point: flow(point[None])[0][0], x)
    with torch.no_grad():
        assert float(flow(x[None])[1]) == pytest.approx(float(jacobian.logdet()), abs=1e-12)


@torch.no_grad()
def test_training_mode_uses_the_statistics_of_the_batch() -> None:
    flow = KernelFlow(3, hidden=4, blocks=1).double()
    x = hashed(2, 45).reshape(5, 9)
    layer = flow.net[1]
    y, log_det = layer(x)
    torch.testing.assert_close(y.mean(0), torch.zeros(9, dtype=F64), rtol=0, atol=1e-12)
    variance = x.var(0, correction=1)
    torch.testing.assert_close(y, (x - x.mean(0)) / (variance + 1e-5).sqrt())
    torch.testing.assert_close(log_det, -0.5 * (variance + 1e-5).log().sum().expand(5))
    torch.testing.assert_close(layer.running_mean, 0.1 * x.mean(0))
    torch.testing.assert_close(layer.running_var, 0.9 + 0.1 * variance)
    layer.eval()
    still = layer.running_mean.clone()
    torch.testing.assert_close(layer.inverse(layer(x)[0])[0], x)
    assert torch.equal(layer.running_mean, still)


@torch.no_grad()
def test_kernels_become_data_points() -> None:
    flow = KernelFlow(3).double().eval()
    flow.normalization.fill_(2)
    kernels = torch.zeros(1, 3, 3, dtype=F64)
    kernels[0, 1, 1], kernels[0, 0, 0], kernels[0, 2, 2] = 1, -1, 9
    plain = flow.preprocess(kernels)
    assert plain[0, 4] == pytest.approx(0, abs=1e-9)
    assert plain[0, 0] == plain[0, 1] == pytest.approx(float(torch.tensor(1e-6).logit()))
    assert plain[0, 8] == pytest.approx(-plain[0, 0])
    noise = hashed(1, 9).reshape(3, 3).abs()
    added = flow.preprocess(kernels, noise).sigmoid() - plain.sigmoid()
    torch.testing.assert_close(
        added[0, :8], DEQUANTISATION * noise.flatten()[:8], rtol=1e-4, atol=0
    )
    codes = [flow.encode(kernels, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(codes[0], codes[1])
    assert not torch.equal(codes[0], codes[2])
    assert kernels[0, 0, 0] == -1


@pytest.mark.parametrize("wrong", [{"kernel_size": 8}, {"hidden": 0}, {"blocks": 0}])
def test_refusals(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="a flow needs kernels of an odd side"):
        KernelFlow(**wrong)


def test_other_masks_are_refused() -> None:
    flow = KernelFlow(3, hidden=2, blocks=2)
    state = {name: values.clone() for name, values in flow.state_dict().items()}
    flow.load_state_dict(state)
    state["net.2.mask"] = 1 - state["net.2.mask"]
    with pytest.raises(ValueError, match=r"net\.2\.mask must be \[1, 0, 1\] and so on"):
        flow.load_state_dict(state)
