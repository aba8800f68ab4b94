"""
``delivery.db``: which message goes to which channel, and whether it was sent.

It belongs to the process that holds ``deliver.lock``: ``sshbell deliver``, or ``sshbell ring`` if ``deliver`` is not running.
``sshbell outbox``, and ``sshbell ring`` otherwise, write to it in short transactions.
"""

import json
from collections.abc import Iterable, Iterator

from consumer.store.delivery_holds import AND_CHOSEN, HOLDS_WITH_FIRST, IS_HELD, NAME_IN_SPAN, Holds
from consumer.store.delivery_rows import PENDING_COLUMNS, Budget, DeliveryRow, Pending, Routed, Standing, Way
from consumer.store.outbox import OutboxPosition, Queued
from consumer.store.rows import checked

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
# Rows that are forgotten at once where bytes count.
_BYTES_PIECE = 2_000
_OPEN = "state = 'pending' AND hold = ''"
_DUE = f"channel = ? AND {_OPEN} AND (next_us <= ? OR next_us > ?)"
_UNFOLDED = f"channel = ? AND budget = ? AND {_OPEN} AND digest IS NULL AND next_us <= ?"
# No channel waits longer than this for its next try. A later time was written while the clock was wrong.
LONGEST_WAIT_US = 3600 * 1_000_000


