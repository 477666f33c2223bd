from __future__ import annotations

import json

import pytest
import torch

from blurfield import checkpoints, published_weights
from blurfield.cli import main
from blurfield.published_weights import Layout


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A published file, of a network that is known in place of all others."""
    config = {"in_features": 2, "out_features": 3}
    layout = Layout("the tiny network", "tiny", config, 2.2, lambda: torch.nn.Linear)
    monkeypatch.setattr(published_weights, "LAYOUTS", (layout,))
    path = tmp_path / "tiny_net.pth"
    torch.save(torch.nn.Linear(**config).state_dict(), path)
    return path


def test_import_list_show_remove(weights_folder, published, capsys):
    assert main(["weights", "import", str(published)]) == 0
    out = capsys.readouterr().out
    assert "tiny_net: the tiny network, imported from tiny_net.pth" in out
    assert str(weights_folder / "tiny_net.safetensors") in out
    assert main(["weights", "import", str(published), "--name", "b", "--gamma", "1"]) == 0
    capsys.readouterr()

    assert main(["weights", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "NETWORK", "GAMMA", "ORIGIN"]
    assert {tuple(line.split()[:3]) for line in lines[1:]} == {
        ("tiny_net", "tiny", "2.2"),
        ("b", "tiny", "1"),
    }

    assert main(["weights", "show", "b"]) == 0
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert shown["architecture"] == "tiny"
    assert shown["gamma"] == "1.0"
    assert len(shown["sha256"]) == 64

    assert main(["weights", "remove", "b"]) == 0
    assert capsys.readouterr().out == "b: removed\n"
    assert [file.name for file in weights_folder.iterdir()] == ["tiny_net.safetensors"]


def test_json(weights_folder, published, capsys):
    def run(*words: str):
        assert main(["weights", *words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    assert run("list") == {"folder": str(weights_folder), "weights": []}
    imported = run("import", str(published))
    assert imported["source"]["file"] == "tiny_net.pth"
    assert imported["path"] == str(weights_folder / "tiny_net.safetensors")
    assert run("list")["weights"] == [imported]
    assert run("show", "tiny_net") == imported
    assert run("remove", "tiny_net")["removed"] == "tiny_net"
    assert run("list")["weights"] == []


def test_no_weights(weights_folder, capsys):
    assert main(["weights", "list"]) == 0
    assert "no weights are installed; docs/weights.md says" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["import", "missing.pth"], "there is no file missing.pth"),
        (["show", "x"], "no weights named 'x', nor a file; installed: none"),
        (["remove", "x"], "no weights named 'x'"),
        (["import", "a.pth", "--gamma", "0"], "above 0, but is '0'"),
        (["import", "a.pth", "--gamma", "auto"], "must be a number, but is 'auto'"),
        ([], "required: ACTION"),
    ],
)
def test_mistakes(weights_folder, capsys, words, message):
    assert main(["weights", *words]) == 2
    err = capsys.readouterr().err
    assert err.startswith("blurfield: error: ")
    assert err.count("\n") == 1
    assert message in err


def test_bundled_weights_stay(weights_folder, tmp_path, capsys):
    checkpoints.write_checkpoint(
        tmp_path / "bundled" / "compact.safetensors",
        {"a": torch.zeros(1)},
        architecture="compact",
        config={},
        gamma=2.2,
        origin="a test",
    )
    assert main(["weights", "list"]) == 0
    assert "compact" in capsys.readouterr().out
    assert main(["weights", "remove", "compact"]) == 2
    assert "are a part of blurfield and cannot be removed" in capsys.readouterr().err


def test_a_pickle_with_code_is_one_line(weights_folder, tmp_path, capsys):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pth")
    assert main(["weights", "import", str(tmp_path / "x.pth")]) == 2
    err = capsys.readouterr().err
    assert "is refused: it is a pickle that asks to run torch.nn.modules.linear.Linear" in err
    assert err.count("\n") == 1
