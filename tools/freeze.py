"""Print constraints.txt for the environment that runs this script.

Lists the installed version of everything that the project needs, directly or through another
package, with any of its extras. Run it in an environment in which all tests pass::

    .venv/bin/python tools/freeze.py > constraints.txt
"""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

EXTRAS = ("napari", "test", "cluster", "evaluate", "train", "dev")

HEADER = """\
# The versions with which everything is tested; written by tools/freeze.py.
# Use it as: pip install -e ".[test]" -c constraints.txt
"""


def project_requirements() -> list[str]:
    """Return what pyproject.toml asks for, with the extras that the tests use."""
    path = Path(__file__).resolve().parent.parent / "pyproject.toml"
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *(line for extra in EXTRAS for line in extras[extra])]


def closure(requirements: list[str]) -> dict[str, str]:
    """Return {canonical name: public version} of all installed packages that are needed."""
    found: dict[str, str] = {}
    waiting = [Requirement(line) for line in requirements]
    seen = set()
    while waiting:
        requirement = waiting.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            installed = distribution(requirement.name)
        except PackageNotFoundError:
            continue  # needed on another platform or Python only
        found[key[0]] = Version(installed.version).public
        environments = [{"extra": extra} for extra in ("", *requirement.extras)]
        for needed in map(Requirement, installed.requires or ()):
            if needed.marker is None or any(map(needed.marker.evaluate, environments)):
                waiting.append(needed)
    return found


if __name__ == "__main__":
    versions = closure(project_requirements())
    lines = [f"{name}=={version}" for name, version in sorted(versions.items())]
    sys.stdout.write(HEADER + "\n".join(lines) + "\n")
