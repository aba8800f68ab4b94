"""Waits for other processes, threads and servers. No test sleeps: it names the condition that it waits for."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Long enough for a machine that is busy with other things.
DEADLINE_S = 180.0
INTERVAL_S = 0.005


def came_true(condition: Callable[[], object], within_s: float) -> bool:
    """Wait until a condition holds, at most ``within_s``; return whether it does."""
    end_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end_s:
            return False
        time.sleep(INTERVAL_S)
    return True


def wait_for(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """
    Wait until a condition holds.

    Args:
        condition: checked again and again.
        what: the condition in words, for the error.
        deadline_s: how long to wait.

    Raises:
        AssertionError: it did not hold in time.
    """
    assert came_true(condition, deadline_s), f"waited {deadline_s:g} s in vain: {what}"


async def wait_for_async(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait like ``wait_for``, and let the other tasks of the loop run meanwhile."""
    end_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end_s, f"waited {deadline_s:g} s in vain: {what}"
        await asyncio.sleep(INTERVAL_S)
