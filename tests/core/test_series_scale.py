"""Series in their full size: memory, a run that is killed, and workers of a cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import time_lapse
import torch

from blurfield import Cancelled
from blurfield.cli import main
from blurfield.frames import frames_of, open_frames
from blurfield.series import Series, process
from blurfield.series import cluster as cluster_module

if TYPE_CHECKING:
    from collections.abc import Iterator

CHEAP: dict[str, Any] = {
    "estimate": {"kernel_size": 3, "edges": "L0"},
    "deblur": {"method": "tikhonov", "iterations": 1},
}


def start(folder: Path, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, time_lapse.__file__, str(folder), str(count)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def rise(folder: Path, count: int) -> int:
    """Bytes by which making so many frames raises the peak of a process."""
    run = start(folder, count)
    said, _ = run.communicate(timeout=250)
    assert run.returncode == 0
    figures = json.loads(said)
    return figures["peak"] - figures["start"]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("[0-9]*"))
        if path.is_file()
    }


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures as Linux does")
def test_time_lapse_takes_the_memory_of_few_frames(tmp_path: Path) -> None:
    one = rise(tmp_path / "one", 1)
    many = rise(tmp_path / "many", time_lapse.COUNT)
    print(f"one frame {one / 1e6:.0f} MB, {time_lapse.COUNT} frames {many / 1e6:.0f} MB")
    assert one > 10e6
    assert many < 3 * one
    assert len(contents(tmp_path / "many")) == 2 * time_lapse.COUNT


@pytest.mark.slow
def test_killed_and_continued_is_the_same(tmp_path: Path) -> None:
    count = 5
    rise(tmp_path / "whole", count)
    parts = tmp_path / "parts"
    run = start(parts, count)
    until = time.monotonic() + 250
    while len(list(parts.glob("images/[0-9]*.tif"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    assert run.wait(30) == -signal.SIGKILL
    run.stdout.close()
    before = contents(parts)
    assert 4 <= len(before) < 2 * count
    rise(parts, count)
    after = contents(parts)
    assert after == contents(tmp_path / "whole")
    assert before.items() <= after.items()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", host="127.0.0.1"
    ) as local:
        yield local


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.npy"
    np.save(path, time_lapse.time_lapse(6, 64).compute())
    return path


@pytest.mark.slow
def test_cluster_makes_the_same(
    tmp_path: Path, film: Path, cluster: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["batch", str(film), "--kernel-size", "3", "--method", "tikhonov", "--iterations", "1"]
    assert main([*words, "--out", str(tmp_path / "a"), "--workers", "1"]) == 0
    address = cluster.scheduler_address
    assert main([*words, "--out", str(tmp_path / "b"), "--scheduler", address]) == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert capsys.readouterr().out.count("6 frames done") == 2


@pytest.mark.slow
def test_killed_worker_loses_no_frame(tmp_path: Path, film: Path, cluster: Any) -> None:
    """Frames that are not in a file are sent; one that can't be read is reported."""
    values = np.load(film)
    frames = frames_of(values, "TYX")
    alone = Series.create(tmp_path / "alone", frames, **CHEAP)
    process(alone, frames)
    killed: list[int] = []

    def kill(_: int) -> None:
        if not killed:
            killed.append(next(iter(cluster.workers.values())).pid)
            os.kill(killed[0], signal.SIGKILL)

    series = Series.create(tmp_path / "a", frames, **CHEAP)
    reports = process(series, frames, scheduler=cluster.scheduler_address, on_frame=kill)
    assert killed
    assert all(report.ok for report in reports)
    assert contents(tmp_path / "a") == contents(tmp_path / "alone")


@pytest.mark.slow
def test_cluster_is_left_within_a_second(tmp_path: Path, film: Path, cluster: Any) -> None:
    stopped: list[float] = []

    def progress(done: int, total: int, message: str) -> None:
        assert message.endswith(f" at {cluster.scheduler_address}")
        if done:
            stopped.append(time.monotonic())
            raise Cancelled

    with open_frames(film) as frames:
        series = Series.create(tmp_path / "a", frames, **CHEAP)
        with pytest.raises(Cancelled):
            process(series, frames, progress=progress, scheduler=cluster.scheduler_address)
        assert time.monotonic() - stopped[0] < 1
        assert 0 < len(series.finished) < 6
        assert all(report.ok for report in process(series, frames))


@pytest.mark.slow
def test_bad_frames_on_a_cluster(tmp_path: Path, cluster: Any) -> None:
    values = time_lapse.time_lapse(3, 64).compute().astype(np.float32)
    values[1, 2, 3] = np.nan
    np.save(tmp_path / "a.npy", values)
    with open_frames(tmp_path / "a.npy") as frames:
        series = Series.create(tmp_path / "a", frames, **CHEAP)
        reports = process(series, frames, scheduler=cluster.scheduler_address)
    assert [report.status for report in reports] == ["done", "failed", "done"]
    assert "NaN" in reports[1].reason


@pytest.mark.parametrize(("trim_threshold", "calls"), [(None, []), ("65536", [32 << 20])])
def test_workers_reuse_memory(
    monkeypatch: pytest.MonkeyPatch, trim_threshold: str | None, calls: list[int]
) -> None:
    """As processes do that Dask has not started."""
    seen: list[int] = []
    monkeypatch.setattr(
        cluster_module, "set_allocator", lambda *, MMAP_THRESHOLD: seen.append(MMAP_THRESHOLD)
    )
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    if trim_threshold is not None:
        monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", trim_threshold)
    cluster_module._let_memory_be_reused.__wrapped__()
    assert seen == calls


def test_each_worker_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    workers = {
        "tcp://10.0.0.1:1": {"name": 0, "host": "10.0.0.1"},
        "tcp://10.0.0.1:2": {"name": 1, "host": "10.0.0.1"},
        "tcp://10.0.0.2:1": {"name": "b", "host": "10.0.0.2"},
    }
    places = cluster_module._places(workers)
    assert places == {"0": (0, 2), "1": (1, 2), "b": (0, 1)}
    frames = frames_of(np.zeros((1, 48, 48), np.uint8), "TYX")

    def where(folder: str, worker: str, **settings: Any) -> dict[str, Any]:
        changed = {kind: {**values, **settings} for kind, values in CHEAP.items()}
        series = Series.create(tmp_path / folder, frames, **changed)
        return cluster_module._where(series, places[worker])

    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert where("a", "1") == {"device": "cuda:1"}
    assert where("b", "b", device="cpu") == {}
    free = "blurfield.compute.available_memory"
    monkeypatch.setattr(free, lambda device: 1_000_000_000)
    assert where("b", "0", device="cpu") == {"memory": 300_000_000}
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr(cluster_module, "choose_device", lambda name: torch.device("cuda"))
    assert where("a", "1") == {}
