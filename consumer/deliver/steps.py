"""Long work in the event loop, in steps between which others have their turn."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

# Messages that are looked at in one step: some 10 ms.
_STEP = 100

_Item = TypeVar("_Item")


async def in_steps(items: Iterable[_Item]) -> AsyncIterator[_Item]:
    """Yield what may be 50,000 messages."""
    for number, item in enumerate(items, 1):
        yield item
        if number % _STEP == 0:
            await asyncio.sleep(0)
