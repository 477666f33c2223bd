from __future__ import annotations

import pytest
import torch
from conformance import F64, close, fill, img

from blurfield.estimation import ufp_network
from blurfield.estimation.ufp_network import (
    KernelCodeNetwork,
    KernelEstimator,
    kernel_maps,
    latent_codes,
)


@pytest.fixture(scope="module")
def network() -> KernelCodeNetwork:
    """The network of the conformance vectors, in double precision."""
    with torch.device("meta"):
        network = KernelCodeNetwork()
    network = network.double().to_empty(device="cpu")
    fill(network, 1)
    return network.requires_grad_(False).eval()


def small(**config) -> KernelEstimator:
    torch.manual_seed(0)
    settings = {"kernel_size": 5, "widths": (4, 6, 8), "flow": {"hidden": 6, "blocks": 2}}
    return KernelEstimator(**{**settings, **config}).double().eval()


def test_conformance(network):
    code, sigma = network(img(3, 30, 22)[None])
    assert code.shape == (1, 361, 30, 22)
    assert sigma.shape == (1, 1, 30, 22)
    assert close(code.square().sum(), 4.376478369685e2)
    assert close(code.max(), 9.999982852483e-1)
    assert close(code[0, 0, 0, 0], 7.951781167659e-5)
    assert close(code[0, 360, 29, 21], 2.259374027209e-3)
    assert close(sigma.mean(), 4.795347020812e-1)
    assert close(sigma[0, 0, 0, 0], 4.753240321883e-1)
    assert close(sigma[0, 0, 5, 7], 4.714376459182e-1)
    assert close(sigma[0, 0, 29, 21], 4.799768512061e-1)


def test_tensors_are_the_published_ones(network):
    state = network.state_dict()
    assert sum(values.numel() for values in state.values()) == 5_619_858
    blocks = ("ResBlock1.body.1", "ResBlock1.body.3", "ResBlock2.body.1", "ResBlock2.body.3")
    layers = [
        f"{block}.{layer}"
        for block, own in (
            ("Encoding_Block1", ("Conv_head", "downsample")),
            ("Encoding_Block2", ("Conv_head", "downsample")),
            ("Decoding_Block1", ("Conv_head", "Conv_t")),
            ("Decoding_Block2", ("Conv_head", "Conv_t")),
        )
        for layer in own + blocks
    ]
    layers += [f"Conv_mid.body.{number}" for number in (0, 2, 4, 6, 8)]
    layers += [f"Conv_tail.{head}.{number}" for head in ("mean", "var") for number in (0, 2)]
    assert set(state) == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    assert state["Decoding_Block1.Conv_t.weight"].shape == (256, 128, 3, 3)
    assert state["Decoding_Block2.Conv_head.weight"].shape == (64, 128, 3, 3)
    assert state["Conv_tail.var.2.weight"].shape == (361, 64, 3, 3)


@pytest.mark.parametrize(("stride", "cells"), [(1, (30, 22)), (2, (15, 11)), (4, (8, 6))])
def test_strides_coarsen_the_grid(stride, cells):
    network = small(stride=stride)
    kernels, sigma = network(img(3, 30, 22)[None])
    assert kernels.shape == (1, 25, *cells)
    assert sigma.shape == (1, 1, *cells)


def test_codes_are_standardised_and_mixed_with_noise():
    generator = torch.Generator().manual_seed(0)
    code = torch.softmax(torch.randn(2, 361, 3, 4, generator=generator, dtype=F64), 1)
    sigma = torch.rand(2, 1, 3, 4, generator=generator, dtype=F64)
    noise = torch.randn(2, 361, 3, 4, generator=generator, dtype=F64)
    plain = latent_codes(code, torch.zeros_like(sigma))
    torch.testing.assert_close(plain.mean(1), torch.zeros(2, 3, 4, dtype=F64))
    torch.testing.assert_close(plain.std(1, correction=1), torch.ones(2, 3, 4, dtype=F64))
    quiet = latent_codes(code, sigma)
    torch.testing.assert_close(quiet, plain * (1 - sigma**2).sqrt())
    torch.testing.assert_close(latent_codes(code, sigma, noise), quiet + noise * sigma)


def test_kernels_are_those_of_the_flow(monkeypatch):
    network = small()
    codes = torch.randn(2, 25, 4, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    rows = codes.movedim(1, -1).reshape(-1, 25)
    expected = network.flow.decode(rows).detach().reshape(2, 4, 3, 25).movedim(-1, 1)
    monkeypatch.setattr(ufp_network, "_CHUNK", 5 * 25)
    polls = []
    with torch.no_grad():
        found = kernel_maps(network.flow, codes, poll=lambda: polls.append(1))
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        half = kernel_maps(network.flow, codes, dtype=torch.float16)
    assert len(polls) == 6
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.double(), expected, rtol=1e-3, atol=1e-6)
    codes.requires_grad_()
    kept = kernel_maps(network.flow, codes)
    torch.testing.assert_close(kept, expected, rtol=1e-12, atol=1e-12)
    kept.square().sum().backward()
    chunked, codes.grad = codes.grad, None
    monkeypatch.setattr(ufp_network, "_CHUNK", 2**21)
    kernel_maps(network.flow, codes).square().sum().backward()
    torch.testing.assert_close(chunked, codes.grad)
    assert codes.grad.abs().sum() > 0


def test_priors_of_the_ablation():
    image = img(3, 12, 8)[None]
    noise = torch.Generator().manual_seed(0)
    uncertain, certain, direct = (small(prior=prior) for prior in ufp_network.PRIORS)
    assert not torch.equal(uncertain(image)[0], uncertain(image, noise)[0])
    assert torch.equal(certain(image)[0], certain(image, noise)[0])
    assert not any(isinstance(part, type(certain.flow)) for part in direct.modules())
    torch.testing.assert_close(direct(image)[0].sum(1), torch.ones(1, 12, 8, dtype=F64))


def test_config_makes_the_same_network():
    for prior in ufp_network.PRIORS:
        network = small(prior=prior, stride=2)
        again = KernelEstimator(**network.config)
        assert again.config == network.config
        again.load_state_dict({name: v.float() for name, v in network.state_dict().items()})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kernel_size": 8}, "kernel_size"),
        ({"widths": (4, 6)}, "widths"),
        ({"stride": 3}, "stride"),
        ({"prior": "gmm"}, "prior"),
    ],
)
def test_parameters_out_of_range(config, message):
    with pytest.raises(ValueError, match=message):
        small(**config)


def test_kernels_are_exact_in_half_precision():
    network = small().float()
    image = img(3, 12, 8)[None].float()
    expected, _ = network(image)
    code, sigma = network.kernel_extra(image)
    with torch.autocast("cpu", torch.bfloat16):
        found = network.kernels(code, sigma)
    assert torch.equal(found, expected)
