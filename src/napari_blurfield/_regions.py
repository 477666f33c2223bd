"""Parts of an image that somebody drew: rectangles, ellipses and polygons, or a label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ._axes import frame_words
from ._picked_axes import stored_data, stored_shape
from ._spatial import Placement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Labels, Layer, Shapes
    from numpy.typing import NDArray

    from ._source import Source

#: Corners of the polygon that stands for an ellipse.
_CORNERS = 72
#: Pixels below which places are the same; napari keeps shapes in single precision.
_NEAR = 1e-3
#: Frames that a message names.
_NAMED = 3
#: Kinds of shapes that have an inside.
_CLOSED = frozenset(("rectangle", "ellipse", "polygon"))


@dataclass(frozen=True)
class Region:
    """A part of an image.

    Parameters
    ----------
    name : str
        For people.
    rows, cols : slice
        The smallest box of whole pixels around it, within the image.
    mask : ndarray of bool, optional
        Which pixels of the box belong to it; all by default.
    """

    name: str
    rows: slice
    cols: slice
    mask: NDArray[np.bool_] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the box."""
        return self.rows.stop - self.rows.start, self.cols.stop - self.cols.start

    def to_json(self) -> dict[str, Any]:
        """Return name and box as plain JSON."""
        return {
            "name": self.name,
            "rows": [self.rows.start, self.rows.stop],
            "cols": [self.cols.start, self.cols.stop],
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Region:
        """Return the box that `to_json` wrote."""
        return cls(str(stored["name"]), slice(*stored["rows"]), slice(*stored["cols"]))

    @classmethod
    def of_mask(cls, name: str, mask: NDArray[np.bool_], corner: Sequence[int]) -> Region:
        """Return the region of the pixels in a mask, of which the first lies at `corner`.

        Raises
        ------
        ValueError
            If there are none.
        """
        rows, cols = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        if not rows.size:
            raise ValueError(f"{name} does not touch the image; draw it over the image")
        inner = mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
        first = int(corner[0] + rows[0]), int(corner[1] + cols[0])
        return cls(
            name,
            slice(first[0], first[0] + inner.shape[0]),
            slice(first[1], first[1] + inner.shape[1]),
            None if inner.all() else inner,
        )


def regions_of(layer: Layer, source: Source, point: Sequence[float] | None = None) -> list[Region]:
    """Return the parts of an image that another layer marks, wherever both lie.

    Parameters
    ----------
    layer : napari.layers.Shapes or napari.layers.Labels
        Of shapes, those that are selected, or all if none is. Those in a layer with axes of frames
        count for the frame that they were drawn on, those in a layer of two axes for all frames. Of
        labels, the selected one.
    source : Source
        The image.
    point : sequence of float, optional
        A place in the world, which says which slice of a stack of shapes or labels is meant; by
        default the one where the image lies.

    Raises
    ------
    ValueError
        If nothing is marked, or nothing of it lies on the image.
    """
    from napari.layers import Labels

    point = source.corner if point is None else point
    if isinstance(layer, Labels):
        return [_of_label(layer, source, point)]
    return _of_shapes(layer, source, point)


def frames_drawn_on(layer: Layer, source: Source) -> list[tuple[int, ...]]:
    """Return the frames on which closed shapes were drawn, in order; none if they are for all.

    Parameters
    ----------
    layer : napari.layers.Layer
        A layer that marks parts of an image; only Shapes are drawn on frames.
    source : Source
        An image of the stack.
    """
    from napari.layers import Shapes

    if not isinstance(layer, Shapes) or not _common_axes(layer, source):
        return []
    return sorted({_spans(layer, index, source)[0] for index in _closed(layer)})


def _of_shapes(layer: Shapes, source: Source, point: Sequence[float]) -> list[Region]:
    closed = _closed(layer)
    here = [index for index in closed if _is_drawn_at(layer, index, source, point)]
    if closed and not here:
        raise ValueError(_elsewhere(layer, source, point))
    # A selection on another frame is not to be seen, and not meant.
    selected = [i for i in sorted(layer.selected_data) if _is_drawn_at(layer, i, source, point)]
    chosen = [index for index in selected or here if index in here]
    if not chosen:
        raise ValueError(
            f"there is no rectangle, ellipse or polygon in {layer.name!r}; draw one around what "
            "you want to work on"
        )
    place, onto = Placement.of_layer(layer), source.placement.last(2)
    regions = []
    for index in chosen:
        corners = _outline(np.asarray(layer.data[index], dtype=float), layer.shape_type[index])
        name = layer.name if layer.nshapes == 1 else f"{layer.name} {index + 1}"
        outline = onto.to_data(place.to_world(corners)[:, -2:])
        regions.append(_of_outline(name, outline, source.shape))
    return regions


def _closed(layer: Shapes) -> list[int]:
    return [index for index in range(layer.nshapes) if layer.shape_type[index] in _CLOSED]


def _common_axes(layer: Shapes, source: Source) -> list[int]:
    """Axes of frames of an image that a Shapes layer has, too; layers share their last axes."""
    missing = source.placement.ndim - layer.ndim
    return [axis for axis in source.axes.frames if axis >= missing]


def _is_drawn_at(layer: Shapes, index: int, source: Source, point: Sequence[float]) -> bool:
    """Return whether a shape is on the frame of an image that is at a place in the world."""
    first, last = _spans(layer, index, source)
    frame = _frame_at(layer, source, point)
    return all(a <= at <= b for a, at, b in zip(first, frame, last, strict=True))


def _spans(layer: Shapes, index: int, source: Source) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """First and last frame that a shape reaches, along the axes that both layers have."""
    corners = np.asarray(layer.data[index], dtype=float)
    return _frames(layer, source, Placement.of_layer(layer).to_world(corners))


def _frame_at(layer: Shapes, source: Source, point: Sequence[float]) -> tuple[int, ...]:
    return _frames(layer, source, np.asarray(point, dtype=float)[None])[0]


def _frames(
    layer: Shapes, source: Source, world: NDArray[np.float64]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """First and last frame of an image that places in the world are on, along common axes."""
    place = source.placement
    whole = np.tile(np.asarray(source.corner), (len(world), 1))
    shared = min(place.ndim, world.shape[1])
    whole[:, place.ndim - shared :] = world[:, world.shape[1] - shared :]
    axes = _common_axes(layer, source)
    found = np.rint(place.to_data(whole)[:, axes]).astype(int)
    return tuple(map(int, found.min(0))), tuple(map(int, found.max(0)))


def _elsewhere(layer: Shapes, source: Source, point: Sequence[float]) -> str:
    """Say that there are shapes, but on other frames."""
    labels = [source.placement.axis_labels[axis] for axis in _common_axes(layer, source)]
    others = [frame_words(labels, frame) for frame in frames_drawn_on(layer, source)]
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    return (
        f"the shapes in {layer.name!r} are drawn on {'; '.join(others[:_NAMED])}{more}, none on "
        f"{frame_words(labels, _frame_at(layer, source, point))}: draw one there, or in a Shapes "
        "layer of two axes, which counts for all frames"
    )


def _outline(corners: NDArray[np.float64], kind: str) -> NDArray[np.float64]:
    """Return the corners of a polygon; napari knows ellipses by those of a box around them."""
    if kind != "ellipse":
        return corners
    angle = 2 * np.pi * np.arange(_CORNERS)[:, None] / _CORNERS
    down, across = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    outline: NDArray[np.float64] = corners[:4].mean(0) + np.cos(angle) * down
    outline += np.sin(angle) * across
    return outline


def _of_outline(name: str, outline: NDArray[np.float64], shape: tuple[int, int]) -> Region:
    """Return the region of the pixels whose centres lie within a polygon, in pixels."""
    from skimage.draw import polygon2mask

    first = np.maximum(np.ceil(outline.min(0) - _NEAR), 0).astype(int)
    last = np.minimum(np.floor(outline.max(0) + _NEAR) + 1, shape).astype(int)
    if (last <= first).any():
        return Region.of_mask(name, np.zeros((0, 0), bool), first)
    if len(outline) == 4 and _is_upright(outline):
        rows, cols = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
        return Region(name, rows, cols)
    return Region.of_mask(name, polygon2mask(tuple(last - first), outline - first), first)


def _is_upright(outline: NDArray[np.float64]) -> bool:
    """Return whether the sides of a quadrilateral run along rows and columns."""
    sides = np.abs(np.roll(outline, -1, 0) - outline)
    return bool((sides.min(1) < _NEAR).all())


def _of_label(layer: Labels, source: Source, point: Sequence[float]) -> Region:
    label = int(layer.selected_label)
    name = f"{layer.name} {label}"
    if label == 0:
        raise ValueError(
            f"the label selected in {layer.name!r} is 0, the background; select another one"
        )
    place = Placement.of_layer(layer)
    marked = _labels_at(layer, place, point) == label
    if not marked.any():
        raise ValueError(f"there is no label {label} where {layer.name!r} is shown")
    ends = [
        (axis[0] - 0.5, axis[-1] + 0.5)
        for axis in map(np.flatnonzero, (marked.any(1), marked.any(0)))
    ]
    corners = np.array([(y, x) for y in ends[0] for x in ends[1]])
    onto, place = source.placement.last(2), place.last(2)
    around = onto.to_data(place.to_world(corners))
    first = np.maximum(np.floor(around.min(0)), 0).astype(int)
    last = np.minimum(np.ceil(around.max(0)) + 1, source.shape).astype(int)
    pixels = np.stack(np.meshgrid(*map(np.arange, first, last), indexing="ij"), -1)
    cells = np.rint(place.to_data(onto.to_world(pixels))).astype(int)
    inside = ((cells >= 0) & (cells < marked.shape)).all(-1)
    mask = np.zeros(pixels.shape[:2], bool)
    mask[inside] = marked[tuple(cells[inside].T)]
    return Region.of_mask(name, mask, first)


def _labels_at(layer: Labels, place: Placement, point: Sequence[float]) -> NDArray[Any]:
    """Return the slice of labels at a place in the world."""
    data = stored_data(layer)
    if layer.ndim == 2:
        return np.asarray(data)
    world = np.asarray(point, dtype=float)[-layer.ndim :]
    index = np.rint(place.to_data(world)[:-2]).astype(int) if world.size == layer.ndim else ()
    sizes = stored_shape(layer)[:-2]
    if len(index) != len(sizes) or not all(0 <= i < n for i, n in zip(index, sizes, strict=True)):
        raise ValueError(f"{layer.name!r} has no labels where {tuple(world)} is shown")
    return np.asarray(data[tuple(int(i) for i in index)])
