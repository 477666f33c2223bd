"""Options of the memory allocator."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from blurfield import _allocator as allocator


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What glibc is asked for."""
    seen: list[tuple[int, int]] = []
    libc = SimpleNamespace(mallopt=lambda *options: seen.append(options))
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: libc)
    monkeypatch.setattr(allocator.sys, "platform", "linux")
    for name in allocator._NUMBERS:
        monkeypatch.delenv(f"MALLOC_{name}_", raising=False)
    return seen


def test_options_have_the_numbers_of_glibc(calls: list[tuple[int, int]]) -> None:
    """Those of malloc.h."""
    allocator.set_allocator(TRIM_THRESHOLD=1, TOP_PAD=2, MMAP_THRESHOLD=3, MMAP_MAX=4)
    assert calls == [(-1, 1), (-2, 2), (-3, 3), (-4, 4)]


def test_the_environment_goes_first(
    calls: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "65536")
    allocator.keep_freed_memory()
    assert [number for number, _ in calls] == [-1, -2]


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_have_no_such_options(
    calls: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    monkeypatch.setattr(allocator.sys, "platform", platform)
    allocator.keep_freed_memory()
    assert calls == []


def test_a_library_without_the_function_is_left_alone(
    calls: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Musl has none."""
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: SimpleNamespace())
    allocator.keep_freed_memory()
    assert calls == []
