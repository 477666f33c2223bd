"""Frame after frame, or several at a time: who does which frame, and what is told meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from .changes import SHARED_CHANGED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from blurfield.compute import ProgressCallback
    from blurfield.frames import Frames

    from .report import FrameReport
    from .store import Series
    from .work import Reader

__all__ = ["Crew", "Job", "Pending", "Task", "automatic_workers", "hire", "process", "process_jobs"]

#: Steps in which the progress of a job is reported.
_STEPS = 10_000
#: Bytes that a worker on this computer is taken to need.
_WORKER = 2_000_000_000


@dataclass(eq=False)
class Job:
    """A series to be made.

    Attributes
    ----------
    series : Series
        The folder and the settings.
    read : callable
        Reads a frame; a `blurfield.frames.FrameFile` if other processes can, too.
    title : str
        What it is, in words for a person; "" if there is only one.
    reports : dict
        What has become of each frame so far.
    share, kept : float
        Parts of the work that have been done, and that had been done before.
    before : set of int
        Frames that were finished at the beginning, if they share a field.
    """

    series: Series
    read: Reader
    title: str = ""
    reports: dict[int, FrameReport] = field(default_factory=dict)
    share: float = 0.0
    kept: float = 0.0
    before: set[int] = field(default_factory=set)

    @property
    def passes(self) -> int:
        """How often each frame is looked at: a field that frames share has to be known first."""
        return 2 if self.series.record.shared and self.series.deblurs else 1


@dataclass(eq=False)
class Task:
    """The work on one frame.

    Attributes
    ----------
    job : Job
        The series.
    number : int
        The frame.
    deblur : bool
        Whether to deblur it; it is estimated in any case.
    compare : bool
        Whether to look if results that are there were made of its pixels.
    """

    job: Job
    number: int
    deblur: bool
    compare: bool = True

    @property
    def part(self) -> float:
        """Which part of the job this is."""
        return 1 / (len(self.job.series.numbers) * self.job.passes)

    @property
    def title(self) -> str:
        """What it is, in words for a person."""
        series = self.job.series
        frame = [f"frame {self.number}"] if series.sizes else []
        return ", ".join([self.job.title, *frame]) if self.job.title else (*frame, "image")[0]


class Pending(Protocol):
    """A task that somebody works on; as in `concurrent.futures`."""

    def done(self) -> bool:
        """Whether it has come to an end."""

    def result(self) -> FrameReport:
        """Return what has become of it, or raise what stopped it."""


class Crew(Protocol):
    """Those who do the work."""

    def room(self) -> int:
        """How many tasks can be waiting or under way at a time."""

    def submit(self, task: Task) -> Pending:
        """Have a task done."""

    def wait(self, pending: Sequence[Pending]) -> None:
        """Return when one of them is done, or after a tenth of a second."""

    def state(self) -> tuple[float, str]:
        """Parts of jobs under way that are done, summed up, and what is being done."""


def process(
    series: Series,
    frames: Frames,
    *,
    progress: ProgressCallback | None = None,
    on_frame: Callable[[int], None] | None = None,
    workers: int = 1,
    scheduler: str | None = None,
) -> list[FrameReport]:
    """Make what is missing of a series, frame by frame.

    Frames that are finished are read, too: those whose pixels have changed since are done again.
    Where frames share a field, that is then made again, and all frames are deblurred with it; also
    if other frames have a field of their own than before, as some had failed.

    Parameters
    ----------
    series : Series
        The folder, the settings, and which frames.
    frames : Frames
        The images.
    progress : callable, optional
        Called as ``progress(done, total, message)`` several times a second, in the thread that
        calls this. What it raises, for instance `blurfield.Cancelled`, stops the work within a
        second and propagates; frames that are finished stay, and the next call goes on from there.
    on_frame : callable, optional
        Called with the number of each frame as soon as its results are complete, also if they were
        so before.
    workers : int
        How many frames to work on at a time, in as many threads; more than one needs as many times
        the memory. The results are the same.
    scheduler : str, optional
        Address of a Dask cluster, which is used instead: ``tcp://HOST:8786``. Its workers work on
        one frame at a time each, and need this package and the same folders. Frames that are not
        in a file are sent to them.

    Returns
    -------
    list of FrameReport
        One for each frame that was asked for, in order. Frames that are damaged, or that the
        settings don't suit, have ``status`` ``"failed"``; of those that were done again, ``again``
        is true.

    Raises
    ------
    ValueError
        If `workers` is below 1.
    OSError
        If results cannot be written, or there is no such cluster.
    ImportError
        If `scheduler` is given, but the package distributed is not installed.
    """
    job = Job(series, frames.file or frames.__getitem__)

    def told(_: Job, report: FrameReport) -> None:
        if on_frame is not None and report.ok:
            on_frame(report.number)

    with hire(workers, scheduler) as crew:
        process_jobs([job], crew, 1, progress=progress, on_report=told)
    return [job.reports[number] for number in series.numbers]


def hire(workers: int, scheduler: str | None) -> AbstractContextManager[Crew]:
    """Return those who do the work; see `process`."""
    if scheduler is not None:
        from .cluster import ClusterCrew

        return ClusterCrew(scheduler)
    from .local import LocalCrew

    return LocalCrew(workers)


def automatic_workers(device: str = "auto", threads: int = 1) -> int:
    """Return how many frames this computer may work on at a time.

    Parameters
    ----------
    device : str
        Where to compute; a GPU does one frame at a time.
    threads : int
        PyTorch threads for each frame.

    Returns
    -------
    int
        As many as there are processors and, with 2 GB each, memory for; at least 1.
    """
    import torch

    from blurfield.compute import available_memory, choose_device, usable_share

    chosen = choose_device(device)
    if chosen.type != "cpu":
        return 1
    room = int(usable_share(chosen) * available_memory(chosen) / _WORKER)
    return max(1, min(torch.get_num_threads() // threads, room))


def process_jobs(
    jobs: Iterable[Job],
    crew: Crew,
    count: int,
    *,
    progress: ProgressCallback | None = None,
    on_report: Callable[[Job, FrameReport], None] | None = None,
) -> None:
    """Make several series.

    Parameters
    ----------
    jobs : iterable of Job
        The next one is taken when there is room for its first frame.
    crew : Crew
        Those who do the work.
    count : int
        Number of jobs, as far as is known.
    progress : callable, optional
        See `process`.
    on_report : callable, optional
        Called with each frame that is finished or has failed for good.
    """
    seen: list[Job] = []

    def first_pass() -> Iterator[Task]:
        for job in jobs:
            seen.append(job)
            job.series.remove_stale_files()
            if job.series.record.shared:
                job.before = set(job.series.finished)
            for number in job.series.numbers:
                yield Task(job, number, job.series.deblurs and job.passes == 1)

    def second_pass() -> Iterator[Task]:
        from .shared import share_field

        for job in seen:
            numbers = sorted(number for number, report in job.reports.items() if report.ok)
            if job.series.record.shared:
                share_field(job.series, numbers, tell)
            if job.passes == 2:
                yield from (Task(job, number, True, compare=False) for number in numbers)

    def tell() -> None:
        if progress is not None:
            under_way, message = crew.state()
            share = sum(job.share for job in seen) + under_way
            # What was done before took no time, and would make the end seem near.
            total = max(1, int((count - sum(job.kept for job in seen)) * _STEPS))
            progress(min(int(share * _STEPS), total), total, message)

    def note(task: Task, report: FrameReport) -> None:
        job, before = task.job, task.job.reports.get(report.number)
        if before is not None:
            report = _both(before, report)
        if report.status == "done" and not report.reason and report.number in job.before:
            report = replace(report, reason=SHARED_CHANGED)
        job.reports[report.number] = report
        if report.status == "kept":
            job.kept += task.part
        else:
            job.share += task.part
        if on_report is not None and (task.deblur or job.passes == 1 or not report.ok):
            on_report(job, report)

    for tasks in (first_pass(), second_pass()):
        _do_all(tasks, crew, tell, note)


def _do_all(
    tasks: Iterator[Task],
    crew: Crew,
    tell: Callable[[], None],
    note: Callable[[Task, FrameReport], None],
) -> None:
    """Have tasks done, no more of them being known to the crew than it has room for."""
    waiting: dict[Pending, Task] = {}
    left = True
    while left or waiting:
        while left and len(waiting) < crew.room():
            task = next(tasks, None)
            if task is None:
                left = False
            else:
                waiting[crew.submit(task)] = task
        tell()
        crew.wait(list(waiting))
        for pending in [pending for pending in waiting if pending.done()]:
            note(waiting.pop(pending), pending.result())
    tell()


def _both(first: FrameReport, second: FrameReport) -> FrameReport:
    """Report on a frame that was looked at twice."""
    seconds = [report.seconds for report in (first, second) if report.seconds is not None]
    total = sum(seconds) if seconds else None
    return replace(second, reason=second.reason or first.reason, seconds=total)
