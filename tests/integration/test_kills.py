"""``kills.py`` judges only when all is reported, and finds each block that differs."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from consumer.block.access_conf import access_conf
from consumer.block.target import network_target
from consumer.guard.ledger import Ledger
from consumer.store.delivery import Delivery
from consumer.store.delivery_rows import Routed
from consumer.store.outbox import Outbox
from consumer.store.state import State
from tests.integration import kills
from tests.integration.guard import order
from tests.store_events import events_of, session_lines, try_line

if TYPE_CHECKING:
    from collections.abc import Callable
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


TRIES = kills.BLOCKING_TRIES
UNDISTURBED = kills.Blocking(
    {("192.0.2.1", "root"): (TRIES, 0), ("192.0.2.2", "root"): (TRIES - 1, 0)},
    Counter({("192.0.2.1", "guessing"): 1}),
    Counter({("192.0.2.1", 3600, 0, "[]"): 1}),
    [],
)
LOST = {("192.0.2.1", "root"): (TRIES - 1, 1), ("192.0.2.2", "root"): (TRIES - 1, 0)}


def test_equal_blocks() -> None:
    """Nothing differs."""
    assert kills.wrongly_blocked(UNDISTURBED, UNDISTURBED, has_hung=False) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found._replace(blocks=Counter()),
        lambda found: found._replace(findings=Counter()),
        lambda found: found._replace(blocks=Counter({("192.0.2.1", 3601, 0, "[]"): 1})),
        lambda found: found._replace(blocks=found.blocks + Counter({("192.0.2.2", 3600, 0, "[]"): 1})),
        lambda found: found._replace(tries={("192.0.2.1", "root"): (TRIES, 0)}),
        lambda found: found._replace(disagreements=["the file is empty"]),
    ],
    ids=["no block", "no finding", "longer", "another block", "no tries", "not written"],
)
def test_different_blocks(change: Callable[[kills.Blocking], kills.Blocking]) -> None:
    """Each difference is reported."""
    assert kills.wrongly_blocked(UNDISTURBED, change(UNDISTURBED), has_hung=False) != []


def test_a_try_that_only_the_file_has() -> None:
    """It does not count as verified, so a target may go free that lacks it, but no other one."""
    free = UNDISTURBED._replace(tries=LOST, blocks=Counter(), findings=Counter())
    assert kills.wrongly_blocked(UNDISTURBED, free, has_hung=False) == []
    enough = free._replace(tries=LOST | {("192.0.2.1", "admin"): (1, 0)})
    assert len(kills.wrongly_blocked(UNDISTURBED, enough, has_hung=True)) == 2


def test_an_entry_that_no_event_has(tmp_path: Path) -> None:
    """``block.db`` and the file have to agree with the events, and with each other."""
    site = kills.Site(tmp_path)
    state_dir = tmp_path / "state"
    state_dir.mkdir()
    State(state_dir, pytest.fail).close()
    ledger = Ledger(state_dir, 1)
    assert kills.disagreements(site) == []
    ledger.order([order("192.0.2.1")], 1)
    assert ["block.db" in text for text in kills.disagreements(site)] == [True]
    site.access.parent.mkdir()
    site.access.write_bytes(access_conf([network_target("192.0.2.1")], {}, []))
    assert ["block.db" in text for text in kills.disagreements(site)] == [True, False]
