"""The `blurfield` command: what it writes, prints and returns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import blurfield
from blurfield import KernelField
from blurfield.cli import main
from blurfield.cli._console import Console
from blurfield.files import read_image, write_image

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sharp and a blurry picture and the true field."""
    folder = tmp_path_factory.mktemp("scene")
    rng = np.random.default_rng(0)
    blocks = rng.integers(20, 235, (12, 16, 3), dtype=np.uint8)
    sharp = np.kron(blocks, np.ones((8, 8, 1), np.uint8))
    blurry, truth = blurfield.simulate(sharp, seed=1, max_extent=11, noise=0)
    write_image(folder / "sharp.png", sharp)
    write_image(folder / "blurry.png", blurry)
    truth.save(folder / "true.blurfield")
    return folder


def run_json(capsys: pytest.CaptureFixture[str], *words: Any) -> dict[str, Any]:
    assert main([*map(str, words), "--json"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.count("\n") == 1
    result: dict[str, Any] = json.loads(said.out)
    return result


def test_simulate_writes_image_and_truth(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["simulate", scene / "sharp.png", "--seed", 1, "--max-extent", 11, "--noise", 0]
    output, truth = tmp_path / "b.png", tmp_path / "t.blurfield"
    result = run_json(capsys, *words, "-o", output, "--truth", truth)
    np.testing.assert_array_equal(read_image(output), read_image(scene / "blurry.png"))
    expected = KernelField.load(scene / "true.blurfield")
    torch.testing.assert_close(KernelField.load(truth).basis, expected.basis)
    assert result["shape"] == [96, 128]
    assert result["seed"] == 1
    assert result["output"] == str(output)


def test_reblur_with_the_true_field_is_the_blurry_image(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["reblur", scene / "sharp.png", "--field", scene / "true.blurfield"]
    run_json(capsys, *words, "-o", tmp_path / "again.png")
    again = read_image(tmp_path / "again.png").astype(int)
    assert np.abs(again - read_image(scene / "blurry.png")).max() <= 1


def test_deblur_with_the_true_field(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["deblur", scene / "blurry.png", "--field", scene / "true.blurfield"]
    words += ["--method", "richardson-lucy", "--iterations", 20]
    result = run_json(capsys, *words, "-o", tmp_path / "out.png")
    sharp, blurry, out = (
        read_image(path).astype(float)
        for path in (scene / "sharp.png", scene / "blurry.png", tmp_path / "out.png")
    )
    assert np.square(out - sharp).mean() < 0.5 * np.square(blurry - sharp).mean()
    assert result["estimate_seconds"] is None


def test_deblur_takes_a_kernel_from_elsewhere(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    delta = np.zeros((5, 5))
    delta[2, 2] = 1
    np.save(tmp_path / "delta.npy", delta)
    words = ["reblur", scene / "sharp.png", "--field", tmp_path / "delta.npy"]
    result = run_json(capsys, *words, "-o", tmp_path / "same.png")
    np.testing.assert_array_equal(
        read_image(tmp_path / "same.png"), read_image(scene / "sharp.png")
    )
    assert result["num_kernels"] == 1


def test_mask_and_map_of_a_field(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    field = KernelField.load(scene / "true.blurfield")
    source = scene / "true.blurfield"
    result = run_json(capsys, "mask", source, "-o", tmp_path / "m.png", "--threshold", "0.4")
    mask = read_image(tmp_path / "m.png")
    expected = blurfield.blur_mask(field, threshold=0.4)
    np.testing.assert_array_equal(mask, expected * 255)
    assert result["blurred_fraction"] == pytest.approx(expected.mean())
    for name in ("map.npy", "map.tif"):
        run_json(capsys, "mask", source, "--map", "-o", tmp_path / name, "--threshold", "0.4")
        blur = read_image(tmp_path / name)
        assert blur.dtype == np.float32
        np.testing.assert_array_equal(blur, blurfield.blur_map(field, threshold=0.4))


def test_mask_by_extent_and_regions_of_a_field(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    field = KernelField.load(scene / "true.blurfield")
    source, rule = scene / "true.blurfield", ("--min-extent", "4", "--min-area", "50")
    result = run_json(capsys, "mask", source, "-o", tmp_path / "m.png", *rule)
    expected = blurfield.blur_mask(field, min_extent=4, min_area=50)
    np.testing.assert_array_equal(read_image(tmp_path / "m.png"), expected * 255)
    assert (result["min_extent"], result["min_area"]) == (4, 50)
    result = run_json(capsys, "mask", source, "--regions", "-o", tmp_path / "r.png", *rule)
    regions = read_image(tmp_path / "r.png")
    assert regions.dtype == np.uint16
    labels = blurfield.motion_regions(field, expected, min_area=50)
    np.testing.assert_array_equal(regions, labels)
    assert result["regions"] == labels.max() >= 1


def test_show_draws_kernels(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    field = scene / "true.blurfield"
    run_json(capsys, "show", field, "-o", tmp_path / "alone.png")
    run_json(capsys, "show", field, "--image", scene / "sharp.png", "-o", tmp_path / "over.png")
    alone, over = read_image(tmp_path / "alone.png"), read_image(tmp_path / "over.png")
    assert alone.dtype == over.dtype == np.uint8
    assert alone.std() > 5
    assert alone.shape == over.shape == (96, 128, 3)
    assert (alone == 255).all(-1).any()
    assert (alone != over).any()


def test_estimate_mask_and_deblur_an_image(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = scene / "blurry.png"
    size = ["--kernel-size", 13]
    result = run_json(capsys, "estimate", image, *size, "-o", tmp_path / "e.blurfield")
    field = KernelField.load(tmp_path / "e.blurfield")
    assert (result["kernel_size"], result["shape"]) == (field.kernel_size, [96, 128])
    assert field.metadata["source"] == {"name": "blurry.png", "shape": [96, 128]}
    assert result["seconds"] > 0
    result = run_json(capsys, "deblur", image, *size, "--iterations", 3, "-o", tmp_path / "d.png")
    assert read_image(tmp_path / "d.png").shape == (96, 128, 3)
    assert result["estimate_seconds"] > 0
    result = run_json(capsys, "mask", image, *size, "-o", tmp_path / "m.png")
    assert set(np.unique(read_image(tmp_path / "m.png"))) <= {0, 255}


def test_text_by_default_and_silence_on_request(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["mask", str(scene / "true.blurfield"), "-o", str(tmp_path / "m.png")]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "m.png: " in said.out
    assert "% of the pixels are blurred" in said.out
    assert said.err == ""
    assert main([*words, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_progress_bar_on_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Console().progress() as progress:
        assert progress is None
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with Console(quiet=True).progress() as progress:
        assert progress is None
    assert capsys.readouterr().err == ""
    with Console().progress() as progress:
        assert progress is not None
        progress(0, 4, "looking")
        progress(3, 4, "finding")
    drawn = capsys.readouterr().err
    assert "looking   0%" in drawn
    assert "finding  75%" in drawn


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words, expected in [(["--version"], blurfield.__version__), (["deblur", "-h"], "--field")]:
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 0
        assert expected in capsys.readouterr().out


def test_existing_output_is_replaced(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "m.png"
    output.write_text("old")
    run_json(capsys, "mask", scene / "true.blurfield", "-o", output)
    assert read_image(output).shape == (96, 128)
    assert [path.name for path in tmp_path.iterdir()] == ["m.png"]


def test_warnings_are_single_lines(
    scene: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def reblur(image: Any, field: Any, **options: Any) -> Any:
        warnings.warn("one\nthing", RuntimeWarning, stacklevel=1)
        return image

    monkeypatch.setattr("blurfield.restoration.reblur", reblur)
    words = ["reblur", scene / "sharp.png", "--field", scene / "true.blurfield", "-q"]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main([*map(str, words), "-o", str(tmp_path / "o.png")]) == 0
    assert capsys.readouterr().err == "blurfield: warning: one thing\n"


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "blurfield: stopped\n"),
        (ValueError("bad\n  thing"), 2, "blurfield: error: bad thing\n"),
        (MemoryError("tile too large"), 1, "blurfield: error: tile too large\n"),
        (
            RuntimeError("odd"),
            1,
            "blurfield: error: unexpected RuntimeError: odd (BLURFIELD_DEBUG=1 shows where)\n",
        ),
    ],
    ids=["interrupt", "value", "memory", "unexpected"],
)
def test_exit_status_and_one_line(
    error: BaseException,
    status: int,
    said: str,
    scene: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def estimate(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("blurfield.estimation.estimate", estimate)
    words = ["estimate", str(scene / "blurry.png"), "-o", str(tmp_path / "f.blurfield")]
    assert main(words) == status
    assert capsys.readouterr() == ("", said)
    assert not list(tmp_path.iterdir())
    if status not in (130,):
        monkeypatch.setenv("BLURFIELD_DEBUG", "1")
        with pytest.raises(type(error)):
            main(words)


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals on Windows")
def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    import pty
    import termios

    # Edges everywhere, so that there is much to do: the signal must come before the end.
    squares = np.random.default_rng(0).integers(0, 256, (180, 240), dtype=np.uint8)
    write_image(tmp_path / "noise.png", squares.repeat(8, 0).repeat(8, 1))
    command = [sys.executable, "-m", "blurfield", "estimate", "noise.png", "-o", "f.blurfield"]
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    # Jobs in the background of a shell ignore Ctrl-C, and so would what they start.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, cwd=tmp_path, stderr=theirs, preexec_fn=heed) as process:
        os.close(theirs)
        said = b""
        while b"%" not in said:  # the bar: work has begun
            said += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
    said += os.read(ours, 65536)
    os.close(ours)
    assert said.endswith(b"blurfield: stopped\r\n")
    assert b"Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["noise.png"]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_closed_pipe_is_no_traceback(scene: Path, tmp_path: Path, unbuffered: str) -> None:
    command = [sys.executable, "-m", "blurfield", "mask", str(scene / "true.blurfield"), "--json"]
    with subprocess.Popen(
        [*command, "-o", str(tmp_path / "m.png")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 1
