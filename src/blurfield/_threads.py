"""Independent pieces of work on all cores, with results in a fixed order."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    Item = TypeVar("Item")
    Result = TypeVar("Result")

#: Each worker holds buffers of some 10 MiB.
_MOST_WORKERS = 16
#: Seconds between two polls while a piece of work takes long.
_POLL_EVERY = 0.1
#: Of each worker, as `stop`: whether its work is not wanted any more.
_worker = threading.local()


def map_in_order(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    device: torch.device,
    poll: Callable[[], None],
) -> Iterator[tuple[Item, Result]]:
    """Apply `work` to all items, on the CPU with one core for each of them.

    PyTorch by itself spreads every single operation over the cores, which waits for the slowest
    core each time and moves the data between their caches.

    Parameters
    ----------
    work : callable
        Must be free of side effects; runs without gradients, in another thread. Where it takes
        longer than a moment, it calls what `poll_within` returned now and then.
    items : sequence
        What to apply it to.
    device : torch.device
        Where the tensors are. Only the CPU is shared out.
    poll : callable
        Called between items, in the thread of the caller. What it raises stops the work.

    Yields
    ------
    item, result
        In the order of `items`.
    """
    workers = min(torch.get_num_threads(), len(items), _MOST_WORKERS) if device.type == "cpu" else 1
    if workers < 2:
        for item in items:
            poll()
            yield item, work(item)
        return

    stop = threading.Event()

    def run(item: Item) -> Result:
        _worker.stop = stop
        with torch.no_grad():  # a setting of each thread
            return work(item)

    # Each says so itself, too: another computation may have changed what new threads begin with.
    pool = ThreadPoolExecutor(workers, "blurfield", torch.set_num_threads, (1,))
    with _one_thread_each(), pool:
        waiting: deque[tuple[Item, Future[Result]]] = deque()
        try:
            for item in items:
                poll()
                waiting.append((item, pool.submit(run, item)))
                if len(waiting) > workers:
                    yield _first(waiting, poll)
            while waiting:
                yield _first(waiting, poll)
        finally:
            stop.set()
            for _, future in waiting:
                future.cancel()


def poll_within(poll: Callable[[], None]) -> Callable[[], None]:
    """Make a poll that long pieces of work can call, in whatever thread they run.

    Parameters
    ----------
    poll : callable
        Is called only in threads that are no workers of `map_in_order`, which polls meanwhile.

    Returns
    -------
    callable
        Raises what `poll` raises; in a worker, it ends work that is not wanted any more.
    """

    def checked() -> None:
        stop: threading.Event | None = getattr(_worker, "stop", None)
        if stop is None:
            poll()
        elif stop.is_set():
            raise CancelledError

    return checked


def _first(
    waiting: deque[tuple[Item, Future[Result]]], poll: Callable[[], None]
) -> tuple[Item, Result]:
    item, future = waiting[0]
    while True:
        try:
            result = future.result(timeout=_POLL_EVERY)
        except TimeoutError:
            if future.done():  # then it is the work's own
                raise
            poll()
            continue
        waiting.popleft()
        return item, result


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Keep PyTorch from using several threads for one operation.

    That is a setting of the process (of OpenMP and MKL); a second computation that begins or ends
    meanwhile may run on fewer or more cores for a while, with the same results.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
