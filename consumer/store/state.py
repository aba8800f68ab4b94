"""``state.db``: events, sessions, the outbox, and the pipeline's memory. ``sshbell run`` is its only writer."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from consumer.ecs import json_line, of_event
from consumer.events import Attempt, Event, Forged, Login, Logout, Probe
from consumer.records import AMBIGUOUS, readable
from consumer.store.database import open_for_writing, transaction

# Bounds of size; the oldest go first. 2,000,000 events are about 400 MB.
EVENT_LIMIT = 2_000_000
OUTBOX_LIMIT = 200_000
SESSION_LIMIT = 1_000_000

_EVENT_COLUMNS = 14


class State:
    """
    Writes ``state.db``.

    Raises:
        StoreError: it cannot be written; everything may be tried again, since rows are keyed by event id.
    """

    def __init__(self, state_dir: Path, report: Callable[[str], None]) -> None:
        self._connection = open_for_writing(state_dir / "state.db", report)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def record(self, events: Iterable[Event], told: frozenset[str], now_us: int) -> int:
        """
        Keep what happened; what is there already stays as it is.

        Args:
            events: in the order in which they were decided.
            told: actions that go to the outbox.
            now_us: of the wall clock.

        Returns:
            How many messages are new in the outbox.
        """
        outbox = 0
        with transaction(self._connection):
            rows: list[tuple[object, ...]] = []
            for event in events:
                action = str(event.__struct_config__.tag)
                row = _row(event, action)
                if action in told or isinstance(event, Login | Logout):
                    is_new = self._connection.execute(_INSERT_EVENT, row).rowcount
                    self._session(event)
                    if is_new and action in told:
                        self._connection.execute(
                            "INSERT OR IGNORE INTO outbox (event_id, action, queued_us, body) VALUES (?, ?, ?, ?)",
                            (event.id, action, now_us, json_line(of_event(event, []))),
                        )
                        outbox += 1
                else:
                    rows.append(row)
            if rows:
                self._connection.executemany(_INSERT_EVENT, rows)
        return outbox

    def _session(self, event: Event) -> None:
        if isinstance(event, Login):
            login, closed_us = event, None
        elif isinstance(event, Logout):
            login, closed_us = event.login, event.end_us
        else:
            return
        self._connection.execute(
            "INSERT INTO session VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (login_id) DO UPDATE SET closed_us = coalesce(excluded.closed_us, closed_us)",
            (
                login.id, readable(login.host), login.user, login.uid, *_source(login), login.method,
                None if login.info is None else readable(login.info), login.origin, login.time_us, closed_us,
            ),
        )  # fmt: skip

    def message(self, event_id: str, action: str, now_us: int, body: bytes) -> None:
        """Put a message of our own into the outbox: a test, or a report about sshbell itself."""
        with transaction(self._connection):
            self._connection.execute(
                "INSERT OR IGNORE INTO outbox (event_id, action, queued_us, body) VALUES (?, ?, ?, ?)",
                (event_id, action, now_us, body),
            )

    def has(self, event_id: str) -> bool:
        """Tell whether an event is known."""
        return self._connection.execute("SELECT 1 FROM event WHERE id = ?", (event_id,)).fetchone() is not None

    def snapshot(self) -> dict[str, bytes]:
        """Return the parts of the pipeline's memory as they were last kept."""
        return dict(self._connection.execute("SELECT part, body FROM snapshot"))

    def keep_snapshot(self, changed: Mapping[str, bytes | None]) -> None:
        """Keep parts of the pipeline's memory, and forget those that are None, so that they outlive a power cut."""
        self._connection.execute("PRAGMA synchronous = FULL")
        try:
            with transaction(self._connection):
                self._connection.executemany(
                    "INSERT OR REPLACE INTO snapshot VALUES (?, ?)",
                    [(part, body) for part, body in changed.items() if body is not None],
                )
                self._connection.executemany(
                    "DELETE FROM snapshot WHERE part = ?", [(part,) for part, body in changed.items() if body is None]
                )
        finally:
            self._connection.execute("PRAGMA synchronous = NORMAL")

    def set_status(self, values: Mapping[str, int]) -> None:
        """Keep figures for ``sshbell status``."""
        with transaction(self._connection):
            self._connection.executemany("INSERT OR REPLACE INTO status VALUES (?, ?)", list(values.items()))

    def forget(self, before_us: int) -> None:
        """Forget what is older, and what is beyond the bounds."""
        with transaction(self._connection):
            run = self._connection.execute
            run("DELETE FROM event WHERE time_us < ?", (before_us,))
            run("DELETE FROM session WHERE opened_us < ? AND closed_us IS NOT NULL", (before_us,))
            run("DELETE FROM outbox WHERE queued_us < ?", (before_us,))
            for table, column, limit in (
                ("event", "time_us", EVENT_LIMIT), ("session", "opened_us", SESSION_LIMIT), ("outbox", "seq", OUTBOX_LIMIT),
            ):  # fmt: skip
                last = f"SELECT {column} FROM {table} ORDER BY {column} DESC LIMIT 1 OFFSET ?"  # noqa: S608 - our own names
                run(f"DELETE FROM {table} WHERE {column} < ({last})", (limit,))  # noqa: S608


_INSERT_EVENT = f"INSERT OR IGNORE INTO event VALUES ({', '.join('?' * _EVENT_COLUMNS)})"  # noqa: S608 - question marks


def _source(event: Event) -> tuple[str | None, int | None]:
    return None if event.address is None else readable(event.address), None if event.port is None else int(event.port)


def _row(event: Event, action: str) -> tuple[object, ...]:
    login: Any = event.login if isinstance(event, Logout) else event
    uid = method = info = reason = login_id = None
    count = 1
    match event:
        case Login() | Logout():
            uid, method = login.uid, login.method
            info = None if login.info is None else readable(login.info)
            login_id = login.id if isinstance(event, Logout) else None
        case Attempt():
            method, count, reason = event.method, event.count, event.reason
        case Probe():
            reason = event.reason
        case Forged():
            uid, reason = event.uid, event.claim
    if event.line[AMBIGUOUS]:
        reason = f"{reason}; ambiguous" if reason else "ambiguous"
    return (
        event.id, event.time_us, action, readable(event.host), event.user, uid, *_source(event), method, info, event.origin,
        count, None if reason is None else readable(reason), login_id,
    )  # fmt: skip
