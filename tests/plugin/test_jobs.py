"""Work in a thread: progress, cancelling, errors."""

from __future__ import annotations

import threading
import time

import pytest
from napari.utils import progress as bars
from qtpy.QtCore import QThreadPool

from blurfield import Cancelled
from napari_blurfield._jobs import Job, explain


def endless(progress):
    step = 0
    while True:
        time.sleep(0.01)
        step += 1
        progress(step, 1000, "working")


def outcome(qtbot, job):
    """Run a job to its end; return the signals it sent, in order."""
    seen = []
    job.succeeded.connect(lambda result: seen.append(("succeeded", result)))
    job.failed.connect(lambda error: seen.append(("failed", type(error))))
    job.cancelled.connect(lambda: seen.append(("cancelled",)))
    with qtbot.waitSignal(job.ended, timeout=10_000):
        job.start()
    return seen


def test_result_comes_back_in_the_main_thread(qtbot):
    threads = []
    job = Job(lambda progress: threading.get_ident(), "thinking")
    job.succeeded.connect(lambda _: threads.append(threading.get_ident()))
    ((name, worked_in),) = outcome(qtbot, job)
    assert name == "succeeded"
    assert threads == [threading.get_ident()]
    assert worked_in != threading.get_ident()
    assert not job.is_running


def test_progress_is_throttled_and_foretells_the_end(qtbot):
    reports = []

    def work(progress):
        for step in range(150):
            progress(step, 150, "step")
            time.sleep(0.01)

    job = Job(work, "counting")
    job.progressed.connect(lambda *report: reports.append(report))
    assert outcome(qtbot, job) == [("succeeded", None)]
    assert 5 <= len(reports) <= 25
    assert [done for done, _, _ in reports] == sorted(done for done, _, _ in reports)
    assert reports[0][1:] == (150, "step")
    assert "s left)" in reports[-1][2]


def test_bar_in_the_activity_dock(qtbot):
    job = Job(endless, "working hard")
    (bar,) = bars._all_instances
    assert bar.desc.startswith("working hard")
    with qtbot.waitSignal(job.progressed):
        job.start()
    qtbot.waitUntil(lambda: bar.n > 0)
    assert bar.total == 1000
    with qtbot.waitSignals([job.cancelled, job.ended]):
        bar.cancel()  # what the dock's own button calls
    assert not bars._all_instances


@pytest.fixture
def one_thread():
    """Let there be only one thread for all jobs."""
    pool = QThreadPool.globalInstance()
    before = pool.maxThreadCount()
    pool.setMaxThreadCount(1)
    yield
    pool.setMaxThreadCount(before)


def test_a_job_says_that_it_waits_for_others(qtbot, one_thread):
    first = Job(endless, "first").start()
    seen = []
    second = Job(lambda progress: time.sleep(0.1), "second")
    second.progressed.connect(lambda *report: seen.append(report))
    second.start()
    waits = (0, 0, "second: waiting until other jobs have ended …")
    qtbot.waitUntil(lambda: seen == [waits])
    with qtbot.waitSignal(second.succeeded):
        first.cancel()
    assert seen == [waits, (0, 0, "second …")]


def test_a_job_that_waits_is_cancelled_at_once(qtbot, one_thread):
    called = []
    first = Job(endless, "first").start()
    second = Job(lambda progress: called.append(1), "second")
    seen = []
    second.progressed.connect(lambda *report: seen.append("progressed"))
    second.cancelled.connect(lambda: seen.append("cancelled"))
    second.start()
    second.cancel()
    assert seen == ["cancelled"]
    qtbot.wait(300)
    assert seen == ["cancelled"]
    with qtbot.waitSignals([first.ended, second.ended]):
        first.cancel()
    assert not called


def test_a_job_that_does_not_wait_does_not_say_so(qtbot):
    seen = []
    job = Job(lambda progress: time.sleep(0.4), "quiet")
    job.progressed.connect(lambda *report: seen.append(report))
    assert outcome(qtbot, job) == [("succeeded", None)]
    assert seen == []


