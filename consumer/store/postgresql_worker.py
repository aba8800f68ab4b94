"""The store of ``sshbell worker`` in PostgreSQL, for several workers."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from consumer.ecs import json_line
from consumer.errors import StoreError
from consumer.events import Event
from consumer.events_as_ecs import of_event
from consumer.events_as_msgpack import encoded
from consumer.notices import OwnMessage
from consumer.records import Pair
from consumer.store.postgresql import WORKER, PostgresSession, end_stuck
from consumer.store.state import EVENT_COLUMNS, SESSION_COLUMNS, event_row, session_row
from consumer.store.worker import (
    FORGET_GATHERING,
    GATHERED,
    LostPartitionError,
    PartitionProgress,
    Taken,
    grouped,
    named_figures,
    part_key,
)

# How long a take waits for another worker's transaction, and how often, before it ends that worker's session.
_LOCK_WAIT = "2s"
# Rows that are deleted at once.
_PIECE = 5_000
_CLOSED = SESSION_COLUMNS.index("closed_us")
_encode = msgspec.json.Encoder().encode

# The rows come as one JSON text: many times faster than a statement for each.
_INSERT_EVENTS = (
    "INSERT INTO event SELECT * FROM json_populate_recordset(NULL::event, %s) ON CONFLICT (id) DO NOTHING RETURNING id"
)
_INSERT_SESSIONS = (
    "INSERT INTO session SELECT * FROM json_populate_recordset(NULL::session, %s)"
    " ON CONFLICT (login_id) DO UPDATE SET closed_us = coalesce(excluded.closed_us, session.closed_us)"
)
_INSERT_SENDERS = (
    "INSERT INTO sender SELECT * FROM json_populate_recordset(NULL::sender, %s)"
    " ON CONFLICT (address, host) DO UPDATE SET seen_us = excluded.seen_us"
)
_INSERT_MESSAGES = (
    "INSERT INTO outbox (event_id, action, queued_us, body)"
    " SELECT event_id, action, %s, body FROM unnest(%b::text[], %b::text[], %b::bytea[]) AS new (event_id, action, body)"
    " ON CONFLICT (event_id) DO NOTHING"
)
# As State.forget_delivered: the messages before the first that deliver still has to send.
_DELETE_DELIVERED = (
    "DELETE FROM outbox WHERE seq <= (SELECT seq FROM cursor)"
    " AND seq < coalesce((SELECT min(seq) FROM delivery WHERE state = 'pending' AND seq > 0), seq + 1)"
)
_DELETE_PARTS = "DELETE FROM partition_snapshot WHERE topic = %s AND number = %s AND part = ANY (%b::bytea[])"
_INSERT_PIECES = (
    "INSERT INTO partition_snapshot"
    " SELECT %s, %s, part, piece, body FROM unnest(%b::bytea[], %b::bigint[], %b::bytea[]) AS new (part, piece, body)"
)
_SET_STATUS = (
    "INSERT INTO status SELECT * FROM unnest(%b::text[], %b::bigint[]) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)
_SET_NOTES = "INSERT INTO note SELECT * FROM unnest(%b::text[], %b::text[]) ON CONFLICT (name) DO UPDATE SET text = excluded.text"


class PostgresWorkerStore:
    """
    The store of one of several workers: see ``WorkerStore``.

    Args:
        database: a connection string.
        topic: whose partitions it has.
    """

    def __init__(self, database: str, topic: str) -> None:
        self._session = PostgresSession(database, name=WORKER)
        self._topic = topic
        self._session.run("SELECT 1")

    def close(self) -> None:
        """See ``WorkerStore.close``."""
        self._session.close()

    def take(self, number: int) -> Taken:
        """See ``WorkerStore.take``. It ends the session of a worker that was stopped in a transaction."""
        try:
            return self._take(number)
        except StoreError:
            if not end_stuck(self._session):
                raise
        return self._take(number)

    def _take(self, number: int) -> Taken:
        with self._session.transaction():
            self._session.run(f"SET LOCAL lock_timeout = '{_LOCK_WAIT}'")
            row = self._session.run(
                "INSERT INTO partition VALUES (%s, %s, 1, NULL) ON CONFLICT (topic, number)"
                " DO UPDATE SET epoch = partition.epoch + 1 RETURNING epoch, next_offset",
                (self._topic, number),
            ).fetchone()
            assert row is not None
            rows = self._session.run(
                "SELECT part, body FROM partition_snapshot WHERE topic = %s AND number = %s ORDER BY part, piece",
                (self._topic, number),
            ).fetchall()
        return Taken(row[0], row[1], grouped((part, body) for part, body in rows))

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
        rows = [dict(zip(EVENT_COLUMNS, event_row(event, str(event.action)), strict=True)) for event in events]
        # One statement changes a row only once.
        sessions: dict[object, tuple[object, ...]] = {}
        for event in events:
            if (session := session_row(event)) is not None:
                known = sessions.get(session[0])
                sessions[session[0]] = session if known is None or session[_CLOSED] is not None else known
        with self._session.transaction():
            # In order of the numbers, so that two workers cannot wait for each other. First, so that a worker that was stopped in
            # its transaction holds up whoever takes the partition, and nobody else.
            for each in sorted(progress, key=lambda each: each.number):
                self._keep(each)
            new: set[str] = set()
            if rows:
                new = {found for (found,) in self._session.run(_INSERT_EVENTS, (_json(rows),)).fetchall()}
            if gathered is not None:
                self._session.run("DELETE FROM gathering WHERE seq = ANY (%b::bigint[])", (list(gathered),))
            elif waiting := {event.id: event for event in events if event.id in new and isinstance(event, GATHERED)}:
                bodies = [encoded(event) for event in waiting.values()]
                self._session.run("INSERT INTO gathering (body) SELECT unnest(%b::bytea[])", (bodies,))
            if sessions:
                named = [dict(zip(SESSION_COLUMNS, session, strict=True)) for session in sessions.values()]
                self._session.run(_INSERT_SESSIONS, (_json(named),))
            if senders:
                pairs = [{"address": address, "host": host, "seen_us": now_us} for host, address in sorted(set(senders))]
                self._session.run(_INSERT_SENDERS, (_json(pairs),))
            messages = {event.id: event for event in events if event.id in new and event.action in routed_actions}
            if messages:
                return self._tell(
                    [(event.id, str(event.action), json_line(of_event(event, []))) for event in messages.values()], now_us
                )
        return 0

    def _keep(self, progress: PartitionProgress) -> None:
        """
        Store the progress of a partition.

        Raises:
            LostPartitionError: another worker has taken it.
        """
        number, epoch, next_offset, named, figures = progress
        parts = [(part_key(name), list(pieces)) for name, pieces in named]
        key = (self._topic, number)
        if not self._session.run(
            "UPDATE partition SET next_offset = coalesce(%s, next_offset) WHERE topic = %s AND number = %s AND epoch = %s",
            (next_offset, *key, epoch),
        ).rowcount:
            raise LostPartitionError(number)
        if figures:
            self._session.run(_SET_STATUS, tuple(map(list, zip(*named_figures(self._topic, number, figures), strict=True))))
        if not parts:
            return
        self._session.run(_DELETE_PARTS, (*key, [part for part, _ in parts]))
        pieces = [(part, piece, body) for part, bodies in parts for piece, body in enumerate(bodies)]
        if pieces:
            self._session.run(_INSERT_PIECES, (*key, *map(list, zip(*pieces, strict=True))))

    def _tell(self, messages: Sequence[OwnMessage], now_us: int) -> int:
        return self._session.run(_INSERT_MESSAGES, (now_us, *map(list, zip(*messages, strict=True)))).rowcount

    def waiting(self, limit: int) -> list[tuple[int, bytes]]:
        """See ``WorkerStore.waiting``."""
        rows = self._session.run("SELECT seq, body FROM gathering ORDER BY seq LIMIT %s", (limit,)).fetchall()
        return [(seq, bytes(body)) for seq, body in rows]

    def queue_notice(self, message: OwnMessage, now_us: int) -> None:
        """See ``WorkerStore.queue_notice``."""
        self._tell([message], now_us)

    def set_notes(self, texts: Mapping[str, str]) -> None:
        """See ``WorkerStore.set_notes``. PostgreSQL has no text with a NUL."""
        values = [text.replace("\0", "\\x00") for text in texts.values()]
        self._session.run(_SET_NOTES, (list(texts), values))

    def forget(self, before_us: int) -> bool:
        """See ``WorkerStore.forget``."""
        self._session.run(_DELETE_DELIVERED)
        self._session.run(FORGET_GATHERING)
        has_more = False
        for table, key, which in (
            ("event", "id", "time_us < %s ORDER BY time_us"),
            ("session", "login_id", "opened_us < %s AND closed_us < %s"),
            ("outbox", "event_id", "queued_us < %s"),
            ("sender", "(address, host)", "seen_us < %s"),
        ):
            columns = key.strip("()")
            found = self._session.run(
                f"DELETE FROM {table} WHERE {key} IN (SELECT {columns} FROM {table} WHERE {which} LIMIT {_PIECE})",  # noqa: S608
                [before_us] * which.count("%s"),
            ).rowcount
            has_more = has_more or found == _PIECE
        return has_more


def _json(rows: Sequence[dict[str, Any]]) -> str:
    r"""Return rows as JSON. PostgreSQL has no text with a NUL, which a line may have: it becomes ``\x00``."""
    text = _encode(rows).decode()
    # An odd number of backslashes: the last one belongs to the escape.
    return re.sub(r"(?<!\\)((?:\\\\)*)\\u0000", r"\1\\\\x00", text) if "\\u0000" in text else text
