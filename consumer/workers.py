"""
Framing and matching in several processes.

Each worker has one request in work and one in waiting. While all are busy, this process does a request itself. Answers come
in the order of the requests, so that the output does not depend on how many work or how fast.
"""

import gc
import marshal
import os
import select
import signal
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

_SIZE = struct.Struct("!Q")
# A request that is in work, and the next, so that no worker waits for its parent.
_IN_HAND = 2
_CHUNK = 1 << 18
_DEAD = "a worker process has died; try --jobs 1"


class Workers:
    """
    Processes that apply ``work`` to requests.

    Args:
        count: how many, beside this one.
        work: takes what was given to ``map``; what it returns must be marshallable.
    """

    def __init__(self, count: int, work: Callable[[Any], Any]) -> None:
        self._work = work
        self._workers: list[_Worker] = []
        for _ in range(count):
            self._workers.append(_Worker(work, self._workers))

    def map(self, requests: Iterator[Any]) -> Iterator[Any]:
        """Yield what ``work`` makes of each request, in order."""
        # Where each answer is: with a worker, or here already.
        awaited: deque[tuple[_Worker | None, Any]] = deque()
        for request in requests:
            free = min(self._workers, key=lambda worker: worker.in_hand)
            if free.in_hand < _IN_HAND:
                free.send(marshal.dumps(request, 2))
                awaited.append((free, None))
            else:
                awaited.append((None, self._work(request)))
            while awaited and (awaited[0][0] is None or awaited[0][0].has_answered()):
                yield _answer(*awaited.popleft())
        while awaited:
            yield _answer(*awaited.popleft())

    def close(self) -> None:
        """End the workers, and wait for them."""
        for worker in self._workers:
            worker.close()


def _answer(worker: "_Worker | None", done: Any) -> Any:
    return done if worker is None else marshal.loads(worker.answer())  # noqa: S302 - from our own child


class _Worker:
    """
    One process, and the socket to it.

    Neither side ever waits for the other to read: while a request is being sent, answers are taken in.
    """

    def __init__(self, work: Callable[[Any], Any], others: "list[_Worker]") -> None:
        self.in_hand = 0
        self._socket, theirs = socket.socketpair()
        self._received = bytearray()
        self._pid = os.fork()
        if self._pid == 0:
            for other in others:
                other._socket.close()  # or it would not see its parent's end  # noqa: SLF001
            self._socket.close()
            _serve(theirs, work)
        theirs.close()
        self._socket.setblocking(False)  # noqa: FBT003

    def send(self, data: bytes) -> None:
        rest = memoryview(_SIZE.pack(len(data)) + data)
        while rest:
            readable, writable, _ = select.select([self._socket], [self._socket], [])
            if readable:
                self._take()
            if writable:
                try:
                    rest = rest[self._socket.send(rest) :]
                except OSError as error:
                    raise RuntimeError(_DEAD) from error
        self.in_hand += 1

    def has_answered(self) -> bool:
        while not self._is_whole() and select.select([self._socket], [], [], 0)[0]:
            self._take()
        return self._is_whole()

    def answer(self) -> bytes:
        while not self._is_whole():
            select.select([self._socket], [], [])
            self._take()
        end = _SIZE.size + _SIZE.unpack_from(self._received)[0]
        answer = bytes(memoryview(self._received)[_SIZE.size : end])
        del self._received[:end]
        self.in_hand -= 1
        return answer

    def close(self) -> None:
        self._socket.close()
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    def _is_whole(self) -> bool:
        received = len(self._received)
        return received >= _SIZE.size and received - _SIZE.size >= _SIZE.unpack_from(self._received)[0]

    def _take(self) -> None:
        try:
            data = self._socket.recv(_CHUNK)
        except ConnectionResetError:
            data = b""
        if not data:
            raise RuntimeError(_DEAD)
        self._received += data


def _serve(parent: socket.socket, work: Callable[[Any], Any]) -> None:
    """Answer requests until the parent is gone; never returns."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells when it is over
        gc.disable()
        while (head := _exactly(parent, _SIZE.size)) is not None:
            request = _exactly(parent, _SIZE.unpack(head)[0])
            if request is None:
                break
            answer = marshal.dumps(work(marshal.loads(request)), 2)  # noqa: S302 - from our own parent
            parent.sendall(_SIZE.pack(len(answer)) + answer)
        status = 0
    except OSError:
        pass  # the parent is gone
    finally:
        os._exit(status)


def _exactly(parent: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        chunk = parent.recv(min(size - len(data), _CHUNK))
        if not chunk:
            return None
        data += chunk
    return bytes(data)
