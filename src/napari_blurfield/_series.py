"""Estimate and deblur many frames: results go to a folder, and layers read them there."""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._axes import frame_words
from ._field_stack import FieldStack
from ._given_fields import check_given, provide_fields
from ._series_layers import SeriesLayers
from ._tasks import Outcome, loaded_device
from .layers import field_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blurfield import KernelField
    from blurfield.compute import ProgressCallback
    from blurfield.series import FrameReport, Series

    from ._stack import Stack

    #: Fields that are known already: one for all frames, or one for each.
    Given = KernelField | FieldStack
    #: Called with the layers and the number of a frame that has been added to them.
    OnFrame = Callable[[SeriesLayers, int], None]


@dataclass(frozen=True)
class SeriesPlan:
    """What is to be made of which frames.

    Parameters
    ----------
    stack : Stack
        The frames.
    numbers : tuple of int
        Which of them.
    estimate : dict
        Arguments of `blurfield.estimate`, as plain JSON.
    deblur : dict, optional
        Arguments of `blurfield.deblur`, as plain JSON; without it, fields are estimated only.
    shared : bool
        Whether all frames are deblurred with the median of their fields.
    given : KernelField or FieldStack, optional
        Fields to deblur with. Frames of which there is none are estimated.
    chosen_folder : str, optional
        Where results go. By default a folder beside the layer's file, or where nothing can be
        written there, a temporary one.
    layers : dict
        Arguments of `SeriesLayers`.
    """

    stack: Stack
    numbers: tuple[int, ...]
    estimate: dict[str, Any]
    deblur: dict[str, Any] | None = None
    shared: bool = False
    given: Given | None = None
    chosen_folder: str = ""
    layers: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def folder(self) -> Path:
        """Where results go: the same for the same layer and settings, so that runs go on.

        The first and the last frame may be read to tell this.
        """
        from blurfield.series.record import describe_source

        if self.goes_on is not None:
            return self.goes_on
        if self.chosen_folder:
            return Path(self.chosen_folder).expanduser()
        path = self.stack.first.path
        file = Path(path) if path else None
        settings: list[Any] = [self.estimate, self.deblur, self.shared, self.given_id]
        settings.append(_region_of(self.stack))
        # A file may have several layers, and the axes of a layer may have been corrected.
        settings.append(describe_source(self.stack.frames()))
        if self.shared:
            # The field that they share depends on them.
            settings.append([int(number) for number in self.numbers])
        if file is not None and file.exists():
            settings.append([str(file.resolve()), file.stat().st_mtime_ns])
        else:
            settings.append(self.stack.identity)
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
        if file is not None and file.exists() and _is_writable(file.parent):
            return file.parent / f"{file.stem}-blurfield" / digest
        return _temporary_folder() / digest

    @cached_property
    def goes_on(self) -> Path | None:
        """The folder that the fields come from, if they were made in it by a run like this one.

        After a run its fields are those that are chosen; the same run again is to go on with it.
        """
        from blurfield.series.record import describe_source

        given = self.given
        if not isinstance(given, FieldStack) or given.series.metadata.get("fields") is not None:
            return None
        folder, record = given.series.folder, given.series.record
        if self.chosen_folder and Path(self.chosen_folder).expanduser().resolve() != folder:
            return None
        same = (
            (record.estimate, record.deblur, record.shared)
            == (self.estimate, self.deblur, self.shared)
            and (record.numbers == self.numbers or not self.shared)
            and _is_same_layer(given.stack, self.stack)
            and _region_of(given.stack) == _region_of(self.stack)
            and record.source == describe_source(self.stack.frames())
        )
        return folder if same else None

    @property
    def is_temporary(self) -> bool:
        """Whether the folder is removed when napari is closed."""
        return not self.chosen_folder and self.folder.is_relative_to(_temporary_folder())

    @property
    def place(self) -> str:
        """The folder, in words."""
        kept = ", which is removed when napari closes" if self.is_temporary else ""
        return f"{self.folder}{kept}"

    @property
    def given_id(self) -> str | None:
        """Name of the fields that are given, and were not made in the same folder."""
        if self.goes_on is not None:
            return None
        if isinstance(self.given, FieldStack):
            return str(self.given.series.folder)
        return None if self.given is None else field_id(self.given)


