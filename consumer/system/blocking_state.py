"""Whether blocking works: for ``sshbell status``."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from consumer.config import Config
from consumer.errors import StoreError
from consumer.guard.entries import entries_of
from consumer.process.lock import GUARD_LOCK, Process, holder_of
from consumer.store.block import BlockRow, StoredBlocks


class BlockingState(msgspec.Struct):
    """
    The state of blocking.

    Attributes:
        mode: as configured.
        guard: the process; None with workers, which let other machines block.
        blocked: how many entries apply.
        not_blocked: how many findings have blocked nobody, by the values of ``Refusal``, since ``run`` started.
        problems: what does not work, in words.
    """

    mode: str
    guard: Process | None
    blocked: int = 0
    not_blocked: dict[str, int] = {}
    problems: list[str] = []


def blocking_state(config: Config, now_us: int) -> BlockingState | None:
    """
    Return the state of blocking; None if it is off.

    Raises:
        OSError: the lock of guard cannot be examined.
    """
    if config.block.mode == "off":
        return None
    if config.worker.brokers:
        with suppress(StoreError):  # sshbell status reports it
            return BlockingState(config.block.mode, None, _active(entries_of(config), now_us))
        return BlockingState(config.block.mode, None)
    state = BlockingState(config.block.mode, holder_of(Path(config.state_dir) / GUARD_LOCK))
    if config.block.mode == "on":
        state.problems = list(_problems(config, state, now_us))
    return state


def _active(entries: list[BlockRow], now_us: int) -> int:
    return sum(row.until_us > now_us and row.removed_us is None for row in entries)


def _problems(config: Config, state: BlockingState, now_us: int) -> Iterator[str]:
    try:
        reader = StoredBlocks(Path(config.state_dir))
        state.blocked = _active(reader.entries(), now_us)
        notes = reader.notes()
    except StoreError as error:
        yield f"{error}: sshbell blocks nothing new, and what is blocked stays blocked; move the file away to begin anew"
        return
    if state.guard is None or not state.guard.is_running:
        yield "guard is not running: nothing new is blocked, and no block ends"
    elif notes.get("enforcing") == "no":
        yield "the file no-blocking beside the configuration turns blocking off; delete it to turn it on"
    for name in ("files", "nftables", "allow"):
        if text := notes.get(name):
            yield f"blocking: {text}"
