"""Measure the blur of the frames of a layer, one after the other, without changing any layer."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

import blurfield

from ._axes import is_named
from ._frame_ranges import write_ranges
from ._picked_axes import stored_data, stored_shape
from ._pixel_size import PixelSize
from ._source import Source
from ._stack import Stack
from ._tasks import Outcome, loaded_device
from .layers import FACTS, ROLES, fields_in, source_of, stacks_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from napari.layers import Labels, Layer

    from blurfield import KernelField
    from blurfield.compute import ProgressCallback
    from blurfield.frames import Frames
    from blurfield.quantities import Row

    from .layers import LayerData

    #: Gives the field of a frame if it is known already.
    Known = Callable[[int], KernelField | None]

#: Steps of the progress of one frame.
_STEPS = 1000
#: Place of the mark of a whole frame, as a part of its sides: beside its upper left corner.
_CORNER = 0.05
_GOOD_COLOR, _BAD_COLOR = (0.0, 0.75, 1.0, 1.0), (1.0, 0.55, 0.0, 1.0)


@dataclass(frozen=True)
class MeasuringPlan:
    """What is to be measured.

    Parameters
    ----------
    stack : Stack
        The frames; a single image is a stack without axes.
    numbers : tuple of int
        Which of them.
    estimate : dict
        Arguments of `blurfield.estimate`.
    labels : Frames, optional
        Regions of each frame, or of all frames; by default each frame is one region.
    min_extent : float, optional
        What counts as blurred, in the unit of the image; by default the L2 norm of kernels says so.
    known : callable
        Gives the fields that are known already.
    """

    stack: Stack
    numbers: tuple[int, ...]
    estimate: dict[str, Any] = field(default_factory=dict)
    labels: Frames | None = None
    min_extent: float | None = None
    known: Known = lambda _: None

    @property
    def pixel(self) -> PixelSize:
        """Size of the image's pixels, in the unit of which extents are given."""
        return PixelSize.of(self.stack.first.placement)


def stack_of(layer: Layer) -> Stack:
    """Return the frames of an image layer; a single image is the only frame.

    Raises
    ------
    TypeError
        If the layer is not an image.
    ValueError
        If its axes are not understood.
    """
    first = Source.of_first(layer)
    sizes = tuple(stored_shape(layer)[axis] for axis in first.axes.frames)
    data = stored_data(layer)
    return Stack(first, sizes, data, str(layer.unique_id))


def label_frames_of(layer: Labels, stack: Stack) -> Frames:
    """Return the regions in a Labels layer, as the core reads them.

    Raises
    ------
    ValueError
        If they do not fit the frames.
    """
    from blurfield.frames import frames_of
    from blurfield.measurement import label_frames

    data = stored_data(layer)
    outer = "".join(chr(ord("a") + axis) for axis in range(data.ndim - 2))
    labels = frames_of(data, f"{outer}YX")
    try:
        label_frames(labels, stack.frames())
    except ValueError as error:
        raise ValueError(f"{layer.name!r} does not fit {stack.name!r}: {error}") from None
    return labels


def known_fields(layers: Iterable[Layer], stack: Stack) -> Known:
    """Return what gives the fields of frames that layers show already.

    Fields of a folder that remember the pixels of their frame count only if it still has them.
    """
    layers = list(layers)
    frames, shape = stack.frames(), stack.first.shape
    single = [found for found in fields_in(layers) if found.shape == shape]
    series = [
        found
        for found in stacks_in(layers)
        if found.stack.first.shape == shape and found.stack.is_same_as(stack)
    ]

    def known(number: int) -> KernelField | None:
        frame = stack.frame_identity(stack.position(number))
        for found in single:
            if source_of(found).is_same_image(frame):
                return found
        for fields in series:
            if fields.has(number) and fields.is_of(number, frames):
                return fields.series.field(number)
        return None

    return known


def measure_stack(
    plan: MeasuringPlan,
    *,
    progress: ProgressCallback,
    on_frame: Callable[[list[Row]], None],
) -> Outcome:
    """Measure frames as a job.

    Parameters
    ----------
    plan : MeasuringPlan
        What to do.
    progress : callable
        Called as ``progress(done, total, message)``; if it raises, the work stops.
    on_frame : callable
        Called with the rows of each frame when they are there.

    Raises
    ------
    ValueError
        If no frame could be measured.
    """
    from blurfield.measurement import label_frames, measure_frames

    started = time.monotonic()
    used = loaded_device(str(plan.estimate.get("device", "auto")), progress)
    frames = plan.stack.frames()
    bad: list[str] = []
    measured = measure_frames(
        frames,
        _Fields(plan, frames, progress).of,
        label_frames(plan.labels, frames) if plan.labels is not None else lambda _: None,
        numbers=plan.numbers,
        min_extent=plan.min_extent,
        pixel_size=plan.pixel.sides,
        on_bad=lambda number, error: bad.append(f"frame {number}: {error}"),
    )
    for rows in measured:
        on_frame([{**_named(row, frames.axes), "unit": plan.pixel.unit} for row in rows])
    return Outcome([], _summary(len(plan.numbers), bad, time.monotonic() - started, used))


def _named(row: Row, axes: tuple[str, ...]) -> Row:
    """Return a row without the position on a single axis that has no name: it is the frame."""
    if len(axes) == 1 and not is_named(axes[0]):
        return {name: value for name, value in row.items() if name != axes[0]}
    words = {axis: axis if is_named(axis) else f"axis {axis}" for axis in axes}
    return {words.get(name, name): value for name, value in row.items()}


