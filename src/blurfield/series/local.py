"""Threads of this process that work on frames."""

from __future__ import annotations

import concurrent.futures
import threading
from typing import TYPE_CHECKING, Any

from blurfield.compute import Cancelled

from .work import make_frame, share_of_memory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from numpy.typing import NDArray

    from .processing import Pending, Task
    from .report import FrameReport

__all__ = ["LocalCrew"]

#: Seconds between two looks at whether someone wants to stop.
_POLL_EVERY = 0.1


class LocalCrew:
    """A few threads; a context manager, at whose end nobody works any more.

    Parameters
    ----------
    workers : int
        How many.
    """

    def __init__(self, workers: int) -> None:
        if int(workers) != workers or workers < 1:
            raise ValueError(f"workers must be a whole number from 1, not {workers!r}")
        self._workers = int(workers)
        self._stop = threading.Event()
        self._reading = threading.Lock()
        self._under_way: dict[Task, tuple[float, str]] = {}
        self._message = "Looking at the frames"

    def __enter__(self) -> LocalCrew:
        import torch

        self._threads = torch.get_num_threads()
        self._pool = concurrent.futures.ThreadPoolExecutor(self._workers, "blurfield-frame")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        import torch

        self._stop.set()
        self._pool.shutdown(cancel_futures=True)
        # What threads set for themselves is what later ones begin with.
        torch.set_num_threads(self._threads)

    def room(self) -> int:
        """As many as there are threads: frames that wait would only take memory."""
        return self._workers

    def submit(self, task: Task) -> Pending:
        """Have a task done."""
        return self._pool.submit(self._do, task)

    def wait(self, pending: Sequence[Pending]) -> None:
        """Return when one of them is done, or after a tenth of a second."""
        futures: Any = pending
        concurrent.futures.wait(futures, _POLL_EVERY, concurrent.futures.FIRST_COMPLETED)

    def state(self) -> tuple[float, str]:
        """Parts of jobs under way that are done, summed up, and what is being done."""
        states = list(self._under_way.values())
        if states:
            self._message = states[-1][1]
        return sum(share for share, _ in states), self._message

    def _do(self, task: Task) -> FrameReport:
        import torch

        series = task.job.series
        torch.set_num_threads(series.record.threads)

        def read(number: int) -> NDArray[Any]:
            with self._reading:  # not every source can be read by several threads at once
                return task.job.read(number)

        def progress(done: int, total: int, message: str) -> None:
            if self._stop.is_set():
                raise Cancelled
            self._under_way[task] = (task.part * done / total, f"{task.title}: {message}")

        where = share_of_memory(series, self._workers)
        try:
            return make_frame(
                series,
                task.number,
                read,
                progress,
                deblur=task.deblur,
                compare=task.compare,
                where=where,
            )
        finally:
            self._under_way.pop(task, None)
