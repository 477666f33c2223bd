"""Where the samples of a training come from, how many there are in a step, and of what size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .images import SCALES, ImageBank, load_images

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import torch


@dataclass(frozen=True)
class Source:
    """What the samples of a task are cut from.

    Attributes
    ----------
    data : path-like
        Folder of training images with their manifest, see `read_manifest`.
    side, batch : int
        Side of the samples in pixels, and their number per step.
    device : torch.device
        Where everything happens.
    images : int, optional
        Use so many of the images of each split only.
    """

    data: str | os.PathLike[str]
    side: int
    batch: int
    device: torch.device
    images: int | None = None

    def bank(self, split: str, side: int, scales: Sequence[float] = SCALES) -> ImageBank:
        """Read the images of a split for squares of a side, see `load_images`."""
        return load_images(
            self.data, split=split, side=side, scales=scales, limit=self.images, device=self.device
        )

    def require_multiple(self, multiple: int) -> None:
        """Raise ValueError unless the side of the samples is a multiple of this."""
        if self.side % multiple:
            raise ValueError(
                f"the side of samples must be a multiple of {multiple}, got {self.side}"
            )
