"""
What ``sshbell worker`` stores: for each partition, the memory of its pipeline and how far it has read; events, sessions, outbox.

Events of all partitions also wait here for the worker that gathers them (``worker/gathering.py``).

One transaction has events, sessions and outbox, and in general also memory and offset, which belong together. A partition has an
epoch, which rises each time a worker takes it. A worker that has lost a partition without knowing it, because it was stopped for
a while, still has the old epoch, and cannot write.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, Protocol

from consumer.errors import SshbellError
from consumer.events import Attempt, Event, Login, Logout, Probe, Trouble
from consumer.events_as_msgpack import encoded
from consumer.notices import OwnMessage
from consumer.records import Pair
from consumer.store.database import transaction
from consumer.store.reader import Store
from consumer.store.state import State
from consumer.story.snapshot import SnapshotPart

# The number under which the store has the memory of what gathers the events of all partitions.
GATHERING = -1
# The events that it takes.
GATHERED = (Login, Logout, Attempt, Probe, Trouble)
# Events that wait for it; if no worker gathers, the oldest are forgotten.
GATHERING_LIMIT = 1_000_000
FORGET_GATHERING = f"DELETE FROM gathering WHERE seq <= (SELECT max(seq) FROM gathering) - {GATHERING_LIMIT}"  # noqa: S608 - ours


class Taken(NamedTuple):
    """A partition that this worker has from now on. ``next_offset``: of the first line to read; None: no line was ever read."""

    epoch: int
    next_offset: int | None
    parts: list[tuple[str, list[bytes]]]


class PartitionProgress(NamedTuple):
    """
    A partition of this worker; and how far it was read, with the parts of its pipeline's memory that have changed until there.

    ``next_offset`` is None if only its events are stored now. Its next owner then reads the lines since the last one again. These
    make the same events. ``figures`` are for ``sshbell status``, which adds up those of all partitions.
    """

    number: int
    epoch: int
    next_offset: int | None = None
    parts: Iterable[SnapshotPart] = ()
    figures: Mapping[str, int] = {}


class LostPartitionError(SshbellError):
    """Another worker has taken a partition. Nothing was written."""

    def __init__(self, number: int) -> None:
        super().__init__(f"another worker has taken partition {number}")
        self.number = number


class WorkerStore(Protocol):
    """
    The store of a worker. Each method raises a StoreError if the store cannot be used now; the caller may repeat the call.

    A transaction whose end is unknown may be repeated, too: rows are keyed by event id, parts by their names.
    """

    def close(self) -> None:
        """Close it."""

    def take(self, number: int) -> Taken:
        """Take a partition: raise its epoch, and return its state."""

    def commit(
        self,
        progress: Sequence[PartitionProgress],
        events: Sequence[Event],
        routed_actions: frozenset[str],
        now_us: int,
        senders: Sequence[Pair] = (),
        gathered: Sequence[int] | None = None,
    ) -> int:
        """
        Store what partitions have shown, all or nothing; return the number of new messages in the outbox.

        Args:
            progress: of the partitions.
            events: of all of them, in the order of each.
            routed_actions: the actions that go to the outbox.
            now_us: the wall clock.
            senders: pairs of host and address that have sent lines.
            gathered: the numbers of events that need to wait no longer; None: these events come from partitions, and wait.

        Raises:
            LostPartitionError: another worker has taken one of them. Nothing was written.
        """

    def waiting(self, limit: int) -> list[tuple[int, bytes]]:
        """Return events that wait to be gathered, each with its number, as ``events_as_msgpack`` writes them."""

    def queue_notice(self, message: OwnMessage, now_us: int) -> None:
        """Put a message about sshbell itself into the outbox, unless it is there."""

    def set_notes(self, texts: Mapping[str, str]) -> None:
        """Store texts for ``sshbell status``."""

    def forget(self, before_us: int) -> bool:
        """Delete older rows, and messages that were delivered; return whether there are more."""


def worker_store(store: Store, topic: str, report: Callable[[str], None]) -> WorkerStore:
    """
    Open the store of a worker.

    Args:
        store: where it is.
        topic: whose partitions it has.
        report: gets one line about a damaged file of SQLite that was set aside.

    Raises:
        StoreError: it cannot be used now.
    """
    if isinstance(store, Path):
        return SqliteWorkerStore(store, topic, report)
    from consumer.store.postgresql_worker import PostgresWorkerStore  # noqa: PLC0415 - it needs psycopg

    return PostgresWorkerStore(store, topic)


_UPDATE = "UPDATE partition SET next_offset = coalesce(?, next_offset) WHERE topic = ? AND number = ? AND epoch = ?"


class SqliteWorkerStore(State):
    """``state.db`` for one worker."""

    def __init__(self, state_dir: Path, topic: str, report: Callable[[str], None]) -> None:
        super().__init__(state_dir, report)
        self._topic = topic

    def take(self, number: int) -> Taken:
        """See ``WorkerStore.take``."""
        key = (self._topic, number)
        with transaction(self._connection):
            self._connection.execute(
                "INSERT INTO partition VALUES (?, ?, 1, NULL) ON CONFLICT (topic, number) DO UPDATE SET epoch = epoch + 1", key
            )
            epoch, next_offset = self._connection.execute(
                "SELECT epoch, next_offset FROM partition WHERE topic = ? AND number = ?", key
            ).fetchone()
            rows = self._connection.execute(
                "SELECT part, body FROM partition_snapshot WHERE topic = ? AND number = ? ORDER BY part, piece", key
            ).fetchall()
        return Taken(epoch, next_offset, grouped(rows))

    def commit(
        self,
        progress: Sequence[PartitionProgress],
        events: Sequence[Event],
        routed_actions: frozenset[str],
        now_us: int,
        senders: Sequence[Pair] = (),
        gathered: Sequence[int] | None = None,
    ) -> int:
        """See ``WorkerStore.commit``."""
        with transaction(self._connection):
            for number, epoch, next_offset, parts, figures in progress:
                if not self._connection.execute(_UPDATE, (next_offset, self._topic, number, epoch)).rowcount:
                    raise LostPartitionError(number)
                self._keep(number, parts)
                self._connection.executemany(
                    "INSERT OR REPLACE INTO status VALUES (?, ?)", named_figures(self._topic, number, figures)
                )
            if gathered is None:
                # Lines that are read again make events that have waited before.
                new = {event.id: event for event in events if isinstance(event, GATHERED) and not self._has(event.id)}
                bodies = [(encoded(event),) for event in new.values()]
                self._connection.executemany("INSERT INTO gathering (body) VALUES (?)", bodies)
            else:
                self._connection.executemany("DELETE FROM gathering WHERE seq = ?", [(seq,) for seq in gathered])
            return self._record(list(events), routed_actions, now_us, None, senders)

    def _has(self, event_id: str) -> bool:
        return self._connection.execute("SELECT 1 FROM event WHERE id = ?", (event_id,)).fetchone() is not None

    def waiting(self, limit: int) -> list[tuple[int, bytes]]:
        """See ``WorkerStore.waiting``."""
        with transaction(self._connection):
            return self._connection.execute("SELECT seq, body FROM gathering ORDER BY seq LIMIT ?", (limit,)).fetchall()

    def _keep(self, number: int, parts: Iterable[SnapshotPart]) -> None:
        for part, pieces in parts:
            key = (self._topic, number, part_key(part))
            self._connection.execute("DELETE FROM partition_snapshot WHERE topic = ? AND number = ? AND part = ?", key)
            self._connection.executemany(
                "INSERT INTO partition_snapshot VALUES (?, ?, ?, ?, ?)",
                [(*key, piece, body) for piece, body in enumerate(pieces)],
            )

    def queue_notice(self, message: OwnMessage, now_us: int) -> None:
        """See ``WorkerStore.queue_notice``."""
        self.record((), frozenset(), now_us, message)

    def forget(self, before_us: int) -> bool:
        """See ``WorkerStore.forget``."""
        has_more = super().forget(before_us)
        self.forget_delivered()
        with transaction(self._connection):
            self._connection.execute(FORGET_GATHERING)
        return has_more


def named_figures(topic: str, number: int, figures: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the figures of a partition with their names in the store, where ``queries.stored`` adds them up."""
    return [(f"{topic}/{number}/{name}", value) for name, value in figures.items()]


def part_key(name: str) -> bytes:
    """Return the name of a part as bytes: it may have the name of a host, which may have any character."""
    return name.encode("utf-8", "surrogatepass")


def grouped(rows: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, list[bytes]]]:
    """Return parts with their pieces from rows in order."""
    return [
        (part.decode("utf-8", "surrogatepass"), [bytes(body) for _part, body in pieces])
        for part, pieces in groupby(rows, itemgetter(0))
    ]
