"""The outbox of ``state.db`` for ``sshbell deliver``. The file may not exist yet, and ``run`` may replace it."""

import sqlite3
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from consumer.errors import StoreError
from consumer.stamp import Stamp
from consumer.store.database import STATE_DB, reading


class Queued(NamedTuple):
    """A message in the outbox. ``queued_us`` is the wall clock when ``run`` queued it; ``body`` is the event as JSON."""

    seq: int
    event_id: str
    action: str
    queued_us: int
    body: bytes


class Outbox:
    """Reads messages in order, over a connection that it keeps while the file is the same."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / STATE_DB
        self._file: Stamp | None = None
        self._open = ExitStack()
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close the file."""
        self._open.close()
        self._connection = self._file = None

    def since(self, seq: int, limit: int) -> list[Queued]:
        """
        Return messages after ``seq``; none if there is no file yet.

        Raises:
            StoreError: it cannot be read now.
        """
        connection = self._current()
        if connection is None:
            return []
        return [
            Queued(*row)
            for row in self._rows(
                connection,
                "SELECT seq, event_id, action, queued_us, body FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?",
                seq,
                limit,
            )
        ]

    def is_behind(self, seq: int, event_id: str) -> bool:
        """
        Return whether ``state.db`` is a new file, so that ``seq`` is not the number of ``event_id`` in it.

        Raises:
            StoreError: it cannot be read now.
        """
        connection = self._current()
        if connection is None or not seq:
            return False
        last = self._rows(connection, "SELECT seq FROM sqlite_sequence WHERE name = 'outbox'")
        here = self._rows(connection, "SELECT event_id FROM outbox WHERE seq = ?", seq)
        # run deletes old messages, so a missing row proves nothing.
        return not last or last[0][0] < seq or bool(here and here[0][0] != event_id)

    def _current(self) -> sqlite3.Connection | None:
        found = Stamp.of(self._path)
        if found is None:
            self.close()
        elif not found.is_same_file(self._file):
            self.close()
            self._connection = self._open.enter_context(reading(self._path))
            self._file = found
        return self._connection

    def _rows(self, connection: sqlite3.Connection, statement: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            found: list[tuple[Any, ...]] = connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            self.close()
            raise StoreError(f"{self._path}: {error}") from error
        return found
