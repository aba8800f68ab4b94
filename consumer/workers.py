"""
Framing and matching in several processes.

Blocks go round the workers in turn, and what they make of them comes back in the same order, so that the output does not depend
on their number. Each worker has one block at a time; while it works, its parent correlates another one's lines.
"""

import gc
import marshal
import os
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from consumer.records import Line

# What a worker gives: the lines, how many lines were read by rule, and how many were cut.
Result = tuple[list[Line], list[int], int]
_SIZE = struct.Struct("!Q")


class Workers:
    """
    Processes that apply ``work`` to blocks.

    Args:
        count: how many.
        work: takes what was given to ``map``; runs in the worker.
    """

    def __init__(self, count: int, work: Callable[[bytes], Any]) -> None:
        self._work = work
        self._sockets: list[socket.socket] = []
        self._pids: list[int] = []
        for _ in range(count):
            self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid:
            theirs.close()
            self._sockets.append(ours)
            self._pids.append(pid)
            return
        status = 1
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells when it is over
            ours.close()
            for other in self._sockets:
                other.close()  # or it would not see its parent's end
            gc.disable()
            while (request := _receive(theirs)) is not None:
                _send(theirs, marshal.dumps(self._work(request), 2))
            status = 0
        except OSError:
            pass  # the parent is gone
        finally:
            os._exit(status)

    def map(self, requests: Iterator[bytes]) -> Iterator[Any]:
        """Yield what ``work`` makes of each request, in order."""
        turn, waiting = 0, 0
        for request in requests:
            peer = self._sockets[turn % len(self._sockets)]
            turn += 1
            if waiting < len(self._sockets):
                _send(peer, request)
                waiting += 1
                continue
            answer = _answer(peer)
            _send(peer, request)
            yield marshal.loads(answer)  # noqa: S302 - from our own child
        for _ in range(waiting):
            peer = self._sockets[(turn - waiting) % len(self._sockets)]
            turn += 1
            yield marshal.loads(_answer(peer))  # noqa: S302

    def close(self) -> None:
        """End the workers, and wait for them."""
        for peer in self._sockets:
            peer.close()
        for pid in self._pids:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _answer(peer: socket.socket) -> bytes:
    answer = _receive(peer)
    if answer is None:
        raise RuntimeError("a worker process has died; try --jobs 1")
    return answer


def _send(peer: socket.socket, data: bytes) -> None:
    peer.sendall(_SIZE.pack(len(data)))
    peer.sendall(data)


def _receive(peer: socket.socket) -> bytes | None:
    head = _exactly(peer, _SIZE.size)
    return None if head is None else _exactly(peer, _SIZE.unpack(head)[0])


def _exactly(peer: socket.socket, size: int) -> bytes | None:
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        try:
            count = peer.recv_into(view[done:])
        except ConnectionResetError:
            return None
        if not count:
            return None
        done += count
    return bytes(data)
