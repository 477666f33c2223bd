from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file

from blurfield import checkpoints
from blurfield.checkpoint_files import tensors_hash
from blurfield.checkpoints import (
    find,
    find_named,
    installed,
    read_checkpoint,
    remove_checkpoint,
    resolve,
    write_checkpoint,
)

if TYPE_CHECKING:
    from pathlib import Path

FACTS = {"architecture": "compact", "config": {"width": 8}, "gamma": 2.2, "origin": "a test"}


def tensors() -> dict[str, torch.Tensor]:
    return {
        "a.weight": torch.arange(12.0).reshape(3, 4).T,  # not contiguous
        "a.bias": torch.tensor([0.5, -1]).half(),
        "count": torch.tensor(3),
    }


def write(path: Path, **changes) -> checkpoints.Checkpoint:
    return write_checkpoint(path, tensors(), **{**FACTS, **changes})


# ---------------------------------------------------------------------- the files


def test_round_trip(tmp_path):
    written = write(tmp_path / "x.safetensors", samples=7, scores={"all": 0.5})
    found = read_checkpoint(tmp_path / "x.safetensors")
    assert found == written
    assert (found.name, found.architecture, found.gamma) == ("x", "compact", 2.2)
    assert (found.config, found.origin, found.bundled) == ({"width": 8}, "a test", False)
    assert found.facts["samples"] == 7
    assert found.facts["scores"] == {"all": 0.5}
    loaded = found.load()
    for name, values in tensors().items():
        assert torch.equal(loaded[name], values.float() if values.is_floating_point() else values)
    assert loaded["a.bias"].dtype == torch.float32
    assert loaded["count"].dtype == torch.int64
    json.dumps(found.describe())


def test_hash_is_that_of_the_tensors(tmp_path):
    first = write(tmp_path / "x.safetensors")
    second = write(tmp_path / "y.safetensors", origin="elsewhere", gamma=1)
    changed = {**tensors(), "count": torch.tensor(4)}
    third = write_checkpoint(tmp_path / "z.safetensors", changed, **FACTS)
    assert first.sha256 == second.sha256 != third.sha256
    assert len(first.sha256) == 64
    reordered = tensors_hash(dict(reversed(tensors().items())))
    assert reordered == first.sha256


def test_changed_values_are_noticed(tmp_path):
    path = tmp_path / "x.safetensors"
    checkpoint = write(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="are damaged: their values are not those"):
        checkpoint.load()
    path.write_bytes(content[:-4])
    with pytest.raises(ValueError, match=r"cannot read .* as weights"):
        checkpoint.load()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"gamma": 0}, ValueError, "gamma must be a number above 0, but is 0"),
        ({"gamma": float("nan")}, ValueError, "gamma"),
        ({"config": {"dtype": torch.float32}}, TypeError, "JSON"),
        ({"score": float("inf")}, ValueError, "JSON"),
    ],
)
def test_wrong_facts_are_not_written(tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        write(tmp_path / "x.safetensors", **changes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.pt", {"a": torch.zeros(1)}, r"end in .safetensors, but this is .*x.pt"),
        ("x.safetensors", {}, "no tensors to write"),
        ("x.safetensors", {"a": torch.tensor([1, torch.nan])}, "a holds values that are not fin"),
    ],
)
def test_wrong_tensors_are_not_written(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        write_checkpoint(tmp_path / name, content, **FACTS)
    assert not list(tmp_path.iterdir())


def header(**changes) -> str:
    known = {"format": 1, **FACTS, "sha256": "0", **changes}
    return json.dumps({key: value for key, value in known.items() if value is not None})


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "does not say which network it is for; install it with"),
        ({"blurfield": header(format=99)}, "newer version of blurfield .format 99.*; update"),
        ({"blurfield": header(gamma=None)}, "its header lacks 'gamma'"),
        ({"blurfield": header(config=[3])}, "as weights"),
        ({"blurfield": "{"}, "as weights"),
        ({"blurfield": header(architecture=None)}, "no weights, but something else"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path, metadata, message):
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors", metadata)
    with pytest.raises(ValueError, match=message):
        read_checkpoint(tmp_path / "x.safetensors")


def test_damaged_and_missing_files(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"no safetensors")
    with pytest.raises(ValueError, match="damaged or of another kind"):
        read_checkpoint(tmp_path / "x.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_checkpoint(tmp_path / "y.safetensors")


# ------------------------------------------------------------- where they are found


def test_the_latest_import_comes_first_and_the_package_last(weights_folder, tmp_path):
    assert find("compact") is None
    write(tmp_path / "bundled" / "compact.safetensors")
    assert find("compact").bundled
    for age, name in ((30, "older"), (20, "newest"), (40, "oldest")):
        path = write(weights_folder / f"{name}.safetensors").path
        stamp = path.stat().st_mtime - age
        os.utime(path, (stamp, stamp))
    write(weights_folder / "other.safetensors", architecture="denoiser")
    names = [checkpoint.name for checkpoint in installed("compact")]
    assert names == ["newest", "older", "oldest", "compact"]
    assert [checkpoint.name for checkpoint in installed("denoiser")] == ["other"]
    assert len(installed()) == 5
    assert find("compact").name == "newest"
    assert find("nothing") is None


def test_broken_files_are_left_out_with_a_warning(weights_folder):
    write(weights_folder / "good.safetensors")
    (weights_folder / "broken.safetensors").write_bytes(b"x")
    (weights_folder / "notes.txt").write_text("not weights")
    with pytest.warns(UserWarning, match="left out: cannot read .*broken"):
        assert [checkpoint.name for checkpoint in installed()] == ["good"]


def test_names_files_and_checkpoints_are_resolved(weights_folder, tmp_path):
    with pytest.raises(ValueError, match=r"no weights for 'compact' .* weights import FILE"):
        resolve(None, "compact")
    inside = write(weights_folder / "mine.safetensors")
    outside = write(tmp_path / "trained.safetensors")
    assert resolve(None, "compact") == inside
    assert resolve("mine", "compact") == inside
    assert resolve(outside, "compact") == outside
    assert resolve(tmp_path / "trained.safetensors", "compact") == outside
    with pytest.raises(ValueError, match="no weights named 'trained', nor a file; installed: mine"):
        resolve("trained", "compact")
    with pytest.raises(ValueError, match="holds weights for 'compact', not for 'two-heads'"):
        resolve("mine", "two-heads")


def test_imported_weights_hide_those_of_the_package(weights_folder, tmp_path):
    write(tmp_path / "bundled" / "compact.safetensors")
    mine = write(weights_folder / "compact.safetensors")
    assert find_named("compact") == mine
    remove_checkpoint(mine)
    bundled = find_named("compact")
    assert bundled.bundled
    with pytest.raises(ValueError, match="'compact' are a part of blurfield"):
        remove_checkpoint(bundled)
    assert bundled.path.exists()


def test_folder_without_the_environment_variable(monkeypatch):
    monkeypatch.delenv(checkpoints.DATA_VARIABLE)
    folder = checkpoints.user_folder()
    assert folder.name == "weights"
    assert "blurfield" in folder.parts


def test_listing_does_not_load_pytorch():
    code = (
        "import sys, blurfield.checkpoints as c, blurfield.estimation as e; c.installed();"
        "e.installed_models(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
