"""What the documentation says is there, works."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

import blurfield
from blurfield import KernelField
from blurfield.cli._parser import build_parser
from blurfield.files import write_image

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PAGES = {page.name: page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
#: Pages that tell how to use things. The others record measurements and training runs.
GUIDES = {
    *("README.md", "index.md", "user-guide.md", "photographers.md", "microscopists.md"),
    *("scripting.md", "command-line.md", "file-format.md", "troubleshooting.md", "methods.md"),
}
#: A picture of the documentation is no larger than this, in bytes.
LARGEST = 150_000

#: A fenced block with what stands right above it, if that is a comment.
_BLOCK = re.compile(
    r"(?:<!-- (?P<comment>[^\n]*) -->\n+)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"(?P<picture>!?)\[(?P<words>[^\]]*)\]\((?P<target>[^)\s]+)\)")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
#: What the comment above a block that is not run begins with.
_NOT_RUN = "not run: "


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str
    line: int
    reason: str


def blocks(page: str, *languages: str) -> list[Block]:
    """The blocks of a page in some languages; `reason` says why one is not run."""
    text = PAGES[page].read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        comment = match["comment"] or ""
        reason = comment.removeprefix(_NOT_RUN) if comment.startswith(_NOT_RUN) else ""
        line = text.count("\n", 0, match.start("text"))
        found.append(Block(match["language"], match["text"], line, reason))
    return [block for block in found if block.language in languages]


def prose(page: str) -> str:
    """A page without its fenced blocks."""
    return _BLOCK.sub("", PAGES[page].read_text(encoding="utf-8"))


# ---------------------------------------------------------------------- examples


@cache
def drawn() -> Any:
    """The scenes of the documentation, as a module."""
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import scenes
    finally:
        sys.path.pop(0)
    return scenes


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which examples are run, with small files of the names that they use."""
    monkeypatch.chdir(tmp_path)
    scenes = drawn()
    page = scenes.page(height=64, width=80)
    scenes.write(Path("page.png"), page.blurry)
    page.truth.save("page.blurfield")
    scenes.write(Path("cells.tif"), scenes.cells(side=64).blurry)
    np.save("scan.npy", page.blurry[..., 0])
    kernel = np.zeros((9, 9), np.uint8)
    kernel[4] = 255
    write_image("kernel.png", kernel)
    monkeypatch.setattr("skimage.data.astronaut", lambda: page.sharp)
    return tmp_path


