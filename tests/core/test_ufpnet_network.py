"""UFPNet's networks: names, sizes, and what the published code computes."""

from __future__ import annotations

import pytest
import torch
from conformance import F64, close, fill, img

from blurfield.estimation.flow import KernelFlow
from blurfield.restoration.kernel_attention import KernelBlock
from blurfield.restoration.local_statistics import local_mean, local_means_by_rows
from blurfield.restoration.strips import Strips
from blurfield.restoration.ufpnet_network import UFPNet, pad_to_multiple

#: A small network of the same class.
SMALL = {
    "width": 4,
    "encoder": (1, 1, 2),
    "middle": 1,
    "decoder": (1, 1, 1),
    "window": 16,
    "estimator": {"kernel_size": 5, "widths": (4, 4, 4), "flow": {"hidden": 3, "blocks": 2}},
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(**changes: object) -> UFPNet:
    network = UFPNet(**{**SMALL, **changes}).double()
    fill(network, 1)
    network.ending.weight.data *= 2e-4  # changes of images of about their size
    return network.requires_grad_(False).eval()


def test_published_network_has_all_its_tensors() -> None:
    with torch.device("meta"):
        network = UFPNet()
    assert len(network.state_dict()) == 852
    assert len(list(network.buffers())) == 20
    parts = {"": 0}
    for name, values in network.named_parameters():
        part = name.split(".")[0]
        parts[part] = parts.get(part, 0) + values.numel()
        parts[""] += values.numel()
    assert parts == {
        "": 80_343_663,
        "kernel_extra": 5_619_858,
        "flow": 194_470,
        "intro": 1_792,
        "ending": 1_731,
        "encoders": 386_432 + 1_125_120 + 3_659_264 + 51_853_312,
        "decoders": 2_468_800,
        "middle_blks": 7_373_824,
        "ups": 2_785_280,
        "downs": 2_787_200,
        "kernel_down": 2_086_580,
    }
    names = dict(network.named_parameters())
    assert names["encoders.2.0.kernel_atttion.conv_kernel.0.weight"].shape == (256, 361, 3, 3)
    assert names["kernel_down.3.weight"].shape == (361, 361, 2, 2)
    assert "ups.0.0.bias" not in names


def test_published_network_conforms() -> None:
    """Specification A.11."""
    with torch.device("meta"):
        network = UFPNet().double()
    network.to_empty(device="cpu")
    for name, values in KernelFlow().named_buffers():
        network.flow.get_buffer(name).copy_(values)
    fill(network, 0.5)
    network.requires_grad_(False).eval()
    blurry = img(3, 30, 44)[None]
    kernels = network.estimate(pad_to_multiple(blurry, 16))
    assert kernels.shape == (1, 361, 32, 48)
    assert close(kernels.mean(), 4.943249072834e-1)
    assert close(kernels.square().sum(), 1.564003210405e5)
    assert close(kernels[0, 9 * 19 + 9, 0, 0], 3.260699164584e-1)
    assert close(kernels[0, 3 * 19 + 4, 14, 28], 6.209619962854e-1)
    sharp = network(blurry)[0].clamp(0, 1)
    assert close(sharp.mean(), 4.743215189323e-1)
    assert close(sharp.square().sum(), 1.172857980749e3)
    assert close(sharp[0, 0, 0], 7.177544687103e-1)
    assert close(sharp[1, 10, 17], 5.123535957860e-1)
    assert close(sharp[2, 29, 43], 4.582632611844e-2)


def test_kernels_are_told_to_levels_of_one_block() -> None:
    network = small()
    kinds = [[isinstance(block, KernelBlock) for block in level] for level in network.encoders]
    assert kinds == [[True], [True], [False, False]]
    blurry = img(3, 16, 24)[None]
    kernels = torch.rand(1, 25, 16, 24, dtype=F64, generator=generator())
    change = network(blurry, kernels) - network(blurry, kernels.roll(1, 1))
    assert change.abs().max() > 1e-3


def test_own_kernels_are_used_by_default_without_gradients() -> None:
    network = small().requires_grad_()
    blurry = img(3, 16, 32)[None]
    sharp = network(blurry)
    torch.testing.assert_close(sharp, network(blurry, network.estimate(blurry)))
    sharp.sum().backward()
    trained = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert not trained & {"kernel_extra", "flow"}
    assert "encoders" in trained


def test_images_of_any_size_are_continued_by_reflection() -> None:
    network = small()
    blurry = img(3, 13, 19)[None]
    expected = network(torch.nn.functional.pad(blurry, (0, 13, 0, 3), mode="reflect"))
    torch.testing.assert_close(network(blurry), expected[..., :13, :19])
    assert network(img(3, 1, 2)[None]).shape == (1, 3, 1, 2)


def test_new_parts_share_the_estimator_after_loading() -> None:
    with torch.device("meta"):
        network = UFPNet(**SMALL)
    network.load_state_dict(small().state_dict(), assign=True)
    blurry = img(3, 16, 16)[None]
    torch.testing.assert_close(network.estimate(blurry), small().estimate(blurry))


@pytest.mark.parametrize("window", [(5, 4), (4, 7), (30, 4), (3, 30), (30, 30)])
def test_means_by_rows_are_local_means(window: tuple[int, int]) -> None:
    features = torch.rand(2, 3, 17, 13, dtype=F64, generator=generator())
    strips = [slice(0, 1), slice(1, 7), slice(7, 8), slice(8, 17)]
    means = [
        part.expand(-1, -1, s.stop - s.start, 13)
        for part, s in zip(local_means_by_rows(features, window, strips), strips, strict=True)
    ]
    expected = local_mean(features, window).expand(features.shape)
    torch.testing.assert_close(torch.cat(means, -2), expected)


@pytest.mark.parametrize("window", [16, 1 << 30])
def test_strips_do_not_show(window: int) -> None:
    network = small(window=window)
    blurry = img(3, 48, 40)[None]
    kernels = torch.rand(1, 25, 48, 40, dtype=F64, generator=generator())
    strips = Strips(features=4 * 40 * 5)
    torch.testing.assert_close(network(blurry, kernels, strips), network(blurry, kernels))
    halves = network(blurry, kernels.half(), strips)
    assert (halves - network(blurry, kernels)).abs().max() < 1e-3


def test_local_means_make_a_place_look_alike_in_a_larger_image() -> None:
    network, everywhere = small(), small(window=1 << 30)
    blurry = torch.rand(1, 3, 96, 96, dtype=F64, generator=generator())
    changed = blurry.clone()
    changed[..., 64:, :] **= 3
    local, whole = (
        (one(blurry) - one(changed))[..., :8, :].abs().max() for one in (network, everywhere)
    )
    assert local < 0.3 * whole
