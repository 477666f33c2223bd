"""The kernel of one pixel and what there is to say about it, quickly enough to follow a cursor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from . import grid
from .field import KernelField
from .measure import motion_features

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["KernelFacts", "inspect_kernel"]


@dataclass(frozen=True)
class KernelFacts:
    """The kernel of a pixel.

    Attributes
    ----------
    y, x : int
        The pixel.
    psf : numpy.ndarray
        (K, K), float32: its point-spread function, which is the field's kernel rotated by 180°.
    extent : float
        How far it reaches along its principal direction, in pixels: 1 for no blur.
    angle : float
        That direction, in degrees from 0 up to 180, counter-clockwise on the screen.
    anisotropy : float
        From 0 for a round kernel, whose angle means nothing, to 1 for a straight line.
    norm : float
        Its L2 norm: 1 for no blur, 1/√L for a straight line of L pixels.
    uncertainty : float or None
        From 0 where the image tells the kernel to 1 where it says nothing; None if the field does
        not know.
    """

    y: int
    x: int
    psf: NDArray[np.float32]
    extent: float
    angle: float
    anisotropy: float
    norm: float
    uncertainty: float | None

    def physical_extent(self, pixel_size: tuple[float, float]) -> float:
        """Return the extent in the unit of `pixel_size`, height and width of a pixel."""
        angle = math.radians(self.angle)
        height, width = pixel_size
        return self.extent * math.hypot(height * math.sin(angle), width * math.cos(angle))


def inspect_kernel(field: KernelField, y: float, x: float) -> KernelFacts:
    """Return the kernel of the pixel at (y, x).

    Parameters
    ----------
    field : KernelField
        The blur of an image. The time does not depend on the image's size.
    y, x : float
        Pixel coordinates; pixel centres are whole numbers.

    Raises
    ------
    ValueError
        If the point lies outside the image.
    """
    if not (-0.5 <= y < field.shape[0] - 0.5 and -0.5 <= x < field.shape[1] - 0.5):
        raise ValueError(f"point (y={y:g}, x={x:g}) lies outside the image {field.shape}")
    row, column = math.floor(y + 0.5), math.floor(x + 0.5)
    kernel = field.kernel_at(row, column).detach()
    facts = motion_features(KernelField.uniform(kernel, (1, 1)), spacing=1)
    psf = np.ascontiguousarray(kernel.flip(-2, -1).float().cpu().numpy())
    return KernelFacts(
        y=row,
        x=column,
        psf=psf,
        extent=float(facts["length"][0]),
        angle=float(facts["angle"][0]),
        anisotropy=float(facts["anisotropy"][0]),
        norm=float(facts["norm"][0]),
        uncertainty=_uncertainty(field, row, column),
    )


def _uncertainty(field: KernelField, y: int, x: int) -> float | None:
    values = field.maps.get("uncertainty")
    if values is None:
        return None
    point = values.new_tensor([[y, x]])
    return float(grid.read_points(values.detach()[None], field.shape, point)[0, 0])
