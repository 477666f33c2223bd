"""Ways to deblur, chosen on the command line."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from blurfield import simulate
from blurfield.cli import main
from blurfield.files import read_image, write_image
from blurfield.restoration import METHODS, installed_methods

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    sharp = np.zeros((40, 60), np.uint8)
    sharp[10:30, 20:40] = 200
    blurry, field = simulate(sharp, kind="uniform", max_extent=5, kernel_size=5, seed=1)
    write_image(tmp_path / "blurry.png", blurry)
    field.save(tmp_path / "true.blurfield")
    return tmp_path


def deblur(scene: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    words = [str(scene / "blurry.png"), "--field", str(scene / "true.blurfield"), "--json"]
    assert main(["deblur", *words, "-o", str(scene / "sharp.png"), *options]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_method_and_variant(scene, capsys):
    options = ["--method", "richardson-lucy", "--variant", "basic", "--iterations", "2"]
    found = deblur(scene, capsys, *options)
    assert (found["method"], found["variant"]) == ("richardson-lucy", "basic")
    basic = read_image(scene / "sharp.png")
    assert deblur(scene, capsys, "--iterations", "2")["variant"] != "basic"
    assert (read_image(scene / "sharp.png") != basic).any()


@pytest.mark.parametrize("noise", ["auto", "per-channel", "0.001,0.02"])
def test_noise(scene, capsys, noise):
    deblur(scene, capsys, "--method", "richardson-lucy", "--noise", noise, "--iterations", "2")


def test_known_noise_is_used(scene, capsys):
    pictures = []
    for noise in ("0,0.001", "0,0.2"):
        deblur(scene, capsys, "--method", "richardson-lucy", "--noise", noise)
        pictures.append(read_image(scene / "sharp.png").astype(float))
    roughness = [np.abs(np.diff(picture, axis=1)).mean() for picture in pictures]
    assert roughness[0] > 1.2 * roughness[1]


def test_little_memory_gives_the_same(scene, capsys):
    method = ["--method", "richardson-lucy"]
    deblur(scene, capsys, *method)
    whole = read_image(scene / "sharp.png").astype(int)
    deblur(scene, capsys, *method, "--memory", "1e-5")
    assert np.abs(read_image(scene / "sharp.png") - whole).max() <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "magic"], "unknown method 'magic'; installed: auto, richardson-lucy"),
        (["--method", "richardson-lucy", "--variant", "x"], "unknown variant 'x'.*known: adjoint"),
        (["--noise", "much"], "--noise: must be 'auto', 'per-channel' or GAIN,READ"),
        (["--noise=-1,0"], "--noise: must be 'auto'"),
        (["--noise", "1,2,3"], "--noise: must be 'auto'"),
        (["--memory", "0"], "--memory: must be a number above 0"),
        (
            ["--method", "richardson-lucy", "--variant", "basic", "--noise", "auto"],
            "unknown option 'noise'",
        ),
    ],
)
def test_mistakes_are_one_line(scene, capsys, options, message):
    words = ["deblur", str(scene / "blurry.png"), "-o", str(scene / "sharp.png"), *options]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error)
    assert not (scene / "sharp.png").exists()


def test_missing_weights_say_what_to_import(scene, capsys):
    missing = [name for name in METHODS if name not in installed_methods()]
    if not missing:
        pytest.skip("the weights of all methods are installed")
    words = ["deblur", str(scene / "blurry.png"), "-o", str(scene / "sharp.png")]
    assert main([*words, "--method", missing[0]]) == 2
    assert "blurfield weights import FILE" in capsys.readouterr().err


def test_help_lists_the_methods(capsys):
    with pytest.raises(SystemExit):
        main(["deblur", "--help"])
    text = "".join(capsys.readouterr().out.split())  # lines may break at hyphens
    assert all(name in text for name in METHODS)


def test_every_method_is_described():
    for method in METHODS.values():
        assert method.title
        assert method.description.endswith(".")
        assert method.lacks == "" or "weights import" in method.lacks
