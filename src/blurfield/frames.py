"""Image files with many frames, read one frame at a time: time-lapses, focal series, films."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from .files import DAMAGED, TIFF_SUFFIXES, read_image, require_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["FrameFile", "Frames", "ImageFiles", "frames_of", "frames_of_files", "open_frames"]

#: Axes of TIFF files that belong to one image: rows, columns, samples and channels.
_WITHIN = "YXSC"
#: Numbers of samples that are colours, perhaps with alpha, wherever an array says no more.
_COLOURS = (3, 4)


@dataclass(frozen=True)
class FrameFile:
    """A file with frames; unlike the open file, this can be handed to another process.

    Attributes
    ----------
    path : str
        Where it is, from the root of the file system.
    axes : str or None
        See `open_frames`.
    """

    path: str
    axes: str | None = None

    def __call__(self, number: int) -> NDArray[Any]:
        """Open the file and read a frame."""
        with open_frames(self.path, self.axes) as frames:
            return frames[number]


@dataclass(frozen=True)
class ImageFiles:
    """Image files of equal shape and type, which are the frames of one time-lapse.

    Attributes
    ----------
    paths : tuple of str
        Where they are, from the root of the file system.
    shape : tuple of int
        Their shape.
    dtype : str
        Type of their values.
    """

    paths: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str

    def __call__(self, number: int) -> NDArray[Any]:
        """Read one of them."""
        path = self.paths[number]
        image = read_image(path)
        if image.shape != self.shape or image.dtype != self.dtype:
            raise ValueError(
                f"{path} is an image of type {image.dtype} and shape {image.shape}, but the frames "
                f"are of type {self.dtype} and shape {self.shape}"
            )
        return image


@dataclass(frozen=True)
class Frames:
    """Frames of equal shape and type.

    Attributes
    ----------
    axes : tuple of str
        Names of the axes along which there are frames, such as ``("T", "Z")``; none for a single
        image.
    sizes : tuple of int
        Number of frames along each of them.
    shape : tuple of int
        Shape of one frame: (H, W), (H, W, C), or (C, H, W) with `channel_axis` 0.
    dtype : numpy.dtype
        Number type of the values.
    channel_axis : int or None
        Axis of channels within a frame, where it isn't the last one of 3 or 4.
    file : FrameFile, ImageFiles or None
        How another process reads the same frames; None for arrays in memory.
    """

    axes: tuple[str, ...]
    sizes: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    channel_axis: int | None
    _read: Callable[[int], NDArray[Any]]
    file: FrameFile | ImageFiles | None = None

    def __len__(self) -> int:
        return prod(self.sizes)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> NDArray[Any]:
        """Read a frame; they are numbered in the order of the file, last axis fastest.

        Raises
        ------
        IndexError
            If there is no such frame.
        ValueError
            If the file is damaged there.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"there are {len(self)} frames, from 0; there is no frame {number}")
        return self._read(number)

    def position(self, number: int) -> dict[str, int]:
        """Where a frame lies on each of the axes."""
        index = np.unravel_index(number, self.sizes) if self.sizes else ()
        return {name: int(i) for name, i in zip(self.axes, index, strict=True)}


@contextlib.contextmanager
def open_frames(path: str | os.PathLike[str], axes: str | None = None) -> Iterator[Frames]:
    """Open an image file for reading frame by frame; nothing but the frame asked for is in memory.

    Parameters
    ----------
    path : path-like
        A TIFF file, ``.npy``, or what `blurfield.files.read_image` reads, which is one frame.
    axes : str, optional
        A letter for each axis of the file's array, such as ``"TYX"``; Y and X are rows and columns,
        C or S channels, anything else frames. By default TIFF files tell, and arrays in ``.npy``
        files are (…, Y, X), or (…, Y, X, S) if the last axis has 3 or 4 entries and there are
        others.

    Yields
    ------
    Frames

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not an image or damaged, holds several series of images, or `axes` doesn't suit it.
    """
    file = require_file(path)
    suffix = file.suffix.lower()
    image = None if suffix in {".npy", *TIFF_SUFFIXES} else read_image(file)
    with contextlib.ExitStack() as stack:
        try:
            if image is not None:
                frames = frames_of(image, axes or _guessed(image))
            elif suffix == ".npy":
                array = np.load(file, mmap_mode="r", allow_pickle=False)
                frames = frames_of(array, axes or _guessed(array))
            else:
                frames = _of_tiff(file, axes, path, stack)
        except PermissionError as error:
            raise PermissionError(f"cannot read {path}: {error.strerror or error}") from error
        except _AxesError as error:
            raise ValueError(f"cannot read {path} frame by frame: {error}") from None
        except DAMAGED as error:
            raise ValueError(f"cannot read {path} as images: {error}") from error
        yield replace(frames, file=FrameFile(str(file.resolve()), axes))


class _AxesError(ValueError):
    """The axes that a file has, or was said to have, are not those of frames."""


