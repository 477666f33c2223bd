"""What wrong input is answered with: one clear line, no traceback, nothing written."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import blurfield as bf
from blurfield.cli import main
from blurfield.files import write_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIDE = 48
KERNEL = 33


def line_field(shape: tuple[int, ...]) -> bf.KernelField:
    kernel = np.zeros((KERNEL, KERNEL), np.float32)
    kernel[KERNEL // 2] = 1 / KERNEL
    return bf.KernelField.uniform(kernel, (max(shape[0], 1), max(shape[1], 1)))


def spoiled(value: float) -> np.ndarray[Any, Any]:
    image = np.full((SIDE, SIDE), 0.5, np.float32)
    image[3, 5] = image[7, 7] = value
    return image


IMAGES = {
    "nan": (spoiled(np.nan), r"2 .*NaN.* first .*3.*5"),
    "infinity": (spoiled(np.inf), r"2 .*infinit.* first .*3.*5"),
    "empty": (np.zeros((0, SIDE), np.uint8), r"\(0, 48\)|0×48|no pixels"),
    "one-pixel": (np.ones((1, 1), np.uint8), r"1×1 pixels.* (too small|smaller than)"),
    "smaller-than-kernel": (
        np.ones((20, SIDE), np.uint8),
        r"20×48 pixels.* (too small|smaller than).* 3[23]×3[23]",
    ),
    "complex": (np.ones((SIDE, SIDE), complex), r"complex128"),
    "object": (np.full((SIDE, SIDE), None, object), r"object"),
    "five-dimensional": (np.zeros((2, 2, 2, SIDE, SIDE)), r"\(2, 2, 2, 48, 48\)"),
}

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "estimate": lambda image: bf.estimate(image, device="cpu"),
    "deblur": lambda image: bf.deblur(image, line_field(image.shape), device="cpu"),
    "reblur": lambda image: bf.reblur(image, line_field(image.shape), device="cpu"),
    "simulate": lambda image: bf.simulate(image),
}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("kind", IMAGES)
def test_functions_refuse_images(kind: str, function: str) -> None:
    image, message = IMAGES[kind]
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        FUNCTIONS[function](image)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("function", ["deblur", "reblur"])
def test_functions_refuse_the_field_of_another_image(function: str) -> None:
    image = np.zeros((SIDE, SIDE), np.uint8)
    with pytest.raises(ValueError, match=r"images of 64×64 pixels, but the image has 48×48"):
        getattr(bf, function)(image, line_field((64, 64)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what the test lacks")
@pytest.mark.parametrize("function", ["estimate", "deblur", "reblur", "simulate"])
def test_functions_refuse_a_missing_gpu(function: str) -> None:
    image = np.zeros((SIDE, SIDE), np.uint8)
    fields = [line_field(image.shape)] if function in {"deblur", "reblur"} else []
    with pytest.raises(ValueError, match="finds no CUDA GPU"):
        getattr(bf, function)(image, *fields, device="cuda")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good and bad files."""
    folder = tmp_path_factory.mktemp("files")
    for name, (image, _) in IMAGES.items():
        np.save(folder / f"{name}.npy", image, allow_pickle=True)
    rng = np.random.default_rng(0)
    write_image(folder / "good.png", rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8))
    line_field((SIDE, SIDE)).save(folder / "good.blurfield")
    line_field((64, 64)).save(folder / "other.blurfield")
    whole = (folder / "good.blurfield").read_bytes()
    (folder / "corrupt.blurfield").write_bytes(b"\xff" * 16 + whole[16:])
    (folder / "truncated.blurfield").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.blurfield").write_bytes(b"")
    save_file({"weights": torch.zeros(3)}, folder / "foreign.blurfield")
    (folder / "text.png").write_text("This is a letter, and not a picture.\n")
    (folder / "text.npy").write_text("Nor is this one.\n")
    (folder / "folder.png").mkdir()
    return folder


