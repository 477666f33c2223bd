"""Where an array lies in the world: the seven spatial attributes of a layer, as one value.

napari maps data to world as ``affine · (rotate · shear · scale · data + translate)``. A result that
covers the source in another sampling (a coarse grid, an inset) keeps all of these except ``scale``
and ``translate``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari.layers import Layer
    from numpy.typing import NDArray

#: Unit of an axis that counts something instead of measuring it.
PIXEL = "pixel"


@dataclass(frozen=True)
class Placement:
    """The spatial attributes of a layer with `ndim` axes.

    Parameters
    ----------
    scale, translate : ndarray, shape (ndim,)
        Size of a pixel and position of the first pixel's centre.
    rotate, shear : ndarray, shape (ndim, ndim)
        Rotation and (triangular) shear.
    affine : ndarray, shape (ndim + 1, ndim + 1)
        From physical to world coordinates.
    units, axis_labels : tuple of str
        One entry for each axis.
    """

    scale: NDArray[np.float64]
    translate: NDArray[np.float64]
    rotate: NDArray[np.float64]
    shear: NDArray[np.float64]
    affine: NDArray[np.float64]
    units: tuple[str, ...]
    axis_labels: tuple[str, ...]

    @classmethod
    def of_pixels(cls, ndim: int = 2) -> Placement:
        """Return the placement of an array about which nothing is known."""
        return cls(
            scale=np.ones(ndim),
            translate=np.zeros(ndim),
            rotate=np.eye(ndim),
            shear=np.eye(ndim),
            affine=np.eye(ndim + 1),
            units=(PIXEL,) * ndim,
            axis_labels=tuple(f"axis {i - ndim}" for i in range(ndim)),
        )

    @classmethod
    def of_layer(cls, layer: Layer) -> Placement:
        """Return the placement of a layer; the colour axis of RGB images does not count."""
        return cls(
            scale=np.array(layer.scale, dtype=float),
            translate=np.array(layer.translate, dtype=float),
            rotate=np.array(layer.rotate, dtype=float),
            shear=_shear_matrix(np.asarray(layer.shear, dtype=float), layer.ndim),
            affine=np.array(layer.affine.affine_matrix, dtype=float),
            units=tuple(str(unit) for unit in layer.units),
            axis_labels=tuple(layer.axis_labels),
        )

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Placement:
        """Return what `to_json` wrote.

        Raises
        ------
        ValueError
            If an attribute is missing or does not have the size that the others imply.
        """
        try:
            numbers = {
                name: np.asarray(stored[name], dtype=float)
                for name in ("scale", "translate", "rotate", "shear", "affine")
            }
            placement = cls(
                **numbers,
                units=tuple(str(unit) for unit in stored["units"]),
                axis_labels=tuple(str(label) for label in stored["axis_labels"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"spatial attributes are damaged: {error}") from None
        n = placement.ndim
        shapes = [numbers[name].shape for name in ("translate", "rotate", "shear", "affine")]
        if shapes != [(n,), (n, n), (n, n), (n + 1, n + 1)] or not (
            len(placement.units) == len(placement.axis_labels) == n
        ):
            raise ValueError(f"spatial attributes are damaged: sizes do not fit {n} axes")
        return placement

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as plain JSON types."""
        return {
            "scale": self.scale.tolist(),
            "translate": self.translate.tolist(),
            "rotate": self.rotate.tolist(),
            "shear": self.shear.tolist(),
            "affine": self.affine.tolist(),
            "units": list(self.units),
            "axis_labels": list(self.axis_labels),
        }

    def to_layer(self) -> dict[str, Any]:
        """Return the attributes as keyword arguments of a layer."""
        return {
            "scale": self.scale,
            "translate": self.translate,
            "rotate": self.rotate,
            "shear": self.shear,
            "affine": self.affine,
            "units": self.units,
            "axis_labels": self.axis_labels,
        }

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.scale.size

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Homogeneous matrix from data to world coordinates."""
        inner = np.eye(self.ndim + 1)
        inner[:-1, :-1] = self.rotate @ self.shear @ np.diag(self.scale)
        inner[:-1, -1] = self.translate
        matrix: NDArray[np.float64] = self.affine @ inner
        return matrix

    def to_world(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Return the world coordinates of points (…, ndim) given in pixels."""
        return _mapped(self.matrix, points)

    def to_data(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Return the pixel coordinates of points (…, ndim) given in the world."""
        return _mapped(np.linalg.inv(self.matrix).astype(np.float64), points)

    def last(self, ndim: int) -> Placement:
        """Return the placement of the last `ndim` axes, without the ones before (time, depth)."""
        kept = slice(self.ndim - ndim, None)
        return Placement(
            scale=self.scale[kept],
            translate=self.translate[kept],
            rotate=self.rotate[kept, kept],
            shear=self.shear[kept, kept],
            affine=self.affine[kept, kept],
            units=self.units[kept],
            axis_labels=self.axis_labels[kept],
        )

    def sampled(self, step: Sequence[float], offset: Sequence[float]) -> Placement:
        """Return the placement of an array whose index j lies at ``offset + step · j`` of this one.

        Parameters
        ----------
        step, offset : sequence of `ndim` floats
            In pixels of this placement.
        """
        moved = self.rotate @ self.shear @ (self.scale * np.asarray(offset, dtype=float))
        return replace(
            self,
            scale=self.scale * np.asarray(step, dtype=float),
            translate=self.translate + moved,
        )

    def grid(self, shape: tuple[int, int], grid_shape: tuple[int, int]) -> Placement:
        """Return the placement of a coarse grid that covers the last two axes.

        Pixel j of a grid of h covers the source pixels from ``j·H/h − ½`` to ``(j + 1)·H/h − ½``.

        Parameters
        ----------
        shape : (int, int)
            Height and width of the image.
        grid_shape : (int, int)
            Height and width of the grid.
        """
        lead = self.ndim - 2
        step = [n / m for n, m in zip(shape, grid_shape, strict=True)]
        return self.sampled([1.0] * lead + step, [0.0] * lead + [(s - 1) / 2 for s in step])

    def with_leading(self, label: str) -> Placement:
        """Return the placement with one more axis in front, which counts something."""
        n = self.ndim + 1
        linear = [np.eye(n) for _ in range(2)]
        for matrix, inner in zip(linear, (self.rotate, self.shear), strict=True):
            matrix[1:, 1:] = inner
        affine = np.eye(n + 1)
        affine[1:, 1:] = self.affine
        return Placement(
            scale=np.concatenate([[1.0], self.scale]),
            translate=np.concatenate([[0.0], self.translate]),
            rotate=linear[0],
            shear=linear[1],
            affine=affine,
            units=(PIXEL, *self.units),
            axis_labels=(label, *self.axis_labels),
        )


def _mapped(matrix: NDArray[np.float64], points: NDArray[Any]) -> NDArray[np.float64]:
    mapped: NDArray[np.float64] = points @ matrix[:-1, :-1].T + matrix[:-1, -1]
    return mapped


def _shear_matrix(shear: NDArray[np.float64], ndim: int) -> NDArray[np.float64]:
    """Return the matrix of what ``Layer.shear`` gives: upper triangular values, or a matrix."""
    if shear.ndim == 2:
        return shear
    matrix = np.eye(ndim)
    matrix[np.triu_indices(ndim, k=1)] = shear
    return matrix
