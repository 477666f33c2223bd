"""Work on several cores: order, errors, polling, and the settings that are left behind."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
import torch

from blurfield import Cancelled, KernelField
from blurfield._threads import map_in_order, poll_within
from blurfield.operator import BlurOperator

if TYPE_CHECKING:
    from collections.abc import Iterator

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def nobody() -> None:
    pass


def test_results_come_in_order(threads: int) -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.02 if item % 3 == 0 else 0)
        return item * item

    pairs = list(map_in_order(slow_first, range(20), CPU, nobody))
    assert pairs == [(item, item * item) for item in range(20)]
    assert torch.get_num_threads() == threads


def test_each_worker_uses_one_core(threads: int) -> None:
    seen = [
        count for _, count in map_in_order(lambda _: torch.get_num_threads(), [1, 2], CPU, nobody)
    ]
    assert seen == ([1, 1] if threads > 1 else [threads, threads])


def test_other_computations_leave_workers_alone() -> None:
    """One that ends meanwhile gives its threads back."""

    def polled() -> None:
        torch.set_num_threads(3)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        pairs = list(map_in_order(lambda _: torch.get_num_threads(), [1, 2, 3], CPU, polled))
    finally:
        torch.set_num_threads(before)
    assert {count for _, count in pairs} == {1}


def test_no_gradients_in_workers(threads: int) -> None:
    with torch.no_grad():
        (_, recorded), *_ = map_in_order(lambda _: torch.is_grad_enabled(), [1, 2], CPU, nobody)
    assert not recorded


def test_error_of_the_work_propagates(threads: int) -> None:
    def fail(item: int) -> int:
        if item == 3:
            raise ArithmeticError("three")
        return item

    seen: list[int] = []
    with pytest.raises(ArithmeticError, match="three"):
        seen.extend(item for item, _ in map_in_order(fail, range(50), CPU, nobody))
    assert seen == [0, 1, 2]
    assert torch.get_num_threads() == threads


def test_timeout_error_of_the_work_is_not_taken_for_waiting(threads: int) -> None:
    def fail(_: int) -> int:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        list(map_in_order(fail, range(3), CPU, nobody))


def test_poll_is_called_in_the_callers_thread_and_stops(threads: int) -> None:
    calls = []

    def poll() -> None:
        calls.append(threading.get_ident())
        if len(calls) == 5:
            raise Cancelled

    done: list[int] = []
    with pytest.raises(Cancelled):
        list(map_in_order(done.append, range(1000), CPU, poll))
    assert set(calls) == {threading.get_ident()}
    assert len(done) < 10
    assert torch.get_num_threads() == threads


def test_long_work_is_polled(threads: int) -> None:
    calls = []
    list(map_in_order(lambda _: time.sleep(0.35), [1, 2], CPU, lambda: calls.append(1)))
    assert len(calls) >= (4 if threads > 1 else 2)


def test_long_work_ends_when_it_is_stopped(threads: int) -> None:
    ended: list[bool] = []
    begun = time.monotonic()

    def poll() -> None:
        if time.monotonic() - begun > 0.2:
            raise Cancelled

    within = poll_within(poll)

    def work(_: int) -> None:
        try:
            while time.monotonic() - begun < 20:
                time.sleep(0.01)
                within()
        finally:
            ended.append(True)

    with pytest.raises(Cancelled):
        list(map_in_order(work, [1, 2, 3, 4], CPU, poll))
    assert time.monotonic() - begun < 5
    assert 1 <= len(ended) <= threads


def test_operator_gives_the_same_bits_on_any_number_of_cores() -> None:
    generator = torch.Generator().manual_seed(0)
    basis = torch.rand(4, 9, 9, generator=generator)
    mixing = torch.rand(4, 30, 20, generator=generator)
    field = KernelField(
        basis / basis.sum((1, 2), keepdim=True), mixing / mixing.sum(0), shape=(600, 400)
    )
    image = torch.rand(3, 600, 400, generator=generator)
    before = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            operator = BlurOperator(field)
            results.append((operator.forward(image), operator.adjoint(image)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