#: Words of the command line ({} is the folder) and what the line on stderr says.
COMMANDS = {
    # images
    **{
        f"{name}-image": (f"estimate {{}}/{name}.npy -o {{}}/out.blurfield", message)
        for name, (_, message) in IMAGES.items()
        if name != "object"
    },
    "object-image": ("estimate {}/object.npy -o {}/out.blurfield", "cannot read .*object.npy"),
    "nan-to-deblur": (
        "deblur {}/nan.npy --field {}/good.blurfield -o {}/out.npy",
        IMAGES["nan"][1],
    ),
    "nan-to-mask": ("mask {}/nan.npy -o {}/out.png", IMAGES["nan"][1]),
    "nan-to-simulate": ("simulate {}/nan.npy -o {}/out.npy", IMAGES["nan"][1]),
    "text-as-png": ("estimate {}/text.png -o {}/out.blurfield", "cannot read .*text.png"),
    "text-as-npy": ("estimate {}/text.npy -o {}/out.blurfield", "cannot read .*text.npy"),
    "missing-image": ("estimate {}/none.png -o {}/out.blurfield", "no file .*none.png"),
    "folder-as-image": ("estimate {} -o {}/out.blurfield", "is a folder"),
    # fields
    "field-of-other-image": (
        "deblur {}/good.png --field {}/other.blurfield -o {}/out.png",
        "images of 64×64 pixels, but the image has 48×48",
    ),
    "reblur-field-of-other-image": (
        "reblur {}/good.png --field {}/other.blurfield -o {}/out.png",
        "images of 64×64 pixels, but the image has 48×48",
    ),
    "corrupt-field": ("mask {}/corrupt.blurfield -o {}/out.png", "corrupt.blurfield"),
    "truncated-field": ("show {}/truncated.blurfield -o {}/out.png", "truncated.blurfield"),
    "empty-field": ("show {}/empty.blurfield -o {}/out.png", "empty.blurfield"),
    "foreign-field": ("mask {}/foreign.blurfield -o {}/out.png", "foreign.blurfield"),
    "missing-field": ("show {}/none.blurfield -o {}/out.png", "no file .*none.blurfield"),
    "image-as-field": ("show {}/good.png -o {}/out.png", "good.png"),
    "missing-field-to-deblur": (
        "deblur {}/good.png --field {}/none.blurfield -o {}/out.png",
        "no file .*none.blurfield",
    ),
    # outputs
    "output-folder-missing": (
        "estimate {}/good.png -o {}/none/out.blurfield",
        "cannot write .* folder .*none does not exist",
    ),
    "output-folder-is-a-file": (
        "deblur {}/good.png -o {}/text.png/out.png",
        "cannot write .*text.png is not a folder",
    ),
    "output-is-a-folder": ("deblur {}/good.png -o {}/folder.png", "cannot write .* is a folder"),
    "output-is-the-input": ("deblur {}/good.png -o {}/good.png", "it is the input"),
    "output-extension": ("deblur {}/good.png -o {}/out.xyz", "extension '.xyz' is not one of"),
    "output-no-extension": ("estimate {}/good.png -o {}/out", "extension '' is not one of"),
    "field-extension": ("estimate {}/good.png -o {}/out.png", "'.png' is not one of .blurfield"),
    "map-extension": ("mask {}/good.png --map -o {}/out.png", "'.png' is not one of .npy, .tif"),
    "truth-extension": (
        "simulate {}/good.png -o {}/out.png --truth {}/out.txt",
        "'.txt' is not one of .blurfield",
    ),
    "demo-in-a-file": ("demo --out {}/text.png", "text.png"),
    # options
    "no-command": ("", "required: COMMAND"),
    "unknown-command": ("sharpen {}/good.png", "invalid choice: 'sharpen'"),
    "no-output": ("estimate {}/good.png", "required: -o/--output"),
    "unknown-option": ("estimate {}/good.png -o {}/out.blurfield --fast", "--fast"),
    "gamma": ("estimate {}/good.png -o {}/o.blurfield --gamma 0", "'auto' or a number above 0"),
    "gamma-nan": ("estimate {}/good.png -o {}/o.blurfield --gamma nan", "a number above 0"),
    "kernel-size": ("estimate {}/good.png -o {}/o.blurfield --kernel-size 12", "must be odd"),
    "threshold": ("mask {}/good.png -o {}/out.png --threshold 1.5", "between 0 and 1"),
    "strength": ("deblur {}/good.png -o {}/out.png --strength 2", "from 0 to 1"),
    "noise": ("simulate {}/good.png -o {}/out.png --noise -1", "must not be negative"),
    "iterations": ("deblur {}/good.png -o {}/out.png --iterations 2.5", "whole number above 0"),
    "seed": ("simulate {}/good.png -o {}/out.png --seed -3", "whole number from 0"),
    "unknown-model": (
        "estimate {}/good.png -o {}/out.blurfield --model sharpest",
        "'sharpest'.*windowed",
    ),
    "unknown-method": (
        "deblur {}/good.png -o {}/out.png --method magic",
        "'magic'.*richardson-lucy",
    ),
    "unknown-kind": ("simulate {}/good.png -o {}/out.png --kind wavy", "'wavy'.*segments"),
    "max-extent": ("simulate {}/good.png -o {}/out.png --max-extent 99", "48×48.* too small"),
    "unknown-device": (
        "estimate {}/good.png -o {}/out.blurfield --device tpu",
        "device 'tpu'.*'cpu'",
    ),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_command_refuses(
    case: str, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, message = COMMANDS[case]
    check_refusal(words, message, files, tmp_path, capsys)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what the test lacks")
@pytest.mark.parametrize(
    "words",
    [
        "estimate {}/good.png -o {}/out.blurfield",
        "deblur {}/good.png --field {}/good.blurfield -o {}/out.png",
        "mask {}/good.png -o {}/out.png",
        "reblur {}/good.png --field {}/good.blurfield -o {}/out.png",
        "simulate {}/good.png -o {}/out.png",
        "demo --out {}/demo",
    ],
    ids=lambda words: words.split()[0],
)
def test_command_refuses_a_missing_gpu(
    words: str, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = "device 'cuda' asked for, but PyTorch .* finds no CUDA GPU"
    check_refusal(words + " --device cuda", message, files, tmp_path, capsys)


def test_command_refuses_a_write_protected_folder(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # who runs the tests may be allowed to
    message = "cannot write .*out.png: no permission to write in"
    check_refusal("deblur {}/good.png -o {}/out.png", message, files, tmp_path, capsys)


def check_refusal(
    words: str,
    message: str,
    files: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "files"
    shutil.copytree(files, folder)
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    status = main([word.replace("{}", str(folder)) for word in words.split()])
    said = capsys.readouterr()
    assert status == 2
    assert said.out == ""
    assert said.err.endswith("\n")
    assert said.err.count("\n") == 1
    assert said.err.startswith("blurfield: error: ")
    assert re.search(message, said.err), said.err
    assert before == {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
