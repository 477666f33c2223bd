"""What holds for the package as a whole: imports, layers, versions, documentation, builds."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import zipfile
from graphlib import TopologicalSorter
from importlib.metadata import version
from pathlib import Path

import pytest

import blurfield

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "blurfield"
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(blurfield.__path__, "blurfield.")
    if not module.name.endswith("__main__")
)
FILES = sorted(SOURCE.rglob("*.py"))
GUI = {
    "napari",
    "qtpy",
    "magicgui",
    "superqt",
    "vispy",
    "pyqtgraph",
    "PyQt6",
    "PySide6",
    "napari_blurfield",
}

#: Later layers may import earlier ones. What is not named here belongs to the foundation.
LAYERS = [
    {"compute", "field", "images", "operator", "storage"},
    {
        "comparison",
        "estimation",
        "kernel_prior",
        "measure",
        "mosaic",
        "mosaic_pyramid",
        "restoration",
        "simulation",
    },
    {"inspection", "region_statistics", "regional", "residual", "similar_motion"},
    {"measurement", "series", "training", "evaluation"},
    {"demo"},
    {"cli", "__main__"},
]


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def dotted_name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_type_checking(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and (node.test.id == "TYPE_CHECKING")
    )


def imports_on_load(body: list[ast.stmt]) -> list[ast.Import | ast.ImportFrom]:
    """Imports that happen when a module is loaded: not in functions, not for type checkers."""
    found: list[ast.Import | ast.ImportFrom] = []
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found.append(node)
        elif isinstance(node, (ast.If, ast.Try, ast.With)) and not is_type_checking(node):
            found += imports_on_load(node.body)
    return found


def imported_modules(path: Path) -> set[str]:
    """Modules of blurfield that a module imports when it is loaded."""
    name = dotted_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in imports_on_load(parse(path).body):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            continue
        base = node.module or ""
        if node.level:
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, *([base] if base else [])])
        for alias in node.names:
            submodule = f"{base}.{alias.name}"
            found.add(submodule if submodule in MODULES else base)
    return {module for module in found if module in MODULES and module != name}


def layer(module: str) -> int:
    top = module.removeprefix("blurfield.").split(".")[0]
    return next((level for level, names in enumerate(LAYERS) if top in names), 0)


def test_import_is_fast_and_loads_no_torch() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import blurfield; "
        "print(time.perf_counter() - start, 'torch' in sys.modules)"
    )
    runs = [run_python(code).split() for _ in range(3)]
    assert {loaded for _, loaded in runs} == {"False"}
    assert min(float(seconds) for seconds, _ in runs) < 0.15


def test_command_line_parser_loads_nothing_heavy() -> None:
    code = (
        "import sys; from blurfield.cli._parser import build_parser; build_parser();"
        "print(sorted({'torch', 'numpy', 'scipy', 'skimage', 'PIL', 'tqdm'} & set(sys.modules)))"
    )
    assert run_python(code).strip() == "[]"


def test_core_names_no_gui() -> None:
    """Not even inside a function or for type checkers."""
    for path in FILES:
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Import):
                names = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = {(node.module or "").split(".")[0]}
            else:
                continue
            assert not names & GUI, f"{path}:{node.lineno}"


def test_core_loads_where_there_is_no_gui() -> None:
    code = f"""
import importlib, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {GUI!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
for module in {MODULES!r}:
    importlib.import_module(module)
print('loaded')
"""
    assert run_python(code).strip() == "loaded"


def test_imports_go_from_later_to_earlier_layers() -> None:
    arrows = [(dotted_name(path), other) for path in FILES for other in imported_modules(path)]
    assert not [(name, other) for name, other in arrows if layer(other) > layer(name)]


def test_imports_make_no_circle() -> None:
    graph = {dotted_name(path): imported_modules(path) for path in FILES}
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_layers_are_seen() -> None:
    """The two tests above would pass if nothing were found."""
    assert "blurfield.grid" in imported_modules(SOURCE / "field.py")
    assert layer("blurfield.estimation.windowed") > layer("blurfield.operator")


def test_public_names() -> None:
    assert blurfield.__all__ == sorted(blurfield.__all__)
    assert dir(blurfield) == blurfield.__all__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = blurfield.nothing


@pytest.mark.parametrize("name", [name for name in blurfield.__all__ if name != "__version__"])
def test_public_names_are_documented(name: str) -> None:
    value = getattr(blurfield, name)
    text = inspect.getdoc(value)
    assert text
    if inspect.isclass(value) and issubclass(value, Exception):
        return
    section = re.search(r"^Parameters\n-+\n(.*?)(?:\n\n\w+\n-+\n|\Z)", text, re.M | re.S)
    assert section
    entries = re.findall(r"^(\S.*?)(?: :.*)?$", section[1], re.M)
    documented = {name.lstrip("*") for entry in entries for name in entry.split(", ")}
    signature = inspect.signature(value)
    assert set(signature.parameters) <= documented
    if inspect.isfunction(value):
        assert re.search(r"^Returns\n-+$", text, re.M)
        assert signature.return_annotation is not inspect.Signature.empty


def test_names_listed_by_modules_exist() -> None:
    for module in map(importlib.import_module, MODULES):
        listed = getattr(module, "__all__", [])
        assert not [name for name in listed if not hasattr(module, name)], module.__name__


def test_version_is_written_once() -> None:
    assert version("napari-blurfield") == blurfield.__version__
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {blurfield.__version__}\n" in citation


def test_constraints_pin_what_the_project_needs() -> None:
    tomllib = pytest.importorskip("tomllib")
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert pinned["torch"] == "2.13.0"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"]]
    for extra in ("napari", "test", "dev"):
        needed += project["optional-dependencies"][extra]
    names = {re.split(r"[\[<>=~ ]", requirement)[0].lower() for requirement in needed}
    assert names <= set(pinned)


@pytest.mark.slow
def test_wheel_holds_the_manifest(tmp_path: Path) -> None:
    """Built as an installer does it, from the source distribution."""
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        manifest = archive.read("napari_blurfield/napari.yaml")
        names = archive.namelist()
    assert manifest == (ROOT / "napari.yaml").read_bytes()
    assert {"blurfield/py.typed", "napari_blurfield/py.typed"} <= set(names)
    assert not [name for name in names if name.startswith(("tests", "tools"))]
