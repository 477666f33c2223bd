"""Workers of a Dask cluster that work on frames, one frame at a time each.

Tasks write their results themselves, to folders that all machines share, and nothing but reports
comes back. A task can be done again, so that those of a worker that dies go to another one.
"""

from __future__ import annotations

import os
import threading
import time
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from blurfield._allocator import set_allocator
from blurfield.compute import choose_device
from blurfield.frames import FrameFile, ImageFiles

from .report import FrameReport
from .work import make_frame, share_of_memory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from numpy.typing import NDArray

    from .processing import Pending, Task
    from .store import Series
    from .work import Reader

__all__ = ["ClusterCrew"]

#: Seconds to wait for the scheduler at first, between two looks at what is done, and between two
#: looks at which workers there are.
_CONNECT, _POLL_EVERY, _ASK_EVERY = 10, 0.1, 1.0
#: Tasks for each worker that are on their way: while it works on one, the next one arrives.
_AHEAD = 2
#: What Dask warns of when a frame is sent.
_LARGE = "distributed.admin.large-graph-warning-threshold"
#: Name of the resource by which workers can say that they have a GPU.
_GPU = "GPU"
#: From how many bytes on glibc maps memory for each request alone: the largest value that it comes
#: to by itself.
_MOST_BYTES = 32 << 20
#: A worker has one device and so much memory: its threads take turns.
_turn = threading.Lock()


class ClusterCrew:
    """Workers of a cluster; a context manager, at whose end nothing is asked of them any more.

    Workers that are on a frame when the work is stopped finish it, unless they are stopped, too.

    Parameters
    ----------
    address : str
        Of the scheduler.

    Raises
    ------
    ImportError
        If the package distributed is not installed.
    """

    def __init__(self, address: str) -> None:
        try:
            import distributed
        except ImportError:
            raise ImportError(
                "a cluster needs the package distributed: pip install 'napari-blurfield[cluster]'"
            ) from None
        self._distributed: Any = distributed
        self._address = address
        self._news = threading.Event()
        self._asked_at = -float("inf")
        self._found: dict[str, Any] = {}

    def __enter__(self) -> ClusterCrew:
        import dask.config

        try:
            self._client = self._distributed.Client(
                self._address, timeout=_CONNECT, set_as_default=False
            )
        except (OSError, ValueError) as error:
            raise OSError(f"there is no Dask scheduler at {self._address}: {error}") from error
        self._settings: Any = dask.config.set({_LARGE: "1 TB"})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._settings.__exit__(kind, error, traceback)
        self._client.close()  # the scheduler forgets what nobody waits for

    def room(self) -> int:
        """Two tasks for each worker, as many as there are just now."""
        return max(1, _AHEAD * len(self._workers()))

    def submit(self, task: Task) -> Pending:
        """Have a task done."""
        read: Reader = task.job.read
        if not isinstance(read, (FrameFile, ImageFiles)):
            try:
                read = _Sent(read(task.number))
            except Exception as error:  # noqa: BLE001 (as on a worker: a frame that can't be read)
                read = _Unreadable(str(error) or type(error).__name__)
        workers = self._workers()
        gpus = any(_GPU in worker.get("resources", {}) for worker in workers.values())
        future = self._client.submit(
            _on_worker,
            task.job.series,
            task.number,
            read,
            task.deblur,
            task.compare,
            _places(workers),
            pure=False,
            resources={_GPU: 1} if gpus else None,
        )
        future.add_done_callback(lambda _: self._news.set())
        return _Remote(future, task.number)

    def wait(self, pending: Sequence[Pending]) -> None:
        """Return when one of them is done, or after a tenth of a second."""
        if not any(each.done() for each in pending):
            self._news.wait(_POLL_EVERY)
        self._news.clear()

    def state(self) -> tuple[float, str]:
        """Nothing is known of frames under way, but how many workers there are."""
        count = len(self._workers())
        return 0.0, f"{count} worker{'s' * (count != 1)} at {self._address}"

    def _workers(self) -> dict[str, Any]:
        """What the scheduler says about its workers, not more than a second old."""
        if time.monotonic() - self._asked_at > _ASK_EVERY:
            self._found = dict(self._client.scheduler_info(n_workers=-1)["workers"])
            self._asked_at = time.monotonic()
        return self._found


class _Sent:
    """A frame that is in no file, as it is sent to a worker."""

    def __init__(self, image: NDArray[Any]) -> None:
        self._image = image

    def __call__(self, number: int) -> NDArray[Any]:
        return self._image


class _Unreadable:
    """A frame that could not be read, and so could not be sent."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __call__(self, number: int) -> NDArray[Any]:
        raise ValueError(self._reason)


class _Remote:
    """A task on a worker."""

    def __init__(self, future: Any, number: int) -> None:
        self._future = future
        self._number = number

    def done(self) -> bool:
        return bool(self._future.done())

    def result(self) -> FrameReport:
        from distributed import CancelledError, KilledWorker

        try:
            report: FrameReport = self._future.result()
        except KilledWorker:
            reason = "each worker that was given it died, perhaps for want of memory"
            return FrameReport(self._number, "failed", reason)
        except CancelledError:
            raise OSError("the Dask scheduler is gone; what was finished is there") from None
        return report


class _Place(NamedTuple):
    """Where a worker stands among those of its machine: its rank, and how many there are."""

    rank: int = 0
    among: int = 1


def _on_worker(
    series: Series,
    number: int,
    read: Reader,
    deblur: bool,
    compare: bool,
    places: Mapping[str, _Place],
) -> FrameReport:
    """Do a task; runs on a worker."""
    import torch
    from distributed import get_worker

    _let_memory_be_reused()
    place = places.get(str(get_worker().name), _Place())
    before = torch.get_num_threads()
    with _turn:
        torch.set_num_threads(series.record.threads)
        try:
            where = _where(series, place)
            return make_frame(series, number, read, deblur=deblur, compare=compare, where=where)
        finally:
            torch.set_num_threads(before)


@cache
def _let_memory_be_reused() -> None:
    """Let glibc reuse memory of tensors, as it does where Dask has not set its options.

    Dask starts workers with a threshold for trimming. Where one is set, glibc leaves another one at
    128 KiB that grows with what is freed otherwise, and each larger tensor gets fresh pages.
    """
    if "MALLOC_TRIM_THRESHOLD_" in os.environ:
        set_allocator(MMAP_THRESHOLD=_MOST_BYTES)


def _places(workers: Mapping[str, Any]) -> dict[str, _Place]:
    """Place of each worker, by its name, which one that is restarted keeps."""
    hosts: dict[str, list[str]] = {}
    for worker in workers.values():
        hosts.setdefault(worker["host"], []).append(str(worker["name"]))
    return {
        name: _Place(rank, len(names))
        for names in hosts.values()
        for rank, name in enumerate(sorted(names))
    }


def _where(series: Series, place: _Place) -> dict[str, Any]:
    """A GPU for each worker of a machine, or its share of the machine's memory.

    Where CUDA_VISIBLE_DEVICES shows each worker one GPU, there is nothing to choose.
    """
    import torch

    settings = [series.record.estimate, series.record.deblur or {}]
    names = {str(each.get("device", "auto")) for each in settings}
    gpus = torch.cuda.device_count() if names <= {"auto", "cuda"} else 0
    if gpus > 1:
        return {"device": f"cuda:{place.rank % gpus}"}
    device = choose_device(settings[1].get("device", "auto"))
    return share_of_memory(series, place.among) if device.type == "cpu" else {}
