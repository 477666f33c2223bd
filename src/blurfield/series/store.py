"""The folder with the results of a series: what is in it, and what is missing."""

from __future__ import annotations

import glob
import time
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from blurfield.files import ArrayFile, atomic_write

from .changes import give_field
from .record import Record, describe_source
from .settings import check_settings, checked_numbers, whole_number

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    import dask.array
    from numpy.typing import NDArray

    from blurfield.field import KernelField
    from blurfield.frames import Frames

__all__ = ["Series"]

_RECORD = "series.json"
#: Temporary files of runs that were killed are removed when they are so many seconds old.
_STALE = 600


@dataclass(frozen=True)
class Series:
    """Results of the frames of a stack, or of a single image, in a folder.

    Made by `Series.create` or `Series.open`, and filled by `blurfield.series.process`. For a stack
    the folder has ``series.json``, ``fields/00003.blurfield`` and ``images/00003.tif`` for each
    frame that is done, and ``shared.blurfield`` if the frames share a field; for a single image
    with a name of its own, ``NAME.json``, ``NAME.blurfield`` and ``NAME.tif``. Each file is there
    completely or not at all, and depends on nothing but the frame and the settings.

    Attributes
    ----------
    folder : pathlib.Path
        The folder, from the root of the file system.
    name : str or None
        Name of the files of a single image.
    record : Record
        What its JSON file says.
    """

    folder: Path
    name: str | None
    record: Record

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        frames: Frames,
        *,
        estimate: Mapping[str, Any],
        deblur: Mapping[str, Any] | None,
        shared: bool = False,
        numbers: Sequence[int] | None = None,
        metadata: Mapping[str, Any] | None = None,
        threads: int = 1,
        name: str | None = None,
    ) -> Series:
        """Begin a series, or continue the one that is in a folder.

        The first and the last frame tell whether it is of the same images; frames between them that
        have changed are done again by `blurfield.series.process`.

        Parameters
        ----------
        folder : path-like
            Where results go; made if it does not exist.
        frames : Frames
            The images. The first and the last one are read, to recognise them later.
        estimate : mapping
            Arguments of `blurfield.estimate`, such as ``model`` and ``kernel_size``: plain JSON.
        deblur : mapping or None
            Arguments of `blurfield.deblur`, such as ``method``; None to estimate only.
        shared : bool
            Deblur all frames with the median of their fields, see `blurfield.series.median_field`.
        numbers : sequence of int, optional
            Which frames; all by default.
        metadata : mapping, optional
            What else to note, as plain JSON, for instance where the images come from.
        threads : int
            PyTorch threads for each frame. The last bits of results depend on it, and on nothing
            else that is chosen when the work is done.
        name : str, optional
            For a single image: name of its files, so that several images share a folder.

        Raises
        ------
        ValueError
            If a number, a method or an option is wrong, there are no frames, or the folder has
            results of other images or settings, or files that would be taken for results.
        TypeError
            If an option is unknown, or settings or metadata are not plain JSON.
        OSError
            If the folder cannot be made or written.
        """
        if not len(frames):
            raise ValueError("there are no frames")
        if name is not None and frames.sizes:
            raise ValueError("only a single image has a name; a stack needs a folder of its own")
        check_settings(estimate, deblur)
        record = Record(
            source=describe_source(frames),
            estimate=dict(estimate),
            deblur=None if deblur is None else dict(deblur),
            shared=bool(shared) and name is None,
            threads=whole_number(threads, 1, "threads"),
            numbers=checked_numbers(numbers, len(frames)),
            metadata=dict(metadata or {}),
        ).plain()
        series = cls(Path(folder).resolve(), name, record)
        if series.record_path.exists():
            before = Record.read(series.record_path)
            series = cls(series.folder, name, before.continued(record, series.folder, name))
        else:
            series._refuse_files()
        series._make_folders()
        if not series.record_path.exists() or before != series.record:
            series.record.write(series.record_path)
        return series

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Series:
        """Open a folder of results, or the JSON file of a series.

        Raises
        ------
        FileNotFoundError
            If there is none.
        ValueError
            If its JSON file is damaged, or of a newer version.
        """
        path = Path(folder).resolve()
        if path.suffix.lower() == ".json":
            name = None if path.name == _RECORD else path.stem
            return cls(path.parent, name, Record.read(path))
        return cls(path, None, Record.read(path / _RECORD))

    def _make_folders(self) -> None:
        try:
            for path in self._frame_paths(0):
                path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"cannot make the folder {self.folder}: {error.strerror}") from error

    def _refuse_files(self) -> None:
        """Raise ValueError if files are in the place of results, though nothing tells of them."""
        found = [self.shared_path] if self.name is None and self.shared_path.exists() else []
        for path in self._frame_paths(0):
            found += path.parent.glob(f"{self._any_stem}{path.suffix}")
        if found:
            raise ValueError(
                f"{self.folder} holds files of something else, such as "
                f"{min(found).relative_to(self.folder)}: choose an empty folder"
            )

    # ------------------------------------------------------------------ facts

    @property
    def numbers(self) -> tuple[int, ...]:
        """Frames that were asked for."""
        return self.record.numbers

    @property
    def finished(self) -> tuple[int, ...]:
        """Frames asked for of which all results are there."""
        return tuple(number for number in self.numbers if self.is_finished(number))

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes along which there are frames."""
        return tuple(self.record.source["axes"])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of frames along each of them."""
        return tuple(self.record.source["sizes"])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a frame."""
        return tuple(self.record.source["shape"])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Number type of the frames."""
        dtype: np.dtype[Any] = np.dtype(self.record.source["dtype"])
        return dtype

    @property
    def channel_axis(self) -> int | None:
        """Axis of channels within a frame, where it isn't the last one of 3 or 4."""
        axis: int | None = self.record.source["channel_axis"]
        return axis

    @property
    def metadata(self) -> dict[str, Any]:
        """What the caller noted."""
        return self.record.metadata

    @property
    def deblurs(self) -> bool:
        """Whether frames are deblurred, too."""
        return self.record.deblur is not None

    def position(self, number: int) -> tuple[int, ...]:
        """Where a frame lies on each of the axes."""
        return tuple(int(i) for i in np.unravel_index(number, self.sizes)) if self.sizes else ()

    # ------------------------------------------------------------------ files

    @property
    def record_path(self) -> Path:
        """The JSON file."""
        return self.folder / (_RECORD if self.name is None else f"{self.name}.json")

    @property
    def shared_path(self) -> Path:
        """The field that all frames share."""
        return self.folder / "shared.blurfield"

    def _frame_paths(self, number: int) -> tuple[Path, ...]:
        return self.field_path(number), self.image_path(number)

    def _common_paths(self) -> tuple[Path, ...]:
        return self.record_path, self.shared_path

    def field_path(self, number: int) -> Path:
        """The field of a frame by itself."""
        return self._path("fields", number, ".blurfield")

    def image_path(self, number: int) -> Path:
        """The deblurred frame."""
        return self._path("images", number, ".tif")

    def _path(self, kind: str, number: int, suffix: str) -> Path:
        if self.name is not None:
            return self.folder / f"{self.name}{suffix}"
        digits = max(5, len(str(prod(self.sizes))))
        return self.folder / kind / f"{number:0{digits}}{suffix}"

    @property
    def _any_stem(self) -> str:
        """Pattern of the names of results of frames, without their suffixes."""
        return "[0-9]*" if self.name is None else glob.escape(self.name)

    def is_finished(self, number: int) -> bool:
        """Whether all results of a frame are there."""
        if self.deblurs:
            return self.image_path(number).exists()
        return self.field_path(number).exists() and (
            not self.record.shared or self.shared_path.exists()
        )

    # ---------------------------------------------------------------- results

    def field(self, number: int) -> KernelField:
        """Return the field of a frame: the shared one, if frames share one and it is known.

        Raises
        ------
        FileNotFoundError
            If it has not been estimated.
        """
        if self.record.shared and self.shared_path.exists():
            return _load_field(self.shared_path)
        return self.own_field(number)

    def own_field(self, number: int) -> KernelField:
        """Return the field that was estimated from a frame alone.

        Raises
        ------
        FileNotFoundError
            If it has not been estimated.
        """
        return _load_field(self.field_path(number))

    def give_field(self, number: int, field: KernelField) -> None:
        """Take a field for that of a frame, which is then not estimated whatever its pixels are.

        What was made with another field is removed, to be made anew by `blurfield.series.process`.
        """
        give_field(self, number, field)

    def image(self, number: int) -> NDArray[Any]:
        """Return a deblurred frame, of the shape and type of the images.

        Raises
        ------
        FileNotFoundError
            If it has not been deblurred.
        ValueError
            If the file was changed.
        """
        import tifffile

        path = self.image_path(number)
        if not path.exists():
            raise FileNotFoundError(f"frame {number} has not been deblurred: there is no {path}")
        try:
            values: NDArray[Any] = tifffile.imread(path)
        except ValueError as error:
            raise ValueError(f"cannot read {path} as an image: {error}") from error
        if values.shape != self.shape or values.dtype != self.dtype:
            raise ValueError(
                f"{path} holds values of type {values.dtype} and shape {values.shape}, not "
                f"{self.dtype} and {self.shape}: it was changed"
            )
        return values

    def write_image(self, number: int, image: NDArray[Any], metadata: Mapping[str, Any]) -> None:
        """Write a deblurred frame, completely or not at all; `metadata` go into its TIFF file."""
        import tifffile

        colours = image.ndim == 3 and self.channel_axis is None
        axes = "CYX" if image.ndim == 3 and not colours else "YXS"[: image.ndim]
        with atomic_write(self.image_path(number)) as temporary, ArrayFile(temporary) as file:
            tifffile.imwrite(
                file,
                image,
                photometric="rgb" if colours else "minisblack",
                extrasamples=["unassalpha"] if colours and image.shape[-1] == 4 else None,
                planarconfig="contig" if colours else None,
                metadata={"axes": axes, "blurfield": dict(metadata)},
            )

    def stack(self) -> dask.array.Array:
        """Return all deblurred frames as a lazy array of shape (*sizes, *shape of a frame).

        There is one chunk for each frame, read whenever it is computed. Frames that have not been
        deblurred are 0.
        """
        from dask.array import from_array

        chunks = (*(1 for _ in self.sizes), *self.shape)
        meta = np.empty((0,) * len(chunks), self.dtype)
        frames: dask.array.Array = from_array(  # type: ignore[no-untyped-call]
            _Stack(self), chunks, name=False, asarray=False, fancy=False, meta=meta
        )
        return frames

    def remove_stale_files(self) -> None:
        """Remove temporary files that a run which was killed some time ago has left."""
        kinds = [(path.parent, self._any_stem, path.suffix) for path in self._frame_paths(0)]
        kinds += [(path.parent, path.stem, path.suffix) for path in self._common_paths()]
        for folder, name, suffix in kinds:
            for path in folder.glob(f".{name}-????????{suffix}"):
                if path.stat().st_mtime < time.time() - _STALE:
                    path.unlink(missing_ok=True)


class _Stack:
    """All deblurred frames as one array that dask can slice."""

    def __init__(self, series: Series) -> None:
        self._series = series
        self.shape = (*series.sizes, *series.shape)
        self.ndim = len(self.shape)
        self.dtype = series.dtype

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        sizes = self._series.sizes
        outer, inner = index[: len(sizes)], index[len(sizes) :]
        numbers = np.arange(prod(sizes)).reshape(sizes)[outer]
        frames = [self._frame(int(number))[inner] for number in numbers.flat]
        return np.stack(frames).reshape(*numbers.shape, *frames[0].shape)

    def _frame(self, number: int) -> NDArray[Any]:
        try:
            return self._series.image(number)
        except FileNotFoundError:
            return np.zeros(self._series.shape, self.dtype)


def _load_field(path: Path) -> KernelField:
    from blurfield.storage import load_field

    return load_field(path)
