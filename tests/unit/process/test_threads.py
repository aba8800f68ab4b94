"""``consumer.process.threads``: what hangs holds up nothing but itself."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from consumer.process.threads import Threads, run_async
from tests.waiting import DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def released() -> Iterator[threading.Event]:
    """Yield what calls hang on; they go on at the end."""
    event = threading.Event()
    try:
        yield event
    finally:
        event.set()


def test_answers() -> None:
    """A call's answer, or its error, arrives where it is awaited."""

    async def body() -> None:
        threads = Threads()
        assert await threads.run(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await threads.run(divmod, 7, 0)
        assert await asyncio.gather(*(threads.run(abs, -number) for number in range(50))) == list(range(50))

    run_async(body())


def test_a_call_that_hangs() -> None:
    """It counts until it returns, even if nobody waits for it; other kinds go on, and so does the end of all."""

    async def body(event: threading.Event) -> None:
        threads = Threads(2)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(threads.run(event.wait), 0.01)
        third = asyncio.create_task(threads.run(abs, -3))
        await asyncio.wait({third}, timeout=0.05)
        assert not third.done()
        assert await Threads().run(abs, -1) == 1
        event.set()
        assert await third == 3
        await asyncio.gather(*(threads.run(abs, -1) for _ in range(4)))

    with released() as event:
        run_async(body(event))


def test_the_end_waits_for_nothing() -> None:
    """What still hangs when all else has ended does not delay the end."""

    async def body(event: threading.Event) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(Threads().run(event.wait, DEADLINE_S), 0.01)

    with released() as event:
        run_async(body(event))
        assert not event.is_set()
        assert any(thread.name == "call" and thread.daemon for thread in threading.enumerate())


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a name is looked up in vain, another one is found, and the end waits for neither."""
    lookup = socket.getaddrinfo

    def slow(host: Any, *more: Any) -> Any:
        if host == "hangs.example":
            event.wait(DEADLINE_S)
            raise socket.gaierror
        return lookup("127.0.0.1", *more)

    async def body() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(100):
            task = asyncio.create_task(loop.getaddrinfo("hangs.example", 25))
            await asyncio.wait({task}, timeout=0)
        assert (await loop.getaddrinfo("mail.example", 25, type=socket.SOCK_STREAM))[0][4] == ("127.0.0.1", 25)
        assert threading.active_count() < 20

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with released() as event:
        run_async(body())
        assert not event.is_set()
