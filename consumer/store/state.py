"""``state.db``: events, sessions, the outbox, and the pipeline's memory. ``sshbell run`` is its only writer."""

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec

from consumer.actions import EXPENDABLE_ACTIONS
from consumer.ecs import json_line
from consumer.errors import StoreError
from consumer.events import Attempt, Block, Event, Finding, Forged, Login, Logout, Probe, Trouble
from consumer.events_as_ecs import of_event
from consumer.notices import OwnMessage
from consumer.records import AMBIGUOUS, SENDER_LIMIT, Pair
from consumer.store.database import DELIVERY_DB, STATE_DB, guarded, open_for_writing, reading, set_aside, transaction, used_bytes
from consumer.store.found import found_of
from consumer.text import readable

# The name of the note about lines that no rule reads. Those of the partitions of workers have more words before it.
UNKNOWN_NOTE = "unknown_lines"
# Limits of size. sshbell deletes the oldest rows, tries and probes before all others, so that a flood does not push out logins
# that it has reported. 2,000,000 events take about 400 MB.
EVENT_LIMIT = 2_000_000
OUTBOX_LIMIT = 200_000
SESSION_LIMIT = 1_000_000
# Of the whole file, however long the rows are; as many rows as above of the usual length take less.
STATE_LIMIT_BYTES = 1 << 30

# Lines wait during a deletion, so one call takes no longer than a login may; a second later the next call deletes more. Ids are
# random, so each row of a piece touches another page.
_FORGET_S, _PIECE = 0.1, 2_000
_NOISE = tuple(map(str, EXPENDABLE_ACTIONS))  # its repr is an SQL list
_INTEGER_MAX = (1 << 63) - 1


