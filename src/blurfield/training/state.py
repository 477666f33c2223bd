"""The state of a training run on disk, written so that it is always whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from blurfield.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path

#: Name of the file in the folder of a run, and the version of its form.
STATE = "state.pt"
_FORMAT = 1


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write the state of a run; it replaces the earlier one when it is complete."""
    with atomic_write(folder / STATE) as path:
        torch.save({"format": _FORMAT, **state}, path)


def require_run(folder: Path, resume: bool) -> None:
    """Refuse to resume what is not there, and to overwrite what is.

    Raises
    ------
    ValueError
        If so.
    """
    exists = (folder / STATE).is_file()
    if resume and not exists:
        raise ValueError(f"there is no training to resume in {folder}: {STATE} is missing")
    if exists and not resume:
        raise ValueError(
            f"{folder} holds a training run; give --resume to continue it, or another folder"
        )


def load_state(folder: Path, device: torch.device) -> dict[str, Any]:
    """Read the state of a run.

    Raises
    ------
    ValueError
        If it is not one. Nothing but tensors and plain types is read, so that a
        file from elsewhere cannot run code.
    """
    path = folder / STATE
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # noqa: BLE001 - the unpickler has errors of many kinds
        raise ValueError(f"{path} is no state of a training run: {error}") from None
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise ValueError(f"{path} is no state of a training run of this version")
    return state
