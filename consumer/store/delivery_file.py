"""The file ``delivery.db``: its statements and transactions, and a new file in place of a damaged one."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from consumer.errors import DamagedStoreError, StoreError
from consumer.store.database import (
    DELIVERY_DB,
    guarded,
    open_for_writing,
    open_of_another,
    set_aside,
    store_error,
    transaction,
    used_bytes,
)

# Rows in memory at once.
_BATCH = 200


class Rows(Protocol):
    """The result of a statement, of SQLite or of PostgreSQL."""

    @property
    def rowcount(self) -> int:
        """How many rows the statement has changed."""

    def fetchone(self) -> Any:
        """Return the next row; None if there is none."""

    def fetchall(self) -> list[Any]:
        """Return the other rows."""

    def __iter__(self) -> Iterator[Any]:
        """Yield the other rows."""


class DeliveryFile:
    """
    Runs statements. If the file turns out to be damaged in use, the next call sets it aside and creates a new one.

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
        # How many messages wait for a channel. Counting visits each of them, which takes too long for every batch of a flood.
        self._waiting: dict[str, int] = {}
        self._changes = self._data_version()

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def has_changed(self) -> bool:
        """Return whether another process has written since the last call."""
        before, self._changes = self._changes, self._data_version()
        if before == self._changes:
            return False
        self._waiting.clear()
        return True

    def _run(self, statement: str, values: Sequence[object] | Mapping[str, object] = ()) -> Rows:
        connection = self._usable()
        try:
            return connection.execute(statement, values)
        except sqlite3.Error as error:
            raise self._noted(store_error(connection, error)) from error

    def _rows(self, statement: str, values: Sequence[object] = ()) -> Iterator[Any]:
        with self._guarded():
            yield from self._run(statement, values)

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
        """Remember that the file is damaged, if the error means that. What the transaction has done to counts is not known."""
        self._waiting.clear()
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

    def _used_bytes(self) -> int:
        self._run("SELECT 1")  # opens it
        assert self._connection is not None
        return used_bytes(self._connection)
