from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conformance import fill
from safetensors.torch import save_file

from blurfield import checkpoint_files, checkpoints, published_weights
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
from blurfield.estimation.two_heads_network import TwoHeads
from blurfield.published_weights import LAYOUTS, Layout, import_weights, read_tensors, recognise

FACTS = {"architecture": "compact", "config": {"width": 8}, "gamma": 2.2, "origin": "a test"}


def tensors() -> dict[str, torch.Tensor]:
    return {
        "a.weight": torch.arange(12.0).reshape(3, 4).T,  # not contiguous
        "a.bias": torch.tensor([0.5, -1]).half(),
        "count": torch.tensor(3),
    }


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The user's folder, and an empty one in place of that of the package."""
    monkeypatch.setenv(checkpoints.DATA_VARIABLE, str(tmp_path / "data"))
    (tmp_path / "bundled").mkdir()
    monkeypatch.setattr(checkpoint_files, "BUNDLED", tmp_path / "bundled")
    path = checkpoints.user_folder()
    path.mkdir(parents=True)
    return path


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


def test_the_latest_import_comes_first_and_the_package_last(folder, tmp_path):
    assert find("compact") is None
    write(tmp_path / "bundled" / "compact.safetensors")
    assert find("compact").bundled
    for age, name in ((30, "older"), (20, "newest"), (40, "oldest")):
        path = write(folder / f"{name}.safetensors").path
        stamp = path.stat().st_mtime - age
        os.utime(path, (stamp, stamp))
    write(folder / "other.safetensors", architecture="denoiser")
    names = [checkpoint.name for checkpoint in installed("compact")]
    assert names == ["newest", "older", "oldest", "compact"]
    assert [checkpoint.name for checkpoint in installed("denoiser")] == ["other"]
    assert len(installed()) == 5
    assert find("compact").name == "newest"
    assert find("nothing") is None


def test_broken_files_are_left_out_with_a_warning(folder):
    write(folder / "good.safetensors")
    (folder / "broken.safetensors").write_bytes(b"x")
    (folder / "notes.txt").write_text("not weights")
    with pytest.warns(UserWarning, match="left out: cannot read .*broken"):
        assert [checkpoint.name for checkpoint in installed()] == ["good"]


def test_names_files_and_checkpoints_are_resolved(folder, tmp_path):
    with pytest.raises(ValueError, match=r"no weights for 'compact' .* weights import FILE"):
        resolve(None, "compact")
    inside = write(folder / "mine.safetensors")
    outside = write(tmp_path / "trained.safetensors")
    assert resolve(None, "compact") == inside
    assert resolve("mine", "compact") == inside
    assert resolve(outside, "compact") == outside
    assert resolve(tmp_path / "trained.safetensors", "compact") == outside
    with pytest.raises(ValueError, match="no weights named 'trained', nor a file; installed: mine"):
        resolve("trained", "compact")
    with pytest.raises(ValueError, match="holds weights for 'compact', not for 'two-heads'"):
        resolve("mine", "two-heads")


def test_imported_weights_hide_those_of_the_package(folder, tmp_path):
    write(tmp_path / "bundled" / "compact.safetensors")
    mine = write(folder / "compact.safetensors")
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


# ------------------------------------------------------------------ published files


@pytest.fixture(scope="module")
def published() -> dict[str, torch.Tensor]:
    """The tensors of a published file, filled by the rule of the conformance vectors."""
    with torch.device("meta"):
        network = TwoHeads()
    network = network.to_empty(device="cpu")
    fill(network, 1)
    return {name: values.half() for name, values in network.state_dict().items()}


def unchanged(content):
    return content


def prefixed(content):
    return {f"module.{name}": values for name, values in content.items()}


@pytest.mark.parametrize("prefix", [unchanged, prefixed])
@pytest.mark.parametrize("wrapper", [None, "params", "state_dict"])
def test_all_wrappers(tmp_path, published, wrapper, prefix):
    content = prefix(published)
    if wrapper:
        content = {wrapper: content, "epoch": 3}
    torch.save(content, tmp_path / "TwoHeads.pkl")
    found = read_tensors(tmp_path / "TwoHeads.pkl")
    assert recognise(found).architecture == "two-heads"
    assert list(found) == list(published)
    assert torch.equal(found["feat.0.weight"], published["feat.0.weight"])


def test_import_of_a_published_file(folder, tmp_path, published):
    torch.save(published, tmp_path / "Two Heads (1).pkl")
    checkpoint = import_weights(tmp_path / "Two Heads (1).pkl")
    assert checkpoint == find("two-heads")
    assert checkpoint.path == folder / "Two-Heads-1.safetensors"
    assert (checkpoint.config, checkpoint.gamma) == ({}, 2.2)
    assert checkpoint.origin == "the two-headed network, imported from Two Heads (1).pkl"
    assert checkpoint.facts["source"]["file"] == "Two Heads (1).pkl"
    assert len(checkpoint.facts["source"]["sha256"]) == 64
    loaded = checkpoint.load()
    assert torch.equal(loaded["masks_end.4.weight"], published["masks_end.4.weight"].float())


