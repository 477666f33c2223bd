"""The estimators that take part in an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blurfield.checkpoints import read_checkpoint
from blurfield.estimation import estimate, installed_models, model_for

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from blurfield.compute import ProgressCallback
    from blurfield.field import KernelField


@dataclass(frozen=True)
class Contender:
    """An estimator under its name.

    Attributes
    ----------
    name : str
        What it is called in tables.
    model : str
        Name of the model for `blurfield.estimate`.
    device : torch.device
        Where it computes.
    options : dict
        Parameters of the model.
    """

    name: str
    model: str
    device: torch.device
    options: dict[str, Any]

    def estimate(
        self, blurry: NDArray[np.uint8], gamma: float, progress: ProgressCallback | None
    ) -> KernelField:
        """Estimate the field of a blurry image, see `blurfield.estimate`."""
        return estimate(
            blurry,
            model=self.model,
            gamma=gamma,
            device=self.device,
            progress=progress,
            **self.options,
        )


def contenders(
    models: Sequence[str] | None,
    checkpoints: Sequence[str | os.PathLike[str]],
    device: torch.device,
) -> list[Contender]:
    """Return the estimators to compare.

    Parameters
    ----------
    models : sequence of str or None
        Names of installed models; None for all of them.
    checkpoints : sequence of path-like
        Checkpoint files, each for a model that estimates. Each is called as its file is, without
        the extension; where that name is taken, by its whole path.
    device : torch.device
        Where they compute.

    Raises
    ------
    FileNotFoundError
        If there is no such checkpoint.
    ValueError
        If a model is not installed, or a file is not the checkpoint of an estimator.
    """
    installed = installed_models()
    names = installed if models is None else list(models)
    for name in names:
        if name not in installed:
            raise ValueError(
                f"the model {name!r} is not installed; installed: {', '.join(installed)}"
            )
    found = [Contender(name, name, device, {}) for name in names]
    for path in checkpoints:
        checkpoint = read_checkpoint(path)
        model = model_for(checkpoint)
        taken = {other.name for other in found}
        name = str(path) if checkpoint.name in taken else checkpoint.name
        found.append(Contender(name, model, device, {"checkpoint": checkpoint}))
    return found