class State:
    """
    Writes ``state.db``.

    Raises:
        DamagedStoreError: the file can never be written again. Call ``renew``, then retry.
        StoreError: a write failed. Every call may be retried, since rows are keyed by event id.
    """

    def __init__(self, state_dir: Path, report: Callable[[str], None]) -> None:
        self._path, self._report = state_dir / STATE_DB, report
        self._connection = self._opened()
        self._rows_at_most: dict[str, int] = {}  # how many rows a table can have
        self._looked_at: dict[str, int] = {}  # how far the rows of a table have been searched for noise
        self._is_renewed = False  # True: the damaged file is set aside, but the new one could not be created yet

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def renew(self, reason: str) -> None:
        """
        Continue with a new file after a DamagedStoreError. It has no snapshot, so the caller must keep a complete one next.

        Raises:
            StoreError: this fails now; call it again.
        """
        self._connection.close()
        self._rows_at_most.clear()
        if not self._is_renewed:
            try:
                set_aside(self._path, reason, self._report)
            except OSError as error:
                raise StoreError(f"{self._path}: {error.strerror}") from error
            self._is_renewed = True
        self._connection = self._opened()
        self._is_renewed = False

    def _opened(self) -> sqlite3.Connection:
        """Open the file. Its outbox continues after ``deliver``'s cursors, or ``deliver`` would skip new messages."""
        connection = open_for_writing(self._path, self._report)
        try:
            seen_seq, _ = self._taken_over()
            with transaction(connection):
                (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'outbox'").fetchone()
                if last < seen_seq:
                    connection.execute("DELETE FROM sqlite_sequence WHERE name = 'outbox'")
                    connection.execute("INSERT INTO sqlite_sequence VALUES ('outbox', ?)", (seen_seq,))
        except BaseException:
            connection.close()
            raise
        return connection

    def _taken_over(self) -> tuple[int, int]:
        """
        Return the last outbox message that ``deliver`` has seen, and the one up to which all are done; 0 if unknown.

        ``deliver`` routes logins ahead of noise, so it may not have routed all that it has seen.
        """
        try:
            with reading(self._path.with_name(DELIVERY_DB)) as found:
                seen_seq, routed_seq, base = found.execute(
                    "SELECT coalesce(max(max(seq, ahead)), 0), coalesce(max(seq), 0), coalesce(max(base), 0) FROM cursor"
                ).fetchone()
                # Tests by ``ring`` have the number 0: they were never in the outbox.
                (pending_seq,) = found.execute(
                    "SELECT min(seq) FROM ("
                    "SELECT min(seq) AS seq FROM delivery WHERE state = 'pending' AND hold = '' AND seq > :base"
                    " UNION ALL SELECT min(seq) FROM delivery WHERE state = 'pending' AND hold <> '' AND seq > :base)",
                    {"base": base},
                ).fetchone()
        except StoreError:
            return 0, 0
        # Messages of an earlier state.db have numbers below the base, and are only in delivery.db.
        return seen_seq, routed_seq if pending_seq is None else max(0, min(routed_seq, pending_seq - base - 1))

    def record(
        self,
        events: Iterable[Event],
        routed_actions: frozenset[str],
        now_us: int,
        instead: OwnMessage | None = None,
        senders: Iterable[Pair] = (),
    ) -> int:
        """
        Store events; existing rows stay as they are.

        Args:
            events: in the order of the correlator.
            routed_actions: actions that go to the outbox.
            now_us: the wall clock.
            instead: one message that replaces the messages of all these events.
            senders: pairs of host and address that have sent lines.

        Returns:
            The number of new messages in the outbox.
        """
        with transaction(self._connection):
            return self._record(list(events), routed_actions, now_us, instead, list(senders))

    def _record(
        self,
        events: Sequence[Event],
        routed_actions: frozenset[str],
        now_us: int,
        instead: OwnMessage | None,
        senders: Sequence[Pair],
    ) -> int:
        """Do the same within a transaction."""
        outbox = 0
        for table in self._rows_at_most:
            self._rows_at_most[table] += len(events) + len(senders) + 1
        rows: list[tuple[object, ...]] = []
        for event in events:
            action = str(event.action)
            row = event_row(event, action)
            if action in routed_actions or isinstance(event, Login | Logout):
                is_new = self._connection.execute(_INSERT_EVENT, row).rowcount
                if (session := session_row(event)) is not None:
                    self._connection.execute(_INSERT_SESSION, session)
                if is_new and action in routed_actions and instead is None:
                    body = json_line(of_event(event, []))
                    outbox += self._connection.execute(_INSERT_MESSAGE, (event.id, action, now_us, body)).rowcount
            else:
                rows.append(row)
        if rows:
            self._connection.executemany(_INSERT_EVENT, rows)
        if instead is not None:
            outbox += self._connection.execute(_INSERT_MESSAGE, (instead[0], instead[1], now_us, instead[2])).rowcount
        self._connection.executemany(
            "INSERT OR REPLACE INTO sender VALUES (?, ?, ?)", [(address, host, now_us) for host, address in senders]
        )
        return outbox

    def snapshot(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """
        Yield the stored parts of the pipeline's memory, each with its pieces. Take the pieces before the next part.

        Raises:
            DamagedStoreError: as for all methods, while it is read.
            StoreError: likewise.
        """
        with guarded(self._connection):
            rows = self._connection.execute("SELECT part, body FROM snapshot ORDER BY part, piece")
            for part, pieces in groupby(rows, itemgetter(0)):
                yield part, (body for _part, body in pieces)

    def keep_snapshot(self, changed: Iterable[tuple[str, Iterable[bytes]]]) -> None:
        """
        Store parts of the pipeline's memory, all or none; this survives a power cut.

        Args:
            changed: name and pieces of each part; a part without pieces is deleted.
        """
        with guarded(self._connection):
            self._connection.execute("PRAGMA synchronous = FULL")
            try:
                with transaction(self._connection):
                    for part, pieces in changed:
                        self._connection.execute("DELETE FROM snapshot WHERE part = ?", (part,))
                        for number, body in enumerate(pieces):
                            self._connection.execute("INSERT INTO snapshot VALUES (?, ?, ?)", (part, number, body))
            finally:
                self._connection.execute("PRAGMA synchronous = NORMAL")

    def set_status(self, values: Mapping[str, int]) -> None:
        """Store figures for ``sshbell status``."""
        with transaction(self._connection):
            self._connection.executemany("INSERT OR REPLACE INTO status VALUES (?, ?)", list(values.items()))

    def note(self, name: str) -> str | None:
        """Return a stored text, or None."""
        with transaction(self._connection):
            found = self._connection.execute("SELECT text FROM note WHERE name = ?", (name,)).fetchone()
        return found[0] if found else None

    def set_notes(self, texts: Mapping[str, str]) -> None:
        """Store texts for ``sshbell status``."""
        with transaction(self._connection):
            self._connection.executemany("INSERT OR REPLACE INTO note VALUES (?, ?)", list(texts.items()))

    def forget(self, before_us: int) -> bool:
        """
        Delete older rows and those beyond the limits; return whether time ran out before everything was deleted.

        The end of a session decides its age. A session without an end stays within the limit: somebody may still be logged in.
        """
        end_s = time.monotonic() + _FORGET_S
        return any(time.monotonic() > end_s for _ in self._pieces(before_us))

    def _pieces(self, before_us: int) -> Iterator[int]:
        """Delete piece by piece, each in a separate transaction; yield the number of its rows."""
        for table, key, which in (
            ("event", "id", "time_us < :before ORDER BY time_us"),
            ("session", "login_id", "opened_us < :before AND closed_us < :before"),
            ("outbox", "seq", "queued_us < :before"),
            ("sender", "rowid", "seen_us < :before"),
        ):
            while rows := self._delete(table, key, f"WHERE {which}", _PIECE, before_us):
                yield rows
        yield from self._shortened("event", "id", "time_us", EVENT_LIMIT, has_noise=True)
        yield from self._shortened("session", "login_id", "opened_us", SESSION_LIMIT)
        yield from self._shortened("outbox", "seq", "seq", OUTBOX_LIMIT, has_noise=True)
        yield from self._shortened("sender", "rowid", "seen_us", SENDER_LIMIT)
        noise = f"WHERE action IN {_NOISE} ORDER BY"
        yield from self._lightened(("event", "id", f"{noise} time_us"), ("outbox", "seq", f"{noise} seq"))
        yield from self._lightened(
            ("event", "id", "ORDER BY time_us"), ("outbox", "seq", "ORDER BY seq"), ("session", "login_id", "ORDER BY opened_us")
        )

    def _lightened(self, *tables: tuple[str, str, str]) -> Iterator[int]:
        """Forget some rows of each table in turn while the file is too large; yield how many were in each piece."""
        while used_bytes(self._connection) > STATE_LIMIT_BYTES:
            gone = sum(self._delete(table, key, which, _PIECE) for table, key, which in tables)
            if not gone:
                return
            yield gone

    def forget_delivered(self) -> None:
        """
        Delete the messages before the first that ``deliver`` still has to send.

        If ``delivery.db`` is lost, sshbell sends the whole outbox again. So all waiting messages must stay, and few others.
        """
        _, done_seq = self._taken_over()
        with transaction(self._connection):
            self._connection.execute("DELETE FROM outbox WHERE seq <= ?", (done_seq,))

    def _shortened(self, table: str, key: str, order: str, limit: int, *, has_noise: bool = False) -> Iterator[int]:
        """Delete the oldest rows beyond a limit, noise before all others; yield the number of rows of each piece."""
        if self._rows_at_most.get(table, limit + 1) <= limit:
            return
        # This reads the whole table, so it runs only if there may be too many rows.
        with guarded(self._connection):
            (rows,) = self._connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - our own names
        self._rows_at_most[table] = rows
        excess = rows - limit
        while excess > 0 and has_noise:
            noise, has_noise = self._noise(table, key, order, excess)
            with transaction(self._connection):
                self._connection.executemany(f"DELETE FROM {table} WHERE {key} = ?", noise)  # noqa: S608
            excess -= len(noise)
            if noise or has_noise:
                yield len(noise)
        while excess > 0 and (gone := self._delete(table, key, f"ORDER BY {order}", min(excess, _PIECE))):
            excess -= gone
            yield gone

    def _noise(self, table: str, key: str, order: str, most: int) -> tuple[list[tuple[object]], bool]:
        """Look at some rows, from where it was left, since most may be logins; return the noise, and whether there are more."""
        begin = self._looked_at.get(table, 0)
        with guarded(self._connection):
            rows = self._connection.execute(
                f"SELECT {key}, {order}, action IN {_NOISE} FROM {table} WHERE {order} >= ? ORDER BY {order} LIMIT ?",  # noqa: S608
                (begin, _PIECE),
            ).fetchall()
        noise = [(found, at) for found, at, is_noise in rows if is_noise][:most]
        last = noise[-1][1] if len(noise) == most else rows[-1][1] if rows else begin
        # So many of one moment: the others are forgotten as the oldest.
        self._looked_at[table] = last + (last == begin and len(rows) == _PIECE and len(noise) < most)
        return [(found,) for found, _at in noise], len(rows) == _PIECE

    def _delete(self, table: str, key: str, which: str, limit: int, before_us: int = 0) -> int:
        """Delete some rows; return how many."""
        with transaction(self._connection):
            return self._connection.execute(
                f"DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} {which} LIMIT :limit)",  # noqa: S608
                {"before": before_us, "limit": limit},
            ).rowcount


# The columns of the rows of ``event_row`` and ``session_row``.
EVENT_COLUMNS = (
    "id", "time_us", "action", "host", "user", "uid", "address", "port", "method", "info", "origin", "count", "reason",
    "ambiguous", "login_id", "factors", "found", "code",
)  # fmt: skip
SESSION_COLUMNS = (
    "login_id", "host", "user", "uid", "address", "port", "method", "info", "origin", "ambiguous", "opened_us", "closed_us",
    "factors", "code",
)  # fmt: skip
_INSERT_EVENT = "INSERT OR IGNORE INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_SESSION = (
    "INSERT INTO session VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (login_id) DO UPDATE SET closed_us = coalesce(excluded.closed_us, closed_us)"
)
_INSERT_MESSAGE = "INSERT OR IGNORE INTO outbox (event_id, action, queued_us, body) VALUES (?, ?, ?, ?)"


def _integer(number: int | None) -> int | None:
    """Return a number from a line, or None if a column cannot hold it."""
    return number if number is None or number <= _INTEGER_MAX else None


def _source(event: Event) -> tuple[str | None, int | None]:
    return None if event.address is None else readable(event.address), None if event.port is None else int(event.port)


def _factors(login: Login) -> str | None:
    # The protocol has lists of methods with commas between them: no name holds one.
    return ",".join(login.factors) or None


def _code(login: Login) -> str | None:
    return None if login.code is None else msgspec.json.encode(login.code).decode()


def session_row(event: Event) -> tuple[object, ...] | None:
    """Return the session of a login or a logout; None for other events."""
    if isinstance(event, Login):
        login, closed_us = event, None
    elif isinstance(event, Logout):
        login, closed_us = event.login, event.end_us
    else:
        return None
    return (
        login.id, readable(login.host), login.user, _integer(login.uid), *_source(login), login.method,
        None if login.info is None else readable(login.info), login.origin, login.line[AMBIGUOUS],
        login.time_us, closed_us, _factors(login), _code(login),
    )  # fmt: skip


def event_row(event: Event, action: str) -> tuple[object, ...]:
    """Return the row of an event."""
    login: Any = event.login if isinstance(event, Logout) else event
    uid = method = info = reason = login_id = factors = code = found = None
    count = 1
    match event:
        case Login() | Logout():
            uid, method = login.uid, login.method
            info = None if login.info is None else readable(login.info)
            login_id, factors = login.id if isinstance(event, Logout) else None, _factors(login)
            code = _code(login)
        case Attempt():
            method, count, reason = event.method, event.count, event.reason
        case Probe():
            reason = event.reason
        case Trouble():
            method, reason = event.what, event.reason
        case Forged():
            uid, count, reason = event.uid, event.count, event.claim
        case Finding():
            count, reason, found = event.count, event.rule, found_of(event)
        case Block():
            reason, found = event.target, found_of(event)
    return (
        event.id, event.time_us, action, readable(event.host), event.user, _integer(uid), *_source(event), method, info,
        event.origin, min(count, _INTEGER_MAX), None if reason is None else readable(reason), event.line[AMBIGUOUS], login_id,
        factors, found, code,
    )  # fmt: skip
