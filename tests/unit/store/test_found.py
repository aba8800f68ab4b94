"""``consumer.store.found``: findings and blocks are stored as events, and read again as they were."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import msgspec
import pytest

from consumer.actions import EventAction
from consumer.detect.findings import finding_of
from consumer.errors import StoreError
from consumer.events import Block
from consumer.selection import Selection
from consumer.store.database import STATE_DB
from consumer.store.outbox import Outbox
from consumer.store.queries import Asked, event_of_id, events
from consumer.store.state import State
from tests.store_events import DAY_US, START_US, events_of, try_line

if TYPE_CHECKING:
    from pathlib import Path

(TRY,) = events_of(try_line(7))
FINDING = finding_of(
    TRY, EventAction.GUESSING, "198.51.100.9", rule="*:10/1h", severity="high", count=12, since_us=START_US - 1, hosts=["web2"],
    users=["bob"], addresses=["2001:db8::1"], event_ids=["a", "b"], labels={"by": "host"},
)  # fmt: skip
BLOCK = Block("b" * 32, TRY.line, None, TRY.address, None, "2001:db8::/64", False, START_US + DAY_US, FINDING.id, 2)  # noqa: FBT003
ALL = Asked(Selection(None, None, None, None))


def kept(folder: Path) -> State:
    """Return a store of a try, the finding about it, and the block that follows."""
    state = State(folder, pytest.fail)
    state.record([TRY, FINDING, BLOCK], frozenset({EventAction.GUESSING}), START_US)
    return state


def test_round_trip(tmp_path: Path) -> None:
    """Everything that only they have comes back; of the line the store keeps as little as of other events."""
    kept(tmp_path).close()
    _try, *found = sorted(events(tmp_path, ALL), key=lambda event: [TRY.id, FINDING.id, BLOCK.id].index(event.id))
    assert [msgspec.structs.replace(event, line=TRY.line) for event in found] == [FINDING, BLOCK]
    again = event_of_id(tmp_path, FINDING.id)
    assert again is not None
    assert again.origin == "unverified"


def test_outbox(tmp_path: Path) -> None:
    """A finding goes to the outbox if a route wants it; storing it twice changes nothing."""
    state = kept(tmp_path)
    state.record([FINDING], frozenset({EventAction.GUESSING}), START_US)
    state.close()
    outbox = Outbox(tmp_path)
    assert [(message.event_id, message.action) for message in outbox.since(0, 9)] == [(FINDING.id, "guessing")]
    outbox.close()


@pytest.mark.parametrize("found", [None, "", "{", "[]", '{"severity":"dire"}', '{"until_us":"x"}'])
def test_damage(tmp_path: Path, found: str | None) -> None:
    """A value that sshbell never writes is an error that names the file."""
    kept(tmp_path).close()
    with sqlite3.connect(tmp_path / STATE_DB) as connection:
        connection.execute("UPDATE event SET found = ?", (found,))
    connection.close()
    with pytest.raises(StoreError, match=STATE_DB):
        list(events(tmp_path, ALL))
