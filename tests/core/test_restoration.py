"""Deblurring and reblurring of arrays: form of results, choices, progress, errors."""

from __future__ import annotations

import json
import time
from functools import partial

import numpy as np
import pytest
import torch

import blurfield
from blurfield import BlurOperator, Cancelled, KernelField, reblur
from blurfield.images import LinearImage
from blurfield.restoration import METHODS, choose_method, installed_methods

#: Other methods have tests of their own.
deblur = partial(blurfield.deblur, method="richardson-lucy")

SHAPE = (48, 56)

VARIANTS = tuple(METHODS["richardson-lucy"].variants)


def line_field(shape: tuple[int, int] = SHAPE, size: int = 7, **metadata) -> KernelField:
    """Horizontal motion on the left, vertical motion on the right."""
    basis = torch.zeros(2, size, size)
    basis[0, size // 2], basis[1, :, size // 2] = 1 / size, 1 / size
    right = torch.linspace(0, 1, 8).expand(6, 8)
    return KernelField(basis, torch.stack([1 - right, right]), shape, metadata)


def picture(*channels: int, seed: int = 0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Flat rectangles of random brightness in [0.1, 0.9], float64, (H, W, *channels)."""
    rng = np.random.default_rng(seed)
    image = np.full((*shape, *channels), 0.4)
    for _ in range(12):
        y, x = rng.integers(0, shape[0] - 8), rng.integers(0, shape[1] - 8)
        image[y : y + rng.integers(6, 20), x : x + rng.integers(6, 20)] = rng.uniform(
            0.1, 0.9, channels
        )
    return image


def rms(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a.astype(float) - b.astype(float)) ** 2)))


class TestForm:
    @pytest.mark.parametrize("channels", [(), (3,), (4,)])
    @pytest.mark.parametrize(
        ("dtype", "white"),
        [("uint8", 255), ("uint16", 65535), ("uint16", 4095), ("float32", 1), ("float64", 37.5)],
    )
    def test_shape_dtype_and_scale(self, channels, dtype, white):
        sharp = picture(*channels)
        sharp[0, 0], sharp[-1, -1] = 0, 1
        image = (sharp * white).astype(dtype)
        blurry = reblur(image, line_field())
        result = deblur(blurry, line_field(), iterations=15)
        for array in (blurry, result):
            assert array.shape == image.shape
            assert array.dtype == image.dtype
        colour = slice(None, 3) if channels == (4,) else slice(None)
        colours = (..., colour) if channels else ...
        assert rms(result[colours], image[colours]) < 0.75 * rms(blurry[colours], image[colours])

    def test_alpha_passes_through(self):
        image = (picture(4) * 255).astype(np.uint8)
        image[..., 3] = np.arange(SHAPE[1])
        for result in (
            deblur(image, line_field(), iterations=2),
            reblur(image, line_field()),
        ):
            np.testing.assert_array_equal(result[..., 3], image[..., 3])

    def test_channel_axis(self):
        image = (picture(2) * 255).astype(np.uint8)
        result = deblur(np.moveaxis(image, -1, 0), line_field(), iterations=3, channel_axis=0)
        assert result.shape == (2, *SHAPE)
        again = deblur(image, line_field(), iterations=3, channel_axis=-1)
        np.testing.assert_array_equal(np.moveaxis(result, 0, -1), again)

    def test_other_dtype(self):
        image = (picture() * 255).astype(np.uint8)
        assert deblur(image, line_field(), iterations=2, dtype=np.float32).dtype == np.float32
        assert reblur(image, line_field(), dtype=np.uint16).max() > 255

    def test_torch_in_torch_out(self):
        image = torch.tensor(picture(3), dtype=torch.float32)
        result = deblur(image, line_field(), iterations=2)
        assert isinstance(result, torch.Tensor)
        assert result.shape == image.shape
        assert result.dtype == torch.float32

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_input_and_field_unmodified(self, variant):
        image, field = (picture(3) * 255).astype(np.uint8), line_field()
        before = image.copy(), field.basis.clone(), field.mixing.clone()
        deblur(image, field, variant=variant, iterations=2)
        np.testing.assert_array_equal(image, before[0])
        assert torch.equal(field.basis, before[1])
        assert torch.equal(field.mixing, before[2])
        floats = picture(3).astype(np.float32)  # may be used without a conversion
        copy = floats.copy()
        deblur(floats, field, variant=variant, iterations=2)
        np.testing.assert_array_equal(floats, copy)

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_deterministic(self, variant):
        image = picture(3).astype(np.float32)
        first, second = (
            deblur(image, line_field(), variant=variant, iterations=20) for _ in range(2)
        )
        np.testing.assert_array_equal(first, second)

    def test_field_with_gradients(self):
        field = line_field()
        field = KernelField(field.basis.clone().requires_grad_(), field.mixing, field.shape)
        result = deblur(torch.tensor(picture()), field, iterations=2)
        assert not result.requires_grad

    def test_float64_field(self):
        image = picture().astype(np.float32)
        double = deblur(image, line_field().to(dtype=torch.float64), iterations=3)
        np.testing.assert_allclose(double, deblur(image, line_field(), iterations=3), atol=2e-3)


class TestChoices:
    def test_auto_says_what_it_chose(self):
        image = (picture(3) * 255).astype(np.uint8)
        result, info = deblur(image, line_field(), return_info=True, iterations=3, strength=0.4)
        assert result.dtype == np.uint8
        assert info["method"] == "richardson-lucy"
        assert info["variant"] == "adjoint"
        assert info["gamma"] == 2.2
        assert info["device"] == str(blurfield.compute.choose_device("auto"))
        assert info["strength"] == 0.4
        assert info["options"] == {"iterations": 3}
        assert info["iterations"] == 3
        json.dumps(info)

    def test_gamma_of_the_field_is_taken(self):
        image = (picture() * 255).astype(np.uint8)
        recorded = line_field(gamma=1.7)
        assert deblur(image, recorded, iterations=1, return_info=True)[1]["gamma"] == 1.7
        assert deblur(image, recorded, gamma=1, iterations=1, return_info=True)[1]["gamma"] == 1.0
        np.testing.assert_array_equal(reblur(image, recorded), reblur(image, recorded, gamma=1.7))
        assert (reblur(image, recorded) != reblur(image, line_field())).any()

    def test_strength_goes_from_calm_to_crisp(self):
        rng = np.random.default_rng(0)
        image = reblur(picture(), line_field()) + 0.02 * rng.normal(size=SHAPE)
        calm, usual, crisp = (
            np.abs(np.diff(deblur(image.clip(0, 1), line_field(), strength=s))).sum()
            for s in (0, 0.5, 1)
        )
        assert calm < usual < crisp

    def test_published_variants_are_clamped_and_differ(self):
        image = picture(3).clip(0, 1) ** 0.3
        results = [
            deblur(image, line_field(), variant=variant, gamma=2.2, iterations=5)
            for variant in VARIANTS
        ]
        for i, result in enumerate(results):
            assert np.isfinite(result).all()
            assert i == 0 or result.max() <= 1 + 1e-6
            assert all((result != other).any() for other in results[:i])


class TestReblur:
    def test_is_the_operator_in_linear_light(self):
        image = (picture(3) * 255).astype(np.uint8)
        source = LinearImage.from_array(image)
        for boundary in ("reflect", "replicate", "circular"):
            expected = BlurOperator(line_field(), boundary=boundary).forward(source.planes)
            np.testing.assert_array_equal(
                reblur(image, line_field(), boundary=boundary), source.to_array(expected)
            )

    def test_delta_changes_nothing(self):
        delta = torch.zeros(5, 5)
        delta[2, 2] = 1
        image = (picture(3) * 255).astype(np.uint8)
        np.testing.assert_array_equal(reblur(image, KernelField.uniform(delta, SHAPE)), image)


class TestProgress:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_counts_every_iteration(self, variant):
        seen = []
        image = picture().astype(np.float32)
        deblur(
            image,
            line_field(),
            variant=variant,
            iterations=4,
            progress=lambda *report: seen.append(report),
        )
        done = [d for d, _, _ in seen]
        assert {total for _, total, _ in seen} == {4}
        assert done[0] == 0
        assert done[-1] == 4
        assert done == sorted(done)
        assert set(done) == set(range(5))
        assert all("Richardson-Lucy" in message for *_, message in seen)

    def test_ends_complete_after_an_early_stop(self):
        seen = []
        _, info = deblur(
            np.full(SHAPE, 0.5),
            line_field(),
            progress=lambda *report: seen.append(report),
            return_info=True,
        )
        assert info["converged"]
        assert info["iterations"] < 10
        assert seen[-1][0] == seen[-1][1]

    @pytest.mark.parametrize("variant", ["adjoint", "combined"])
    def test_cancel_between_tiles(self, variant, monkeypatch):
        # The heartbeat is what keeps callbacks from being called thousands of times.
        monkeypatch.setattr("blurfield.compute._HEARTBEAT", 0.0)
        calls = 0

        def progress(done: int, total: int, message: str) -> None:
            nonlocal calls
            calls += 1
            if calls == 3:  # within the first iteration
                assert done == 0
                raise Cancelled

        with pytest.raises(Cancelled):
            deblur(picture(3).astype(np.float32), line_field(), progress=progress, variant=variant)
        assert calls == 3

    def test_reports_at_least_once_a_second(self):
        times = [time.monotonic()]
        image = picture(3, shape=(320, 480)).astype(np.float32)
        deblur(
            image,
            line_field(shape=(320, 480)),
            iterations=8,
            progress=lambda *_: times.append(time.monotonic()),
        )
        assert max(np.diff(times)) < 1

    def test_reblur_cancels(self):
        def progress(*_: object) -> None:
            raise Cancelled

        with pytest.raises(Cancelled):
            reblur(picture(), line_field(), progress=progress)


class TestErrors:
    IMAGE = (picture(3) * 255).astype(np.uint8)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"method": "magic"}, ValueError, "'magic'.*installed: auto, richardson-lucy"),
            ({"method": "sharpen"}, ValueError, "unknown method 'sharpen'"),
            ({"variant": "best"}, ValueError, "'best'.*adjoint, basic, function, masked, combined"),
            ({"gamma": -1}, ValueError, "gamma"),
            ({"device": "quantum"}, ValueError, "device"),
            ({"iterations": 0}, ValueError, "iterations.*is 0"),
            ({"iterations": 2.5}, ValueError, "iterations.*is 2.5"),
            ({"iterations": 0, "variant": "basic"}, ValueError, "iterations.*is 0"),
            ({"strength": -1}, ValueError, "strength.*is -1"),
            ({"strength": float("nan")}, ValueError, "strength.*is nan"),
            ({"strength": 1.5, "variant": "basic"}, ValueError, "strength.*is 1.5"),
            ({"tolerance": -1e-3}, ValueError, "tolerance"),
            ({"sharpness": 2}, TypeError, "'sharpness'.*iterations.*tolerance, variant"),
            ({"dilate": True}, TypeError, "'dilate'.*'adjoint'"),
            ({"threshold": 0.5, "variant": "basic"}, ValueError, "threshold.*'basic'"),
            ({"early_stop": True, "variant": "masked"}, ValueError, "early_stop.*'masked'"),
        ],
    )
    def test_bad_arguments(self, arguments, error, message):
        with pytest.raises(error, match=message):
            deblur(self.IMAGE, line_field(), **arguments)

    @pytest.mark.parametrize("function", [deblur, reblur])
    @pytest.mark.parametrize(
        ("image", "error", "message"),
        [
            (np.full((48, 56), np.nan), ValueError, "2688 values.*NaN"),
            (np.zeros((48, 56), complex), TypeError, "complex"),
            (np.zeros((48, 55)), ValueError, "48×56.*48×55"),
            (np.zeros((0, 5)), ValueError, "empty"),
            (np.zeros((1, 1)), ValueError, "48×56.*1×1"),
        ],
    )
    def test_bad_images(self, function, image, error, message):
        with pytest.raises(error, match=message):
            function(image, line_field())

    @pytest.mark.parametrize("function", [deblur, reblur])
    def test_smaller_than_the_kernels(self, function):
        with pytest.raises(ValueError, match=r"6×20.*smaller.*7×7"):
            function(np.zeros((6, 20)), line_field(shape=(6, 20)))

    @pytest.mark.parametrize("boundary", ["valid", "mirror"])
    def test_reblur_boundary(self, boundary):
        with pytest.raises(ValueError, match="reflect"):
            reblur(self.IMAGE, line_field(), boundary=boundary)

    @pytest.mark.parametrize(
        "cause",
        [
            torch.OutOfMemoryError("CUDA out of memory"),
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        ],
    )
    def test_out_of_memory(self, monkeypatch, cause):
        def full(*_: object) -> None:
            raise cause

        monkeypatch.setattr(BlurOperator, "forward", full)
        for function in (deblur, reblur):
            with pytest.raises(MemoryError, match="crop it"):
                function(self.IMAGE, line_field())

    def test_other_runtime_errors_are_not_hidden(self, monkeypatch):
        def broken(*_: object) -> None:
            raise RuntimeError("something else")

        monkeypatch.setattr(BlurOperator, "forward", broken)
        with pytest.raises(RuntimeError, match="something else"):
            deblur(self.IMAGE, line_field())


@pytest.mark.parametrize("method", installed_methods())
def test_every_method_has_a_title_and_its_solvers(method):
    assert METHODS[method].title
    for variant in METHODS[method].variants:
        assert choose_method(method, {"variant": variant}).variant == variant


def test_options_of_another_variant_are_refused():
    with pytest.raises(TypeError, match=r"'tolerance'.*'basic'.*threshold"):
        choose_method("richardson-lucy", {"variant": "basic", "tolerance": 0.1})


@pytest.fixture
def denoiser_installed(monkeypatch):
    monkeypatch.setattr("blurfield.checkpoints.find", lambda _: object())


class TestAutomaticChoice:
    @pytest.mark.usefixtures("denoiser_installed")
    @pytest.mark.parametrize(
        ("options", "pixels", "device", "expected"),
        [
            ({}, 10_000, "cpu", "plug-and-play"),
            ({"variant": "best", "noise": (0.1, 0.1)}, 10_000, "cpu", "plug-and-play"),
            ({}, 20_000_000, "cpu", "richardson-lucy"),
            ({}, 20_000_000, "cuda", "plug-and-play"),
            ({"tolerance": 0.01}, 10_000, "cpu", "richardson-lucy"),
            ({"variant": "basic"}, 10_000, "cpu", "richardson-lucy"),
        ],
    )
    def test_by_options_size_and_device(self, options, pixels, device, expected):
        choice = choose_method("auto", options, pixels=pixels, device=torch.device(device))
        assert choice.method == expected

    def test_without_a_network(self, monkeypatch):
        monkeypatch.setattr("blurfield.checkpoints.find", lambda _: None)
        assert choose_method("auto", {}).method == "richardson-lucy"

    def test_estimated_fields_get_the_robust_method(self):
        known, estimated = (
            choose_method("auto", {}, estimated=value).method for value in (False, True)
        )
        assert (known, estimated) == ("plug-and-play", "richardson-lucy")
        image, field = picture(3), line_field().with_metadata(model="windowed")
        _, info = blurfield.deblur(image, field, iterations=2, return_info=True)
        assert info["method"] == "richardson-lucy"

    def test_deblur_tells_size_and_device(self, monkeypatch):
        asked = []

        def choose(name, options, **facts):
            asked.append(facts)
            return choose_method("tikhonov", options)

        monkeypatch.setattr("blurfield.restoration.deblurring.choose_method", choose)
        blurfield.deblur(picture(), line_field(), device="cpu")
        expected = {"pixels": 48 * 56, "device": torch.device("cpu"), "estimated": False}
        assert asked == [expected]

    def test_unknown_options_are_still_refused(self):
        with pytest.raises(TypeError, match="'sharpness'"):
            choose_method("auto", {"sharpness": 1})
