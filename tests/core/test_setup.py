"""The set-up script: what it installs, when, and what it says if it cannot."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

SCRIPT = Path(__file__).parents[2] / "tools" / "run.py"


@pytest.fixture
def run() -> ModuleType:
    spec = importlib.util.spec_from_file_location("blurfield_run", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def commands(
    run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[str, ...]]:
    """The arguments of pip in the order of its calls; nothing is really run."""
    root, folder = tmp_path / "checkout", tmp_path / "environment"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").touch()
    (folder / "Scripts").mkdir()
    (folder / "Scripts" / "python.exe").touch()
    root.mkdir()
    (root / "constraints.txt").write_text("torch==1\n")
    (root / "pyproject.toml").write_text("[project]\n")
    called: list[tuple[str, ...]] = []

    def require(command: list[Any], advice: str) -> None:
        called.append(tuple(str(word).replace(str(root), "ROOT") for word in command[7:]))

    monkeypatch.setenv("BLURFIELD_VENV", str(folder))
    monkeypatch.setattr(run, "ROOT", root)
    monkeypatch.setattr(run, "call", lambda command, **_: 0)
    monkeypatch.setattr(run, "require", require)
    return called


def test_torch_comes_first_and_all_is_pinned(
    run: ModuleType, commands: list[tuple[str, ...]]
) -> None:
    pinned = ("-c", str(Path("ROOT/constraints.txt")))
    run.provide_packages({"test", "dev"}, "https://example.org/cpu")
    assert commands == [
        ("torch", *pinned, "--index-url", "https://example.org/cpu"),
        ("-e", "ROOT[dev,test]", *pinned),
    ]


def test_second_time_does_nothing(run: ModuleType, commands: list[tuple[str, ...]]) -> None:
    run.provide_packages({"test"}, None)
    commands.clear()
    run.provide_packages({"test"}, None)
    run.provide_packages(set(), None)
    assert commands == []


def test_changes_are_noticed(run: ModuleType, commands: list[tuple[str, ...]]) -> None:
    run.provide_packages(set(), None)
    commands.clear()
    run.provide_packages({"napari"}, None)  # one more extra
    assert [command[1] for command in commands] == ["-c", "ROOT[napari]"]
    commands.clear()
    run.provide_packages({"test"}, None)  # extras add up
    assert commands[1][1] == "ROOT[napari,test]"
    commands.clear()
    (run.ROOT / "constraints.txt").write_text("torch==2\n")
    run.provide_packages({"test"}, None)
    assert commands[1][1] == "ROOT[test]"


def test_failed_installation_is_tried_again(
    run: ModuleType, commands: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run.provide_packages(set(), None)
    (run.ROOT / "constraints.txt").write_text("torch==2\n")
    require = run.require
    monkeypatch.setattr(run, "require", lambda command, advice: run.fail(advice))
    with pytest.raises(SystemExit, match="check the network"):
        run.provide_packages(set(), None)
    commands.clear()
    monkeypatch.setattr(run, "require", require)
    run.provide_packages(set(), None)
    assert len(commands) == 2


def test_missing_system_packages_are_named(
    run: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = subprocess.CompletedProcess([], 1, stdout=b"xvfb installed\nxauth config-files\n")
    monkeypatch.setattr(run.subprocess, "run", lambda *_, **__: answer)
    monkeypatch.setattr(run, "as_root", lambda: None)
    with pytest.raises(SystemExit, match=r"apt-get install .* xauth libegl1") as stop:
        run.install_debian_packages(["xvfb", "xauth", "libegl1"], "the tests")
    assert "xvfb" not in str(stop.value)


def test_missing_libraries_are_named(run: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run.sys, "platform", "linux")
    monkeypatch.setattr(run.shutil, "which", lambda name: None)
    monkeypatch.setattr(run.ctypes.util, "find_library", lambda name: None)
    with pytest.raises(SystemExit, match=r"libxcb-cursor .* Xvfb xauth"):
        run.provide_display()


def test_all_checks_run_and_any_failure_counts(
    run: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[list[str]] = []

    def call(command: list[str], **_: object) -> int:
        seen.append(command)
        return int("mypy" in command)

    monkeypatch.setattr(run, "call", call)
    assert run.run_tests("python", ["-k", "cli"]) == 1
    assert [command[2] for command in seen] == ["ruff", "ruff", "mypy", "npe2", "pytest"]
    shared = ["-n", str(run.PROCESSES), "--dist", "loadfile"]
    assert seen[-1][3:] == [*shared, "-m", "not gpu", "-k", "cli"]
    assert capsys.readouterr().err == "failed: python -m mypy\n"
    run.run_tests("python", ["-n0", "-m", "slow"])
    assert seen[-1][3:] == ["-n0", "-m", "slow"]
    monkeypatch.setattr(run, "call", lambda command, **_: 0)
    assert run.run_tests("python", []) == 0


def test_old_pythons_can_read_the_script(run: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 6))
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(run.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer; this is 3\.9"):
        run.use_new_python()
