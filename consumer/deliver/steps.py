"""Splits long work in the event loop into steps, so that other tasks get their turn."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

# Messages per step, which takes about 10 ms.
_STEP = 100

_Item = TypeVar("_Item")


async def in_steps(items: Iterable[_Item]) -> AsyncIterator[_Item]:
    """Yield the items, of which there may be 50,000, and let other tasks run in between."""
    for number, item in enumerate(items, 1):
        yield item
        if number % _STEP == 0:
            await asyncio.sleep(0)
