"""Print constraints.txt for the environment that runs this script.

Lists the installed version of everything that the project needs, directly or through another
package, with any of its extras. Run it in an environment in which all tests pass::

    .venv/bin/python tools/freeze.py > constraints.txt
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = "napari-blurfield"
EXTRAS = ("napari", "test", "dev")

HEADER = f"""\
# The versions with which {PROJECT} is tested; written by tools/freeze.py.
# Use it as: pip install -e ".[test]" -c constraints.txt
"""


def closure(name: str, extras: tuple[str, ...]) -> dict[str, str]:
    """Return {canonical name: public version} of all installed packages that `name` needs."""
    found: dict[str, str] = {}
    waiting = [(name, frozenset(extras))]
    seen = set()
    while waiting:
        entry = waiting.pop()
        if entry in seen:
            continue
        seen.add(entry)
        package, wanted = entry
        try:
            installed = distribution(package)
        except PackageNotFoundError:
            continue  # needed on another platform or Python only
        found[canonicalize_name(package)] = Version(installed.version).public
        for line in installed.requires or ():
            requirement = Requirement(line)
            environments = [{"extra": extra} for extra in ("", *wanted)]
            if requirement.marker is None or any(map(requirement.marker.evaluate, environments)):
                waiting.append((requirement.name, frozenset(requirement.extras)))
    return found


if __name__ == "__main__":
    versions = closure(PROJECT, EXTRAS)
    del versions[PROJECT]
    lines = [f"{name}=={version}" for name, version in sorted(versions.items())]
    sys.stdout.write(HEADER + "\n".join(lines) + "\n")
