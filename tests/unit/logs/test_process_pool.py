"""Work in several processes: answers come in order, whatever their size, and no process is left behind."""

from __future__ import annotations

import os
from typing import Any

import pytest

from consumer.logs.process_pool import ProcessPool


def _children() -> set[str]:
    """Return the PIDs of our child processes, zombies too."""
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as found:  # noqa: PTH123 - no file of a path kind
        return set(found.read().split())


def _mapped(count: int, work: Any, requests: list[Any]) -> list[Any]:
    workers = ProcessPool(count, work)
    try:
        answered = list(workers.map(requests))
    finally:
        workers.close()
    assert [request for request, _ in answered] == requests
    return [answer for _, answer in answered]


@pytest.mark.parametrize("count", [0, 1, 2, 5])
@pytest.mark.parametrize("requests", [0, 1, 2, 7, 50])
def test_answers_come_in_the_order_of_requests(count: int, requests: int) -> None:
    """The order is that of the requests, whether there are fewer or more of them than workers."""
    assert _mapped(count, lambda request: (request, "done"), list(range(requests))) == [(n, "done") for n in range(requests)]


def test_slow_answers_keep_their_place() -> None:
    """A request that takes long does not let later ones overtake it."""
    assert _mapped(3, lambda size: len(bytes(size)), [50_000_000, 1, 2, 3, 40_000_000, 4]) == [50_000_000, 1, 2, 3, 40_000_000, 4]


def test_large_requests_and_answers_do_not_block_each_other() -> None:
    """Requests and answers larger than what a socket holds pass each other."""
    requests = [bytes([n]) * 3_000_000 for n in range(8)]
    assert _mapped(2, lambda request: request + b"!", requests) == [request + b"!" for request in requests]


def test_work_really_is_done_by_other_processes() -> None:
    """At least one request is handled by another process than ours."""
    assert set(_mapped(2, lambda _request: os.getpid(), list(range(20)))) - {os.getpid()}


def test_no_process_is_left_behind() -> None:
    """After ``close`` the workers are gone, also where their answers were never asked for."""
    before = _children()
    workers: ProcessPool[int, int] = ProcessPool(3, lambda request: request)
    for request, _answer in workers.map([1, 2, 3, 4, 5]):
        if request == 3:
            break
    assert len(_children() - before) == 3
    workers.close()
    assert _children() <= before


def test_few_requests_start_no_process() -> None:
    """To start processes for a small file would take longer than to read it."""
    before = _children()
    workers: ProcessPool[int, int] = ProcessPool(3, lambda request: request + 1)
    assert list(workers.map([1, 2])) == [(1, 2), (2, 3)]
    assert _children() <= before
    workers.close()


def test_dead_worker_is_said() -> None:
    """A worker that is killed (for want of memory) is an error that says so, not a wait without end."""
    ours = os.getpid()
    before = _children()  # other tests of this process may have some

    def work(request: int) -> int:
        if os.getpid() != ours:
            os._exit(9)
        return request

    with pytest.raises(RuntimeError, match="worker process has died"):
        _mapped(1, work, list(range(10)))
    assert _children() <= before


def test_failing_work_is_an_error() -> None:
    """Work that raises does not give a wrong or a missing answer."""
    with pytest.raises((RuntimeError, ZeroDivisionError)):
        _mapped(2, lambda request: 1 // request, [1, 0, 1, 1, 1, 1, 1, 1])
