"""``blurfield weights``: trained weights that are installed, and how to install more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._values import positive_number

if TYPE_CHECKING:
    import argparse

    from blurfield.checkpoints import Checkpoint

    from ._console import Console


def add_parser(
    commands: argparse._SubParsersAction[Any], *, spoken: argparse.ArgumentParser
) -> None:
    """Add the command to those of the parser; `spoken` is a parent with shared options."""
    weights = commands.add_parser("weights", help="install, list and remove trained weights")
    actions = weights.add_subparsers(title="what to do", metavar="ACTION", required=True)

    action = actions.add_parser(
        "import",
        parents=[spoken],
        help="install a published file: a PyTorch pickle without code, or safetensors",
    )
    action.add_argument("file", metavar="FILE")
    action.add_argument("--name", metavar="NAME", help="what to call them (default: as the file)")
    action.add_argument(
        "--gamma",
        type=positive_number,
        metavar="G",
        help="exponent that was applied to images in training (default: what the network's authors "
        "used)",
    )
    action.set_defaults(run=import_)

    action = actions.add_parser("list", parents=[spoken], help="what is installed")
    action.set_defaults(run=list_)

    action = actions.add_parser("show", parents=[spoken], help="all that is known about weights")
    action.add_argument("name", metavar="NAME")
    action.set_defaults(run=show)

    action = actions.add_parser("remove", parents=[spoken], help="delete imported weights")
    action.add_argument("name", metavar="NAME")
    action.set_defaults(run=remove)


def import_(options: argparse.Namespace, console: Console) -> None:
    """Install a file of weights."""
    from blurfield.published_weights import import_weights

    weights = import_weights(options.file, options.name, options.gamma)
    text = f"{weights.name}: {weights.origin}\nnow in {weights.path}"
    console.result(text, weights.describe())


def list_(options: argparse.Namespace, console: Console) -> None:
    """List what is installed."""
    from blurfield.checkpoints import installed, user_folder

    found = installed()
    rows = [("NAME", "NETWORK", "GAMMA", "ORIGIN")]
    rows += [(one.name, one.architecture, f"{one.gamma:g}", one.origin) for one in found]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[3]])
        for row in rows
    ]
    none = "no weights are installed; docs/weights.md says where to get them"
    figures = {"folder": user_folder(), "weights": [one.describe() for one in found]}
    console.result("\n".join(lines) if found else none, figures)


def show(options: argparse.Namespace, console: Console) -> None:
    """Tell all about weights."""
    facts = _named(options.name).describe()
    width = max(map(len, facts))
    lines = [f"{key.ljust(width)}  {value}" for key, value in facts.items()]
    console.result("\n".join(lines), facts)


def remove(options: argparse.Namespace, console: Console) -> None:
    """Delete imported weights."""
    from blurfield.checkpoints import remove_checkpoint

    weights = _named(options.name)
    remove_checkpoint(weights)
    console.result(f"{weights.name}: removed", {"removed": weights.name, "path": weights.path})


def _named(name: str) -> Checkpoint:
    from blurfield.checkpoints import find_named

    return find_named(name)
