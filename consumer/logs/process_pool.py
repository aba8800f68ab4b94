"""
Shares work among this process and others.

Each worker has a few requests in hand. When all workers have enough, and no result is ready, this process handles a request
itself. Results come in the order of the requests, so the output does not depend on the number or speed of the workers.
"""

import fcntl
import gc
import marshal
import os
import select
import signal
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Generic, TypeVar

_SIZE = struct.Struct("!Q")
# The current request and the next ones, so that no worker waits for its parent. They fit into the pipe.
_IN_HAND = 6
# The results of this process that may wait for one of a worker. The lines of a block take about half a megabyte.
_WAITING = 16
# This process handles the first requests itself: to start workers takes longer.
_ALONE = 2
# The size of a pipe: the largest that the kernel allows a user.
_PIPE_SIZE = 1 << 20
_DEAD = "a worker process has died; try --jobs 1"

_Request = TypeVar("_Request")
_Result = TypeVar("_Result")


class ProcessPool(Generic[_Request, _Result]):
    """
    Processes for ``replay --jobs`` that apply ``work`` to requests. They start once there are enough requests.

    Args:
        count: the number of processes, besides this one.
        work: takes a request of ``map``. Requests and results must be marshallable.
    """

    def __init__(self, count: int, work: Callable[[_Request], _Result]) -> None:
        self._count = count
        self._most = count * _IN_HAND + _WAITING
        self._work = work
        self._workers: list[_PoolProcess] = []

    def map(self, requests: Iterable[_Request]) -> Iterator[tuple[_Request, _Result]]:
        """Yield each request with its result, in order."""
        # With each request: the worker that has it, or the result itself.
        awaited: deque[tuple[_Request, _PoolProcess | None, Any]] = deque()
        for number, request in enumerate(requests):
            if number == _ALONE:
                self._start()
            # The workers must have enough to do while the caller uses a result, so each result makes room for one request.
            while (free := self._free()) is None and awaited and (_is_ready(awaited[0][1]) or len(awaited) >= self._most):
                yield _answered(*awaited.popleft())
            if free is None and not awaited:
                # Not later: the next request may wait for a program that writes to a pipe.
                yield request, self._work(request)
            elif free is None:
                awaited.append((request, None, self._work(request)))
            else:
                free.send(marshal.dumps(request, 2))  # type: ignore[arg-type]  # no type variable can have its recursive type
                awaited.append((request, free, None))
        while awaited:
            yield _answered(*awaited.popleft())

    def _free(self) -> "_PoolProcess | None":
        """Return the worker with the least to do; None if all have enough."""
        free = min(self._workers, key=lambda worker: worker.in_hand, default=None)
        return free if free is not None and free.in_hand < _IN_HAND else None

    def _start(self) -> None:
        for _ in range(self._count):
            self._workers.append(_PoolProcess(self._work, self._workers))

    def close(self) -> None:
        """End the workers, and wait for them."""
        for worker in self._workers:
            worker.close()


def _is_ready(worker: "_PoolProcess | None") -> bool:
    return worker is None or worker.has_answered()


def _answered(request: _Request, worker: "_PoolProcess | None", result: Any) -> tuple[_Request, Any]:
    return request, result if worker is None else marshal.loads(worker.answer())  # noqa: S302 - from our own child


class _PoolProcess:
    """
    One process, a pipe to it and a pipe from it.

    Neither side blocks until the other one reads: the parent receives answers while it sends a request.
    """

    def __init__(self, work: Callable[[Any], Any], others: "list[_PoolProcess]") -> None:
        self.in_hand = 0
        their_in, self._out = _pipe()
        self._in, their_out = _pipe()
        self._received = bytearray()
        self._pid = os.fork()
        if self._pid == 0:
            for other in (*others, self):
                os.close(other._in)  # noqa: SLF001 - otherwise the others would not notice the end of their parent
                os.close(other._out)  # noqa: SLF001
            _serve(their_in, their_out, work)
        os.close(their_in)
        os.close(their_out)
        os.set_blocking(self._out, False)

    def send(self, data: bytes) -> None:
        rest = memoryview(_SIZE.pack(len(data)) + data)
        while rest:
            readable, writable, _ = select.select([self._in], [self._out], [])
            if readable:
                self._take()
            if writable:
                try:
                    rest = rest[os.write(self._out, rest) :]
                except BrokenPipeError as error:
                    raise RuntimeError(_DEAD) from error
        self.in_hand += 1

    def has_answered(self) -> bool:
        while not self._is_whole() and select.select([self._in], [], [], 0)[0]:
            self._take()
        return self._is_whole()

    def answer(self) -> bytes:
        while not self._is_whole():
            self._take()
        end = _SIZE.size + _SIZE.unpack_from(self._received)[0]
        answer = bytes(memoryview(self._received)[_SIZE.size : end])
        del self._received[:end]
        self.in_hand -= 1
        return answer

    def close(self) -> None:
        os.close(self._out)
        os.close(self._in)
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    def _is_whole(self) -> bool:
        received = len(self._received)
        return received >= _SIZE.size and received - _SIZE.size >= _SIZE.unpack_from(self._received)[0]

    def _take(self) -> None:
        data = os.read(self._in, _PIPE_SIZE)
        if not data:
            raise RuntimeError(_DEAD)
        self._received += data


def _pipe() -> tuple[int, int]:
    ends = os.pipe()
    with suppress(OSError):  # the user's pipes may have reached the kernel's limit
        fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
    return ends


def _serve(requests: int, answers: int, work: Callable[[Any], Any]) -> None:
    """Answer requests until the parent has ended; never returns."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent closes the pipe at the end
        gc.disable()
        with os.fdopen(requests, "rb") as source, os.fdopen(answers, "wb") as sink:
            while len(head := source.read(_SIZE.size)) == _SIZE.size:
                request = source.read(_SIZE.unpack(head)[0])
                answer = marshal.dumps(work(marshal.loads(request)), 2)  # noqa: S302 - from our own parent
                sink.write(_SIZE.pack(len(answer)) + answer)
                sink.flush()
        status = 0
    except (OSError, EOFError):
        pass  # the parent has ended
    finally:
        os._exit(status)
