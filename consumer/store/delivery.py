"""
``delivery.db``: which message goes to which channel, and whether it was sent.

It belongs to the process that holds ``deliver.lock``: ``sshbell deliver``, or ``sshbell ring`` if ``deliver`` is not running.
``sshbell outbox``, and ``sshbell ring`` otherwise, write to it in short transactions.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

from consumer.actions import EXPENDABLE_ACTIONS
from consumer.errors import DamagedStoreError, StoreError
from consumer.store.database import (
    DELIVERY_DB,
    Whole,
    checked,
    guarded,
    open_for_writing,
    open_of_another,
    set_aside,
    store_error,
    transaction,
    used_bytes,
)
from consumer.store.outbox import Queued

# Messages that are done, and messages that wait for one channel. Beyond the second limit, sshbell drops tries and probes, never
# logins.
DONE_LIMIT = 200_000
WAITING_LIMIT = 50_000
# The whole file, however long the messages are: beyond it, sshbell deletes finished messages.
DELIVERY_LIMIT_BYTES = 1 << 29
# Accounts of one host, and budgets of one channel, with messages within the last hour. Beyond the first, the other accounts of
# that host share a budget; beyond the second, all others do. Anybody who can write log lines can make up accounts.
ACCOUNT_LIMIT, BUDGET_LIMIT = 100, 10_000
_SHARED = "*"
# An unused budget is full again after this time.
_FULL_US = 3600 * 1_000_000
# Rows in memory at once.
_BATCH = 200
# Rows that are forgotten at once where bytes count.
_BYTES_PIECE = 2_000
_DUE = "channel = ? AND state = 'pending' AND (next_us <= ? OR next_us > ?)"
_UNFOLDED = "channel = ? AND budget = ? AND state = 'pending' AND digest IS NULL AND next_us <= ?"
_CHOSEN = "AND event_id IN (SELECT value FROM json_each(?))"
# No channel waits longer than this for its next try. A later time was written while the clock was wrong.
LONGEST_WAIT_US = 3600 * 1_000_000


class Pending(NamedTuple):
    """A message that waits for a channel. ``seq`` is 0 for a test; ``digest`` names the digest that it is part of. "" means that
    the server rejected this digest, so the message goes alone. ``budget`` names the budget from which it takes a token.
    """

    event_id: str
    seq: int
    attempts: int
    queued_us: int
    digest: str | None
    body: bytes
    budget: str = ""


class Routed(NamedTuple):
    """A message of the outbox, its channels, and the budget that it asks for; "" is the budget of all noise."""

    message: Queued
    channels: Iterable[str]
    budget: str = ""


class Standing(NamedTuple):
    """A channel's retry state: failures since the last success, and the time of the next try."""

    failures: int = 0
    retry_us: int = 0


class Budget(NamedTuple):
    """What is left of a channel's ``max_per_hour`` for an account on a host or for noise, as of ``tokens_us``. None: all."""

    name: str = ""
    tokens: Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)] | None = None
    tokens_us: Whole = 0


class DeliveryRow(NamedTuple):
    """A message as ``sshbell outbox`` shows it. ``next_us`` is None if sshbell will not try it again."""

    event_id: str
    channel: str
    state: str
    attempts: int
    queued_us: Whole
    next_us: Whole | None
    reason: str | None
    body: bytes
    budget: str


