"""
Holds: what collects messages of a channel until a time.

A fold collects the failed logins from an address. Its first message goes at once. A digest of a route and the quiet hours collect
all their messages.
"""

import json
from collections.abc import Iterable, Iterator

from consumer.store.delivery_file import DeliveryFile
from consumer.store.delivery_rows import PENDING_COLUMNS, Hold, HoldPlan, Pending

# Holds of one channel, and folds of failed logins on one host. Beyond the first, sshbell folds no further logins; beyond either,
# one fold takes the failed logins from all other addresses.
HOLD_LIMIT, BLOCK_LIMIT = 10_000, 5
_EVERYTHING = "fold *"
# No hold waits longer than this for its time. A later time was written while the clock was wrong.
LONGEST_HOLD_US = 8 * 86400 * 1_000_000
# Each hold with its first message. With CROSS JOIN, SQLite begins with the holds, of which there are fewer.
HOLDS_WITH_FIRST = (
    "hold CROSS JOIN delivery ON delivery.channel = hold.channel AND state = 'pending' AND hold <> '' AND hold = name AND seq ="
    " (SELECT min(it.seq) FROM delivery AS it WHERE it.channel = hold.channel AND it.state = 'pending'"
    " AND it.hold <> '' AND it.hold = name)"
)
IS_HELD = "state = 'pending' AND hold <> ''"
# Further conditions for some messages of a hold or of a budget: those of a JSON list of event ids.
AND_CHOSEN = "AND event_id IN (SELECT value FROM json_each(?))"
# By bytes. By the rules of a language, PostgreSQL would put "Web1 " or "web1-2 " between "web1 " and "web1!", too.
NAME_IN_SPAN = "name >= ? COLLATE BINARY AND name < ? COLLATE BINARY"


