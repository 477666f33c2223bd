"""Which pixels are blurred, or moved alike, as the numbers of a Labels layer and a table for it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from blurfield import KernelField
    from blurfield.compute import ProgressCallback

    from ._pixel_size import PixelSize

_MASK_COLOR = (0.0, 0.75, 1.0, 1.0)
#: Decimals of the figures in the features of a layer, which are shown as they are.
_DECIMALS = 4


@dataclass(frozen=True)
class MaskSettings:
    """What counts as blurred, and what is made of it.

    Parameters
    ----------
    threshold : float
        Kernels with a smaller L2 norm count as blur.
    min_extent : float, optional
        If given, blur of at least so much counts, whatever the norm.
    min_area : int
        Smaller regions and gaps are removed, in pixels.
    tolerance : float, optional
        If given, the mask is divided into regions of similar motion; see
        `blurfield.motion_regions`.
    pixel_size : (float, float), optional
        Height and width of a pixel in the unit of `min_extent`; without, that is in pixels.
    """

    threshold: float = 0.25
    min_extent: float | None = None
    min_area: int = 0
    tolerance: float | None = None
    pixel_size: tuple[float, float] | None = None

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> MaskSettings:
        """Return the settings that are among the facts about a layer."""
        known = {name: facts[name] for name in asdict(cls()) if name in facts}
        if known.get("pixel_size") is not None:
            known["pixel_size"] = tuple(known["pixel_size"])
        return cls(**known)

    @property
    def role(self) -> str:
        """What the layer shows, a key of `napari_blurfield.layers.ROLES`."""
        return "mask" if self.tolerance is None else "regions"

    def facts(self) -> dict[str, Any]:
        """Return the settings as plain JSON, for the metadata of the layer."""
        sides = None if self.pixel_size is None else list(self.pixel_size)
        return {**asdict(self), "pixel_size": sides}


def label_image(
    field: KernelField, settings: MaskSettings, progress: ProgressCallback | None = None
) -> NDArray[Any]:
    """Return the data of a mask, 1 where the image is blurry, or the numbers of its regions."""
    from blurfield import blur_mask, motion_regions

    mask = blur_mask(
        field,
        settings.threshold,
        min_extent=settings.min_extent,
        pixel_size=settings.pixel_size or 1.0,
        min_area=settings.min_area,
        progress=progress,
    )
    if settings.tolerance is None:
        return mask.astype(np.uint8)
    return motion_regions(
        field,
        mask,
        tolerance=settings.tolerance,
        min_area=settings.min_area,
        progress=progress,
    )


def label_table(
    field: KernelField,
    labels: NDArray[Any],
    settings: MaskSettings,
    pixel: PixelSize,
    progress: ProgressCallback | None = None,
) -> dict[str, list[Any]]:
    """Return the features of a Labels layer: a row of statistics for each label, 0 included.

    Parameters
    ----------
    field : KernelField
        The blur of the image.
    labels : ndarray of int, shape (H, W)
        The layer's data, perhaps painted by hand.
    settings : MaskSettings
        What counts as blurred.
    pixel : PixelSize
        In the unit of which extents are given.
    progress : callable, optional
        Called as ``progress(done, total, message)``; what it raises stops the work.
    """
    from blurfield import blur_statistics

    extent, sides = settings.min_extent, settings.pixel_size or (1.0, 1.0)
    factor = pixel.sides[0] / sides[0]
    table = blur_statistics(
        field,
        labels,
        threshold=settings.threshold,
        min_extent=None if extent is None else extent * factor,
        pixel_size=pixel.sides,
        background=True,
        progress=progress,
    )
    if extent is not None and not math.isclose(factor, pixel.sides[1] / sides[1]):
        # Where pixels are not square, a length in pixels is not one length in the unit.
        table["blurred"] = blur_statistics(
            field, labels, min_extent=extent, pixel_size=sides, background=True, progress=progress
        )["blurred"]
    numbers = table.pop("label").tolist()
    names = {0: "sharp", 1: "blurry"} if settings.role == "mask" else {0: "outside"}
    return {
        "index": numbers,
        "region": [names.get(number, f"region {number}") for number in numbers],
        "area": np.round(table["pixels"] * pixel.area, _DECIMALS).tolist(),
        **{name: np.round(values, _DECIMALS).tolist() for name, values in table.items()},
        "unit": [pixel.unit] * len(numbers),
    }


def label_look(settings: MaskSettings) -> dict[str, Any]:
    """Return how the layer looks: a mask in one colour, regions in napari's."""
    if settings.role == "regions":
        return {"opacity": 0.5}
    clear = (0.0, 0.0, 0.0, 0.0)
    return {"opacity": 0.4, "colormap": {None: _MASK_COLOR, 0: clear, 1: _MASK_COLOR}}


def label_words(labels: NDArray[Any], settings: MaskSettings) -> str:
    """Say how much of an image is marked."""
    text = f"{np.mean(labels > 0):.0%} of the image is blurry"
    if settings.role == "mask":
        return f"{text}."
    count = int(labels.max(initial=0))
    return f"{text}, in {count} region{'' if count == 1 else 's'} of similar motion."
