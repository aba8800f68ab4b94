"""
``delivery.db``: which message goes to which channel, and what became of it.

It belongs to who has ``deliver.lock``: ``sshbell deliver``, or ``sshbell ring`` where none runs. ``sshbell outbox``, and
``sshbell ring`` else, write beside it in short transactions.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from consumer.actions import EXPENDABLE_ACTIONS
from consumer.errors import DamagedStoreError, StoreError
from consumer.store.database import guarded, open_for_writing, open_of_another, set_aside, store_error, transaction
from consumer.store.outbox import Queued

# Messages that are done, and those that wait for one channel; of the latter, tries and probes beyond are dropped, never logins.
DONE_LIMIT = 200_000
WAITING_LIMIT = 50_000
# Accounts of one host, and budgets of one channel, that have had messages within the last hour. Beyond the first, the other
# accounts of that host share a budget; beyond the second, all others do. Who can write log lines can make up accounts.
ACCOUNT_LIMIT, BUDGET_LIMIT = 100, 10_000
_SHARED = "*"
# A budget that was not used for so long is full again.
_FULL_US = 3600 * 1_000_000
# Rows that are in memory at once.
_BATCH = 200
_DUE = "channel = ? AND state = 'pending' AND (next_us <= ? OR next_us > ?)"
_UNFOLDED = "channel = ? AND budget = ? AND state = 'pending' AND digest IS NULL AND next_us <= ?"
_CHOSEN = "AND event_id IN (SELECT value FROM json_each(?))"
# No channel waits longer than this for its next try; a time beyond was written while the clock was wrong.
LONGEST_WAIT_US = 3600 * 1_000_000


class Pending(NamedTuple):
    """A message that waits for a channel. ``seq`` is 0 for a test; ``digest`` names the message in which others are told too;
    "": it was in one that was rejected, and goes alone. ``budget`` is the name of the one from which it takes a token.
    """

    event_id: str
    seq: int
    attempts: int
    queued_us: int
    digest: str | None
    body: bytes
    budget: str = ""


class Routed(NamedTuple):
    """A message of the outbox, where it goes, and the budget that it asks for; "" is that of all noise."""

    message: Queued
    channels: Iterable[str]
    budget: str = ""


class Standing(NamedTuple):
    """A channel: failures since its last success, and when it may be tried."""

    failures: int = 0
    retry_us: int = 0


class Budget(NamedTuple):
    """What is left of a channel's ``max_per_hour`` for an account on a host, or for noise, and as of when; None: all."""

    name: str = ""
    tokens: float | None = None
    tokens_us: int = 0


class DeliveryRow(NamedTuple):
    """A message as ``sshbell outbox`` shows it. ``next_us`` is None where it will not be tried again."""

    event_id: str
    channel: str
    state: str
    attempts: int
    queued_us: int
    next_us: int | None
    reason: str | None
    body: bytes
    budget: str