@pytest.fixture
def tiny(monkeypatch) -> Layout:
    """A network that is known in place of all others, so that files are small."""

    class Tiny(torch.nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            for number in range(8):
                layer = torch.nn.Linear(number + 1, width, bias=False)
                self.add_module(f"layer{number}", layer)

    layout = Layout("the tiny network", "tiny", {"width": 4}, 1.0, lambda: Tiny)
    monkeypatch.setattr(published_weights, "LAYOUTS", (layout,))
    return layout


def of(layout: Layout) -> dict[str, torch.Tensor]:
    return {name: torch.rand(shape) for name, shape in layout.shapes().items()}


def test_name_and_gamma_can_be_given(folder, tmp_path, tiny):
    content = {name: values.double() for name, values in of(tiny).items()}
    save_file(content, tmp_path / "weights.safetensors")
    checkpoint = import_weights(tmp_path / "weights.safetensors", "mine-2.0", 1.8)
    assert (checkpoint.name, checkpoint.gamma, checkpoint.config) == ("mine-2.0", 1.8, {"width": 4})
    assert import_weights(tmp_path / "weights.safetensors").gamma == 1.0
    assert checkpoint.load()["layer0.weight"].dtype == torch.float32
    with pytest.raises(ValueError, match=r"'mine-2\.0' are installed already; choose another name"):
        import_weights(tmp_path / "weights.safetensors", "mine-2.0")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "with space", "naïve"])
def test_names_that_are_no_file_names(folder, tmp_path, tiny, name):
    torch.save(of(tiny), tmp_path / "x.pth")
    with pytest.raises(ValueError, match="is no name for weights"):
        import_weights(tmp_path / "x.pth", name)
    assert not list(folder.iterdir())


def test_tensors_that_share_memory(folder, tmp_path, tiny):
    content = of(tiny)
    content["layer1.weight"] = torch.rand(4, 9)[:, 3:5]
    content["layer7.weight"] = content["layer1.weight"].repeat(1, 4)
    content["layer0.weight"] = content["layer7.weight"][:, :1]
    torch.save(content, tmp_path / "x.pth")
    loaded = import_weights(tmp_path / "x.pth").load()
    assert torch.equal(loaded["layer0.weight"], content["layer0.weight"])


def test_own_checkpoints_are_taken_as_they_are(folder, tmp_path):
    trained = write(tmp_path / "trained.safetensors", samples=7)
    checkpoint = import_weights(trained.path)
    assert checkpoint.sha256 == trained.sha256
    assert (checkpoint.architecture, checkpoint.origin) == ("compact", "a test")
    assert checkpoint.facts["samples"] == 7
    assert checkpoint.facts["source"]["file"] == "trained.safetensors"


@pytest.mark.parametrize(
    ("layout", "count"),
    zip(LAYOUTS, [118, 126, 110, 64, 64], strict=True),
    ids=lambda value: value.title if isinstance(value, Layout) else "",
)
def test_published_networks_are_told_apart(layout, count):
    shapes = layout.shapes()
    assert len(shapes) == count
    content = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    assert recognise(content) is layout


def lacking(content):
    del content["layer3.weight"]
    return r"the tiny network, but of its tensors it lacks 1: layer3.weight$"


def unknown(content):
    content["extra"] = torch.zeros(1)
    return "has unknown 1: extra$"


def reshaped(content):
    content["layer2.weight"] = torch.zeros(5, 3)
    return r"has 1: layer2.weight of shape \(5, 3\) instead of \(4, 3\)$"


def several(content):
    for number in range(3):
        content[f"other{number}"] = content.pop(f"layer{number}.weight")
    content["other3"] = torch.zeros(1)
    content["layer7.weight"] = torch.zeros(1)
    return r"of no known network; known: the tiny network"


def many(content):
    for number in range(4):
        content[f"other{number}"] = torch.zeros(1)
    return r"has unknown 4: other0, other1, other2, …$"


@pytest.mark.parametrize("spoil", [lacking, unknown, reshaped, several, many])
def test_incomplete_files_are_refused(folder, tmp_path, tiny, spoil):
    content = of(tiny)
    message = spoil(content)
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=message):
        import_weights(tmp_path / "x.pth")
    assert not list(folder.iterdir())


# ------------------------------------------------------------------- malicious files


class Malicious:
    """Makes a file when it is unpickled with code."""

    def __init__(self, victim: Path) -> None:
        self._victim = victim

    def __reduce__(self):
        return Path.touch, (self._victim,)


def save_zip(content, path):
    torch.save(content, path)


def save_legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_raw(content, path):
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_raw])
@pytest.mark.parametrize("nested", [False, True])
def test_pickles_with_code_are_refused_and_do_not_run(folder, tmp_path, save, nested):
    victim = tmp_path / "victim"
    bomb = Malicious(victim)
    save({"params": {"a": torch.zeros(2), "b": bomb}} if nested else bomb, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"is refused: it .* code") as caught:
        import_weights(tmp_path / "x.pth")
    assert "\n" not in str(caught.value)
    assert not victim.exists()
    assert not list(folder.iterdir())
    if save is not save_raw:
        pickle.loads(pickle.dumps(bomb))  # the file would have done it
        assert victim.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.nn.Linear(2, 2), r"refused: .* asks to run torch.nn.modules.linear.Linear"),
        (torch.zeros(3), "no tensors by name, but an object of type Tensor"),
        ({}, "no tensors by name, but nothing"),
        ({"a": torch.zeros(2), "epoch": 4}, "under 'epoch' there is an object of type int"),
        ({3: torch.zeros(2)}, "more than tensors by name: under 3"),
    ],
)
def test_pickles_of_something_else(tmp_path, content, message):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=message):
        read_tensors(tmp_path / "x.pth")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02"])
@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_files_of_another_kind(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot read .*x"):
        import_weights(tmp_path / name)


def test_half_a_file(tmp_path):
    torch.save({"a": torch.zeros(1000)}, tmp_path / "x.pth")
    content = (tmp_path / "x.pth").read_bytes()
    (tmp_path / "x.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="damaged or of another kind"):
        read_tensors(tmp_path / "x.pth")
