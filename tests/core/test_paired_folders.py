"""Folders of blurry and sharp images in the layouts of the usual data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from blurfield.training import folder_samples
from blurfield.training.folder_samples import FolderSamples, blurry_samples
from blurfield.training.paired_folders import find_pairs
from blurfield.training.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def write(path: Path, number: int, size: tuple[int, int] = (20, 24)) -> None:
    """An image whose values tell its number, its row and its column."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, cols = np.mgrid[: size[0], : size[1]]
    values = np.stack([np.full(size, number), rows, cols], -1)
    Image.fromarray(values.astype(np.uint8)).save(path)


def ours(folder: Path) -> None:
    for number in range(4):
        write(folder / "blurry" / f"{number}.png", number)
        write(folder / "sharp" / f"{number}.png", 100 + number)


def gopro(folder: Path) -> None:
    for number in range(4):
        sequence = folder / "train" / f"GOPR0{number // 2}"
        write(sequence / "blur" / f"{number}.png", number)
        write(sequence / "blur_gamma" / f"{number}.png", 50)
        write(sequence / "sharp" / f"{number}.png", 100 + number)
        write(folder / "test" / "GOPR9" / "blur" / f"{number}.png", 200)
        write(folder / "test" / "GOPR9" / "sharp" / f"{number}.png", 200)


def gopro_without_split(folder: Path) -> None:
    gopro(folder.parent / "whole")
    (folder.parent / "whole" / "train").rename(folder)


def hide(folder: Path) -> None:
    for number in range(4):
        write(folder / "train" / "close-ups" / f"{number}.png", number)
        write(folder / "test" / "long-shot" / f"t{number}.png", 200)
        write(folder / "GT" / f"{number}.png", 100 + number)


def realblur(folder: Path) -> None:
    lines = []
    for number in range(4):
        names = [f"J/scene{number // 2}/{kind}/{kind}_{number}.png" for kind in ("gt", "blur")]
        write(folder / names[0], 100 + number)
        write(folder / names[1], number)
        lines.append(" ".join(names))
    (folder / "RealBlur_J_train_list.txt").write_text("\n".join(lines) + "\n")
    (folder / "RealBlur_J_test_list.txt").write_text("gone/gt.png gone/blur.png\n")


LAYOUTS = [ours, gopro, gopro_without_split, hide, realblur]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_recognised(tmp_path: Path, layout: Callable[[Path], None]) -> None:
    layout(tmp_path / "data")
    pairs = find_pairs(tmp_path / "data")
    numbers = [
        tuple(int(np.asarray(Image.open(file))[0, 0, 0]) for file in (pair.blurry, pair.sharp))
        for pair in pairs
    ]
    assert numbers == [(n, 100 + n) for n in range(4)]
    scenes = len({pair.scene for pair in pairs})
    assert scenes == (4 if layout in (ours, hide) else 2)


def test_a_list_file_alone_will_do(tmp_path: Path) -> None:
    realblur(tmp_path)
    assert len(find_pairs(tmp_path / "RealBlur_J_train_list.txt")) == 4


@pytest.mark.parametrize(
    ("layout", "gone", "kind"),
    [
        (ours, "sharp/2.png", "sharp"),
        (gopro, "train/GOPR01/sharp/2.png", "sharp"),
        (hide, "GT/2.png", "sharp"),
        (realblur, "J/scene1/gt/gt_2.png", "sharp"),
        (realblur, "J/scene1/blur/blur_2.png", "blurry"),
    ],
)
def test_missing_images_are_named(
    tmp_path: Path, layout: Callable[[Path], None], gone: str, kind: str
) -> None:
    layout(tmp_path)
    (tmp_path / gone).unlink()
    with pytest.raises(ValueError, match=f"{gone} is missing, the {kind} image that belongs to"):
        find_pairs(tmp_path)


def test_other_folders_are_told_what_there_should_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"neither a manifest.* nor pairs.*GoPro.*HIDE.*RealBlur"):
        find_pairs(tmp_path)
    with pytest.raises(ValueError, match=r"there is no folder .*gone"):
        blurry_samples(source(tmp_path / "gone"), max_extent=9)