class Delivery:
    """
    Writes ``delivery.db``. If the file turns out to be damaged in use, the next call sets it aside and creates a new one, and
    ``deliver`` routes the outbox again.

    Args:
        state_dir: its directory.
        report: gets one line about a damaged file that was set aside. None: the file belongs to another process, so this neither
            creates nor replaces it.

    Raises:
        StoreError: the file cannot be used now. All methods raise this, too.
    """

    def __init__(self, state_dir: Path, report: Callable[[str], None] | None) -> None:
        self._path, self._report = state_dir / DELIVERY_DB, report
        self._damage = ""
        self._connection: sqlite3.Connection | None = None
        self._changes = self._data_version()

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def cursor(self) -> tuple[int, str]:
        """Return number and event id of the last outbox message that was routed."""
        seq, event_id = self._run("SELECT seq, event_id FROM cursor").fetchone()
        return int(seq), str(event_id)

    def restart(self) -> None:
        """Route the outbox from its beginning, because ``state.db`` is new. Messages that exist here are not added twice."""
        with self._transaction():
            self._run("UPDATE cursor SET base = (SELECT coalesce(max(seq), 0) FROM delivery), seq = 0, event_id = ''")

    def route(self, routed: Iterable[Routed], dead_before_us: int = 0) -> set[str]:
        """
        Queue messages for channels, and move the cursor behind the last one; return the channels that got a message.

        A message from before ``dead_before_us`` is a dead letter at once: after the loss of a file, sshbell sends no old news.

        This does not sync to disk. After a power cut, the cursor is also back, so sshbell reads the outbox again from there.
        """
        found: set[str] = set()
        last: Queued | None = None
        with self._unsynced(), self._transaction():
            (base,) = self._run("SELECT base FROM cursor").fetchone()
            waiting: dict[str, int] = {}
            for last, channels, budget in routed:
                for channel in channels:
                    if channel not in waiting:
                        waiting[channel] = self._waiting(channel)
                    state, reason = "pending", None
                    if last.queued_us < dead_before_us:
                        state, reason = "dead", "it was too old when deliver read it"
                    elif last.action in EXPENDABLE_ACTIONS and waiting.get(channel, 0) >= WAITING_LIMIT:
                        state, reason = "dropped", f"more than {WAITING_LIMIT:,} messages wait for this channel"
                    added = self._run(
                        "INSERT OR IGNORE INTO delivery"
                        " (event_id, channel, seq, state, queued_us, next_us, done_us, reason, body, budget)"
                        " VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?, ?)",
                        (
                            last.event_id, channel, base + last.seq, state, last.queued_us,
                            last.queued_us if reason else None, reason, last.body,
                            self._budget_for(channel, budget, last.queued_us),
                        ),
                    ).rowcount  # fmt: skip
                    if added and reason is None:
                        waiting[channel] = waiting.get(channel, 0) + 1
                        found.add(channel)
            if last is not None:
                self._run("UPDATE cursor SET seq = ?, event_id = ?", (last.seq, last.event_id))
        return found

    def _budget_for(self, channel: str, wanted: str, now_us: int) -> str:
        """Return the budget that a message gets: the one it asks for, or a shared one if there are too many."""
        host = wanted.partition(" ")[0]
        for name in filter(None, (wanted, host)):
            if self._run("SELECT 1 FROM budget WHERE channel = ? AND name = ?", (channel, name)).fetchone():
                return name
            (total,) = self._run("SELECT count(*) FROM budget WHERE channel = ?", (channel,)).fetchone()
            (of_host,) = self._run(
                "SELECT count(*) FROM budget WHERE channel = ? AND name >= ? AND name < ?", (channel, f"{host} ", f"{host}!")
            ).fetchone()
            if total < BUDGET_LIMIT and (of_host < ACCOUNT_LIMIT or name == host):
                self._run("INSERT INTO budget VALUES (?, ?, NULL, ?)", (channel, name, now_us))
                return name
        return _SHARED if wanted else ""

    def _waiting(self, channel: str) -> int:
        """Return how many messages wait for a channel; this counts no further than the limit."""
        found: tuple[int] = self._run(
            "SELECT count(*) FROM (SELECT 1 FROM delivery WHERE channel = ? AND state = 'pending' LIMIT ?)",
            (channel, WAITING_LIMIT),
        ).fetchone()
        return found[0]

    def put_test(self, event_id: str, channels: Iterable[str], now_us: int, body: bytes) -> None:
        """Queue a test for channels; it goes before everything else."""
        with self._transaction():
            for channel in channels:
                self._run(
                    "INSERT INTO delivery (event_id, channel, seq, state, queued_us, next_us, body)"
                    " VALUES (?, ?, 0, 'pending', ?, 0, ?)",
                    (event_id, channel, now_us, body),
                )

    def due(self, channel: str, now_us: int, spent: Iterable[str] = ()) -> Pending | None:
        """
        Return the first message that is due now: a test, then messages about logins, then noise; the oldest of each kind first.

        The channel itself may still have to wait.

        Args:
            channel: its name.
            now_us: the wall clock; a message may have to wait for its next try.
            spent: names of the budgets whose messages have to wait.
        """
        without = set(spent)
        others = json.dumps(sorted(without))
        for which, is_open in (
            ("seq = 0", True), ("budget <> '' AND budget NOT IN (SELECT value FROM json_each(?))", True),
            ("budget = '' AND seq > 0", "" not in without),
        ):  # fmt: skip
            if not is_open:
                continue
            row = self._run(
                f"SELECT event_id, seq, attempts, queued_us, digest, body, budget FROM delivery WHERE {_DUE} AND {which}"  # noqa: S608
                " ORDER BY seq LIMIT 1",
                (channel, now_us, now_us + LONGEST_WAIT_US, *([others] if "?" in which else [])),
            ).fetchone()
            if row is not None:
                return Pending(*row)
        return None

    def next_bodies(self, message: Pending, channel: str, limit: int) -> list[bytes]:
        """Return the events of the next messages of the same kind as ``message``, as JSON, in order."""
        which = "budget <> ''" if message.budget else "budget = ''"
        rows = self._run(
            f"SELECT body FROM delivery WHERE channel = ? AND state = 'pending' AND digest IS NULL AND {which}"  # noqa: S608
            " ORDER BY seq LIMIT ?",
            (channel, limit),
        )
        return [body for (body,) in rows]

    def next_us(self, channel: str, spent: Iterable[str] = ()) -> int | None:
        """Return when the first waiting message is due, except those of spent budgets; None if none waits."""
        without = set(spent)
        which = "AND budget <> ''" if "" in without else ""
        (found,) = self._run(
            f"SELECT min(next_us) FROM delivery WHERE channel = ? AND state = 'pending' {which}"  # noqa: S608
            " AND budget NOT IN (SELECT value FROM json_each(?))",
            (channel, json.dumps(sorted(without))),
        ).fetchone()
        return None if found is None else int(found)

    def standing(self, channel: str) -> Standing:
        """Return the channel's retry state."""
        row = self._run("SELECT failures, retry_us FROM channel WHERE name = ?", (channel,)).fetchone()
        return Standing() if row is None else Standing(*row)

    def budget(self, channel: str, name: str) -> Budget:
        """Return a budget as it was last stored."""
        row = self._run("SELECT name, tokens, tokens_us FROM budget WHERE channel = ? AND name = ?", (channel, name)).fetchone()
        return Budget(name) if row is None else Budget(*row)

    def spent(self, channel: str) -> list[Budget]:
        """Return the budgets that had less than one token when they were last stored."""
        rows = self._run("SELECT name, tokens, tokens_us FROM budget WHERE channel = ? AND tokens < 1", (channel,))
        return [checked(self._path, row, Budget) for row in rows.fetchall()]

    def held(self, channel: str, spent: Iterable[str]) -> set[str]:
        """Return the names of those spent budgets that have waiting messages."""
        without = set(spent)
        if not without:
            return set()
        rows = self._run(
            "SELECT DISTINCT budget FROM delivery WHERE channel = ? AND state = 'pending' AND budget <> ''"
            " AND budget IN (SELECT value FROM json_each(?))",
            (channel, json.dumps(sorted(without))),
        ).fetchall()
        found = {str(name) for (name,) in rows}
        noise = "SELECT 1 FROM delivery WHERE channel = ? AND state = 'pending' AND budget = '' AND seq > 0 LIMIT 1"
        if "" in without and self._run(noise, (channel,)).fetchone():
            found.add("")
        return found

    def is_crowded(self, channel: str, budget: str, now_us: int) -> bool:
        """Return whether more than one message of a budget is due outside digests."""
        found = self._run(f"SELECT 1 FROM delivery WHERE {_loose(budget)} LIMIT 2", (channel, budget, now_us))  # noqa: S608
        return len(found.fetchall()) > 1

    def loose(self, channel: str, budget: str, now_us: int) -> Iterator[tuple[str, bytes]]:
        """Yield event id and event (JSON) of each due message of a budget outside digests, in order."""
        yield from self._by_seq("event_id, body", _loose(budget), (channel, budget, now_us))

    def fold(self, channel: str, budget: str, digest: str, now_us: int, only: Iterable[str] | None = None) -> int:
        """
        Combine all due messages of a budget, or those whose event ids are in ``only``, into one digest; return how many.

        The digest keeps its messages, so that a second try sends the same text.
        """
        with self._transaction():
            where = _loose(budget) if only is None else f"{_loose(budget)} {_CHOSEN}"
            chosen = () if only is None else (json.dumps(list(only)),)
            values = (digest, channel, budget, now_us, *chosen)
            return self._run(f"UPDATE delivery SET digest = ? WHERE {where}", values).rowcount  # noqa: S608

    def folded(self, channel: str, digest: str) -> Iterator[tuple[int, bytes]]:
        """Yield the queue time and the event (JSON) of each message of a digest, in order."""
        where = "channel = ? AND digest = ? AND state = 'pending'"
        yield from self._by_seq("queued_us, body", where, (channel, digest))

    def _by_seq(self, columns: str, where: str, values: tuple[object, ...]) -> Iterator[tuple[Any, ...]]:
        """Yield rows of a channel except tests, in order. The caller may write between two rows: no statement stays open."""
        seq = 0
        while True:
            rows = self._run(
                f"SELECT seq, {columns} FROM delivery WHERE {where} AND seq > ? ORDER BY seq LIMIT {_BATCH}",  # noqa: S608
                (*values, seq),
            ).fetchall()
            for row in rows:
                yield row[1:]
            if len(rows) < _BATCH:
                return
            seq = rows[-1][0]

    def sent(self, channel: str, message: Pending, now_us: int, tokens: float, note: str | None) -> None:
        """
        Record that a message was sent; this survives a power cut.

        Args:
            channel: its name.
            message: the message.
            now_us: the wall clock.
            tokens: what is left of the message's budget.
            note: a warning about it, or None.
        """
        with self._transaction():
            self._finish(channel, message, "sent", now_us, note)
            self._run(
                "INSERT INTO channel (name, last_success_us) VALUES (:name, :now)"
                " ON CONFLICT (name) DO UPDATE SET last_success_us = :now, failures = 0, retry_us = 0",
                {"name": channel, "now": now_us},
            )
            if message.seq:
                self._run("INSERT OR REPLACE INTO budget VALUES (?, ?, ?, ?)", (channel, message.budget, tokens, now_us))
            if note is not None:
                self._run("UPDATE channel SET last_error_us = ?, last_error = ? WHERE name = ?", (now_us, note, channel))

    def rejected(self, channel: str, message: Pending, now_us: int, reason: str) -> None:
        """
        Record that the server rejected a message for good: it is a dead letter. The channel itself works.

        sshbell then tries each message of a rejected digest alone: a stranger's odd name must not block the others.
        """
        with self._transaction():
            if message.digest:
                where, key = _of(channel, message)
                self._run(f"UPDATE delivery SET digest = '', reason = ? WHERE {where} AND state = 'pending'", (reason, *key))  # noqa: S608
            else:
                self._finish(channel, message, "dead", now_us, reason)
            self._fault(channel, now_us, reason, 0, 0)

    def retry_later(self, channel: str, message: Pending, now_us: int, reason: str, after_us: int, *, alone: bool) -> None:
        """Record that a try failed for now. ``alone``: only this message waits; otherwise the whole channel waits."""
        with self._transaction():
            where, key = _of(channel, message)
            self._run(
                f"UPDATE delivery SET attempts = attempts + 1, reason = ?, next_us = ? WHERE {where} AND state = 'pending'",  # noqa: S608
                (reason, now_us + after_us if alone else 0, *key),
            )
            failures = 0 if alone else self.standing(channel).failures + 1
            self._fault(channel, now_us, reason, failures, 0 if alone else now_us + after_us)

    def give_up(self, channel: str, before_us: int, now_us: int, reason: str) -> int:
        """Turn waiting messages that were queued before a time into dead letters; return how many."""
        with self._transaction():
            return self._run(
                "UPDATE delivery SET state = 'dead', done_us = ?, digest = NULL, reason = coalesce(reason, ?)"
                " WHERE channel = ? AND state = 'pending' AND queued_us < ?",
                (now_us, reason, channel, before_us),
            ).rowcount

    def give_up_of_removed(self, channels: Iterable[str], before_us: int, now_us: int) -> int:
        """Do the same for channels that are no longer configured; return how many."""
        waiting = {str(name) for (name,) in self._rows("SELECT DISTINCT channel FROM delivery WHERE state = 'pending'")}
        return sum(
            self.give_up(name, before_us, now_us, "the configuration has no such channel any more")
            for name in waiting.difference(channels)
        )

    def forget(self, before_us: int) -> None:
        """
        Delete messages that were done before a time, and the oldest beyond the limit.

        Dropped messages go first, so that a flood does not push out dead letters.
        """
        with self._transaction():
            self._run("DELETE FROM delivery WHERE state <> 'pending' AND done_us < ?", (before_us,))
            for kind in ("AND state = 'dropped'", ""):
                (done,) = self._run("SELECT count(*) FROM delivery WHERE state <> 'pending'").fetchone()
                if done <= DONE_LIMIT:
                    return
                self._run(
                    "DELETE FROM delivery WHERE (event_id, channel) IN (SELECT event_id, channel FROM delivery"  # noqa: S608
                    f" WHERE state <> 'pending' {kind} ORDER BY done_us LIMIT ?)",
                    (done - DONE_LIMIT,),
                )

    def forget_budgets(self, now_us: int) -> None:
        """Forget the budgets that are full again, or whose time was written while the clock was wrong."""
        with self._transaction():
            self._run("DELETE FROM budget WHERE tokens_us NOT BETWEEN ? AND ?", (now_us - _FULL_US, now_us + _FULL_US))

    def forget_bytes(self) -> None:
        """Forget what is done while the file is too large, piece by piece: the oldest, and first what was dropped."""
        for kind in ("AND state = 'dropped'", ""):
            while self._used_bytes() > DELIVERY_LIMIT_BYTES:
                with self._transaction():
                    gone = self._run(
                        "DELETE FROM delivery WHERE (event_id, channel) IN (SELECT event_id, channel FROM delivery"  # noqa: S608
                        f" WHERE state <> 'pending' {kind} ORDER BY done_us LIMIT {_BYTES_PIECE})"
                    ).rowcount
                if not gone:
                    break

    def _used_bytes(self) -> int:
        self._run("SELECT 1")  # opens it
        assert self._connection is not None
        return used_bytes(self._connection)

    def has_changed(self) -> bool:
        """Return whether another process has written since the last call."""
        before, self._changes = self._changes, self._data_version()
        return before != self._changes

    def outcome(self, event_id: str) -> dict[str, tuple[str, int, str | None]]:
        """Return state, attempts and reason of a message by channel."""
        rows = self._rows("SELECT channel, state, attempts, reason FROM delivery WHERE event_id = ?", (event_id,))
        return {channel: (state, attempts, reason) for channel, state, attempts, reason in rows}

    def entries(self, states: Iterable[str], limit: int, event_id: str = "", channel: str = "") -> list[DeliveryRow]:
        """Return messages to show, newest first; only those of a channel, or of an event id's beginning, if given."""
        rows = self._rows(
            "SELECT event_id, channel, state, attempts, queued_us,"
            " CASE state WHEN 'pending' THEN max(next_us, coalesce(retry_us, 0)) END,"
            " coalesce(reason, CASE WHEN state = 'pending' AND failures > 0 THEN last_error END), body, budget"
            " FROM delivery LEFT JOIN channel ON name = channel"
            " WHERE state IN (SELECT value FROM json_each(?)) AND substr(event_id, 1, ?) = ? AND ? IN ('', channel)"
            " ORDER BY queued_us DESC, seq DESC LIMIT ?",
            (json.dumps(list(states)), len(event_id), event_id, channel, limit),
        )  # fmt: skip
        return [checked(self._path, row, DeliveryRow) for row in list(rows)]

    def retry(self, event_id: str | None, channel: str | None) -> int:
        """Make waiting messages and dead letters due now; return how many. None means all events, or all channels."""
        with self._transaction():
            where, values = _chosen(event_id, channel)
            self._run(
                f"UPDATE channel SET retry_us = 0, failures = 0 WHERE name IN (SELECT channel FROM delivery WHERE {where})",  # noqa: S608
                values,
            )
            return self._run(
                "UPDATE delivery SET state = 'pending', next_us = 0, attempts = 0, done_us = NULL,"  # noqa: S608
                f" digest = CASE state WHEN 'pending' THEN digest END WHERE {where}",
                values,
            ).rowcount

    def drop(self, event_id: str | None, channel: str | None, now_us: int) -> int:
        """Drop waiting messages and dead letters; return how many. None means all events, or all channels."""
        with self._transaction():
            where, values = _chosen(event_id, channel)
            return self._run(
                f"UPDATE delivery SET state = 'dropped', done_us = ?, digest = NULL WHERE {where}",  # noqa: S608 - our own text
                (now_us, *values),
            ).rowcount

    def _finish(self, channel: str, message: Pending, state: str, now_us: int, reason: str | None) -> None:
        where, key = _of(channel, message)
        self._run(
            f"UPDATE delivery SET state = ?, attempts = attempts + 1, done_us = ?, reason = ? WHERE {where}",  # noqa: S608
            (state, now_us, reason, *key),
        )

    def _fault(self, channel: str, now_us: int, reason: str, failures: int, retry_us: int) -> None:
        self._run(
            "INSERT INTO channel (name, last_error_us, last_error, failures, retry_us)"
            " VALUES (:name, :now, :why, :failures, :retry)"
            " ON CONFLICT (name) DO UPDATE"
            " SET last_error_us = :now, last_error = :why, failures = :failures, retry_us = :retry",
            {"name": channel, "now": now_us, "why": reason, "failures": failures, "retry": retry_us},
        )

    def _run(self, statement: str, values: Sequence[object] | Mapping[str, object] = ()) -> sqlite3.Cursor:
        connection = self._usable()
        try:
            return connection.execute(statement, values)
        except sqlite3.Error as error:
            raise self._noted(store_error(connection, error)) from error

    def _rows(self, statement: str, values: Sequence[object] = ()) -> Iterator[Any]:
        with self._guarded() as connection:
            yield from connection.execute(statement, values)

    @contextmanager
    def _guarded(self) -> Iterator[sqlite3.Connection]:
        connection = self._usable()
        try:
            with guarded(connection):
                yield connection
        except StoreError as error:
            self._noted(error)
            raise

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._guarded() as connection, transaction(connection):
            yield

    def _usable(self) -> sqlite3.Connection:
        """Return the connection; if the file was damaged, one to a new file."""
        if self._damage and self._report is not None:
            self.close()
            try:
                set_aside(self._path, self._damage, self._report)
            except OSError as error:
                raise StoreError(f"{self._path}: {error.strerror}") from error
            self._damage = ""
        if self._connection is None:
            self._connection = self._opened()
        return self._connection

    def _opened(self) -> sqlite3.Connection:
        connection = open_of_another(self._path) if self._report is None else open_for_writing(self._path, self._report)
        with guarded(connection):
            connection.execute("PRAGMA synchronous = FULL")  # a power cut must not make sshbell send a message twice
        return connection

    def _noted(self, error: StoreError) -> StoreError:
        """Remember that the file is damaged, if the error means that."""
        if isinstance(error, DamagedStoreError):
            self._damage = str(error)
        return error

    @contextmanager
    def _unsynced(self) -> Iterator[None]:
        self._run("PRAGMA synchronous = NORMAL")
        try:
            yield
        finally:
            self._run("PRAGMA synchronous = FULL")

    def _data_version(self) -> int:
        (found,) = self._run("PRAGMA data_version").fetchone()
        return int(found)


def _loose(budget: str) -> str:
    """Return the condition for due messages of a budget outside digests. The search for logins does not read the noise."""
    return f"{_UNFOLDED} AND seq > 0" + (" AND budget <> ''" if budget else "")


def _of(channel: str, message: Pending) -> tuple[str, tuple[str, str]]:
    """Return the condition for the rows of one message, and its values."""
    if message.digest:
        return "channel = ? AND digest = ?", (channel, message.digest)
    return "channel = ? AND event_id = ?", (channel, message.event_id)


def _chosen(event_id: str | None, channel: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the condition for waiting messages and dead letters of an event, of a channel, or of both."""
    parts = {"event_id = ?": event_id, "channel = ?": channel}
    return (
        " AND ".join(["state IN ('pending', 'dead')", *(part for part, value in parts.items() if value is not None)]),
        tuple(value for value in parts.values() if value is not None),
    )
