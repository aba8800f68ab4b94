"""Blocks on their way from ``run`` to ``guard``."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec
import pytest

from consumer.events import Block
from consumer.guard.client import OrderQueue
from consumer.guard.messages import MESSAGE_LIMIT, ORDERS_LIMIT, Order
from tests.store_events import events_of, line

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW_US = 1_795_348_800_000_000


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return the ends of ``run`` and of ``guard``."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(0)
    theirs.settimeout(0)
    with closing(ours), closing(theirs):
        yield ours, theirs


def blocks(count: int) -> list[Block]:
    """Return blocks of as many addresses."""
    (event,) = events_of(line(NOW_US, 1, "Failed password for root from 192.0.2.7 port 1 ssh2"))
    targets = [f"10.0.{number >> 8}.{number & 255}" for number in range(count)]
    return [Block(target, event.line, None, None, None, target, False, NOW_US, "f") for target in targets]  # noqa: FBT003


def plain(block: Block) -> Order:
    """Return the order for a block."""
    return Order(block.id, block.target, block.until_us)


def taken(theirs: socket.socket) -> list[str]:
    """Return the targets of all messages that wait."""
    found: list[str] = []
    while True:
        try:
            message = theirs.recv(1 << 20)
        except BlockingIOError:
            return found
        assert len(message) <= MESSAGE_LIMIT
        found += [order.target for order in msgspec.json.decode(message, type=list[Order])]


def test_a_slow_guard_never_holds_up_run(pair: tuple[socket.socket, socket.socket]) -> None:
    """What the socket does not take waits; in the end all orders arrive, once, in order."""
    ours, theirs = pair
    queue, some = OrderQueue(10_000, plain), blocks(5000)
    queue.put(some)
    arrived: list[str] = []
    for _ in range(1000):
        queue.send(ours)
        queue.send(ours)
        arrived += taken(theirs)
        if not len(queue):
            break
    assert arrived == [block.target for block in some]


def test_the_oldest_go_first(pair: tuple[socket.socket, socket.socket]) -> None:
    """A guard that reads nothing costs no memory beyond the limit."""
    ours, theirs = pair
    queue, some = OrderQueue(10, plain), blocks(25)
    for block in some:
        queue.put([block])
    assert len(queue) == 10
    queue.send(ours)
    assert taken(theirs) == [block.target for block in some[-10:]]
    assert len(queue) == 0


def test_long_orders_go_in_smaller_messages(pair: tuple[socket.socket, socket.socket]) -> None:
    """A message never has more bytes than guard reads."""
    ours, theirs = pair

    def long(block: Block) -> Order:
        return Order(block.id, block.target, block.until_us, "x" * 500, "sshd", ["2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"] * 100)

    some = blocks(ORDERS_LIMIT)
    queue = OrderQueue(100, long)
    queue.put(some)
    arrived: list[str] = []
    while len(queue):
        queue.send(ours)
        arrived += taken(theirs)
    assert arrived == [block.target for block in some]


def test_a_guard_that_has_gone(pair: tuple[socket.socket, socket.socket]) -> None:
    """The error is the caller's, and nothing is lost."""
    ours, theirs = pair
    queue = OrderQueue(10, plain)
    queue.put(blocks(1))
    theirs.close()
    with pytest.raises(OSError, match="pipe"):
        queue.send(ours)
    assert len(queue) == 1
