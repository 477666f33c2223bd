#!/usr/bin/env python3
"""Set everything up, then run the demo or the tests.

    python3 tools/run.py demo        set up, then `blurfield demo`
    python3 tools/run.py test        set up, then ruff, mypy, npe2 validate and pytest
    python3 tools/run.py setup       set up for the tests and run nothing

Needs Python 3.11 or newer and nothing else. Makes the virtual environment `.venv` in the checkout
(or where BLURFIELD_VENV says), with the versions of constraints.txt. The tests also need a virtual
display and the libraries of Qt and OpenGL: on Debian and Ubuntu they are installed when possible.
A second run finds all of it in place and starts at once. Further arguments go to `blurfield demo`
or to pytest: `python3 tools/run.py test -k cli`.
"""

# This file is also read by Pythons that are too old, which must still be able to say so.
import argparse
import ctypes.util
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAMP = "blurfield-setup.json"
EXTRAS = {"demo": set(), "test": {"test", "dev"}, "setup": {"test", "dev"}}

#: What a Qt window on a virtual display needs, as Debian and Ubuntu name it.
DEBIAN_PACKAGES = [
    *("xvfb", "xauth", "libegl1", "libgl1", "libgl1-mesa-dri", "libdbus-1-3"),
    *("libxkbcommon-x11-0", "libxcb-cursor0", "libxcb-icccm4", "libxcb-keysyms1"),
    *("libxcb-image0", "libxcb-render-util0", "libxcb-randr0", "libxcb-shape0"),
    *("libfontconfig1", "fonts-dejavu-core"),
]

#: The libraries to look for where there is no dpkg to ask.
LIBRARIES = [
    *("EGL", "GL", "dbus-1", "xkbcommon-x11", "xcb-cursor", "xcb-icccm", "xcb-keysyms"),
    *("xcb-image", "xcb-render-util", "xcb-randr", "xcb-shape", "fontconfig"),
]


#: Processes that share the tests. Each takes a gigabyte or two of memory.
PROCESSES = min(os.cpu_count() or 1, 4)


def fail(message):
    """Say what is wrong and end."""
    sys.exit("tools/run.py: " + message)


def call(command, **options):
    """Show a command, run it and return its exit status."""
    print("+ " + " ".join(shlex.quote(str(word)) for word in command), flush=True)
    return subprocess.call([str(word) for word in command], cwd=str(ROOT), **options)


def require(command, advice):
    """Run a command that has to succeed."""
    status = call(command)
    if status != 0:
        fail(f"the command above failed with status {status}; {advice}")


def use_new_python():
    """Go on with a newer Python if this one is too old and there is one."""
    if sys.version_info >= (3, 11):
        return
    for minor in (13, 12, 11):
        newer = shutil.which(f"python3.{minor}")
        if newer:
            os.execv(newer, [newer, str(Path(__file__).resolve()), *sys.argv[1:]])
    fail("needs Python 3.11 or newer; this is {}.{}".format(*sys.version_info[:2]))


def as_root():
    """Return the words that make a command run as root, or None where that is impossible."""
    if os.geteuid() == 0:
        return []
    sudo = ["sudo", "-n"]
    if shutil.which("sudo") and subprocess.call([*sudo, "true"], stderr=subprocess.DEVNULL) == 0:
        return sudo
    return None


