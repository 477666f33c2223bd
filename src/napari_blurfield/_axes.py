"""What the axes of a layer stand for: frames, channels, and last the image's rows and columns."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Each entry along the axis is an image with a blur of its own.
FRAMES = "frames"
#: All entries along the axis belong to one image, and share its blur.
CHANNELS = "channels"

#: Labels that napari gives to axes without a name.
_UNNAMED = re.compile(r"(axis )?-?\d+")
#: Labels of axes of channels, in lower case.
_CHANNEL_LABELS = frozenset(
    ("c", "ch", "channel", "channels", "color", "colors", "colour", "colours", "wavelength", "λ")
)
#: Labels of rows and columns, in lower case.
_IMAGE_LABELS = frozenset(("y", "x", "row", "rows", "column", "columns"))
#: Numbers of entries that make an axis without a name one of channels.
_FEW = range(2, 5)


@dataclass(frozen=True)
class Axes:
    """Roles of the axes of a layer, of which the last two are rows and columns.

    Parameters
    ----------
    leading : tuple of str
        `FRAMES` or `CHANNELS` for each axis before the last two; at most one of channels. The
        colour axis of RGB images does not count.
    """

    leading: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = set(self.leading) - {FRAMES, CHANNELS}
        if unknown or self.leading.count(CHANNELS) > 1:
            raise ValueError(
                f"axes before rows and columns are {FRAMES!r}, or one of them {CHANNELS!r}, not "
                f"{self.leading}"
            )

    @property
    def ndim(self) -> int:
        """Number of axes, with rows and columns."""
        return len(self.leading) + 2

    @property
    def frames(self) -> tuple[int, ...]:
        """Axes along which there are frames."""
        return tuple(axis for axis, role in enumerate(self.leading) if role == FRAMES)

    @property
    def channels(self) -> int | None:
        """The axis of channels, if there is one."""
        return self.leading.index(CHANNELS) if CHANNELS in self.leading else None

    def index(self, frame: Sequence[int]) -> tuple[int | slice, ...]:
        """Return what picks a frame, with all its channels, out of the layer's data."""
        left = iter(frame)
        return tuple(next(left) if role == FRAMES else slice(None) for role in self.leading)

    def with_role(self, axis: int, role: str) -> Axes:
        """Return the axes with another role for one of them; channels elsewhere become frames."""
        leading = [FRAMES if role == CHANNELS else old for old in self.leading]
        leading[axis] = role
        return Axes(tuple(leading))


def guess_axes(labels: Sequence[str], shape: Sequence[int], *, rgb: bool) -> Axes:
    """Tell what the axes of an image layer stand for.

    Parameters
    ----------
    labels : sequence of str
        The layer's axis labels.
    shape : sequence of int
        Sizes of the same axes: without that of colours.
    rgb : bool
        Whether the layer has an axis of colours besides these; there are no other channels then.

    Raises
    ------
    ValueError
        If the labels say that rows or columns are not the last two axes.

    Notes
    -----
    An axis with a name is what its name says. Of those without, the last one of 2 to 4 entries
    holds channels, if no name claims that.
    """
    lowered = [label.strip().lower() for label in labels]
    lead = lowered[:-2]
    if not _IMAGE_LABELS.isdisjoint(lead) or not _CHANNEL_LABELS.isdisjoint(lowered[-2:]):
        raise ValueError(
            f"rows and columns have to be the last two axes, but the axes are {tuple(labels)}; "
            "move the axes of the data, or correct the layer's axis labels"
        )
    axes = Axes((FRAMES,) * len(lead))
    if rgb:
        return axes
    named = [axis for axis, label in enumerate(lead) if label in _CHANNEL_LABELS]
    few = [axis for axis in axes.frames if not is_named(lead[axis]) and shape[axis] in _FEW]
    claimed = named[:1] or few[-1:]
    return axes.with_role(claimed[0], CHANNELS) if claimed else axes


def is_named(label: str) -> bool:
    """Return whether somebody gave an axis this label."""
    return not _UNNAMED.fullmatch(label)


def frame_words(labels: Sequence[str], frame: Sequence[int]) -> str:
    """Return e.g. ``t 3, z 0``; ``frame`` stands for an axis without a name of its own.

    Parameters
    ----------
    labels : sequence of str
        Of the axes along which there are frames.
    frame : sequence of int
        Index along each of them.
    """
    return ", ".join(
        f"{label if is_named(label) else 'frame'} {index}"
        for label, index in zip(labels, frame, strict=False)
    )


def axes_words(axes: Axes, labels: Sequence[str], shape: Sequence[int], *, rgb: bool) -> str:
    """Return e.g. ``t × z: 20 × 5 frames, 3 channels, 512 × 512 px``."""
    words: list[str] = []
    sizes = [shape[axis] for axis in axes.frames]
    if sizes:
        names = " × ".join(labels[axis] for axis in axes.frames if is_named(labels[axis]))
        count = _counted(" × ".join(str(size) for size in sizes), "frame")
        words.append(f"{names}: {count}" if names else count)
    if axes.channels is not None:
        words.append(_counted(shape[axes.channels], "channel"))
    words.append(f"{shape[-2]} × {shape[-1]} px")
    if axes.channels is None:
        words.append("colour" if rgb else "grey")
    return ", ".join(words)


def _counted(count: int | str, what: str) -> str:
    return f"{count} {what}{'' if str(count) == '1' else 's'}"
