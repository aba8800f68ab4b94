"""Blocks that workers have decided, and that somebody lifts before their ends. ``guard`` lifts those of one machine."""

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from consumer.store.database import STATE_DB, open_of_another, transaction
from consumer.store.reader import Store, postgres_session

# In the column that stored_block reads.
_LIFT = "UPDATE event SET found = json_set(found, '$.removed_us', ?) WHERE id IN (SELECT value FROM json_each(?))"
_LIFT_IN_POSTGRES = (
    "UPDATE event SET found = jsonb_set(found::jsonb, '{removed_us}', to_jsonb(%s::bigint))::text WHERE id = ANY (%b::text[])"
)


def lift_blocks(store: Store, ids: Sequence[str], now_us: int) -> None:
    """
    Note that somebody has lifted blocks.

    Args:
        store: that of the workers.
        ids: of the events of the blocks.
        now_us: the wall clock.

    Raises:
        StoreError: the store cannot be written now. Nothing has changed.
    """
    if isinstance(store, Path):
        with closing(open_of_another(store / STATE_DB)) as connection, transaction(connection):
            connection.execute(_LIFT, (now_us, json.dumps(ids)))
        return
    with closing(postgres_session(store)) as session:
        session.run(_LIFT_IN_POSTGRES, (now_us, ids))
