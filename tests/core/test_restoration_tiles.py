"""Images that are restored in tiles: as if they had been restored whole."""

from __future__ import annotations

import time
from functools import cache, wraps
from typing import Any

import numpy as np
import pytest
import torch

from blurfield import Cancelled, KernelField, deblur, simulate
from blurfield.checkpoints import find
from blurfield.image_parts import ImageParts
from blurfield.images import LinearImage
from blurfield.restoration import METHODS, deblurring, installed_methods, pilot
from blurfield.restoration.noise import estimate_noise, resolve_noise
from blurfield.restoration.pilot import pilot_part
from blurfield.restoration.tiles import bytes_needed, deblur_in_tiles
from blurfield.restoration.trust import local_doubt

#: In half precision, networks round differently in tiles.
pytestmark = pytest.mark.usefixtures("single_precision")

#: Memory for tiles of about so many pixels, which are fewer than those of the image.
SMALL = bytes_needed((48, 290), 3)
#: Networks are slow, and each of their steps makes the same demands on the overlap.
OPTIONS: dict[str, dict[str, Any]] = {
    "plug-and-play": {"iterations": 3},
    "steepest-descent": {"iterations": 3},
}


@cache
def blurry(kind: str = "rotation", noise: float = 0.01) -> tuple[np.ndarray, KernelField]:
    from skimage.data import astronaut

    sharp = np.ascontiguousarray(astronaut()[60:108, 60:460])
    return simulate(sharp, kind=kind, max_extent=5, kernel_size=5, noise=noise, seed=1)


@pytest.fixture(autouse=True)
def small_pilot(monkeypatch):
    """Images as small as these have a pilot, too."""
    monkeypatch.setattr(pilot, "SIDE", 48)


def difference(method: str, image: np.ndarray, field: KernelField, **options: Any) -> float:
    """Largest difference between the image restored in tiles and whole, white = 1."""
    results = []
    for memory in ("auto", SMALL):
        result, info = deblur(
            image, field, method, memory=memory, dtype=np.float32, return_info=True, **options
        )
        results.append(result / np.iinfo(image.dtype).max)
        assert ("tiles" in info) == (memory != "auto")
    assert info["tiles"] > 1
    return float(np.abs(results[0] - results[1]).max())


class TestSeams:
    @pytest.mark.parametrize("method", METHODS)
    def test_tiles_are_as_the_whole(self, method):
        if method not in installed_methods():
            pytest.skip("its weights are not installed")
        options = OPTIONS.get(method, {})
        assert difference(method, *blurry(), **options) < 1e-3

    @pytest.mark.parametrize("kind", ["uniform", "segments", "rotation"])
    def test_all_iterations(self, kind):
        assert difference("richardson-lucy", *blurry(kind, 0.003)) < 1e-3

    def test_learned_trust_in_estimates(self):
        """With an estimated field, the network for trust looks at each tile."""
        image, field = blurry()
        estimated = field.with_metadata(model="windowed", source={})
        assert find("trust") is not None
        assert difference("richardson-lucy", image, estimated) < 1e-3

    def test_published_variant(self):
        assert difference("richardson-lucy", *blurry(), variant="combined", iterations=10) < 1e-3

    def test_doubt_does_not_depend_on_where_an_image_begins(self):
        generator = torch.Generator().manual_seed(0)
        misfit = 3 * torch.rand(1, 60, 200, generator=generator)
        misfit[..., 80:110] = 0.5
        part = local_doubt(misfit[..., 33:171], 18)
        inner = local_doubt(misfit, 18)[..., 33 + 9 : 171 - 9]
        torch.testing.assert_close(part[..., 9:-9], inner, rtol=0, atol=1e-5)
        assert inner.min() == 0
        assert inner.max() > 0.1


