"""
The events of a shard, on their way to the ``run`` that gathers those of all shards.

A shard has a ``state.db`` of its own. In place of messages, its outbox has events, as ``events_as_msgpack`` writes them. Their
numbers count the events that the pipeline of the shard has decided. The pipeline is deterministic: if it reads its journal again
after a crash, each event gets its number again. So the queue takes no event twice. The ``run`` that gathers keeps the number of
the last event that it has taken in its snapshot. The shard then deletes the events up to that.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from consumer.errors import StoreError
from consumer.events import Event
from consumer.events_as_msgpack import encoded
from consumer.notices import OwnMessage
from consumer.records import Pair
from consumer.store.database import STATE_DB, DatabaseReader, reading, transaction
from consumer.store.rows import Whole, checked
from consumer.store.state import State

# The part of the snapshot of the ``run`` that gathers.
TAKEN_PART = "shards"
# The number of the last event that was ever stored.
_LAST = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'outbox'"


class TakenUpTo(NamedTuple):
    """Up to where the events of a shard are taken: when its store was created, and the number of an event in it."""

    created_us: int = 0
    seq: int = 0


_taken = msgspec.json.Decoder(dict[int, TakenUpTo])


def taken_of(body: bytes) -> dict[int, TakenUpTo]:
    """
    Return the part of a snapshot.

    Raises:
        ValueError: it cannot be read.
    """
    found: dict[int, TakenUpTo] = _taken.decode(body)
    return found


class ShardState(State):
    """
    The ``state.db`` of a shard. Errors are those of ``State``.

    Args:
        state_dir: of the shard.
        number: of the shard.
        report: gets one line about each damaged file.

    Attributes:
        sequence: the number of the last event that the pipeline has decided; set it after the snapshot is read.
    """

    def __init__(self, state_dir: Path, number: int, report: Callable[[str], None]) -> None:
        super().__init__(state_dir, report)
        self._number = number
        self._gathering = state_dir.parent / STATE_DB
        self.sequence = 0

    def _taken_over(self) -> tuple[int, int]:
        """Return zeros: no ``deliver`` reads this outbox."""
        return 0, 0

    def record(
        self,
        events: Iterable[Event],
        routed_actions: frozenset[str],  # noqa: ARG002 - see State
        now_us: int,
        instead: OwnMessage | None = None,  # noqa: ARG002 - a shard does not read the log file
        senders: Iterable[Pair] = (),
    ) -> int:
        """Queue events in the order in which the pipeline has decided them; return how many are new."""
        found = list(events)
        self._rows_at_most["outbox"] = self._rows_at_most.get("outbox", 0) + len(found)
        first, rows = self.sequence + 1, 0
        with transaction(self._connection):
            (last,) = self._connection.execute(
                "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'outbox'"
            ).fetchone()
            for seq, event in enumerate(found, first):
                if seq > last:
                    rows += 1
                    values = (seq, str(seq), str(event.action), now_us, encoded(event))
                    self._connection.execute("INSERT INTO outbox VALUES (?, ?, ?, ?, ?)", values)
            self._connection.executemany(
                "INSERT OR REPLACE INTO sender VALUES (?, ?, ?)", [(address, host, now_us) for host, address in senders]
            )
        self.sequence += len(found)
        return rows

    def forget_delivered(self) -> None:
        """Delete the events that the last snapshot of the ``run`` that gathers has."""
        try:
            with reading(self._gathering) as found:
                row = found.execute("SELECT body FROM snapshot WHERE part = ? AND piece = 0", (TAKEN_PART,)).fetchone()
            taken = taken_of(row[0] if row else b"{}").get(self._number, TakenUpTo())
        except (StoreError, ValueError):
            return  # it has not begun, or its file is damaged; then it begins a new one
        with transaction(self._connection):
            self._connection.execute(
                "DELETE FROM outbox WHERE seq <= ? AND EXISTS (SELECT 1 FROM status WHERE name = 'created_us' AND value = ?)",
                (taken.seq, taken.created_us),
            )


class QueuedEvents(NamedTuple):
    """Consecutive events of a shard's queue, each as bytes, and the place of the last of them."""

    upto: TakenUpTo
    bodies: list[bytes]


class ShardQueue:
    """
    Reads the queue of a shard while that shard writes it.

    Args:
        folder: the directory of the shard.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / STATE_DB
        self._file = DatabaseReader(self._path, is_optional=True)
        self._senders_us = 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def since(self, taken: TakenUpTo, limit: int) -> QueuedEvents | None:
        """
        Return the next events after a place; None if there are none. A new file is read from its beginning.

        Raises:
            StoreError: the file cannot be read now.
        """
        created = self._file.rows("SELECT value FROM status WHERE name = 'created_us'")
        if not created:
            return None
        (created_us,) = checked(self._path, created[0], tuple[Whole])
        after = taken.seq if created_us == taken.created_us else 0
        rows = self._file.rows("SELECT seq, body FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit))
        if not rows:
            return None
        seq, _body = checked(self._path, rows[-1], tuple[int, bytes])
        return QueuedEvents(TakenUpTo(created_us, seq), [body for _seq, body in rows])

    def senders(self) -> list[Pair]:
        """
        Return the pairs of host and address that are new since the last call.

        Raises:
            StoreError: the file cannot be read now.
        """
        rows = self._file.rows("SELECT host, address, seen_us FROM sender WHERE seen_us > ?", (self._senders_us,))
        self._senders_us = max([seen_us for _host, _address, seen_us in rows], default=self._senders_us)
        return [(host, address) for host, address, _seen_us in rows]
