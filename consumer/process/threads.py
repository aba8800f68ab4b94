"""
Runs calls that may hang, such as those to a name server, a disk or a command. Each gets its own thread.

asyncio has one small pool for all such calls, and joins its threads at the end. A hanging call would block the others and keep
the process from ending.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

_T = TypeVar("_T")


class Threads:
    """
    Makes calls of one kind.

    Args:
        limit: how many calls may run at a time; others wait. A hanging call counts until it returns, even if its caller gave up.
    """

    def __init__(self, limit: int = 1) -> None:
        self._free = asyncio.Semaphore(limit)

    async def run(self, call: Callable[..., _T], *arguments: Any) -> _T:
        """
        Make a call, and return its result.

        Raises:
            OSError: the system cannot start another thread.
            Exception: any error of the call.
        """
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_T] = loop.create_future()

        def end(give: Callable[[Any], None], found: Any) -> None:
            self._free.release()
            if not answer.done():
                give(found)

        def work() -> None:
            try:
                given: tuple[Callable[[Any], None], Any] = answer.set_result, call(*arguments)
            except Exception as error:  # noqa: BLE001 - the caller that awaits the answer gets it
                given = answer.set_exception, error
            with suppress(RuntimeError):  # the loop has ended in the meantime
                loop.call_soon_threadsafe(end, *given)

        try:
            # A daemon thread, so that the process can end while the call hangs.
            threading.Thread(target=work, name="call", daemon=True).start()
        except RuntimeError as error:
            self._free.release()
            raise OSError(str(error)) from error
        return await answer


class _Loop(asyncio.SelectorEventLoop):
    """Looks up names without the shared pool, so that a hanging look-up does not delay other names."""

    def __init__(self) -> None:
        super().__init__()
        # By name. All names come from the configuration, so there are only a few.
        self._lookups: dict[object, Threads] = {}

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - the name that asyncio uses
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """Return the result of ``socket.getaddrinfo``."""
        lookup = self._lookups.setdefault(host, Threads())
        return await lookup.run(socket.getaddrinfo, host, port, family, type, proto, flags)


def run_async(main: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine like ``asyncio.run``, but do not wait for name servers at the end."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)
