from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import blurfield
from blurfield.comparison import similarity
from blurfield.images import LinearImage
from blurfield.operator import BlurOperator
from blurfield.simulation import KINDS, photograph, simulate
from blurfield.simulation.recipes import Recipe, random_field


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _photo(shape: tuple[int, ...] = (90, 110, 3)) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    grey = 128 + 70 * np.sin(x / 5) * np.cos(y / 7) + 50 * ((x // 16 + y // 16) % 2)
    image = np.clip(grey, 0, 255).astype(np.uint8)
    return image if len(shape) == 2 else np.stack([image, 255 - image, image // 2], axis=-1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(kind: str) -> None:
    sharp = _photo()
    before = sharp.copy()
    blurry, truth = simulate(sharp, kind=kind, max_extent=21, seed=3)
    assert np.array_equal(sharp, before)
    assert blurry.shape == sharp.shape
    assert blurry.dtype == np.uint8
    assert truth.shape == (90, 110)
    assert truth.kernel_size == 21
    assert not np.array_equal(blurry, sharp)
    metadata = truth.metadata
    assert (metadata["model"], metadata["kind"], metadata["seed"]) == ("simulation", kind, 3)
    assert metadata["gamma"] == 2.2
    assert metadata["parameters"]["max_extent"] == 21
    json.dumps(metadata)
    # The truth reproduces the image, but for noise and rounding.
    source = LinearImage.from_array(sharp)
    again = source.to_array(BlurOperator(truth).forward(source.planes))
    difference = again.astype(float) - blurry
    assert difference.std() == pytest.approx(0.01 * 255, rel=0.1)
    assert abs(difference.mean()) < 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_extents_are_kept(kind: str) -> None:
    recipe = Recipe((100, 140), 33, 12.0, 12.0)
    field = random_field(kind, recipe, _generator(1))
    support = field.basis > 1e-4
    sides = torch.maximum(support.any(1).sum(1), support.any(2).sum(1))
    # Shakes may shrink to keep their centroid in the middle; splatting adds a pixel at each end.
    assert 10 <= int(sides.max()) <= 14


@pytest.mark.parametrize("kind", ["uniform", "rotation", "zoom", "linear"])
def test_no_extent_is_no_blur(kind: str) -> None:
    sharp = _photo((64, 64))
    blurry, truth = simulate(sharp, kind=kind, min_extent=1, max_extent=1, noise=0, kernel_size=9)
    assert np.abs(blurry.astype(int) - sharp).max() <= 1
    assert float(truth.basis[:, 4, 4].min()) > 0.999


def test_seeds() -> None:
    first, field = simulate(_photo(), seed=5)
    again, same = simulate(_photo(), seed=5)
    assert np.array_equal(first, again)
    assert torch.equal(field.basis, same.basis)
    assert torch.equal(field.mixing, same.mixing)
    other, _ = simulate(_photo(), seed=6)
    assert not np.array_equal(first, other)


def test_fields_vary() -> None:
    for kind in ("segments", "rotation", "zoom", "object"):
        _, truth = simulate(_photo(), kind=kind, seed=1, max_extent=25)
        uniform = type(truth).uniform(truth.kernel_at(45, 55), truth.shape)
        assert similarity(uniform, truth).mean < 0.99


def test_public_name() -> None:
    assert blurfield.simulate is simulate


@pytest.mark.parametrize(
    ("convert", "gamma"),
    [
        (lambda a: a, 2.2),
        (lambda a: (a.astype(np.uint16) << 8) + a, 1.0),
        (lambda a: (a / 255).astype(np.float32), 1.0),
        (lambda a: a.astype(np.float64) * 10, 1.0),
        (lambda a: torch.from_numpy(a), 2.2),
        (lambda a: np.dstack([a, np.full(a.shape[:2], 77, np.uint8)]), 2.2),
    ],
)
def test_types_and_scales_come_back(convert: object, gamma: float) -> None:
    sharp = convert(_photo())  # type: ignore[operator]
    blurry, truth = simulate(sharp, max_extent=15)
    assert type(blurry) is type(sharp)
    assert blurry.dtype == sharp.dtype
    assert blurry.shape == sharp.shape
    assert truth.metadata["gamma"] == gamma
    a, b = np.asarray(sharp, dtype=float), np.asarray(blurry, dtype=float)
    assert b[..., :3].mean() == pytest.approx(a[..., :3].mean(), rel=0.1)
    if sharp.shape[-1] == 4:
        assert (b[..., 3] == 77).all()


def test_blur_is_in_linear_light() -> None:
    sharp = np.zeros((64, 64), np.uint8)
    sharp[:, 32:] = 255
    blurry, _ = simulate(sharp, kind="defocus", noise=0, max_extent=15)
    light = (blurry / 255.0) ** 2.2
    # A symmetric blur of an edge is symmetric about half the light.
    np.testing.assert_allclose(light + light[:, ::-1], 1, atol=0.01)
    assert 0.4 < light[32, 31] < 0.5


def test_highlights_survive_until_they_are_clipped() -> None:
    sharp = np.zeros((64, 64), np.float32)
    sharp[32, 32] = 1
    options = {"kind": "defocus", "noise": 0, "min_extent": 9, "max_extent": 9}
    dim, _ = simulate(sharp, **options)
    bright, truth = simulate(sharp, exposure=20.0, **options)
    np.testing.assert_allclose(bright, 20 * dim, atol=1e-5)
    saturated, _ = simulate(sharp, exposure=1000.0, **options)
    assert saturated.max() == 1
    assert truth.metadata["parameters"]["exposure"] == 20


def test_random_exposure() -> None:
    gains = [
        simulate(_photo((64, 64)), seed=seed, max_extent=9, exposure=(0.5, 1.5))[1].metadata[
            "parameters"
        ]["exposure"]
        for seed in range(12)
    ]
    assert 0.5 <= min(gains) < 0.8
    assert 1.2 < max(gains) <= 1.5


def test_valid_boundary_needs_no_assumption() -> None:
    sharp = _photo()
    blurry, truth = simulate(sharp, kind="uniform", max_extent=15, boundary="valid", noise=0)
    assert blurry.shape == (76, 96, 3)
    assert truth.shape == (76, 96)
    whole, _ = simulate(sharp, kind="uniform", max_extent=15, noise=0)
    assert np.abs(blurry.astype(int) - whole[7:-7, 7:-7]).max() <= 1


def test_small_images_have_segments_too() -> None:
    for kind in ("segments", "object"):
        _, truth = simulate(_photo((33, 40)), kind=kind)
        assert truth.shape == (33, 40)


def test_given_segments() -> None:
    labels = np.zeros((90, 110), np.int32)
    labels[:, 55:] = 7
    _, truth = simulate(_photo(), labels=labels, max_extent=9)
    assert truth.num_kernels == 2
    torch.testing.assert_close(truth.kernel_at(45, 10), truth.basis[0])
    torch.testing.assert_close(truth.kernel_at(45, 100), truth.basis[1])
    cropped = simulate(_photo(), labels=labels, max_extent=9, boundary="valid")[1]
    assert cropped.shape == (82, 102)


def test_given_object() -> None:
    labels = np.zeros((90, 110), bool)
    labels[30:60, 40:80] = True
    blurry, truth = simulate(_photo(), kind="object", labels=labels, max_extent=9, noise=0)
    assert float(truth.full_mixing()[1, 45, 60]) == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(blurry[:15].astype(int), _photo()[:15], atol=1)


def test_given_kernels() -> None:
    kernels = np.zeros((3, 7, 7))
    kernels[0, 3, 2:5] = kernels[1, 2:5, 3] = kernels[2, 3, 3:] = 1
    kernels /= kernels.sum((1, 2), keepdims=True)
    _, truth = simulate(_photo(), kernels=kernels, segments=3, seed=2)
    assert truth.kernel_size == 7
    chosen = {int(np.abs(kernels - kernel).sum((1, 2)).argmin()) for kernel in truth.basis.numpy()}
    assert chosen == {0, 1, 2}
    assert truth.metadata["parameters"]["kernels"] == 3
    uniform = simulate(_photo(), kind="uniform", kernels=torch.from_numpy(kernels[:1]))[1]
    np.testing.assert_allclose(uniform.basis[0].numpy(), kernels[0], atol=1e-7)
    # There may be fewer than segments.
    assert simulate(_photo(), kernels=kernels[:2], segments=3)[1].num_kernels == 3


def test_channel_axis() -> None:
    sharp = np.moveaxis(_photo(), -1, 0)
    blurry, _ = simulate(sharp, channel_axis=0, max_extent=9)
    last, _ = simulate(_photo(), max_extent=9)
    assert blurry.shape == sharp.shape
    assert np.array_equal(np.moveaxis(blurry, 0, -1), last)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "earthquake"}, "known: uniform, segments, rotation"),
        ({"max_extent": 35, "kernel_size": 33}, "max_extent <= kernel_size"),
        ({"min_extent": 30, "max_extent": 20}, "min_extent <= max_extent"),
        ({"kernel_size": 34}, "odd"),
        ({"max_extent": 0.5}, "extents must be"),
        ({"max_extent": float("inf")}, "number of pixels"),
        ({"noise": -1}, "noise"),
        ({"noise": float("nan")}, "noise"),
        ({"photons": 0}, "photons"),
        ({"bits": 0}, "bits"),
        ({"exposure": 0}, "exposure"),
        ({"exposure": (2.0, 1.0)}, "exposure"),
        ({"segments": 0}, "segments"),
        ({"segments": 500}, "too small for 500 segments"),
        ({"boundary": "zero"}, "boundary"),
        ({"labels": np.zeros((3, 3), int)}, r"image's shape \(90, 110\)"),
        ({"labels": np.zeros((90, 110), int), "kind": "zoom"}, "segments and object"),
        ({"kernels": np.full((1, 3, 3), 1 / 9), "kind": "zoom"}, "uniform and segments"),
        ({"kernels": np.full((3, 3), 1 / 9)}, r"shape \(N, K, K\)"),
        ({"kernels": np.full((1, 3, 3), 1 / 9), "kernel_size": 5}, "kernel_size is 5"),
        ({"kernels": np.ones((1, 3, 3))}, "divide by the sum"),
        ({"max_extent": 101}, "too small"),
        ({"max_extent": 61, "boundary": "valid"}, "too small"),
    ],
)
def test_bad_parameters(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate(_photo(), **arguments)  # type: ignore[arg-type]


def test_labels_must_be_integers() -> None:
    with pytest.raises(TypeError, match="integers"):
        simulate(_photo(), labels=np.zeros((90, 110)))


def test_noise_is_added_to_encoded_values() -> None:
    for level in (0.05, 0.5):
        light = torch.full((200, 200), level)
        seen = photograph(light, gamma=2.2, noise=0.01, generator=_generator())
        values = seen ** (1 / 2.2)
        assert float(values.std()) == pytest.approx(0.01, rel=0.05)
        assert float(values.mean()) == pytest.approx(level ** (1 / 2.2), abs=1e-3)


def test_photon_noise_grows_with_the_light() -> None:
    for level in (0.1, 0.4):
        seen = photograph(torch.full((300, 300), level), photons=1000, generator=_generator())
        assert float(seen.mean()) == pytest.approx(level, rel=0.01)
        assert float(seen.var()) == pytest.approx(level / 1000, rel=0.05)


def test_rounding_and_clipping() -> None:
    light = torch.linspace(0, 3, 1000)
    before = light.clone()
    seen = photograph(light, bits=3, noise=0.1, generator=_generator())
    assert torch.equal(light, before)
    torch.testing.assert_close((seen * 7).round(), seen * 7)
    assert float(seen.min()) == 0
    assert float(seen.max()) == 1
    assert bool((photograph(light, generator=_generator()) == light.clamp(max=1)).all())
