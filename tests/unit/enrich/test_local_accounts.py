"""``consumer.enrich.local_accounts``: which account of this host wrote a forged line."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
import threading
from typing import Any

import pytest

from consumer.ecs import NOTHING
from consumer.enrich.local_accounts import local_account
from tests.ecs_events import ecs, fields_of

HERE = socket.gethostname()


def forged(uid: int | None, host: str = HERE, action: str = "ssh_forged") -> dict[str, Any]:
    """Return an event about a line that a uid wrote."""
    return {"event": {"action": action}, "host": {"name": host}, "ssh": {"claimed_by_uid": uid}}


@pytest.mark.parametrize("host", [HERE, HERE.partition(".")[0], HERE.upper()])
@pytest.mark.parametrize("uid", [0, os.getuid()])
def test_an_account_of_this_host(uid: int, host: str) -> None:
    """The uid of a line that was written here has a name, which the system knows."""
    found = asyncio.run(local_account(ecs(forged(uid, host))))
    assert fields_of(found) == {"ssh": {"claimed_by_user": pwd.getpwuid(uid).pw_name}}


@pytest.mark.parametrize(
    "event",
    [
        forged(0, "another-host"),
        forged(0, ""),
        forged(None),
        forged(0, action="ssh_login"),
        forged(4_294_967_294),
        forged(1 << 64),
        forged(-5),
    ],
)
def test_no_account(event: dict[str, Any]) -> None:
    """Another host's uid, one without an account and one that can be none have no name here."""
    assert asyncio.run(local_account(ecs(event))) == NOTHING


def test_a_directory_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of forged lines asks a directory that hangs once, and leaves the threads of other parts alone."""
    asked: list[int] = []
    is_asked, may_answer = threading.Event(), threading.Event()

    def getpwuid(uid: int) -> pwd.struct_passwd:
        asked.append(uid)
        is_asked.set()
        may_answer.wait()
        raise KeyError(uid)

    async def flood() -> None:
        waiting = [asyncio.create_task(local_account(ecs(forged(uid)))) for uid in range(1, 101)]
        await asyncio.to_thread(is_asked.wait)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        may_answer.set()
        assert await local_account(ecs(forged(0))) == NOTHING

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    try:
        asyncio.run(flood())
    finally:
        may_answer.set()
    assert asked == [1, 0]