def _guessed(array: NDArray[Any]) -> str:
    """Axes of an array that says nothing about them."""
    inner = "YXS" if array.ndim > 2 and array.shape[-1] in _COLOURS else "YX"
    outer = {0: "", 1: "T", 2: "TZ"}.get(array.ndim - len(inner))
    if outer is None:
        raise _AxesError(f"its array of shape {array.shape} has no known axes; say which they are")
    return outer + inner


def frames_of(array: NDArray[Any], axes: str) -> Frames:
    """Return the frames of an array, which may lie on disk.

    Parameters
    ----------
    array : array
        Anything that is indexed and transposed like a NumPy array.
    axes : str
        See `open_frames`.

    Raises
    ------
    ValueError
        If `axes` doesn't suit the array.
    """
    outer, inner = _split(axes, array.shape)
    order = [axes.index(name) for name in outer + inner]
    moved = np.transpose(array, order)
    sizes = tuple(moved.shape[: len(outer)])

    def read(number: int) -> NDArray[Any]:
        index = np.unravel_index(number, sizes) if sizes else ()
        frame = moved[tuple(index)]
        return np.array(frame, dtype=frame.dtype.newbyteorder("="))

    shape, channel_axis = _frame_shape(inner, moved.shape[len(outer) :])
    dtype = array.dtype.newbyteorder("=")
    return Frames(tuple(outer), sizes, shape, dtype, channel_axis, read)


def frames_of_files(paths: Sequence[str | os.PathLike[str]]) -> Frames:
    """Return images as the frames of one time-lapse, each read when it is asked for.

    Parameters
    ----------
    paths : sequence of path-like
        Image files, see `blurfield.files.read_image`. The first one that can be read tells which
        shape and type all have to have.

    Raises
    ------
    ValueError
        If none of them can be read.
    """
    first = next(_readable(paths), None)
    if first is None:
        raise ValueError("none of the files can be read as an image")
    alone = frames_of(first, _guessed(first))
    if alone.sizes:
        raise ValueError(f"an image of shape {first.shape} cannot be the frame of a time-lapse")
    files = tuple(os.path.abspath(path) for path in paths)
    read = ImageFiles(files, first.shape, first.dtype.name)
    return Frames(("T",), (len(files),), first.shape, first.dtype, None, read, read)


def _readable(paths: Sequence[str | os.PathLike[str]]) -> Iterator[NDArray[Any]]:
    for path in paths:
        with contextlib.suppress(*DAMAGED):
            yield read_image(path)


def _of_tiff(
    file: Path, axes: str | None, path: str | os.PathLike[str], stack: contextlib.ExitStack
) -> Frames:
    import tifffile

    tif = stack.enter_context(tifffile.TiffFile(file))
    series = [part for part in tif.series if not part.keyframe.is_reduced] or tif.series[:1]
    if len(series) > 1:
        raise _AxesError(
            f"it holds {len(series)} series of images; save them as files of their own"
        )
    (images,) = series
    if len(images.shape) <= 3 and axes is None and set(images.axes) <= set(_WITHIN):
        image = read_image(file)
        return frames_of(image, images.axes if image.shape == images.shape else _guessed(image))
    names = axes or images.axes
    if images.dataoffset is not None:
        stored = images.dtype.newbyteorder(tif.byteorder)
        mapped = np.memmap(file, stored, "r", images.dataoffset, images.shape)
        return frames_of(mapped, names)
    outer, inner = _split(names, images.shape)
    if not names.startswith(outer):
        # Channels around frames: pages of one image lie apart, so that all are read.
        return frames_of(images.asarray(), names)
    sizes = tuple(images.shape[: len(outer)])
    pages = len(images.pages) // prod(sizes)
    inside = [names[len(outer) :].index(name) for name in inner]

    def read(number: int) -> NDArray[Any]:
        try:
            parts = [
                page.asarray()
                for page in images.pages[number * pages : (number + 1) * pages]
                if page is not None
            ]
        except DAMAGED as error:
            raise ValueError(f"cannot read frame {number} of {path}: {error}") from error
        frame = np.stack(parts).reshape(images.shape[len(outer) :])
        return np.ascontiguousarray(np.transpose(frame, inside))

    within = [images.shape[len(outer) + where] for where in inside]
    shape, channel_axis = _frame_shape(inner, within)
    return Frames(tuple(outer), sizes, shape, images.dtype, channel_axis, read)


def _split(axes: str, shape: tuple[int, ...]) -> tuple[str, str]:
    """Axes of frames, and those within a frame: C, Y, X or Y, X, S."""
    if len(axes) != len(shape) or len(set(axes)) != len(axes):
        raise _AxesError(f"the axes {axes!r} do not name each axis of the shape {shape} once")
    if not {"Y", "X"} <= set(axes) or {"C", "S"} <= set(axes):
        raise _AxesError(
            f"of the axes {axes!r}, Y and X have to be rows and columns, and C or S channels"
        )
    outer = "".join(name for name in axes if name not in _WITHIN)
    return outer, "C" * ("C" in axes) + "YX" + "S" * ("S" in axes)


def _frame_shape(inner: str, shape: Any) -> tuple[tuple[int, ...], int | None]:
    return tuple(int(n) for n in shape), 0 if inner.startswith("C") else None