def remember(calls: list[dict[str, Any]]) -> Any:
    """A solver that changes nothing and remembers how it was called."""

    def solve(
        planes: torch.Tensor,
        field: KernelField,
        *,
        gamma: float,
        smoothing: float,
        noise: Any = "auto",
        progress: Any = None,
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        assert planes.shape[1:] == field.shape
        calls.append({"noise": noise, "shape": field.shape, "field": field})
        if progress is not None:
            progress(0, 2, "nothing")
            progress(2, 2, "nothing")
        return planes, {"unexplained": float(len(calls) % 2)}

    return solve


def in_tiles(image: np.ndarray, field: KernelField, calls: list[Any], **options: Any) -> Any:
    return deblur_in_tiles(
        ImageParts(image),
        field,
        remember(calls),
        memory=SMALL,
        device=torch.device("cpu"),
        options={"gamma": 2.2, "smoothing": 1.0, **options.pop("options", {})},
        **options,
    )


class TestTiling:
    def test_what_is_not_changed_comes_back(self):
        image, field = blurry()
        calls: list[dict[str, Any]] = []
        result, info = in_tiles(image, field, calls)
        np.testing.assert_array_equal(result, image)
        assert info["tiles"] == len(calls) > 2
        assert 0 < info["unexplained"] < 1

    def test_fields_are_parts_of_that_of_the_image(self):
        image, field = blurry()
        calls: list[dict[str, Any]] = []
        in_tiles(image, field, calls)
        first = calls[0]["field"]
        torch.testing.assert_close(first.kernel_at(3, 5), field.kernel_at(3, 5))
        last = calls[-1]["field"]
        torch.testing.assert_close(
            last.kernel_at(last.shape[0] - 1, last.shape[1] - 1),
            field.kernel_at(field.shape[0] - 1, field.shape[1] - 1),
        )

    @pytest.mark.parametrize("option", ["auto", "per-channel"])
    def test_noise_is_that_of_the_whole(self, option):
        image, field = blurry()
        uneven = image.copy()
        uneven[:, :100] = np.random.default_rng(0).integers(0, 256, (48, 100, 3))
        calls: list[dict[str, Any]] = []
        in_tiles(uneven, field, calls, options={"noise": option})
        expected = resolve_noise(option, LinearImage.from_array(uneven).planes)
        for call in calls:
            for (gain, read_noise), model in zip(call["noise"], expected, strict=True):
                assert gain == pytest.approx(model.gain, rel=0.02)
                assert read_noise**2 == pytest.approx(model.floor, rel=0.02)

    def test_noise_of_many_pixels_is_that_of_the_same_blocks(self, monkeypatch):
        monkeypatch.setattr("blurfield.restoration.noise._MAX_BLOCKS", 3000)
        image, field = blurry()
        calls: list[dict[str, Any]] = []
        in_tiles(image, field, calls)
        whole = estimate_noise(LinearImage.from_array(image).planes)
        assert calls[0]["noise"][0][0] == pytest.approx(whole.gain, rel=0.1)

    def test_known_noise_is_left_alone(self):
        calls: list[dict[str, Any]] = []
        in_tiles(*blurry(), calls, options={"noise": (0.001, 0.01)})
        np.testing.assert_allclose(calls[0]["noise"], [(0.001, 0.01)] * 3)

    def test_progress_of_all_tiles(self):
        told: list[tuple[int, int, str]] = []
        in_tiles(*blurry(), [], progress=lambda *report: told.append(report))
        done = [report[0] for report in told]
        assert done == sorted(done)
        assert done[0] == 0
        assert done[-1] == told[-1][1]
        assert {report[1] for report in told} == {told[-1][1]}
        assert told[-1][2].startswith("part ")

    def test_arrays_on_disk(self, tmp_path, monkeypatch):
        image, field = blurry()
        np.save(tmp_path / "image.npy", image)
        largest = 0
        from_array = LinearImage.from_array.__func__

        def watched(cls: Any, array: Any, **options: Any) -> Any:
            nonlocal largest
            largest = max(largest, array.shape[0] * array.shape[1])
            return from_array(cls, array, **options)

        monkeypatch.setattr(LinearImage, "from_array", classmethod(watched))
        monkeypatch.setattr("blurfield.image_parts._PIXELS", 400 * 10)
        result, _ = in_tiles(np.load(tmp_path / "image.npy", mmap_mode="r"), field, [])
        np.testing.assert_array_equal(result, image)
        assert 0 < largest < 0.8 * image.shape[0] * image.shape[1]


class TestPilot:
    def test_it_is_where_the_texture_is(self):
        image = torch.zeros(3, 200, 300)
        image[:, 70:120, 200:250] = torch.rand(3, 50, 50)
        part = pilot_part((200, 300), lambda part: image[:, *part])
        assert part == (slice(48, 96), slice(192, 240))
        assert pilot_part((40, 300), lambda part: image[:, *part])[0] == slice(0, 40)
        assert pilot_part((48, 40), lambda part: image[:, *part]) == (slice(0, 48), slice(0, 40))


class TestEntry:
    def test_memory_that_is_too_small_leads_to_tiles(self, monkeypatch):
        monkeypatch.setattr(deblurring, "available_memory", lambda device: SMALL)
        _, info = deblur(*blurry(), iterations=1, device="cpu", return_info=True)
        assert info["tiles"] > 1

    @pytest.mark.parametrize(
        "cause",
        [
            torch.OutOfMemoryError("CUDA out of memory"),
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            MemoryError("Unable to allocate 3 GiB"),
        ],
    )
    def test_memory_that_runs_out_leads_to_smaller_tiles(self, monkeypatch, cause):
        image, field = blurry()
        expected = deblur(image, field, "tikhonov")
        seen = []

        choice = deblurring.choose_method("tikhonov", {})

        @wraps(choice.solve)
        def limited(planes, *args, **options):
            seen.append(planes.shape[-1])
            if planes.shape[-1] > 300:
                raise cause
            return choice.solve(planes, *args, **options)

        limits = choice._replace(solve=limited)
        monkeypatch.setattr(deblurring, "choose_method", lambda *_, **__: limits)
        result, info = deblur(image, field, "tikhonov", return_info=True)
        assert seen[0] == 400
        assert info["tiles"] > 1
        assert np.abs(result.astype(int) - expected).max() <= 1

    @pytest.mark.parametrize("memory", [0, -5, 2.5, "much"])
    def test_wrong_memory(self, memory):
        with pytest.raises(ValueError, match=r"memory must be .* but is"):
            deblur(*blurry(), memory=memory)

    def test_forms_of_images(self):
        image, field = blurry()
        alpha = np.arange(image[..., 0].size, dtype=np.uint8).reshape(image[..., :1].shape)
        result = deblur(np.concatenate([image, alpha], -1), field, memory=SMALL, iterations=1)
        np.testing.assert_array_equal(result[..., 3:], alpha)
        planes = torch.tensor(np.moveaxis(image, -1, 0)).to(torch.float64) / 255
        moved = deblur(planes, field, memory=SMALL, iterations=1, channel_axis=0, gamma=2.2)
        assert moved.shape == planes.shape
        assert moved.dtype == torch.float64
        difference = moved.movedim(0, -1).numpy() - result[..., :3] / 255.0
        assert np.abs(difference).max() < 0.01

    def test_it_can_be_cancelled(self):
        image, field = blurry()
        stopped_at = None

        def progress(done: int, total: int, message: str) -> None:
            nonlocal stopped_at
            if done > 0.2 * total:
                stopped_at = stopped_at or time.monotonic()
                raise Cancelled

        with pytest.raises(Cancelled):
            deblur(image, field, memory=SMALL, progress=progress)
        assert stopped_at is not None
        assert time.monotonic() - stopped_at < 1
