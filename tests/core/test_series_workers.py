"""Series with several frames at a time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import torch
from small_series import CHEAP, Estimator, contents, lazily, stack

import blurfield.estimation
import blurfield.restoration
from blurfield import Cancelled, KernelField
from blurfield.series import Series, process

if TYPE_CHECKING:
    from pathlib import Path


def test_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    """With the real estimator, whose last bits depend on the number of threads."""
    frames = lazily(stack(2, shape=(32, 32)))
    estimate = {"kernel_size": 3}
    before = torch.get_num_threads()
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        series = Series.create(folder, frames, estimate=estimate, deblur={"method": "tikhonov"})
        process(series, frames, workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert torch.get_num_threads() == before


def test_workers_share_the_memory(
    tmp_path: Path, estimator: Estimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each may use is no part of the results: one frame needs much less."""
    monkeypatch.setattr("blurfield.compute.available_memory", lambda device: 2_000_000_000)
    limits: list[Any] = []
    deblur = blurfield.restoration.deblur

    def noted(*args: Any, **options: Any) -> Any:
        limits.append(options.get("memory"))
        return deblur(*args, **options)

    monkeypatch.setattr(blurfield.restoration, "deblur", noted)
    frames = lazily(stack(2))
    for workers in (1, 2):
        series = Series.create(tmp_path / str(workers), frames, **CHEAP)
        process(series, frames, workers=workers)
    assert limits == [None, None, 600_000_000, 600_000_000]
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_workers_are_counted(tmp_path: Path) -> None:
    frames = lazily(stack())
    series = Series.create(tmp_path / "a", frames, **CHEAP)
    with pytest.raises(ValueError, match="workers must be a whole number from 1, not 0"):
        process(series, frames, workers=0)


def test_stops_within_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three frames are under way, and the caller's thread says stop."""
    under_way = []

    def slow(image: Any, *, progress: Any, **options: Any) -> KernelField:
        under_way.append(image)
        for step in range(600):
            progress(step, 600, "Estimating")
            time.sleep(0.1)
        raise AssertionError("nobody stopped it")

    monkeypatch.setattr(blurfield.estimation, "estimate", slow)
    frames = lazily(stack())
    series = Series.create(tmp_path / "a", frames, **CHEAP)
    stopped: list[float] = []

    def progress(done: int, total: int, message: str) -> None:
        if len(under_way) == 3 and not stopped:
            stopped.append(time.monotonic())
            raise Cancelled

    with pytest.raises(Cancelled):
        process(series, frames, progress=progress, workers=3)
    assert time.monotonic() - stopped[0] < 1