def run_series(
    plan: SeriesPlan, *, progress: ProgressCallback | None = None, on_frame: OnFrame | None = None
) -> Outcome:
    """Make what is missing of a series, as a job.

    Parameters
    ----------
    plan : SeriesPlan
        What to do.
    progress : callable, optional
        Called as ``progress(done, total, message)``; if it raises, the work stops, and frames that
        are done stay.
    on_frame : callable, optional
        Called with the layers whenever a frame has been added to them; whoever gives it adds and
        refreshes the layers, and the outcome has none.

    Raises
    ------
    ValueError
        If a given field does not fit the frames, the folder holds results of other images or
        settings, or no frame could be done.
    """
    from blurfield.series import process

    progress = progress or _ignore
    started = time.monotonic()
    used = loaded_device(str(plan.estimate.get("device", "auto")), progress)
    frames = plan.stack.frames()
    progress(0, 0, "Looking at the frames …")
    check_given(plan, progress)
    series = _create(plan, frames)
    provide_fields(plan, series, progress)
    shown = {**plan.layers, **({"with_field": True} if plan.goes_on else {})}
    made = SeriesLayers(FieldStack(series, plan.stack), **shown)
    follow = _Following(series, made, on_frame)
    for number in series.finished:
        progress(0, 0, "Reading results that are there …")
        follow.add(number)
    reports = process(series, frames, progress=progress, on_frame=follow.add)
    follow.settle()
    summary = _summary(plan, reports, time.monotonic() - started, used)
    if not made.frames:
        raise ValueError(summary)
    return Outcome(made.layers() if on_frame is None else [], summary)


class _Following:
    """Keeps the layers of a series as its folder is, also where frames are done again."""

    def __init__(self, series: Series, made: SeriesLayers, on_frame: OnFrame | None) -> None:
        self._series = series
        self._made = made
        self._on_frame = on_frame
        self._added: dict[int, int] = {}

    def add(self, number: int) -> None:
        """Add a frame that is finished, unless it has been added as it is."""
        if not self._series.is_finished(number):
            return
        written = self._written_at(number)
        if self._added.get(number) == written:
            return
        self._added[number] = written
        self._made.add(number)
        self._tell(number)

    def settle(self) -> None:
        """Add what is finished, and leave out what has changed and could not be done again."""
        finished = self._series.finished
        for number in finished:
            self.add(number)
        for number in self._added.keys() - set(finished):
            self._made.discard(number)
            self._tell(number)

    def _tell(self, number: int) -> None:
        if self._on_frame is not None:
            self._on_frame(self._made, number)

    def _written_at(self, number: int) -> int:
        """When the last result of a frame was written, which changes if it is done again."""
        series = self._series
        path = series.image_path(number) if series.deblurs else series.field_path(number)
        return path.stat().st_mtime_ns


def _create(plan: SeriesPlan, frames: Any) -> Series:
    import torch

    from blurfield.series import Series

    metadata = {
        "name": plan.stack.name,
        "image": plan.stack.to_json((0,) * len(plan.stack.sizes)),
        "fields": plan.given_id,
    }
    record = plan.folder / "series.json"
    if record.exists() and Series.open(plan.folder).metadata.get("fields") != plan.given_id:
        raise ValueError(
            f"{plan.folder} holds results that were made with other blur fields: choose another "
            "folder, or remove this one"
        )
    return Series.create(
        plan.folder,
        frames,
        estimate=plan.estimate,
        deblur=plan.deblur,
        shared=plan.shared,
        numbers=plan.numbers,
        metadata=metadata,
        threads=torch.get_num_threads(),
    )


def _is_same_layer(one: Stack, other: Stack) -> bool:
    path = one.first.path
    return one.identity == other.identity or (path is not None and path == other.first.path)


def _region_of(stack: Stack) -> Any:
    region = stack.first.region
    return None if region is None else region.to_json()


def _summary(plan: SeriesPlan, reports: Sequence[FrameReport], seconds: float, used: str) -> str:
    done = [report for report in reports if report.ok]
    failed = [report for report in reports if not report.ok]
    words = ""
    if done:
        what = "Estimated" if plan.deblur is None else "Deblurred"
        kept = sum(report.status == "kept" for report in done)
        again = sum(report.again for report in done)
        notes = [f"{kept} of them before"] * bool(kept)
        notes += [f"{again} again, since the images have changed"] * bool(again)
        before = f" ({'; '.join(notes)})" if notes else ""
        words = (
            f"{what} {len(done)} frames{before} in {seconds:.1f} s on {used}. "
            f"Results are in {plan.place}. "
        )
    if failed:
        position, labels = plan.stack.position(failed[0].number), plan.stack.labels
        where = frame_words(labels, position) if len(position) > 1 else str(position[0])
        words += (
            f"{len(failed)} of {len(reports)} frames failed, the first at {where}: "
            f"{failed[0].reason}."
        )
    return words.strip()


def _ignore(done: int, total: int, message: str) -> None:
    """Take no notice of progress."""


def _is_writable(folder: Path) -> bool:
    import os

    return os.access(folder, os.W_OK)


@cache
def _temporary_folder() -> Path:
    """Return a folder that is removed at the end of the session."""
    folder = Path(tempfile.mkdtemp(prefix="blurfield-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder.resolve()


__all__ = ["SeriesPlan", "run_series"]
