"""Long work beside the window: one function at a time in a thread, with progress and cancel.

A `Job` runs a function that knows nothing of Qt as ``function(progress=callback)``. The callback is
where everything meets: it raises `Cancelled` once someone asked to stop (the widget, the activity
dock, or napari when its window closes), and otherwise passes the progress on to the main thread, at
most five times a second. Everything else here runs in the main thread.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.qt.threading import create_worker
from napari.utils import cancelable_progress
from napari.utils.notifications import Notification, notification_manager, show_warning
from qtpy.QtCore import QObject, QTimer

from blurfield import Cancelled
from blurfield.compute import choose_device, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from PyQt6.QtCore import pyqtSignal as Signal
    from qtpy.QtWidgets import QWidget
else:
    from qtpy.QtCore import Signal

_log = logging.getLogger(__name__)

#: Seconds between two progress messages to the main thread: where no GPU draws the window, each of
#: them takes a tenth of a second from the work.
_INTERVAL = 0.2
#: Milliseconds after which a job that has no thread yet says so.
_QUEUED_AFTER = 200
#: Seconds of work before its end can be foretold.
_ETA_AFTER = 1.0

#: What PyTorch says when a GPU or its driver has failed, whatever was computed.
_GPU_FAILURE = re.compile(
    r"(CUDA|HIP|cuDNN|cuFFT) error|CU(DNN|BLAS|FFT|SOLVER)_STATUS|MPS backend"
)

#: Jobs whose thread has not ended: kept from the garbage collector until it has.
_running: set[Job] = set()


class Job(QObject):
    """A function running in a thread of its own.

    Parameters
    ----------
    function : callable
        Called as ``function(progress=callback)`` with a `blurfield` progress callback.
    description : str
        What it does, in words for a person: shown in the activity dock and when napari closes.

    Attributes
    ----------
    progressed : Signal(int, int, str)
        Steps done, steps in all, and a message with the time left.
    succeeded : Signal(object)
        What the function returned.
    failed : Signal(object)
        The exception that it raised. The notification has been shown already.
    cancelled : Signal()
        It was asked to stop; nothing else follows from it.
    ended : Signal()
        The thread has ended, in whatever way.
    again : Signal(object, str)
        A person wants another try after a failure, on the CPU: the function for it and its
        description. It is for whoever started this job to start that.
    """

    progressed = Signal(int, int, str)
    succeeded = Signal(object)
    failed = Signal(object)
    cancelled = Signal()
    ended = Signal()
    again = Signal(object, str)
    _reported = Signal(int, int, str)

    def __init__(self, function: Callable[..., Any], description: str) -> None:
        super().__init__()
        self._function = function
        self._description = description
        self._stop = threading.Event()
        self._settled = False
        self._clock = _Clock()
        self._reported.connect(self._on_reported)
        self._worker = create_worker(_Task(function, self, description), _ignore_errors=True)
        self._worker.started.connect(self._on_started)
        self._worker.returned.connect(self._on_returned)
        self._worker.errored.connect(self._on_errored)
        self._worker.warned.connect(self._on_warned)
        self._worker.finished.connect(self._on_finished)
        self._activity = _Activity(self, description)
        self._queue_timer = QTimer(self)
        self._queue_timer.setSingleShot(True)
        self._queue_timer.setInterval(_QUEUED_AFTER)
        self._queue_timer.timeout.connect(self._on_queued)
        self._was_queued = False

    def start(self) -> Job:
        """Start the thread, as soon as there is one for it: there are as many as processors."""
        _running.add(self)
        self._queue_timer.start()
        self._worker.start()
        return self

    @property
    def is_running(self) -> bool:
        """Whether the thread has been started and has not ended."""
        return self in _running

    def cancel(self) -> None:
        """Stop as soon as the function reports again. To everyone else it is over now."""
        self._stop.set()
        self._worker.quit()
        if self._settle():
            self.cancelled.emit()

    def abandon(self) -> None:
        """Cancel without telling anyone: whoever waited for this job is gone."""
        self.blockSignals(True)
        self.cancel()

    def begin(self) -> None:
        """Say from the thread that work begins; raise `Cancelled` if nobody wants it any more."""
        if self._stop.is_set():
            raise Cancelled
        self._clock.restart()

    def check(self, done: int, total: int, message: str) -> None:
        """Report from the thread; raise `Cancelled` if someone asked to stop."""
        if self._stop.is_set() or self._worker.abort_requested:
            raise Cancelled
        if self._clock.is_due(done):
            self._reported.emit(done, total, message)

    def _settle(self) -> bool:
        """Return whether this is the first outcome: a job has only one."""
        first, self._settled = not self._settled, True
        if first:
            self._queue_timer.stop()
            self._activity.finish()
        return first

    def _on_queued(self) -> None:
        self._was_queued = True
        self.progressed.emit(0, 0, f"{self._description}: waiting until other jobs have ended …")

    def _on_started(self) -> None:
        self._queue_timer.stop()
        if self._was_queued and not self._settled:
            self.progressed.emit(0, 0, f"{self._description} …")

    def _on_reported(self, done: int, total: int, message: str) -> None:
        if self._settled:
            return
        # First this: showing the bar processes events, and the job may end in the middle of it.
        self.progressed.emit(done, total, message + self._clock.time_left(done, total))
        self._activity.show(done, total)

    def _on_returned(self, result: object) -> None:
        if self._settle():
            self.succeeded.emit(result)

    def _on_errored(self, error: Exception) -> None:
        if isinstance(error, Cancelled):
            # napari's own request to stop, at closing, does not come through `cancel`.
            if self._settle():
                self.cancelled.emit()
        elif self._settle():
            if not isinstance(error, (ValueError, TypeError, OSError, MemoryError)):
                _log.error("unexpected error in a job", exc_info=error)
            if not self.signalsBlocked():
                offers = self._offers() if _blames_device(error) else ()
                notification_manager.dispatch(Notification(explain(error), "error", offers))
            self.failed.emit(error)

    def _offers(self) -> list[tuple[str, Callable[..., None]]]:
        """Return buttons for a notification: what may work where this device did not."""
        elsewhere = _on_cpu(self._function)
        if elsewhere is None:
            return []

        def try_again(dialog: QWidget | None = None) -> None:
            if dialog is not None:
                dialog.close()
            self.again.emit(elsewhere, self._description)

        return [("Compute on the CPU", try_again)]

    def _on_warned(self, warning: tuple[Any, ...]) -> None:
        # Ours are UserWarnings, written for people; those of libraries are for developers.
        message, category = warning[:2]
        if issubclass(category, UserWarning) and not self._settled:
            show_warning(str(message))

    def _on_finished(self) -> None:
        if self._settle():  # stopped by napari while the function was just returning
            self.cancelled.emit()
        _running.discard(self)
        self.ended.emit()


class _Task:
    """The function as the thread runs it; napari shows its description when it closes."""

    def __init__(self, function: Callable[..., Any], job: Job, description: str) -> None:
        self._function = function
        self._job = job
        self._description = description

    def __call__(self) -> Any:
        self._job.begin()
        return self._function(progress=self._job.check)

    def __repr__(self) -> str:
        return f"“{self._description}”"


class _Clock:
    """Throttles reports, and foretells the end."""

    def __init__(self) -> None:
        self.restart()
        self._reported_at = -float("inf")

    def restart(self) -> None:
        self._started = time.monotonic()

    def is_due(self, done: int) -> bool:
        now = time.monotonic()
        if now - self._reported_at < _INTERVAL:
            return False
        if self._reported_at < 0 and done == 0:
            self._started = now  # imports and loading before the first step say nothing
        self._reported_at = now
        return True

    def time_left(self, done: int, total: int) -> str:
        passed = time.monotonic() - self._started
        if not 0 < done < total or passed < _ETA_AFTER:
            return ""
        seconds = passed * (total - done) / done
        if seconds < 1.5:
            return " (about 1 s left)"
        if seconds < 90:
            return f" (about {seconds:.0f} s left)"
        return f" (about {seconds / 60:.0f} min left)"


class _Activity:
    """The job's bar in napari's activity dock."""

    def __init__(self, job: Job, description: str) -> None:
        self._busy = False
        self._bar: _CancelBar | None = _CancelBar(job, description)

    def show(self, done: int, total: int) -> None:
        # The dock's bar processes events, which may bring the next report in the middle of this.
        if self._bar is None or self._busy:
            return
        self._busy = True
        try:
            if self._bar.total != total:
                self._bar.total = total
            self._bar.update(done - self._bar.n)
        finally:
            self._busy = False

    def finish(self) -> None:
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()


class _CancelBar(cancelable_progress):  # type: ignore[misc]
    """A bar whose Cancel button stops the job.

    napari calls the bar's own callback only while it iterates over the bar.
    """

    def __init__(self, job: Job, description: str) -> None:
        self._job = job
        super().__init__(desc=description, total=0, file=_Silent())

    def cancel(self) -> None:
        super().cancel()
        self._job.cancel()


class _Silent:
    """A terminal that shows nothing: the widget and the dock show the progress."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass


