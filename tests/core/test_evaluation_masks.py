"""Blur maps against masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from blurfield import KernelField
from blurfield.evaluation import evaluate_masks, masks
from blurfield.evaluation.masks import mask_pairs
from blurfield.evaluation.report import mask_table
from blurfield.files import write_image

if TYPE_CHECKING:
    from pathlib import Path

GREY = np.full((40, 40), 128, np.uint8)


def half_blurred(image: np.ndarray, model: str, progress: Any, **_: Any) -> KernelField:
    """Blur of 17 pixels in the left half."""
    progress(0, 1, model)
    basis = np.zeros((2, 17, 17), np.float32)
    basis[0, 8] = 1 / 17
    basis[1, 8, 8] = 1
    mixing = np.zeros((2, 40, 40), np.float32)
    mixing[0, :, :20] = mixing[1, :, 20:] = 1
    return KernelField(basis, mixing, metadata={"model": model})


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    images, drawn = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    drawn.mkdir()
    left = np.zeros((40, 40), np.uint8)
    left[:, :20] = 255
    for name in ("a", "b", "unmasked"):
        write_image(images / f"{name}.png", GREY)
    write_image(drawn / "a.png", left)
    write_image(drawn / "b_mask.png", np.repeat(left.T[..., None], 3, axis=2))
    return images, drawn


def test_average_precision_of_each_image_and_their_mean(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masks, "estimate", half_blurred)
    reports: list[tuple[int, int, str]] = []
    results = evaluate_masks(
        *folders, model="windowed", progress=lambda *report: reports.append(report)
    )
    assert results["images"] == [
        {"name": "a", "map": 1.0, "score": 1.0},
        {"name": "b", "map": 0.5, "score": 0.5},
    ]
    assert results["mean"] == {"map": 0.75, "score": 0.75}
    assert results["settings"] == {"model": "windowed", "threshold": 0.25}
    assert reports[-1] == (2, 2, "b")
    lines = mask_table(results).splitlines()
    assert [line.split()[0] for line in lines] == ["image", "a", "b", "mean"]
    assert lines[-1].split()[1:] == ["0.7500", "0.7500"]


def test_threshold_decides_what_is_blur(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masks, "estimate", half_blurred)
    results = evaluate_masks(*folders, threshold=0.2)  # below 1/√17: nothing is blur
    assert results["images"][0] == {"name": "a", "map": 0.5, "score": 1.0}


def test_masks_may_lie_beside_their_images(tmp_path: Path) -> None:
    for name in ("a.png", "a_mask.png", "b.png"):
        write_image(tmp_path / name, GREY)
    assert mask_pairs(tmp_path, tmp_path) == [(tmp_path / "a.png", tmp_path / "a_mask.png")]
    (tmp_path / "a_mask.png").unlink()
    with pytest.raises(ValueError, match="NAME_mask"):
        mask_pairs(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("mask", "complaint"),
    [(np.ones((40, 41), np.uint8), "40×41"), (np.ones((40, 40), np.uint8), "middle grey")],
)
def test_unusable_masks_are_refused(
    folders: tuple[Path, Path], mask: np.ndarray, complaint: str
) -> None:
    write_image(folders[1] / "a.png", mask)
    with pytest.raises(ValueError, match=complaint):
        evaluate_masks(*folders)


@pytest.mark.slow
def test_real_photographs_with_masks(shared: Path) -> None:
    folder = shared / "data" / "test" / "cuhk"
    results = evaluate_masks(folder, folder, model="windowed", device="cpu")
    assert [row["name"] for row in results["images"]] == ["motion0065", "motion0084"]
    assert all(row["score"] > 0.75 for row in results["images"])