class Delivery(Holds):
    """Writes ``delivery.db``. If it had to replace the file, ``deliver`` routes the outbox again."""

    def cursors(self) -> tuple[OutboxPosition, OutboxPosition]:
        """
        Return how far the outbox is routed: everything up to the first position, and all but noise up to the second.

        The second may be before the first.
        """
        seq, event_id, ahead, ahead_id = self._run("SELECT seq, event_id, ahead, ahead_id FROM cursor").fetchone()
        return OutboxPosition(int(seq), str(event_id)), OutboxPosition(int(ahead), str(ahead_id))

    def restart(self) -> None:
        """Route the outbox from its beginning, because ``state.db`` is new. Messages that exist here are not added twice."""
        with self._transaction():
            self._run(
                "UPDATE cursor SET base = (SELECT coalesce(max(seq), 0) FROM delivery), seq = 0, event_id = '',"
                " ahead = 0, ahead_id = ''"
            )

    def route(
        self,
        routed: Iterable[Routed],
        dead_before_us: int = 0,
        *,
        until: OutboxPosition | None = None,
        ahead: OutboxPosition | None = None,
    ) -> set[str]:
        """
        Queue messages for channels, and move the cursors; return the channels that got a message.

        A message from before ``dead_before_us`` is a dead letter at once: after the loss of a file, sshbell sends no old news.

        This does not sync to disk. After a power cut, the cursors are also back, so sshbell reads the outbox again from there.

        Args:
            routed: the messages, in order.
            dead_before_us: as above; microseconds since 1970 UTC.
            until: with these messages, everything up to here is routed. None: that cursor stays.
            ahead: likewise, but only all that is no noise.
        """
        found: set[str] = set()
        with self._unsynced(), self._transaction():
            (base,) = self._run("SELECT base FROM cursor").fetchone()
            for message, channels, budget, ways in routed:
                for channel in channels:
                    is_full = message.is_noise and self._count(channel) >= WAITING_LIMIT
                    is_old = message.queued_us < dead_before_us
                    state = self._queue(
                        message, channel, base + message.seq, budget, ways.get(channel, Way()), is_full=is_full, is_old=is_old
                    )
                    if state == "pending":
                        self._waiting[channel] = self._count(channel) + 1
                        found.add(channel)
            if until is not None:
                self._run("UPDATE cursor SET seq = ?, event_id = ?", until)
            if ahead is not None:
                self._run("UPDATE cursor SET ahead = ?, ahead_id = ?", ahead)
        return found

    def _queue(
        self, message: Queued, channel: str, seq: int, budget: str, way: Way, *, is_full: bool, is_old: bool
    ) -> str | None:
        """Add a message to a channel, unless it is already there; return its state. ``is_full``: too many wait."""
        if self._run("SELECT 1 FROM delivery WHERE event_id = ? AND channel = ?", (message.event_id, channel)).fetchone():
            return None
        state, reason, hold = "pending", None, ""
        if is_old:
            state, reason = "dead", "it was too old when deliver read it"
        elif way.plan is not None:
            hold = self._joined(channel, way.plan, is_urgent=way.is_urgent)
        if is_full and state == "pending" and not (hold and self._is_empty(channel, hold)):
            state, reason = "dropped", f"more than {WAITING_LIMIT:,} messages wait for this channel"
            if hold:
                self._run("UPDATE hold SET omitted = omitted + 1 WHERE channel = ? AND name = ?", (channel, hold))
                reason += "; a digest counts it"
        self._run(
            "INSERT INTO delivery"
            " (event_id, channel, seq, state, queued_us, next_us, done_us, reason, body, budget, hold, urgent)"
            " VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?)",
            (
                message.event_id, channel, seq, state, message.queued_us, message.queued_us if reason else None, reason,
                message.body, self._budget_for(channel, budget, message.queued_us), hold, way.is_urgent,
            ),
        )  # fmt: skip
        return state

    def _budget_for(self, channel: str, wanted: str, now_us: int) -> str:
        """Return the budget that a message gets: the one it asks for, or a shared one if there are too many."""
        host = wanted.partition(" ")[0]
        for name in filter(None, (wanted, host)):
            if self._run("SELECT 1 FROM budget WHERE channel = ? AND name = ?", (channel, name)).fetchone():
                return name
            (total,) = self._run("SELECT count(*) FROM budget WHERE channel = ?", (channel,)).fetchone()
            (of_host,) = self._run(
                f"SELECT count(*) FROM budget WHERE channel = ? AND {NAME_IN_SPAN}",  # noqa: S608 - our own text
                (channel, f"{host} ", f"{host}!"),
            ).fetchone()
            if total < BUDGET_LIMIT and (of_host < ACCOUNT_LIMIT or name == host):
                self._run("INSERT INTO budget VALUES (?, ?, NULL, ?)", (channel, name, now_us))
                return name
        return _SHARED if wanted else ""

    def _count(self, channel: str) -> int:
        """Return how many messages wait for a channel."""
        known = self._waiting.get(channel)
        if known is not None:
            return known
        total = 0
        for which in (_OPEN, IS_HELD):
            (found,) = self._run(
                f"SELECT count(*) FROM delivery WHERE channel = ? AND {which}",  # noqa: S608 - our own text
                (channel,),
            ).fetchone()
            total += found
        self._waiting[channel] = total
        return total

    def put_test(self, event_id: str, channels: Iterable[str], now_us: int, body: bytes) -> None:
        """Queue a test for channels; it goes before everything else."""
        with self._transaction():
            for channel in channels:
                self._run(
                    "INSERT INTO delivery (event_id, channel, seq, state, queued_us, next_us, body)"
                    " VALUES (?, ?, 0, 'pending', ?, 0, ?)",
                    (event_id, channel, now_us, body),
                )

    def due(self, channel: str, now_us: int, spent: Iterable[str] = (), *, only_urgent: bool = False) -> Pending | None:
        """
        Return the first message that is due now and in no hold: a test, then messages about logins, then noise; the oldest of
        each kind first.

        The channel itself may still have to wait.

        Args:
            channel: its name.
            now_us: the wall clock; a message may have to wait for its next try.
            spent: names of the budgets whose messages have to wait.
            only_urgent: leave out messages that wait for the end of the quiet hours.
        """
        without = set(spent)
        others = json.dumps(sorted(without))
        for which, is_open in (
            ("seq = 0", True), ("budget <> '' AND budget NOT IN (SELECT value FROM json_each(?))", True),
            ("budget = '' AND seq > 0", "" not in without),
        ):  # fmt: skip
            if not is_open:
                continue
            if only_urgent and which != "seq = 0":
                which += " AND urgent"  # noqa: PLW2901 - a part of it
            row = self._run(
                f"SELECT {PENDING_COLUMNS} FROM delivery WHERE {_DUE} AND {which} ORDER BY seq LIMIT 1",  # noqa: S608 - our own text
                (channel, now_us, now_us + LONGEST_WAIT_US, *([others] if "?" in which else [])),
            ).fetchone()
            if row is not None:
                return Pending(*row)
        return None

    def next_bodies(self, message: Pending, channel: str, limit: int) -> list[bytes]:
        """Return the events of the next messages of the same kind as ``message``, as JSON, in order."""
        which = "budget <> ''" if message.budget else "budget = ''"
        rows = self._run(
            f"SELECT body FROM delivery WHERE channel = ? AND {_OPEN} AND digest IS NULL AND {which}"  # noqa: S608
            " ORDER BY seq LIMIT ?",
            (channel, limit),
        )
        return [body for (body,) in rows.fetchall()]

    def next_us(self, channel: str, spent: Iterable[str] = (), *, only_urgent: bool = False) -> int | None:
        """Return when the first message in no hold is due, except those of spent budgets; None if none waits."""
        without = set(spent)
        which = ("AND budget <> ''" if "" in without else "") + (" AND urgent" if only_urgent else "")
        (found,) = self._run(
            f"SELECT min(next_us) FROM delivery WHERE channel = ? AND {_OPEN} {which}"  # noqa: S608
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

    def held(self, channel: str, spent: Iterable[str], now_us: int) -> set[str]:
        """Return the names of those spent budgets that have waiting messages, or folds that are due."""
        without = set(spent)
        if not without:
            return set()
        rows = self._run(
            f"SELECT DISTINCT budget FROM delivery WHERE channel = ? AND {_OPEN} AND budget <> ''"  # noqa: S608
            " AND budget IN (SELECT value FROM json_each(?))",
            (channel, json.dumps(sorted(without))),
        ).fetchall()
        found = {str(name) for (name,) in rows}
        noise = f"SELECT 1 FROM delivery WHERE channel = ? AND {_OPEN} AND budget = '' AND seq > 0 LIMIT 1"  # noqa: S608
        if "" in without and self._run(noise, (channel,)).fetchone():
            found.add("")
        folds = self._run(
            f"SELECT DISTINCT budget FROM {HOLDS_WITH_FIRST} WHERE hold.channel = ? AND due_us <= ? AND window_us > 0",  # noqa: S608
            (channel, now_us),
        ).fetchall()
        return found | (without & {str(name) for (name,) in folds})

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
            where = _loose(budget) if only is None else f"{_loose(budget)} {AND_CHOSEN}"
            chosen = () if only is None else (json.dumps(list(only)),)
            values = (digest, channel, budget, now_us, *chosen)
            return self._run(f"UPDATE delivery SET digest = ? WHERE {where}", values).rowcount  # noqa: S608

    def folded(self, channel: str, digest: str) -> Iterator[tuple[int, bytes]]:
        """Yield the queue time and the event (JSON) of each message of a digest, in order."""
        where = "channel = ? AND digest = ? AND state = 'pending'"
        yield from self._by_seq("max(queued_us, free_us), body", where, (channel, digest))

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
            if message.digest:
                self._run("DELETE FROM hold WHERE channel = ? AND name = ?", (channel, message.digest))
            self._run(
                "INSERT INTO channel (name, last_success_us) VALUES (:name, :now)"
                " ON CONFLICT (name) DO UPDATE SET last_success_us = :now, failures = 0, retry_us = 0",
                {"name": channel, "now": now_us},
            )
            if message.seq:
                self._run(
                    "INSERT INTO budget VALUES (?, ?, ?, ?)"
                    " ON CONFLICT (channel, name) DO UPDATE SET tokens = excluded.tokens, tokens_us = excluded.tokens_us",
                    (channel, message.budget, tokens, now_us),
                )
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
                # What it only counted stays among the dropped messages.
                self._run("DELETE FROM hold WHERE channel = ? AND name = ?", (channel, message.digest))
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

    def give_up(self, channel: str, before_us: int, now_us: int, reason: str, *, which: str = _OPEN) -> int:
        """Turn messages that could have been sent since before a time into dead letters; return how many."""
        self._waiting.clear()
        with self._transaction():
            return self._run(
                "UPDATE delivery SET state = 'dead', done_us = ?, digest = NULL, reason = coalesce(reason, ?)"  # noqa: S608
                f" WHERE channel = ? AND {which} AND max(queued_us, free_us) < ?",
                (now_us, reason, channel, before_us),
            ).rowcount

    def give_up_of_removed(self, channels: Iterable[str], before_us: int, now_us: int) -> int:
        """Do the same for channels that are no longer configured; return how many."""
        waiting = {str(name) for (name,) in self._rows("SELECT DISTINCT channel FROM delivery WHERE state = 'pending'")}
        return sum(
            self.give_up(name, before_us, now_us, "the configuration has no such channel any more", which=which)
            for name in waiting.difference(channels)
            for which in (_OPEN, IS_HELD)
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

    def outcome(self, event_id: str) -> dict[str, tuple[str, int, str | None]]:
        """Return state, attempts and reason of a message by channel."""
        rows = self._rows("SELECT channel, state, attempts, reason FROM delivery WHERE event_id = ?", (event_id,))
        return {channel: (state, attempts, reason) for channel, state, attempts, reason in rows}

    def entries(self, states: Iterable[str], limit: int, event_id: str = "", channel: str = "") -> list[DeliveryRow]:
        """Return messages to show, newest first; only those of a channel, or of an event id's beginning, if given."""
        rows = self._rows(
            "SELECT event_id, channel, state, attempts, queued_us,"
            " CASE state WHEN 'pending' THEN max(next_us, coalesce(retry_us, 0)) END,"
            " coalesce(reason, CASE WHEN state = 'pending' AND failures > 0 THEN last_error END), body, budget, hold"
            " FROM delivery LEFT JOIN channel ON name = channel"
            " WHERE state IN (SELECT value FROM json_each(?)) AND substr(event_id, 1, ?) = ? AND ? IN ('', channel)"
            " ORDER BY queued_us DESC, seq DESC LIMIT ?",
            (json.dumps(list(states)), len(event_id), event_id, channel, limit),
        )  # fmt: skip
        return [checked(self._path, row, DeliveryRow) for row in list(rows)]

    def retry(self, event_id: str | None, channel: str | None) -> int:
        """Make waiting messages and dead letters due now; return how many. None means all events, or all channels."""
        self._waiting.clear()
        with self._transaction():
            where, values = _chosen(event_id, channel)
            self._run(
                f"UPDATE channel SET retry_us = 0, failures = 0 WHERE name IN (SELECT channel FROM delivery WHERE {where})",  # noqa: S608
                values,
            )
            return self._run(
                "UPDATE delivery SET state = 'pending', next_us = 0, attempts = 0, done_us = NULL, hold = '',"  # noqa: S608
                f" digest = CASE state WHEN 'pending' THEN digest END WHERE {where}",
                values,
            ).rowcount

    def drop(self, event_id: str | None, channel: str | None, now_us: int) -> int:
        """Drop waiting messages and dead letters; return how many. None means all events, or all channels."""
        self._waiting.clear()
        with self._transaction():
            where, values = _chosen(event_id, channel)
            return self._run(
                f"UPDATE delivery SET state = 'dropped', done_us = ?, digest = NULL WHERE {where}",  # noqa: S608 - our own text
                (now_us, *values),
            ).rowcount

    def _finish(self, channel: str, message: Pending, state: str, now_us: int, reason: str | None) -> None:
        where, key = _of(channel, message)
        finished = self._run(
            f"UPDATE delivery SET state = ?, attempts = attempts + 1, done_us = ?, reason = ? WHERE {where}",  # noqa: S608
            (state, now_us, reason, *key),
        ).rowcount
        if channel in self._waiting:
            self._waiting[channel] -= finished

    def _fault(self, channel: str, now_us: int, reason: str, failures: int, retry_us: int) -> None:
        self._run(
            "INSERT INTO channel (name, last_error_us, last_error, failures, retry_us)"
            " VALUES (:name, :now, :why, :failures, :retry)"
            " ON CONFLICT (name) DO UPDATE"
            " SET last_error_us = :now, last_error = :why, failures = :failures, retry_us = :retry",
            {"name": channel, "now": now_us, "why": reason, "failures": failures, "retry": retry_us},
        )


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
