"""Choosing photographs, making fixed scenes of them, and judging fields on these."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from drawings import photograph

from blurfield import Cancelled, KernelField, reblur
from blurfield.checkpoints import write_checkpoint
from blurfield.evaluation import SETTINGS, Scene, Setting, evaluate_synthetic, make_scene, psnr
from blurfield.evaluation import contenders as contenders_module
from blurfield.evaluation.photographs import photograph_files, read_photograph
from blurfield.evaluation.report import synthetic_table
from blurfield.evaluation.scenes import guesses
from blurfield.files import write_image

if TYPE_CHECKING:
    from pathlib import Path

SMALL = Setting("uniform", max_extent=9)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(2):
        write_image(tmp_path / f"photo{number}.png", photograph(seed=number))
    return tmp_path


@pytest.fixture
def small_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("uniform", "segments"):
        monkeypatch.setitem(SETTINGS, kind, Setting(kind, max_extent=9))


def test_all_images_of_a_folder_without_manifest(folder: Path) -> None:
    (folder / "notes.txt").write_text("no image")
    assert [path.name for path in photograph_files(folder, 9)] == ["photo0.png", "photo1.png"]
    assert [path.name for path in photograph_files(folder, 1)] == ["photo0.png"]


def test_manifest_chooses_validation_photographs(tmp_path: Path) -> None:
    rows = ["file,split,kind"]
    rows += [f"v{number}.png,val,photo" for number in range(5)]
    rows += ["t.png,train,photo", "m.png,val,micro"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows), encoding="utf-8")
    names = [path.name for path in photograph_files(tmp_path, 3)]
    assert names == ["v0.png", "v2.png", "v4.png"]
    (tmp_path / "manifest.csv").write_text("file,split\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no column kind"):
        photograph_files(tmp_path, 3)


def test_folders_without_photographs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder"):
        photograph_files(tmp_path / "away", 1)
    with pytest.raises(ValueError, match="no images"):
        photograph_files(tmp_path, 1)
    with pytest.raises(ValueError, match="at least 1"):
        photograph_files(tmp_path, 0)


def test_photographs_of_other_types_become_8_bit(tmp_path: Path) -> None:
    light = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    write_image(tmp_path / "light.npy", light)
    read = read_photograph(tmp_path / "light.npy")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, np.rint(255 * light ** (1 / 2.2)).astype(np.uint8))
    rgba = np.full((8, 8, 4), 7, np.uint8)
    write_image(tmp_path / "rgba.png", rgba)
    np.testing.assert_array_equal(read_photograph(tmp_path / "rgba.png"), rgba[..., :3])


def test_scenes_are_fixed_by_their_seed() -> None:
    first, again, other = (
        make_scene(photograph(), "p", "uniform", SMALL, seed, 3) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.blurry, again.blurry)
    assert (first.truth.basis == again.truth.basis).all()
    assert not np.array_equal(first.blurry, other.blurry)
    assert first.blurry.shape == (88, 88, 3)
    assert first.truth.shape == (88, 88)


def test_kinds_of_one_blur_share_their_kernels() -> None:
    scenes = [
        make_scene(photograph(160), "p", kind, SETTINGS[kind], 0, 0)
        for kind in ("uniform", "saturated", "noisy")
    ]
    for scene in scenes[1:]:
        assert (scene.truth.basis == scenes[0].truth.basis).all()
    clipped = [float((scene.sharp() == 1).mean()) for scene in scenes]
    assert clipped[0] == 0 < 0.1 < clipped[1]


def test_large_scenes_are_larger_than_usual_kernels() -> None:
    setting = SETTINGS["large"]
    scene = make_scene(photograph(256), "p", "large", setting, 0, 0)
    taps = scene.truth.basis[0].nonzero()
    extent = int((taps.amax(0) - taps.amin(0) + 1).max())
    assert 33 < extent <= scene.truth.kernel_size == 65


def test_scene_without_noise_is_the_true_field_applied_to_the_photograph() -> None:
    setting = Setting("segments", max_extent=9, noise=0)
    image = photograph()
    scene = make_scene(image, "p", "segments", setting, 0, 0)
    np.testing.assert_allclose(scene.sharp(), image[4:-4, 4:-4] / 255, atol=1e-6)
    clean = scene.reblurred(scene.truth)
    np.testing.assert_allclose(scene.blurry / 255, clean, atol=0.5 / 255 + 1e-5)


@pytest.mark.parametrize("size", [5, 9, 15])
def test_reblurring_takes_kernels_of_any_size(size: int) -> None:
    scene = make_scene(photograph(), "p", "uniform", SMALL, 0, 0)
    kernel = np.zeros((size, size), np.float32)
    kernel[size // 2, size // 2 - 1 : size // 2 + 2] = 1 / 3
    field = KernelField.uniform(kernel, scene.truth.shape)
    again = scene.reblurred(field)
    expected = reblur(scene.sharp(), field, gamma=2.2)
    inner = slice(size, -size), slice(size, -size)
    np.testing.assert_allclose(again[inner], expected[inner], atol=1e-5)


def test_guesses_have_the_size_of_the_scene() -> None:
    fields = guesses(Setting("uniform", max_extent=14), (80, 90), seed=0)
    assert list(fields) == ["delta", "mean kernel"]
    assert fields["delta"].l2_norms() == 1
    for field in fields.values():
        assert (field.kernel_size, field.shape) == (15, (80, 90))


def test_true_field_is_the_best_of_all(folder: Path, small_kinds: None) -> None:
    reports: list[tuple[int, int, str]] = []
    results = evaluate_synthetic(
        folder,
        kinds=["uniform", "segments"],
        count=1,
        models=[],
        device="cpu",
        progress=lambda *report: reports.append(report),
    )
    assert reports[0][:2] == (0, 6)
    assert reports[-1][:2] == (6, 6)
    assert list(results["kinds"]) == ["uniform", "segments"]
    for figures in (*results["kinds"].values(), results["all"]):
        delta, mean, truth = figures["fields"].values()
        assert list(figures["fields"]) == ["delta", "mean kernel", "true field"]
        assert truth["similarity"] == pytest.approx(1, abs=1e-4)
        assert truth["l1"] == pytest.approx(0, abs=1e-4)
        assert truth["reblur_psnr"] == math.inf
        assert truth["gain_fraction"] == 1
        assert truth["gain"] > 2 > delta["gain"]
        for guess in (delta, mean):
            assert guess["similarity"] < 0.95
            assert guess["l1"] > 0.2
            assert guess["worst_similarity"] <= guess["similarity"]
            assert guess["seconds"] is None
    assert results["all"]["images"] == 2
    gains = [
        kind["scenes"][0]["fields"]["true field"]["gain"] for kind in results["kinds"].values()
    ]
    assert results["all"]["fields"]["true field"]["gain"] == pytest.approx(np.mean(gains))

    lines = synthetic_table(results).splitlines()
    assert len(lines) == 1 + 3 * 3
    assert lines[0].split()[:3] == ["kind", "images", "field"]
    assert [line.split()[0] for line in lines[1::3]] == ["uniform", "segments", "all"]
    assert lines[3].split()[:3] == ["true", "field", "1.000"]
    assert lines[3].split()[-1] == "100"


def test_results_are_repeatable(folder: Path, small_kinds: None) -> None:
    runs = [
        evaluate_synthetic(
            folder, kinds=["segments"], count=1, models=[], deblurring=False, device="cpu"
        )
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert json.loads(json.dumps(runs[0])) == runs[0]


class _Moved:
    """An estimator that knows the truth, but for a translation."""

    def __init__(self, scenes: dict[bytes, Scene]) -> None:
        self.scenes = scenes

    def __call__(self, image: np.ndarray, model: str, progress: Any, **_: Any) -> KernelField:
        progress(0, 1, model)
        truth = self.scenes[image.tobytes()].truth
        size = truth.kernel_size + 4
        basis = truth.basis.new_zeros(truth.num_kernels, size, size)
        basis[:, 3:-1, :-4] = truth.basis
        return KernelField(basis, truth.mixing, truth.shape)


def test_a_common_translation_does_not_count(
    folder: Path, small_kinds: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = make_scene(photograph(), "photo0", "segments", SETTINGS["segments"], 0, 0)
    oracle = _Moved({scene.blurry.tobytes(): scene})
    monkeypatch.setattr(contenders_module, "estimate", oracle)
    results = evaluate_synthetic(
        folder, kinds=["segments"], count=1, models=["windowed"], device="cpu"
    )
    figures = results["all"]["fields"]["windowed"]
    assert figures["similarity"] == pytest.approx(1, abs=1e-4)
    assert figures["l1"] == pytest.approx(0, abs=1e-4)
    # The segments stay where they are, while the image moves: close to the truth, but not equal.
    assert figures["reblur_psnr"] > 25
    assert figures["gain_fraction"] > 0.6
    assert figures["seconds"] > 0


def checkpoint(path: Path, architecture: str) -> Path:
    weights = {"weight": torch.zeros(2)}
    write_checkpoint(
        path, weights, architecture=architecture, config={}, gamma=2.2, origin="a test"
    )
    return path


def test_checkpoints_are_measured_under_their_files_names(
    folder: Path, small_kinds: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def estimate(image: np.ndarray, **options: Any) -> KernelField:
        asked.append((options["model"], options["checkpoint"].path))
        return KernelField.uniform(np.ones((1, 1), np.float32), image.shape[:2])

    monkeypatch.setattr(contenders_module, "estimate", estimate)
    first = checkpoint(tmp_path / "step-1000.safetensors", "compact")
    (tmp_path / "other").mkdir()
    second = checkpoint(tmp_path / "other" / "step-1000.safetensors", "two-heads")
    results = evaluate_synthetic(
        folder,
        kinds=["uniform"],
        count=1,
        models=[],
        checkpoints=[first, second],
        deblurring=False,
        device="cpu",
    )
    assert asked == [("compact", first), ("two-heads", second)]
    assert list(results["all"]["fields"])[2:-1] == ["step-1000", str(second)]


def test_files_that_are_no_estimator_are_refused(folder: Path, tmp_path: Path) -> None:
    denoiser = checkpoint(tmp_path / "denoiser.safetensors", "denoiser")
    with pytest.raises(ValueError, match="'denoiser', which is not a way to estimate"):
        evaluate_synthetic(folder, models=[], checkpoints=[denoiser], device="cpu")
    with pytest.raises(ValueError, match="as weights"):
        evaluate_synthetic(folder, models=[], checkpoints=[folder / "photo0.png"], device="cpu")
    with pytest.raises(FileNotFoundError, match="away"):
        evaluate_synthetic(folder, models=[], checkpoints=[folder / "away"], device="cpu")


def test_without_deblurring_there_are_no_gains(folder: Path, small_kinds: None) -> None:
    results = evaluate_synthetic(
        folder, kinds=["uniform"], count=1, models=[], deblurring=False, device="cpu"
    )
    for figures in results["all"]["fields"].values():
        assert figures["gain"] is figures["psnr"] is figures["gain_fraction"] is None
    assert results["all"]["blurry_psnr"] is None
    table = synthetic_table(results)
    assert "reblur/dB" in table
    assert "gain" not in table
    assert "s/image" not in table


def test_progress_can_cancel(folder: Path, small_kinds: None) -> None:
    def cancel(done: int, total: int, message: str) -> None:
        if done == 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        evaluate_synthetic(folder, kinds=["uniform"], models=[], device="cpu", progress=cancel)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"kinds": ["wobbly"]}, "known: uniform, segments"),
        ({"models": ["oracle"]}, "installed: "),
        ({"seed": -1}, "seed must be"),
        ({"kinds": ["large"]}, r"photo0\.png, kind of scene 'large': .*too small"),
    ],
)
def test_bad_options_are_refused(folder: Path, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        evaluate_synthetic(folder, device="cpu", **{"models": [], **options})


def test_psnr_of_the_noise_is_what_was_asked_for() -> None:
    scene = make_scene(photograph(), "p", "uniform", Setting("uniform", 9, noise=0.03), 0, 0)
    found = psnr(scene.reblurred(scene.truth), scene.blurry / 255)
    assert found == pytest.approx(20 * math.log10(1 / 0.03), abs=0.3)
