"""Reads the store of ``run`` or of the workers: SQLite's files in a directory, or PostgreSQL."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from consumer.store.database import STATE_DB, DatabaseReader

Store: TypeAlias = Path | str
"""The directory of SQLite's files, or a connection string of PostgreSQL."""


class Reader(Protocol):
    """Reads rows. Only one thread may use it at a time."""

    def close(self) -> None:
        """Close the connection. The next query opens it again."""

    def rows(self, statement: str, values: Sequence[object] | Mapping[str, object] = ()) -> list[tuple[Any, ...]]:
        """
        Return all rows of a query.

        Raises:
            StoreError: the store cannot be read now.
        """


def reader_of(store: Store, *, is_optional: bool) -> Reader:
    """Return a reader of events and sessions. ``is_optional``: without a file of SQLite, there are no rows."""
    if isinstance(store, Path):
        return DatabaseReader(store / STATE_DB, is_optional=is_optional)
    from consumer.store.postgresql import PostgresSession  # noqa: PLC0415 - only workers need its library

    return PostgresSession(store)