class Holds(DeliveryFile):
    """The holds of all channels, in ``delivery.db``."""

    def _joined(self, channel: str, plan: HoldPlan, *, is_urgent: bool) -> str:
        """Return the hold that a message joins; "" if it goes at once, because it is the first of a fold."""
        if self._has_hold(channel, plan.name):
            return plan.name
        name = self._fold_with_room(channel, plan) if plan.window_us else plan.name
        if not name or self._has_hold(channel, name):
            return name
        self._run(
            "INSERT INTO hold (channel, name, due_us, window_us, urgent) VALUES (?, ?, ?, ?, ?)",
            (channel, name, plan.due_us, plan.window_us, is_urgent),
        )
        return "" if plan.window_us else name

    def _has_hold(self, channel: str, name: str) -> bool:
        return self._run("SELECT 1 FROM hold WHERE channel = ? AND name = ?", (channel, name)).fetchone() is not None

    def _fold_with_room(self, channel: str, plan: HoldPlan) -> str:
        """Return the fold for a message: its own, or a shared one if there are too many; "" if it goes without one."""
        (total,) = self._run(
            "SELECT count(*) FROM (SELECT 1 FROM hold WHERE channel = ? LIMIT ?) AS holds", (channel, HOLD_LIMIT)
        ).fetchone()
        if total >= HOLD_LIMIT:
            return _EVERYTHING if plan.shared else ""
        if not plan.shared:
            return plan.name
        begin = f"{plan.shared} "
        (of_host,) = self._run(
            f"SELECT count(*) FROM hold WHERE channel = ? AND {NAME_IN_SPAN}",  # noqa: S608 - our own text
            (channel, begin, f"{plan.shared}!"),
        ).fetchone()
        return plan.shared if of_host >= BLOCK_LIMIT else plan.name

    def _is_empty(self, channel: str, hold: str) -> bool:
        statement = f"SELECT 1 FROM delivery WHERE channel = ? AND {IS_HELD} AND hold = ? LIMIT 1"  # noqa: S608 - our own text
        return self._run(statement, (channel, hold)).fetchone() is None

    def due_hold(
        self, channel: str, now_us: int, spent: Iterable[str] = (), *, only_urgent: bool = False
    ) -> tuple[Hold, Pending] | None:
        """
        Return a hold that is due, and its first message. Digests come before folds, then the one that was due first.

        Args:
            channel: its name.
            now_us: the wall clock.
            spent: names of the budgets whose folds have to wait.
            only_urgent: leave out holds that wait for the end of the quiet hours.
        """
        due = "hold.channel = :channel AND (due_us <= :now OR due_us > :never)" + (" AND hold.urgent" if only_urgent else "")
        values = {
            "channel": channel, "now": now_us, "never": now_us + LONGEST_HOLD_US, "spent": json.dumps(sorted(set(spent))),
        }  # fmt: skip
        if self._run(f"SELECT 1 FROM hold WHERE {due} LIMIT 1", values).fetchone() is None:  # noqa: S608 - our own text
            return None
        row = self._run(
            f"SELECT name, due_us, window_us, omitted, {PENDING_COLUMNS} FROM {HOLDS_WITH_FIRST}"  # noqa: S608
            f" WHERE {due} AND (window_us = 0 OR budget NOT IN (SELECT value FROM json_each(:spent)))"
            " ORDER BY window_us > 0, due_us LIMIT 1",
            values,
        ).fetchone()
        return None if row is None else (Hold(*row[:4]), Pending(*row[4:]))

    def forget_holds(self, channel: str, now_us: int) -> None:
        """Forget the holds that were due and have no messages."""
        empty = (
            "channel = ? AND (due_us <= ? OR due_us > ?) AND NOT EXISTS (SELECT 1 FROM delivery AS it"
            " WHERE it.channel = hold.channel AND it.state = 'pending' AND it.hold <> '' AND it.hold = hold.name)"
        )
        values = (channel, now_us, now_us + LONGEST_HOLD_US)
        if self._run(f"SELECT 1 FROM hold WHERE {empty} LIMIT 1", values).fetchone():  # noqa: S608 - our own text
            with self._transaction():
                self._run(f"DELETE FROM hold WHERE {empty}", values)  # noqa: S608

    def next_hold_us(self, channel: str, now_us: int) -> int | None:
        """Return when the next hold of a channel becomes due; None if none does."""
        (found,) = self._run("SELECT min(due_us) FROM hold WHERE channel = ? AND due_us > ?", (channel, now_us)).fetchone()
        return None if found is None else int(found)

    def holds(self, channel: str) -> dict[str, int]:
        """Return when each hold of a channel is due, by its name."""
        rows = self._rows("SELECT name, due_us FROM hold WHERE channel = ? AND due_us IS NOT NULL", (channel,))
        return {str(name): int(due_us) for name, due_us in rows}

    def is_hold_crowded(self, channel: str, hold: Hold) -> bool:
        """Return whether a hold has several messages, or has only counted some."""
        statement = f"SELECT 1 FROM delivery WHERE channel = ? AND {IS_HELD} AND hold = ? LIMIT 2"  # noqa: S608 - our own text
        return bool(hold.omitted) or len(self._run(statement, (channel, hold.name)).fetchall()) > 1

    def held_bodies(self, channel: str, hold: str) -> Iterator[tuple[str, bytes]]:
        """Yield event id and event (JSON) of each message in a hold, in order."""
        yield from self._by_seq("event_id, body", f"channel = ? AND {IS_HELD} AND hold = ?", (channel, hold))

    def close_hold(self, channel: str, hold: Hold, digest: str | None, now_us: int, only: Iterable[str] | None = None) -> int:
        """
        Free the messages of a hold, or those whose event ids are in ``only``, as one digest; return how many.

        A fold that is empty afterwards goes on for another window. Any other hold ends.

        Args:
            channel: its name.
            hold: the hold.
            digest: the id of the digest; None to send each message alone.
            now_us: the wall clock.
            only: event ids; None for all messages.
        """
        with self._transaction():
            chosen = "" if only is None else f" {AND_CHOSEN}"
            values: tuple[object, ...] = () if only is None else (json.dumps(list(only)),)
            count = self._run(
                f"UPDATE delivery SET digest = ?, hold = '', free_us = ?"  # noqa: S608 - our own text
                f" WHERE channel = ? AND {IS_HELD} AND hold = ?{chosen}",
                (digest, now_us, channel, hold.name, *values),
            ).rowcount
            if digest is not None and count:
                self._run(
                    "INSERT INTO hold (channel, name, due_us, window_us, omitted)"
                    " SELECT channel, ?, NULL, 0, omitted FROM hold WHERE channel = ? AND name = ? AND omitted > 0",
                    (digest, channel, hold.name),
                )
                self._run("UPDATE hold SET omitted = 0 WHERE channel = ? AND name = ?", (channel, hold.name))
            if self._is_empty(channel, hold.name):
                self._run(
                    "UPDATE hold SET due_us = ? WHERE channel = ? AND name = ? AND window_us > 0"
                    if hold.window_us
                    else "DELETE FROM hold WHERE ? IS NOT NULL AND channel = ? AND name = ?",
                    (now_us + hold.window_us, channel, hold.name),
                )
            return count

    def omitted(self, channel: str, digest: str) -> int:
        """Return how many messages a digest only counts."""
        row = self._run("SELECT omitted FROM hold WHERE channel = ? AND name = ?", (channel, digest)).fetchone()
        return 0 if row is None else int(row[0])