class _Fields:
    """The fields of frames: those that are known, and the others estimated."""

    def __init__(self, plan: MeasuringPlan, frames: Frames, progress: ProgressCallback) -> None:
        self._plan = plan
        self._frames = frames
        self._progress = progress
        self._place = {number: place for place, number in enumerate(plan.numbers)}

    def of(self, number: int) -> KernelField:
        """Return the field of a frame."""
        place, count = self._place[number], len(self._place)

        def within(done: int, total: int, message: str) -> None:
            part = min(_STEPS * done // total, _STEPS - 1) if total else 0
            words = f"Frame {place + 1} of {count}: {message}"
            self._progress(place * _STEPS + part, count * _STEPS, words)

        within(0, 0, "reading …")
        found = self._plan.known(number)
        if found is None:
            found = blurfield.estimate(
                self._frames[number],
                channel_axis=self._frames.channel_axis,
                progress=within,
                **self._plan.estimate,
            )
        within(1, 1, "measuring …")
        return found.to("cpu")


def _summary(count: int, bad: Sequence[str], seconds: float, used: str) -> str:
    if len(bad) == count:
        raise ValueError(f"no frame could be measured: {bad[0]}")
    words = f"Measured {count - len(bad)} frame{'' if count == 1 else 's'} in {seconds:.1f} s"
    left = f" {len(bad)} left out, the first of them {bad[0]}." if bad else ""
    return f"{words} on {used}.{left}"


def measurement_layer_data(
    plan: MeasuringPlan, rows: Sequence[Mapping[str, Any]], column: str
) -> LayerData:
    """Return a Points layer with the figures: a mark in each frame, or in each region of it.

    Parameters
    ----------
    plan : MeasuringPlan
        What was measured.
    rows : sequence of mapping
        The table, of which each row becomes a point with all figures as its features.
    column : str
        The quantity that is written beside the points.
    """
    stack = plan.stack
    names = list(dict.fromkeys(name for row in rows for name in row))
    features = {name: [row.get(name) for row in rows] for name in names}
    features["words"] = [_mark(row, column) for row in rows]
    facts = {
        "role": "measurements",
        "version": blurfield.__version__,
        "source": stack.first.to_json(),
        "parameters": {**plan.estimate, "min_extent": plan.min_extent},
        "unit": plan.pixel.unit,
        "quantity": column,
    }
    attributes = {
        "name": f"{stack.name} {ROLES['measurements']}",
        "metadata": {FACTS: facts},
        "features": features,
        "size": max(2.0, min(stack.first.shape) / 30),
        **_look(rows),
        **stack.first.placement.to_layer(),
    }
    return np.array([_point(row, stack) for row in rows]), attributes, "points"


def _point(row: Mapping[str, Any], stack: Stack) -> list[float]:
    """Return where a row is marked: on the region, or in the corner for a whole frame."""
    height, width = stack.first.shape
    axes = stack.first.axes
    point = [0.0] * axes.ndim
    for axis, index in zip(axes.frames, stack.position(row["frame"]), strict=True):
        point[axis] = index
    whole = row["label"] == 0
    point[-2] = _CORNER * height if whole else row["centre_y"]
    point[-1] = _CORNER * width if whole else row["centre_x"]
    return point


def _look(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how points look: flagged ones differ in colour and shape."""
    flagged = [bool(row.get("flagged")) for row in rows]
    colors = np.array([_BAD_COLOR if bad else _GOOD_COLOR for bad in flagged])
    return {
        "face_color": colors,
        "border_width": 0,
        "symbol": ["triangle_up" if bad else "disc" for bad in flagged],
        "text": {"string": "{words}", "anchor": "upper_left", "size": 10, "color": colors},
    }


def _mark(row: Mapping[str, Any], column: str) -> str:
    from blurfield.quantities import QUANTITIES

    value, kind = row[column], QUANTITIES[column].kind
    if kind == "share":
        words = f"{value:.0%}"
    elif kind == "angle":
        words = f"{value:.0f}°"
    else:
        words = f"{value:.3g} {row.get('unit', 'px')}"
    return f"{words}, flagged" if row.get("flagged") else words


def axes_of_rows(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the columns that say where frames lie along several axes; none for a single one."""
    if not rows:
        return ()
    names = list(rows[0])
    axes = tuple(names[names.index("frame") + 1 : names.index("label")])
    return axes if len(axes) > 1 else ()


def flagged_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say how many frames are flagged, and which; as frames are written everywhere else."""
    frames = {row["frame"] for row in rows}
    axes = axes_of_rows(rows)
    bad = {row["frame"]: tuple(row[axis] for axis in axes) for row in rows if row.get("flagged")}
    of = f"{len(bad)} of {len(frames)} frame{'' if len(frames) == 1 else 's'} flagged"
    if not bad:
        return f"{of}."
    return f"{of}: {_places(axes, sorted(bad.values())) if axes else write_ranges(tuple(bad))}"


def _places(axes: Sequence[str], positions: Iterable[tuple[int, ...]]) -> str:
    """Return positions such as ``t 3, z 0-2; t 4, z 1``."""
    along_last: dict[tuple[int, ...], list[int]] = {}
    for position in positions:
        along_last.setdefault(position[:-1], []).append(position[-1])
    words = []
    for outer, found in along_last.items():
        place = zip(axes, (*outer, write_ranges(tuple(found))), strict=True)
        words.append(", ".join(f"{axis} {index}" for axis, index in place))
    return "; ".join(words)
