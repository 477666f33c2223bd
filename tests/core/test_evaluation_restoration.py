"""Measuring ways to deblur: scenes, contenders, judgement, and runs that go on where they were."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from drawings import photograph

from blurfield import Cancelled, KernelField
from blurfield.cli import main
from blurfield.evaluation import Setting, compare, evaluate_pair, evaluate_restoration, rivals
from blurfield.evaluation import contenders as contenders_module
from blurfield.evaluation import restorers as restorers_module
from blurfield.evaluation.report import restoration_table
from blurfield.evaluation.restoration import BLURRY
from blurfield.evaluation.restoration_bench import Bench
from blurfield.evaluation.restoration_scenes import CLIPPED_KINDS, KINDS, Case, cases, middle
from blurfield.evaluation.restorers import Restorer, restorers
from blurfield.evaluation.scenes import make_scene
from blurfield.files import write_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RL, SK_RL, SK_WIENER = "richardson-lucy", "skimage richardson_lucy", "skimage unsupervised_wiener"
CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(2):
        write_image(tmp_path / f"photo{number}.png", photograph(72, seed=number))
    return tmp_path


@pytest.fixture(autouse=True)
def small_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    for kinds in (KINDS, CLIPPED_KINDS):
        for kind, setting in kinds.items():
            monkeypatch.setitem(kinds, kind, replace(setting, max_extent=9))


def bench(case: Case, **options: Any) -> Bench:
    facts = {"seed": 0, "number": 0, "device": CPU, "estimator": None, "poll": lambda: None}
    return Bench(case, photograph(), "p", **{**facts, **options})


def fixed(monkeypatch: pytest.MonkeyPatch, *images: np.ndarray) -> Restorer:
    """A rival whose results are known."""

    def solve(*_: Any) -> Iterator[tuple[str, np.ndarray]]:
        yield from ((str(number), image) for number, image in enumerate(images))

    monkeypatch.setitem(rivals.RIVALS, "fixed", solve)
    return Restorer("fixed", "fixed")


# Scenes and judgement


def test_cases() -> None:
    found = cases(["uniform", "lights"], (0.01, 0.03))
    assert [(case.kind, case.setting.noise, case.clips) for case in found] == [
        ("uniform", 0.01, False),
        ("uniform", 0.03, False),
        ("lights", 0.01, True),
    ]
    assert [case.uniform for case in found] == [True, True, False]
    assert len(cases(None, (0.01,))) == 6


def test_middle() -> None:
    image = np.arange(7 * 4).reshape(7, 4).astype(np.uint8)
    np.testing.assert_array_equal(middle(image, 3), image[2:5, :3])
    assert middle(image, None) is image


def test_lamps_are_far_brighter_than_white() -> None:
    (case,) = cases(["lights"], ())
    scene = case.scene(photograph(), "p", 0, 0)
    again, other = (case.scene(photograph(), "p", seed, 0) for seed in (0, 1))
    np.testing.assert_array_equal(scene.blurry, again.blurry)
    assert not np.array_equal(scene.light, other.light)
    assert 4 < scene.light.max() <= 8
    assert 0.002 < (scene.light > 1).float().mean() < 0.1
    assert scene.light.median() < 0.6


def test_perfect_and_blurry_images_have_the_figures_of_such(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (case,) = cases(["uniform"], (0.01,))
    place = bench(case)
    truth, blurry = place.scene.sharp(), place.scene.blurry / 255
    found = place.measure(fixed(monkeypatch, blurry))
    assert (found.gain, found.ssim_gain) == (0, 0)
    inner = slice(4, -4), slice(4, -4)
    assert found.psnr == pytest.approx(compare(truth[inner], blurry[inner])["psnr"])
    almost = truth + 0.001
    found = place.measure(fixed(monkeypatch, almost))
    assert found.psnr == pytest.approx(60)
    assert found.gain == pytest.approx(60 - place.blurry.psnr)
    assert found.seconds >= 0


def test_the_best_of_several_settings_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    (case,) = cases(["uniform"], (0.01,))
    place = bench(case)
    truth = place.scene.sharp()
    images = [truth + error for error in (0.1, 0.01, 0.02, 0.0001)]
    found = place.measure(fixed(monkeypatch, *images))
    assert found.setting == "1"
    assert found.psnr == pytest.approx(40)


def test_edges_and_clipped_light_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    (case,) = cases(["lights"], ())
    place = bench(case)
    scene = place.scene
    clipped = np.maximum(scene.sharp(), scene.reblurred(scene.truth)).max(axis=2) >= 1
    assert 0.01 < clipped.mean() < 0.5
    base = scene.sharp() + 0.01
    spoilt = base.copy()
    spoilt[clipped] = 0.3
    spoilt[:4] = 0
    spoilt[:, -4:] = 0
    assert place.measure(fixed(monkeypatch, spoilt)).psnr == pytest.approx(40)
    (plain,) = cases(["uniform"], (0.01,))
    assert bench(plain).measure(fixed(monkeypatch, spoilt)).psnr < 30


class _Estimator:
    """Knows the truth, but for a translation."""

    def __init__(self, truth: KernelField) -> None:
        self.truth = truth

    def estimate(self, *_: Any) -> KernelField:
        shifted = self.truth.basis.roll((1, 2), (1, 2))
        return KernelField(shifted, self.truth.mixing, self.truth.shape)


def test_translations_of_estimates_do_not_count() -> None:
    (case,) = cases(["uniform"], (0.01,))
    place = bench(case)
    size = place.scene.truth.kernel_size + 4
    wider = place.scene.truth.basis.new_zeros(1, size, size)
    wider[:, 2:-2, 2:-2] = place.scene.truth.basis
    truth = KernelField(wider, place.scene.truth.mixing, place.scene.truth.shape)
    estimated = bench(case, estimator=_Estimator(truth))
    (restorer,) = restorers([RL])
    gain = place.measure(restorer).gain
    assert gain > 3
    assert estimated.measure(restorer).gain == pytest.approx(gain, abs=1.5)


# Whole evaluations


def without_seconds(results: dict[str, Any]) -> Any:
    text = json.dumps(results)
    return json.loads(text, object_hook=lambda d: {k: v for k, v in d.items() if k != "seconds"})


def test_evaluation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "_ITERATIONS", (3, 6))
    reports: list[tuple[int, int, str]] = []
    results = evaluate_restoration(
        folder,
        kinds=["uniform", "segments", "saturated"],
        noise=[0.005, 0.03],
        count=2,
        methods=[RL, SK_RL],
        device="cpu",
        progress=lambda *report: reports.append(report),
    )
    found = {(case["kind"], case["noise"]): case for case in results["cases"]}
    assert list(found) == [
        *((kind, noise) for kind in ("uniform", "segments") for noise in (0.005, 0.03)),
        ("saturated", 0.01),
    ]
    steps = 2 * sum(len(case["restorers"]) for case in results["cases"])
    assert reports[-1][:2] == (steps, steps)
    for (kind, _), case in found.items():
        assert case["images"] == len(case["scenes"]) == 2
        assert list(case["restorers"])[:2] == [BLURRY, RL]
        assert (SK_RL in case["restorers"]) == (kind == "uniform")
        row = case["restorers"][RL]
        gains = [scene["images"][RL]["gain"] for scene in case["scenes"]]
        assert row["gain"] == pytest.approx(np.mean(gains))
        assert row["worst_gain"] == min(gains)
        assert row["worst_image"] == f"photo{int(np.argmin(gains))}"
        assert row["gain"] > 0.5
        assert row["ssim_gain"] > 0
    calm, noisy = (found["uniform", noise]["restorers"] for noise in (0.005, 0.03))
    assert calm[RL]["gain"] > noisy[RL]["gain"]
    assert calm[BLURRY]["ssim"] > noisy[BLURRY]["ssim"]
    settings = {scene["images"][SK_RL]["setting"] for scene in found["uniform", 0.03]["scenes"]}
    assert settings <= {"3 iterations", "6 iterations"}

    lines = restoration_table(results).splitlines()
    assert len(lines) == 1 + 2 * 3 + 2 * 2 + len(found["saturated", 0.01]["restorers"])
    assert lines[0].split()[:4] == ["kind", "noise/%", "images", "method"]
    assert lines[1].split()[:5] == ["uniform", "0.5", "2", "blurry", "image"]
    assert lines[2].split()[0] == RL


def test_runs_are_repeatable_and_go_on_where_they_were_stopped(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {
        "kinds": ["uniform", "rotation"], "noise": [0.01], "methods": [RL], "device": "cpu",
    }  # fmt: skip
    whole = evaluate_restoration(folder, **options)
    file = tmp_path / "rows.jsonl"

    def cancel(done: int, total: int, message: str) -> None:
        if done == 5:
            raise Cancelled

    with pytest.raises(Cancelled):
        evaluate_restoration(folder, rows=file, progress=cancel, **options)
    assert len(file.read_text().splitlines()) == 1 + 5
    resumed = evaluate_restoration(folder, rows=file, **options)
    assert without_seconds(resumed) == without_seconds(whole)
    assert len(file.read_text().splitlines()) == 1 + 8

    monkeypatch.setattr(Bench, "scene", property(lambda _: pytest.fail("measured again")))
    assert evaluate_restoration(folder, rows=file, **options) == resumed
    with pytest.raises(ValueError, match="measured with the settings"):
        evaluate_restoration(folder, rows=file, **options, seed=1)


def test_estimated_fields(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def estimate(image: np.ndarray, model: str, kernel_size: int, **_: Any) -> KernelField:
        asked.append((model, kernel_size))
        return KernelField.uniform(np.ones((1, 1), np.float32), image.shape[:2])

    monkeypatch.setattr(contenders_module, "estimate", estimate)
    results = evaluate_restoration(
        folder,
        kinds=["uniform"],
        noise=[0.01],
        count=1,
        methods=[RL, "tikhonov", SK_RL, SK_WIENER],
        estimator="windowed",
        kernel_size=15,
        device="cpu",
    )
    assert asked == [("windowed", 15)]  # once for all methods
    (case,) = results["cases"]
    assert list(case["restorers"]) == [BLURRY, RL, "tikhonov"]
    assert results["settings"]["estimator"] == "windowed"
    assert results["settings"]["kernel_size"] == 15
    assert abs(case["restorers"][RL]["gain"]) < 1  # without blur, noise alone is removed


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            {"kinds": ["wobbly"]},
            "known: uniform, segments, rotation, object, large, short uniform, "
            "short segments, short rotation, sharp, saturated, lights",
        ),
        ({"methods": ["sharpen"]}, "no method 'sharpen'"),
        ({"estimator": "oracle"}, "'oracle' is not installed"),
        ({"kernel_size": 15}, "name an estimator"),
        ({"noise": [-1]}, "levels of noise"),
        ({"kinds": ["uniform"], "noise": []}, "at least one"),
        ({"seed": -1}, "seed must be"),
        ({"crop": 0}, "crop must be"),
        ({"crop": 12}, r"photo0\.png, kind of scene 'uniform': .*too small"),
    ],
)
def test_bad_options_are_refused(folder: Path, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        evaluate_restoration(folder, device="cpu", **options)


def test_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "restoration", "--images", str(folder), "--count", "1", "--crop", "64"]
    words += ["--kinds", "uniform", "--noise", "0.02", "--methods", RL, "--device", "cpu"]
    words += ["--rows", str(tmp_path / "rows.jsonl")]
    assert main(words) == 0
    assert "blurry image" in capsys.readouterr().out.splitlines()[1]
    assert main([*words, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["settings"]["crop"] == 64
    assert results["cases"][0]["noise"] == 0.02
    assert main([*words, "--noise", "-1"]) == 2
    assert "must not be negative" in capsys.readouterr().err


# A real pair


def test_pair_restored_in_every_way(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = make_scene(photograph(), "p", "uniform", Setting("uniform", 9), 0, 0)
    monkeypatch.setattr(contenders_module, "estimate", lambda *_, **__: scene.truth)
    monkeypatch.setattr(restorers_module, "installed_methods", lambda: [RL, "tikhonov"])
    truth = np.rint(scene.sharp() * 255).astype(np.uint8)
    results = evaluate_pair(
        truth, scene.blurry, models=["windowed"], protocol="plain", device="cpu"
    )
    blurry, *restored = results["images"]
    assert blurry["estimator"] is blurry["method"] is None
    assert (blurry["gain"], blurry["psnr"]) == (0, compare(truth, scene.blurry)["psnr"])
    assert {row["estimator"] for row in restored} == {"windowed"}
    by_method = {row["method"]: row for row in restored}
    assert list(by_method) == [RL, "tikhonov"]
    row = by_method[RL]
    assert row["gain"] == pytest.approx(row["psnr"] - blurry["psnr"])
    assert row["gain"] > 0.5
    assert row["seconds"] > 0 < row["estimation_seconds"]

    write_image(folder / "t.png", truth)
    write_image(folder / "b.png", scene.blurry)
    words = ["evaluate", "pair", "--truth", str(folder / "t.png"), "--image", str(folder / "b.png")]
    words += ["--models", "windowed", "--device", "cpu", "--restore", RL]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["–", "–"], ["windowed", RL]]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"][1]["psnr"] == pytest.approx(row["psnr"])
    assert main([*words, SK_RL]) == 2
    assert "one known kernel" in capsys.readouterr().err