class Delivery:
    """
    Writes ``delivery.db``. Where it turns out to be damaged in use, the next call sets it aside and makes a new one, into which
    the outbox is routed again.

    Args:
        state_dir: where it is.
        report: is told in one line what was set aside because it was damaged. None: the file is another process's, and is
            neither made nor replaced.

    Raises:
        StoreError: it cannot be used now; so do all methods.
    """

    def __init__(self, state_dir: Path, report: Callable[[str], None] | None) -> None:
        self._path, self._report = state_dir / "delivery.db", report
        self._damage = ""
        self._connection: sqlite3.Connection | None = None
        self._changes = self._data_version()

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def cursor(self) -> tuple[int, str]:
        """Return number and event id of the last message of the outbox that was routed."""
        seq, event_id = self._run("SELECT seq, event_id FROM cursor").fetchone()
        return int(seq), str(event_id)

    def restart(self) -> None:
        """Route the outbox from its beginning: ``state.db`` is a new one. What is here already stays single."""
        with self._transaction():
            self._run("UPDATE cursor SET base = (SELECT coalesce(max(seq), 0) FROM delivery), seq = 0, event_id = ''")

    def route(self, routed: Iterable[Routed], dead_before_us: int = 0) -> set[str]:
        """
        Give messages to channels, and move the cursor behind the last; return the channels that have got something.

        What became known before ``dead_before_us`` is a dead letter at once: after the loss of a file, nobody wants old news.

        This is not synced to the disk: what a power cut takes away is read from the outbox again, with the cursor before it.
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
                        state, reason = "dead", "it was too old when it was read"
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
        """Return the budget that a message gets: the one it asks for, or where there are too many, one that it shares."""
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
        """Return how many messages wait for a channel; no more than the limit is counted."""
        found: tuple[int] = self._run(
            "SELECT count(*) FROM (SELECT 1 FROM delivery WHERE channel = ? AND state = 'pending' LIMIT ?)",
            (channel, WAITING_LIMIT),
        ).fetchone()
        return found[0]

    def put_test(self, event_id: str, channels: Iterable[str], now_us: int, body: bytes) -> None:
        """Give channels a test, which goes before everything else."""
        with self._transaction():
            for channel in channels:
                self._run(
                    "INSERT INTO delivery (event_id, channel, seq, state, queued_us, next_us, body)"
                    " VALUES (?, ?, 0, 'pending', ?, 0, ?)",
                    (event_id, channel, now_us, body),
                )

    def due(self, channel: str, now_us: int, spent: Iterable[str] = ()) -> Pending | None:
        """
        Return the message that is tried first: a test, else a message about a login, else noise; of each kind the oldest.

        Args:
            channel: its name.
            now_us: a message may have to wait for its next try.
            spent: names of the budgets of which no message may be tried.
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
        """Return the events of the messages of the same kind as ``message`` that are sent next, as JSON, in order."""
        which = "budget <> ''" if message.budget else "budget = ''"
        rows = self._run(
            f"SELECT body FROM delivery WHERE channel = ? AND state = 'pending' AND digest IS NULL AND {which}"  # noqa: S608
            " ORDER BY seq LIMIT ?",
            (channel, limit),
        )
        return [body for (body,) in rows]

    def next_us(self, channel: str, spent: Iterable[str] = ()) -> int | None:
        """Return when the first of the waiting messages may be tried, without those of spent budgets; None where none waits."""
        without = set(spent)
        which = "AND budget <> ''" if "" in without else ""
        (found,) = self._run(
            f"SELECT min(next_us) FROM delivery WHERE channel = ? AND state = 'pending' {which}"  # noqa: S608
            " AND budget NOT IN (SELECT value FROM json_each(?))",
            (channel, json.dumps(sorted(without))),
        ).fetchone()
        return None if found is None else int(found)

    def standing(self, channel: str) -> Standing:
        """Return how a channel is."""
        row = self._run("SELECT failures, retry_us FROM channel WHERE name = ?", (channel,)).fetchone()
        return Standing() if row is None else Standing(*row)

    def budget(self, channel: str, name: str) -> Budget:
        """Return a budget as last written down."""
        row = self._run("SELECT name, tokens, tokens_us FROM budget WHERE channel = ? AND name = ?", (channel, name)).fetchone()
        return Budget(name) if row is None else Budget(*row)

    def spent(self, channel: str) -> list[Budget]:
        """Return the budgets that had less than one token when they were last written down."""
        rows = self._run("SELECT name, tokens, tokens_us FROM budget WHERE channel = ? AND tokens < 1", (channel,))
        return [Budget(*row) for row in rows]

    def held(self, channel: str, spent: Iterable[str]) -> set[str]:
        """Return those of the spent budgets for which messages wait."""
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
        """Tell whether more than one message of a budget is due that is in no digest."""
        found = self._run(f"SELECT 1 FROM delivery WHERE {_loose(budget)} LIMIT 2", (channel, budget, now_us))  # noqa: S608
        return len(found.fetchall()) > 1

    def loose(self, channel: str, budget: str, now_us: int) -> Iterator[tuple[str, bytes]]:
        """Yield event id and event as JSON of each message of a budget that is due and in no digest, in order."""
        yield from self._by_seq("event_id, body", _loose(budget), (channel, budget, now_us))

    def fold(self, channel: str, budget: str, digest: str, now_us: int, only: Iterable[str] | None = None) -> int:
        """
        Make one digest of all messages of a budget that are due, or of those ``only`` names by their events; return of how many.

        It keeps what it holds, so that a second try is the same message.
        """
        with self._transaction():
            where = _loose(budget) if only is None else f"{_loose(budget)} {_CHOSEN}"
            chosen = () if only is None else (json.dumps(list(only)),)
            values = (digest, channel, budget, now_us, *chosen)
            return self._run(f"UPDATE delivery SET digest = ? WHERE {where}", values).rowcount  # noqa: S608

    def folded(self, channel: str, digest: str) -> Iterator[tuple[int, bytes]]:
        """Yield when each of a digest became known, and the event as JSON, in order."""
        where = "channel = ? AND digest = ? AND state = 'pending'"
        yield from self._by_seq("queued_us, body", where, (channel, digest))

    def _by_seq(self, columns: str, where: str, values: tuple[object, ...]) -> Iterator[tuple[Any, ...]]:
        """Yield rows of a channel but tests, in order. Between two of them anything may be written: no statement stays open."""
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
        A message is told; this outlives a power cut.

        Args:
            channel: its name.
            message: which.
            now_us: the wall clock.
            tokens: what is left of the message's budget.
            note: where something about it was not right.
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
        A message will never be taken: a dead letter. The channel as such works.

        Of a digest each message is tried by itself then: one stranger's name must not cost the others.
        """
        with self._transaction():
            if message.digest:
                where, key = _of(channel, message)
                self._run(f"UPDATE delivery SET digest = '', reason = ? WHERE {where} AND state = 'pending'", (reason, *key))  # noqa: S608
            else:
                self._finish(channel, message, "dead", now_us, reason)
            self._fault(channel, now_us, reason, 0, 0)

    def retry_later(self, channel: str, message: Pending, now_us: int, reason: str, after_us: int, *, alone: bool) -> None:
        """A message was not taken now. Where it is not ``alone`` in that, its channel waits too."""
        with self._transaction():
            where, key = _of(channel, message)
            self._run(
                f"UPDATE delivery SET attempts = attempts + 1, reason = ?, next_us = ? WHERE {where} AND state = 'pending'",  # noqa: S608
                (reason, now_us + after_us if alone else 0, *key),
            )
            failures = 0 if alone else self.standing(channel).failures + 1
            self._fault(channel, now_us, reason, failures, 0 if alone else now_us + after_us)

    def give_up(self, channel: str, before_us: int, now_us: int, reason: str) -> int:
        """Make dead letters of what became known before; return how many."""
        with self._transaction():
            return self._run(
                "UPDATE delivery SET state = 'dead', done_us = ?, digest = NULL, reason = coalesce(reason, ?)"
                " WHERE channel = ? AND state = 'pending' AND queued_us < ?",
                (now_us, reason, channel, before_us),
            ).rowcount

    def give_up_of_removed(self, channels: Iterable[str], before_us: int, now_us: int) -> int:
        """Make dead letters of what became known before and waits for channels that are no more; return how many."""
        waiting = {str(name) for (name,) in self._rows("SELECT DISTINCT channel FROM delivery WHERE state = 'pending'")}
        return sum(
            self.give_up(name, before_us, now_us, "the configuration has no such channel any more")
            for name in waiting.difference(channels)
        )

    def forget(self, before_us: int) -> None:
        """
        Forget what was done before, and what is beyond the bound.

        What was dropped goes first, so that no flood costs a dead letter.
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
        """Forget the budgets that are full by now, or that a clock wrote down that was wrong."""
        with self._transaction():
            self._run("DELETE FROM budget WHERE tokens_us NOT BETWEEN ? AND ?", (now_us - _FULL_US, now_us + _FULL_US))

    def has_changed(self) -> bool:
        """Tell whether another process has written since this was asked."""
        before, self._changes = self._changes, self._data_version()
        return before != self._changes

    def outcome(self, event_id: str) -> dict[str, tuple[str, int, str | None]]:
        """Return state, attempts and reason of a message by channel."""
        rows = self._rows("SELECT channel, state, attempts, reason FROM delivery WHERE event_id = ?", (event_id,))
        return {channel: (state, attempts, reason) for channel, state, attempts, reason in rows}

    def entries(self, states: Iterable[str], limit: int, event_id: str = "", channel: str = "") -> list[DeliveryRow]:
        """Return messages for people, the newest first; of one event id's beginning, or one channel, where they are given."""
        rows = self._rows(
            "SELECT event_id, channel, state, attempts, queued_us,"
            " CASE state WHEN 'pending' THEN max(next_us, coalesce(retry_us, 0)) END,"
            " coalesce(reason, CASE WHEN state = 'pending' AND failures > 0 THEN last_error END), body, budget"
            " FROM delivery LEFT JOIN channel ON name = channel"
            " WHERE state IN (SELECT value FROM json_each(?)) AND substr(event_id, 1, ?) = ? AND ? IN ('', channel)"
            " ORDER BY queued_us DESC, seq DESC LIMIT ?",
            (json.dumps(list(states)), len(event_id), event_id, channel, limit),
        )  # fmt: skip
        return [DeliveryRow(*row) for row in rows]

    def retry(self, event_id: str | None, channel: str | None) -> int:
        """Try waiting messages and dead letters at once; return how many. None: of all events, of all channels."""
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
        """Never try these again; return how many. None: of all events, of all channels."""
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
        """Return the connection; where the file was damaged, to a new one."""
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
            connection.execute("PRAGMA synchronous = FULL")  # what is told stays told
        return connection

    def _noted(self, error: StoreError) -> StoreError:
        """Remember that the file is damaged, where that is what an error says."""
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
    """Return the condition for messages of a budget that are due and in no digest; noise is not looked through for logins."""
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
