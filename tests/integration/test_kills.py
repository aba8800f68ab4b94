"""``kills.py`` judges only when all is reported."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from consumer.store.delivery import Delivery, Routed
from consumer.store.outbox import Outbox
from consumer.store.state import State
from tests.integration import kills
from tests.store_events import events_of, session_lines, try_line

if TYPE_CHECKING:
    from pathlib import Path


class Interrupted(kills.Site):
    """A site whose ``run`` stores the marker, and a try that waited for it, before the query of a number."""

    def __init__(self, folder: Path, number: int) -> None:
        super().__init__(folder)
        self.left = number
        self.state_dir = folder / "state"
        self.state_dir.mkdir()
        self.store(*session_lines(1, "user1"))
        Delivery(self.state_dir, pytest.fail).close()
        self.send_all()

    def store(self, *lines: bytes) -> None:
        """Store the events of lines, as ``run`` does."""
        with closing(State(self.state_dir, pytest.fail)) as state:
            state.record(events_of(*lines), frozenset({"ssh_login", "ssh_logout", "ssh_attempt"}), 1)

    def send_all(self) -> None:
        """Send all messages, as ``deliver`` does."""
        with closing(Outbox(self.state_dir)) as outbox, closing(Delivery(self.state_dir, pytest.fail)) as delivery:
            queued = outbox.since(0, 100)
            delivery.route(Routed(message, [kills.FOLDED]) for message in queued)
        with closing(sqlite3.connect(self.state_dir / "delivery.db")) as connection, connection:
            connection.execute("UPDATE delivery SET state = 'sent'")
            connection.execute("UPDATE cursor SET seq = ?, event_id = ?", (queued[-1].seq, queued[-1].event_id))

    def query(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """Query, and count."""
        self.left -= 1
        if self.left == 0:
            self.store(try_line(2), *session_lines(3, "marker"))
        return super().query(database, statement)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_the_marker_comes_between_two_queries(tmp_path: Path, number: int) -> None:
    """Whenever ``run`` stores the marker, kills.py waits until all messages up to it are sent."""
    site = Interrupted(tmp_path, number)
    assert not kills.is_reported(site)
    while site.left > 0:
        site.query("state.db", "SELECT 1")
    assert kills.unfolded(site) != []
    assert not kills.is_reported(site)
    site.send_all()
    assert kills.is_reported(site)
    assert kills.unfolded(site) == []