#: Fields by image and options.
_estimated: dict[tuple[Any, ...], KernelField] = {}


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimate the same image with the same options only once, on all pages."""
    estimate = blurfield.estimate

    def remembered(image: Any, *args: Any, progress: Any = None, **options: Any) -> KernelField:
        pixels = np.asarray(image)
        told = {name: value for name, value in options.items() if value not in ("auto", None)}
        key = (pixels.tobytes(), pixels.shape, args, repr(sorted(told.items())))
        if key not in _estimated:
            _estimated[key] = estimate(image, *args, progress=progress, **options)
        return _estimated[key]

    for place in ("blurfield", "blurfield.estimation"):
        monkeypatch.setattr(f"{place}.estimate", remembered)


@pytest.mark.parametrize("name", [name for name in PAGES if blocks(name, "python")])
@pytest.mark.usefixtures("desk", "once")
def test_python_examples_run(name: str) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(name, "python"):
        if not block.reason:
            # Errors show the page and its line.
            source = "\n" * block.line + block.text
            exec(compile(source, str(PAGES[name]), "exec"), namespace)


@pytest.mark.parametrize("name", [name for name in PAGES if blocks(name, "python")])
def test_python_examples_that_are_not_run_are_python(name: str) -> None:
    for block in blocks(name, "python"):
        compile(block.text, str(PAGES[name]), "exec")


def commands() -> Iterator[tuple[str, str]]:
    """All lines of shell examples that call `blurfield`, with their page."""
    for name in PAGES:
        for block in blocks(name, "sh", ""):
            for line in block.text.replace("\\\n", " ").splitlines():
                line = re.sub(r"^python -m blurfield\b", "blurfield", line.strip())
                if line.startswith("blurfield "):
                    yield name, line


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_are_understood(page: str, line: str) -> None:
    line = re.sub(r"\[[^\]]*\]", "", line)  # what may be left out
    words = shlex.split(line.split(" | ")[0].split(" && ")[0], comments=True)[1:]
    if words == ["--help"] or "…" in words:
        return
    build_parser().parse_args([{"M": "1", "N": "2"}.get(word, word) for word in words])


# ------------------------------------------------------------- links and pictures


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as Git hosts make them."""
    heads = re.findall(r"^#+ (.+)$", _BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", head)) for head in heads]
    return {head.strip().lower().replace(" ", "-") for head in plain}


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    for match in _LINK.finditer(prose(name)):
        target, _, anchor = match["target"].partition("#")
        if "://" in target:
            continue
        file = PAGES[name].parent / target if target else PAGES[name]
        assert file.exists(), match[0]
        if anchor:
            assert anchor in anchors(file), match[0]


def test_all_pages_are_on_the_index() -> None:
    linked = {match["target"].partition("#")[0] for match in _LINK.finditer(prose("index.md"))}
    assert set(PAGES) - {"README.md", "index.md"} <= linked


def test_pictures_are_small_described_and_made_by_the_script() -> None:
    shown = {
        match["target"]: match["words"]
        for name in PAGES
        for match in _LINK.finditer(prose(name))
        if match["picture"]
    }
    shown = {Path(target).name: words for target, words in shown.items()}
    kept = {path.name: path for path in (ROOT / "docs/images").glob("*")}
    script = (ROOT / "tools/screenshots.py").read_text(encoding="utf-8")
    assert set(shown) == set(kept)
    for name, path in kept.items():
        assert len(shown[name]) > 20, f"{name} needs words for those who cannot see it"
        assert path.suffix == ".png"
        assert path.stat().st_size <= LARGEST, name
        assert f'"{path.stem}"' in script, name


# ------------------------------------------------------------------- command line


def leaves(
    parser: argparse.ArgumentParser, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """All commands with their long options."""
    options: set[str] = set()
    parts = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            parts.append(action)
        options.update(option for option in action.option_strings if option.startswith("--"))
    if not parts:
        yield words, options
    for part in parts:
        for name, child in part.choices.items():
            yield from leaves(child, (*words, name))


def sections(page: str) -> dict[str, str]:
    """The text below each second-level heading of a page."""
    parts = re.split(r"^## (.+)$", PAGES[page].read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip([head.strip("` ") for head in parts[1::2]], parts[2::2], strict=True))


COMMANDS = list(leaves(build_parser()))
COMMON = "Options that many commands have"


@pytest.mark.parametrize(("words", "options"), COMMANDS, ids=lambda x: "-".join(sorted(x)))
def test_each_command_and_option_is_documented(words: tuple[str, ...], options: set[str]) -> None:
    reference = sections("command-line.md")
    own = reference[words[0]]
    assert "blurfield " + " ".join(words) in own
    told = set(_OPTION.findall(own + reference[COMMON]))
    assert options <= told, f"not documented: {sorted(options - told)}"


def test_no_option_is_documented_that_does_not_exist() -> None:
    known: dict[str, set[str]] = {}
    for words, options in COMMANDS:
        known.setdefault(words[0], set()).update(options)
    reference = sections("command-line.md")
    assert set(known) <= set(reference)
    for name, options in known.items():
        own = re.sub(r"^(dask|python|napari) .*$", "", reference[name], flags=re.MULTILINE)
        told = set(_OPTION.findall(own))
        assert told <= options, f"{name} has no {sorted(told - options)}"
    assert set(_OPTION.findall(reference[COMMON])) <= set.union(*known.values())


def test_the_table_of_commands_is_complete() -> None:
    head = PAGES["command-line.md"].read_text(encoding="utf-8").split("\n## ")[0]
    assert set(re.findall(r"^\| \[`(\w+)`\]", head, re.MULTILINE)) == {w[0] for w, _ in COMMANDS}


# --------------------------------------------------------------- methods and files


def test_methods_page_has_all_models_methods_and_variants() -> None:
    from blurfield.estimation import MODELS
    from blurfield.restoration import METHODS

    text = PAGES["methods.md"].read_text(encoding="utf-8")
    words = set(re.findall(r"`([^`\n]+)`", text))
    assert set(MODELS) <= words
    assert set(METHODS) <= words
    assert {variant for method in METHODS.values() for variant in method.variants} <= words


def test_scripting_guide_has_all_public_functions() -> None:
    code = "".join(block.text for block in blocks("scripting.md", "python"))
    assert [name for name in blurfield.__all__ if name[0] != "_" and f"bf.{name}" not in code] == []


def test_file_format_is_as_described(tmp_path: Path) -> None:
    from safetensors import safe_open

    path = tmp_path / "a.blurfield"
    truth = drawn().page(height=64, width=80).truth
    maps = {"uncertainty": np.zeros((4, 5), np.float32)}
    KernelField(truth.basis, truth.mixing, truth.shape, truth.metadata, maps).save(path)
    text = PAGES["file-format.md"].read_text(encoding="utf-8")
    with safe_open(path, "np") as file:
        entries, header = set(file.keys()), set(file.metadata())
    assert entries == {"basis", "mixing", "map:uncertainty"}
    for name in entries | header:
        assert f"`{name}`" in text, name


def test_every_widget_has_a_section_in_the_guide() -> None:
    manifest = (ROOT / "napari.yaml").read_text(encoding="utf-8").split("\n  widgets:")[1]
    names = re.findall(r"display_name: (.+)", manifest.split("\n  readers:")[0])
    assert names
    assert set(names) <= set(sections("user-guide.md"))


def test_guides_name_no_machine_and_no_issue() -> None:
    for name in GUIDES:
        text = PAGES[name].read_text(encoding="utf-8")
        assert not re.search(r"/(home|tmp|work)/|\s#\d+\b|localhost", text), name
