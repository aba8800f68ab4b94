"""
Calls that may hang, such as for a name server, a disk or a command: each in a thread that nobody has to wait for.

asyncio has one small pool for all such calls, and joins its threads at the end. One that hangs would hold up all others, and the
end of the process.
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
        limit: how many may run at a time; further ones wait. One that hangs counts until it returns, whoever gave up on it.
    """

    def __init__(self, limit: int = 1) -> None:
        self._free = asyncio.Semaphore(limit)

    async def run(self, call: Callable[..., _T], *arguments: Any) -> _T:
        """
        Call, and return what it returns.

        Raises:
            OSError: the system has no thread left.
            Exception: whatever the call raises.
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
            except Exception as error:  # noqa: BLE001 - it is raised where the answer is awaited
                given = answer.set_exception, error
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(end, *given)

        try:
            # As a daemon, so that the process may end while it hangs.
            threading.Thread(target=work, name="call", daemon=True).start()
        except RuntimeError as error:
            self._free.release()
            raise OSError(str(error)) from error
        return await answer


class _Loop(asyncio.SelectorEventLoop):
    """Looks up names without the shared pool: one name that hangs delays no other."""

    def __init__(self) -> None:
        super().__init__()
        # By name; all of them are of the configuration.
        self._lookups: dict[object, Threads] = {}

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - asyncio's
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """Return what ``socket.getaddrinfo`` does."""
        lookup = self._lookups.setdefault(host, Threads())
        return await lookup.run(socket.getaddrinfo, host, port, family, type, proto, flags)


def run_async(main: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end, as ``asyncio.run`` does, and wait for no name server then."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)