def test_no_progress_after_the_end(qtbot, monkeypatch):
    job = Job(lambda progress: progress(0, 0, "looking"), "looking")
    seen = []
    job.progressed.connect(lambda *report: seen.append(report[2]))
    job.succeeded.connect(lambda _: seen.append("succeeded"))

    def show(done, total):
        # As napari does while it draws the bar.
        qtbot.waitUntil(lambda: "succeeded" in seen, timeout=10_000)

    monkeypatch.setattr(job._activity, "show", show)
    with qtbot.waitSignal(job.ended, timeout=10_000):
        job.start()
    assert seen == ["looking", "succeeded"]


@pytest.mark.parametrize("error", [RuntimeError("CUDA error"), ValueError("bad"), MemoryError()])
def test_errors_are_shown_once(qtbot, notes, error):
    def fail(progress):
        raise error

    assert outcome(qtbot, Job(fail, "failing")) == [("failed", type(error))]
    (note,) = notes
    assert note.severity.value == "error"
    assert note.message == explain(error)
    assert not bars._all_instances


def test_cancelling_is_quiet_and_quick(qtbot, notes):
    job = Job(endless, "working")
    seen = []
    job.cancelled.connect(lambda: seen.append("cancelled"))
    job.failed.connect(seen.append)
    job.succeeded.connect(seen.append)
    with qtbot.waitSignal(job.progressed):
        job.start()
    started = time.monotonic()
    with qtbot.waitSignal(job.ended):
        job.cancel()
        job.cancel()
    assert time.monotonic() - started < 1
    assert seen == ["cancelled"]
    assert not notes


def test_napari_may_ask_to_stop(qtbot, notes):
    job = Job(endless, "working")
    seen = []
    job.cancelled.connect(lambda: seen.append("cancelled"))
    with qtbot.waitSignal(job.progressed):
        job.start()
    with qtbot.waitSignal(job.ended):
        job._worker.quit()  # what napari does when its window closes
    assert seen == ["cancelled"]
    assert not notes


def test_a_result_after_cancelling_is_dropped(qtbot):
    release = threading.Event()

    def deaf(progress):
        release.wait(5)
        return "late"

    job = Job(deaf, "not listening")
    seen = []
    job.succeeded.connect(seen.append)
    job.cancelled.connect(lambda: seen.append("cancelled"))
    job.start()
    job.cancel()
    assert seen == ["cancelled"]
    with qtbot.waitSignal(job.ended):
        release.set()
    assert seen == ["cancelled"]


def test_abandoned_jobs_are_silent(qtbot, notes):
    release = threading.Event()

    def fail(progress):
        release.wait(5)
        raise ValueError("nobody listens")

    job = Job(fail, "failing")
    seen = []
    for signal in (job.failed, job.cancelled, job.ended):
        signal.connect(lambda *_: seen.append("told"))
    job.start()
    job.abandon()
    release.set()
    qtbot.waitUntil(lambda: not job.is_running)
    assert not seen
    assert not notes


def test_only_warnings_for_people_are_shown(qtbot, notes):
    import warnings

    def warn(progress):
        warnings.warn("the image is almost black", UserWarning, stacklevel=1)
        warnings.warn("old function", FutureWarning, stacklevel=1)

    assert outcome(qtbot, Job(warn, "warning")) == [("succeeded", None)]
    assert [note.message for note in notes] == ["the image is almost black"]


def test_raising_cancelled_is_no_error(qtbot, notes):
    def stop(progress):
        raise Cancelled

    assert outcome(qtbot, Job(stop, "stopping")) == [("cancelled",)]
    assert not notes


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("gamma must be positive"), "Gamma must be positive"),
        (RuntimeError("boom"), "RuntimeError: boom"),
        (RuntimeError("CUDA out of memory. Tried"), "Not enough memory: CUDA out of memory. Tried"),
        (MemoryError(), "Not enough memory: MemoryError"),
        (OSError(2, "No such file", "x.blurfield"), "No such file: x.blurfield"),
    ],
)
def test_words_for_errors(error, words):
    assert explain(error).startswith(words)