def test_lists_of_something_else_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("\nonly-one.png\n")
    with pytest.raises(ValueError, match=r"line 2 of .*train\.txt should hold .* 'only-one\.png'"):
        find_pairs(tmp_path)


def source(folder: Path, side: int = 8) -> Source:
    return Source(folder, side, 6, torch.device("cpu"))


def batches(samples: FolderSamples, count: int = 5) -> list[torch.Tensor]:
    made = [samples.make(torch.Generator().manual_seed(n), n) for n in range(count)]
    return [torch.stack([batch.blurry, batch.sharp]) for batch in made]


def test_samples_are_squares_of_pairs(tmp_path: Path) -> None:
    gopro(tmp_path)
    samples = FolderSamples(source(tmp_path))
    values = (torch.stack(batches(samples)) * 255).round()
    assert values.shape == (5, 2, 6, 3, 8, 8)
    blurry, sharp = values.unbind(1)
    torch.testing.assert_close(sharp[:, :, 0], blurry[:, :, 0] + 100)
    torch.testing.assert_close(sharp[:, :, 1:], blurry[:, :, 1:])
    # The second sequence is held out; rows and columns are flipped and exchanged.
    assert set(blurry[:, :, 0].unique().tolist()) == {0, 1}
    rows = blurry[:, :, 1]
    steps = {
        tuple(step)
        for step in torch.stack(
            [
                (rows[..., 1, 0] - rows[..., 0, 0]).flatten(),
                (rows[..., 0, 1] - rows[..., 0, 0]).flatten(),
            ],
            1,
        ).tolist()
    }
    assert steps == {(1, 0), (-1, 0), (0, 1), (0, -1)}
    assert rows.min() < 3
    assert rows.max() > 16
    (held,) = samples.held
    assert (held.blurry[:, 0, 0, 0] * 255).round().tolist() == [2, 3]
    assert (held.blurry[0, 1:, 0, 0] * 255).round().tolist() == [6, 8]
    assert held.fields() == []


def test_a_single_scene_is_divided(tmp_path: Path) -> None:
    for number in range(10):
        write(tmp_path / "s" / "blur" / f"{number}.png", number)
        write(tmp_path / "s" / "sharp" / f"{number}.png", number)
    samples = FolderSamples(source(tmp_path))
    held = torch.cat([batch.blurry for batch in samples.held])
    assert (held[:, 0, 0, 0] * 255).round().tolist() == [1, 9]


def test_images_that_do_not_fit_into_memory_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours(tmp_path)
    roomy, tight = FolderSamples(source(tmp_path)), FolderSamples(source(tmp_path), 20 * 24 * 6)
    reads: list[Path] = []
    read = folder_samples.read_rgb
    monkeypatch.setattr(folder_samples, "read_rgb", lambda path: reads.append(path) or read(path))
    expected = batches(roomy)
    assert len(reads) <= 6
    found = batches(tight)
    assert len(reads) > 12
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_images_of_unequal_or_small_size_are_refused(tmp_path: Path) -> None:
    ours(tmp_path)
    with pytest.raises(ValueError, match=r"at least 21×21 pixels, but .*0\.png is 20×24"):
        FolderSamples(source(tmp_path, 21))
    write(tmp_path / "sharp" / "1.png", 1, (20, 23))
    with pytest.raises(ValueError, match=r"1\.png is 20×24 and .*1\.png 20×23"):
        FolderSamples(source(tmp_path))
    (tmp_path / "sharp" / "1.png").write_text("no image")
    with pytest.raises(ValueError, match=r"cannot read .*1\.png as an image"):
        FolderSamples(source(tmp_path))


def test_one_pair_is_not_enough(tmp_path: Path) -> None:
    write(tmp_path / "blurry" / "a.png", 0)
    write(tmp_path / "sharp" / "a.png", 0)
    with pytest.raises(ValueError, match="holds 1 pairs; two are the least"):
        blurry_samples(source(tmp_path), max_extent=9)
