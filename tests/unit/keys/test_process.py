"""The process ``keys`` where the system has no more to give; all else of it is in ``tests/integration``."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING

from consumer.keys.fields import Question
from consumer.keys.process import USER_LIMIT, Child, KeysServer

if TYPE_CHECKING:
    import pytest


def test_no_more_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever fills the table of processes costs the names of those moments: not one descriptor is lost by it."""

    def fork() -> int:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    async def asked() -> tuple[list[str], list[str]]:
        keys = KeysServer({0})
        before = os.listdir("/proc/self/fd")  # noqa: PTH208 - names
        for number in range(3):
            assert await keys._owners(Question("alice", f"SHA256:{number}")) == []
        return before, os.listdir("/proc/self/fd")  # noqa: PTH208 - names

    monkeypatch.setattr(os, "fork", fork)
    before, after = asyncio.run(asked())
    assert after == before


def test_a_user_in_any_case() -> None:
    """A name service may know one account as alice and ALICE: both have the places of one."""
    keys = KeysServer({0})
    keys._children = {pid: Child("alice", is_stuck=True) for pid in range(USER_LIMIT)}
    assert not asyncio.run(keys._place(Question("Alice")))
    assert asyncio.run(keys._place(Question("bob")))
