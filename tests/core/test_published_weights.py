from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from conformance import fill
from safetensors.torch import save_file

from blurfield import published_weights
from blurfield.checkpoints import find, write_checkpoint
from blurfield.estimation.two_heads_network import TwoHeads
from blurfield.published_weights import LAYOUTS, Layout, import_weights, read_tensors, recognise

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


def test_import_of_a_published_file(weights_folder, tmp_path, published):
    torch.save(published, tmp_path / "Two Heads (1).pkl")
    checkpoint = import_weights(tmp_path / "Two Heads (1).pkl")
    assert checkpoint == find("two-heads")
    assert checkpoint.path == weights_folder / "Two-Heads-1.safetensors"
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


def test_name_and_gamma_can_be_given(weights_folder, tmp_path, tiny):
    content = {name: values.double() for name, values in of(tiny).items()}
    save_file(content, tmp_path / "weights.safetensors")
    checkpoint = import_weights(tmp_path / "weights.safetensors", "mine-2.0", 1.8)
    assert (checkpoint.name, checkpoint.gamma, checkpoint.config) == ("mine-2.0", 1.8, {"width": 4})
    assert import_weights(tmp_path / "weights.safetensors").gamma == 1.0
    assert checkpoint.load()["layer0.weight"].dtype == torch.float32
    with pytest.raises(ValueError, match=r"'mine-2\.0' are installed already; choose another name"):
        import_weights(tmp_path / "weights.safetensors", "mine-2.0")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "with space", "naïve"])
def test_names_that_are_no_file_names(weights_folder, tmp_path, tiny, name):
    torch.save(of(tiny), tmp_path / "x.pth")
    with pytest.raises(ValueError, match="is no name for weights"):
        import_weights(tmp_path / "x.pth", name)
    assert not list(weights_folder.iterdir())


def test_tensors_that_share_memory(weights_folder, tmp_path, tiny):
    content = of(tiny)
    content["layer1.weight"] = torch.rand(4, 9)[:, 3:5]
    content["layer7.weight"] = content["layer1.weight"].repeat(1, 4)
    content["layer0.weight"] = content["layer7.weight"][:, :1]
    torch.save(content, tmp_path / "x.pth")
    loaded = import_weights(tmp_path / "x.pth").load()
    assert torch.equal(loaded["layer0.weight"], content["layer0.weight"])


def test_own_checkpoints_are_taken_as_they_are(weights_folder, tmp_path):
    trained = write_checkpoint(
        tmp_path / "trained.safetensors",
        {"a": torch.ones(3), "count": torch.tensor(3)},
        architecture="compact",
        config={"width": 8},
        gamma=2.2,
        origin="a test",
        samples=7,
    )
    checkpoint = import_weights(trained.path)
    assert checkpoint.sha256 == trained.sha256
    assert (checkpoint.architecture, checkpoint.origin) == ("compact", "a test")
    assert checkpoint.facts["samples"] == 7
    assert checkpoint.facts["source"]["file"] == "trained.safetensors"


@pytest.mark.parametrize(
    ("layout", "count"),
    zip(LAYOUTS, [118, 126, 110, 64, 64, 42, 852, 90], strict=True),
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
def test_incomplete_files_are_refused(weights_folder, tmp_path, tiny, spoil):
    content = of(tiny)
    message = spoil(content)
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=message):
        import_weights(tmp_path / "x.pth")
    assert not list(weights_folder.iterdir())


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
def test_pickles_with_code_are_refused_and_do_not_run(weights_folder, tmp_path, save, nested):
    victim = tmp_path / "victim"
    bomb = Malicious(victim)
    save({"params": {"a": torch.zeros(2), "b": bomb}} if nested else bomb, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"is refused: it .* code") as caught:
        import_weights(tmp_path / "x.pth")
    assert "\n" not in str(caught.value)
    assert not victim.exists()
    assert not list(weights_folder.iterdir())
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
