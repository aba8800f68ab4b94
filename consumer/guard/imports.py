"""``sshbell block export`` and ``import``: the blocks of one machine on others."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from consumer.block.exchange import SharedBlock, shared_blocks
from consumer.block.target import target_of
from consumer.clock import SECOND_US, isoformat
from consumer.config import Config
from consumer.guard.entries import entries_of
from consumer.guard.messages import IMPORT_LIMIT, MESSAGE_LIMIT, TARGETS_LIMIT, GuardRequest, Import, Lift, Order, Reply
from consumer.guard.own_login import own_logins
from consumer.spans import seconds_of
from consumer.store.block import StoredBlocks

# Bytes of a message besides its orders.
_ROOM = 100


def blocks_to_share(config: Config, now_us: int) -> Iterator[SharedBlock]:
    """
    Yield the blocks that have not ended, also those that somebody has lifted before their ends.

    Raises:
        StoreError: the store cannot be read.
    """
    for row in entries_of(config):
        if row.until_us > now_us:
            removed = isoformat(row.removed_us) if row.removed_us is not None else ""
            yield SharedBlock(row.id, row.target, isoformat(row.until_us), row.reason, row.service, row.exceptions, removed)


class ImportReport(NamedTuple):
    """
    What an import has done.

    Attributes:
        new: the number of new blocks.
        lifted: of targets that are no longer blocked.
        known: of blocks that this machine had already, or that somebody has removed here.
        allowed: of blocks that the allow list leaves out.
        own: of blocks that would lock out the person who imports them.
        is_enforcing: False if sshbell blocks nothing now.
    """

    new: int = 0
    lifted: int = 0
    known: int = 0
    allowed: int = 0
    own: int = 0
    is_enforcing: bool = True


def import_blocks(config: Config, data: bytes, now_us: int, ask: Callable[[GuardRequest], Reply]) -> ImportReport:
    """
    Block what a list has, and lift what it says is lifted, unless this machine has blocked that by itself.

    Args:
        config: bounds how long a block lasts.
        data: the list.
        now_us: the wall clock.
        ask: asks ``guard``.

    Raises:
        ValueError: the list has a fault; nothing has changed.
        SshbellError: the store cannot be read, or guard does not answer.
    """
    shared = [one for one in shared_blocks(data) if one.until_us > now_us]
    state_dir = Path(config.state_dir)
    known = StoredBlocks(state_dir).entries()
    known_ids, own_targets = {row.id for row in known}, list(own_logins(state_dir))
    new = [one for one in shared if not one.removed and one.id not in known_ids]
    taken = [one for one in new if not any(target_of(one.target).covers(each) for each in own_targets)]
    last_us = now_us + round(seconds_of(config.block.longest)) * SECOND_US
    orders = [
        Order(one.id, one.target, min(one.until_us, last_us), one.reason, one.service, one.exceptions) for one in taken
    ]  # fmt: skip
    found = ImportReport(known=sum(one.id in known_ids and not one.removed for one in shared), own=len(new) - len(taken))
    for some in _messages(orders):
        reply = ask(Import(some))
        found = found._replace(
            new=found.new + reply.count, allowed=found.allowed + reply.left_out, is_enforcing=reply.is_enforcing
        )  # fmt: skip
    active = [row for row in known if row.until_us > now_us and row.removed_us is None]
    lifted_ids = {one.id for one in shared if one.removed}
    # A list that has been here may name this machine's own blocks.
    others = {row.target for row in active if not row.imported or row.id not in lifted_ids}
    # To lift a target ends all its blocks, so also one that the list still has.
    lifted = sorted({row.target for row in active if row.id in lifted_ids} - others - {one.target for one in taken})
    for begin in range(0, len(lifted), TARGETS_LIMIT):
        found = found._replace(lifted=found.lifted + ask(Lift(lifted[begin : begin + TARGETS_LIMIT])).count)
    return found


def _messages(orders: list[Order]) -> Iterator[list[Order]]:
    """Yield orders, as many at once as fit a message."""
    while orders:
        some = orders[:IMPORT_LIMIT]
        while len(some) > 1 and len(msgspec.json.encode(some)) > MESSAGE_LIMIT - _ROOM:
            some = some[: len(some) // 2]
        yield some
        orders = orders[len(some) :]