def explain(error: Exception) -> str:
    """Return an exception as a sentence for the person who started the job."""
    text = str(error).strip() or type(error).__name__
    if _is_gpu_failure(error):
        return (
            f"The GPU has failed ({text.splitlines()[0]}). Save your work and start napari again "
            "to use it; until then, choose the CPU as the device."
        )
    if _is_out_of_memory(error):
        if text.startswith("not enough memory"):  # the core's words, which say what helps
            return text[:1].upper() + text[1:]
        return (
            f"Not enough memory: {text}. Crop the image or make it smaller; if it was on a GPU, "
            "choose the CPU as the device."
        )
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if isinstance(error, (ValueError, TypeError, OSError)):
        return text[:1].upper() + text[1:]
    return f"{type(error).__name__}: {text}"


def _blames_device(error: Exception) -> bool:
    """Return whether the same might work on another device."""
    return _is_gpu_failure(error) or _is_out_of_memory(error)


def _is_out_of_memory(error: Exception) -> bool:
    # Only then PyTorch, which may not be there yet, is asked.
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and is_out_of_memory(error)
    )


def _is_gpu_failure(error: Exception) -> bool:
    """Return whether a GPU no longer answers: until the process ends, it will not again."""
    return (
        isinstance(error, RuntimeError)
        and _GPU_FAILURE.search(str(error)) is not None
        and not is_out_of_memory(error)
    )


def _on_cpu(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """Return a function that does the same on the CPU, None if it was there already."""
    keywords = function.keywords if isinstance(function, partial) else {}
    if "device" not in keywords or choose_device(keywords["device"]).type == "cpu":
        return None
    return partial(function, device="cpu")


__all__ = ["Job", "explain"]
