"""The list of blocks: that of ``guard``, or on a machine with workers, what these have decided to block."""

from contextlib import closing
from pathlib import Path

from consumer.clock import now_us
from consumer.config import Config
from consumer.guard.client import order_of
from consumer.store.block import BLOCK_LIMIT, BlockRow, StoredBlocks
from consumer.store.earlier_logins import EarlierLogins
from consumer.store.queries import blocks_after


def entries_of(config: Config) -> list[BlockRow]:
    """
    Return all entries, also those that have ended, the oldest first.

    Workers have no ``guard``: other machines block what their list has. A dry run adds nothing to it.

    Raises:
        StoreError: the store cannot be read.
    """
    if not config.worker.brokers:
        return StoredBlocks(Path(config.state_dir)).entries()
    with closing(EarlierLogins(config.store)) as earlier:
        blocks = [block for block in blocks_after(config.store, 0, BLOCK_LIMIT) if not block.is_dry_run]
        orders = [(block, order_of(block, earlier, config.block, now_us())) for block in blocks]
    return [
        BlockRow(
            order.id, order.target, block.time_us, order.until_us, order.reason, order.service, order.exceptions, block.removed_us
        )
        for block, order in orders
    ]  # fmt: skip