def install_debian_packages(packages, purpose):
    """Install what is missing of `packages` with apt-get, or say how to."""

    def missing():
        asked = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *packages]
        answer = subprocess.run(asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        lines = answer.stdout.decode().splitlines()
        present = {line.split()[0] for line in lines if line.endswith(" installed")}
        return [name for name in packages if name not in present]

    absent = missing()
    root = as_root() if absent else None
    if absent and root is not None and shutil.which("apt-get"):
        environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        call([*root, "apt-get", "update", "-q"], env=environment)
        get = [*root, "apt-get", "install", "-q", "-y", "--no-install-recommends", *absent]
        call(get, env=environment)
        absent = missing()
    if absent:
        fail(
            f"{purpose} need system packages that could not be installed here; install them with\n"
            f"    sudo apt-get install --no-install-recommends {' '.join(absent)}"
        )


def provide_display():
    """Make sure that Qt windows can open on a virtual display (Linux only)."""
    if not sys.platform.startswith("linux"):
        return
    if shutil.which("dpkg-query"):
        install_debian_packages(DEBIAN_PACKAGES, "the tests of the plugin")
        return
    absent = ["lib" + name for name in LIBRARIES if ctypes.util.find_library(name) is None]
    absent += [name for name in ("Xvfb", "xauth") if shutil.which(name) is None]
    if absent:
        fail(
            "the tests of the plugin need these system packages, under the names that your "
            "distribution gives them: " + " ".join(absent)
        )


def make_environment(folder, python):
    """Create the virtual environment, or complete one whose making was interrupted."""
    if python.exists() and call([python, "-m", "pip", "--version"]) == 0:
        return
    try:
        import ensurepip  # noqa: F401 - Debian and Ubuntu ship it apart from Python
    except ImportError:
        if not shutil.which("dpkg-query"):
            fail("this Python has no ensurepip, without which it makes no virtual environment")
        package = "python{}.{}-venv".format(*sys.version_info[:2])
        install_debian_packages([package], "virtual environments")
    require([sys.executable, "-m", "venv", folder], "see what it says")


def provide_packages(extras, torch_index):
    """Bring the virtual environment up to date and return its Python."""
    folder = Path(os.environ.get("BLURFIELD_VENV") or ROOT / ".venv").absolute()
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    digest = hashlib.sha256(str(ROOT).encode())
    for name in ("constraints.txt", "pyproject.toml"):
        digest.update((ROOT / name).read_bytes())
    wanted = {"digest": digest.hexdigest(), "torch_index": torch_index}
    stamp = folder / STAMP
    try:
        before = json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = {}
    if before.get("digest") == wanted["digest"]:
        wanted["torch_index"] = torch_index or before["torch_index"]
        extras = extras | set(before["extras"])
    wanted["extras"] = sorted(extras)
    if before == wanted and python.exists():
        return python

    make_environment(folder, python)
    stamp.unlink(missing_ok=True)  # nothing is sure until the end of what follows
    advice = "check the network, or set PIP_INDEX_URL to an index that can be reached"
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--progress-bar", "off"]
    pinned = ["-c", ROOT / "constraints.txt"]
    # PyTorch goes first so that it may come from an index of its own.
    index = ["--index-url", torch_index] if torch_index else []
    require([*pip, "torch", *pinned, *index], advice)
    project = f"{ROOT}[{','.join(wanted['extras'])}]" if extras else str(ROOT)
    require([*pip, "-e", project, *pinned], advice)
    stamp.write_text(json.dumps(wanted), encoding="utf-8")
    return python


def run_tests(python, arguments):
    """Run every check and return 0 if all pass. The summary of pytest comes last."""
    checks = [
        [python, "-m", "ruff", "check", "."],
        [python, "-m", "ruff", "format", "--check", "."],
        [python, "-m", "mypy"],
        [python, "-m", "npe2", "validate", "napari.yaml"],
    ]
    failed = [check for check in checks if call(check) != 0]
    if not any(word.startswith("-m") for word in arguments):
        arguments = ["-m", "not gpu", *arguments]
    if not any(word.startswith(("-n", "--numprocesses")) for word in arguments):
        # Files of tests share what is slow to make, so that each goes to one process.
        arguments = ["-n", str(PROCESSES), "--dist", "loadfile", *arguments]
    threads = dict(os.environ, OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", "1"))
    if call([python, "-m", "pytest", *arguments], env=threads) != 0:
        failed.append(["pytest"])
    for check in failed:
        print("failed: " + " ".join(str(word) for word in check[-3:]), file=sys.stderr)
    return 1 if failed else 0


def main():
    """Run the command line."""
    use_new_python()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=sorted(EXTRAS))
    parser.add_argument(
        "--torch-index",
        metavar="URL",
        help="where pip finds PyTorch, e.g. https://download.pytorch.org/whl/cpu (small, no GPU)",
    )
    options, arguments = parser.parse_known_args()
    if options.what != "demo":
        provide_display()
    extras = set(EXTRAS[options.what])
    if options.what == "demo" and "--view" in arguments:
        extras.add("napari")
    python = provide_packages(extras, options.torch_index)
    if options.what == "demo":
        return call([python, "-m", "blurfield", "demo", *arguments])
    if options.what == "test":
        return run_tests(python, arguments)
    if arguments:
        parser.error("setup takes no further arguments")
    return 0


if __name__ == "__main__":
    sys.exit(main())
