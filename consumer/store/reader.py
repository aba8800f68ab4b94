"""Reads the store of ``run`` or of the workers: SQLite's files in a directory, or PostgreSQL."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from consumer.errors import missing_package
from consumer.store.database import STATE_DB, DatabaseReader

if TYPE_CHECKING:
    from consumer.store.postgresql import PostgresSession

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


def reader_of(store: Store, file: str = STATE_DB, *, is_optional: bool) -> Reader:
    """
    Return a reader. It reads statements in SQLite's form, in either kind of store.

    Args:
        store: where the rows are.
        file: which of SQLite's files has them; PostgreSQL has all in one database.
        is_optional: without that file, there are no rows.
    """
    if isinstance(store, Path):
        return DatabaseReader(store / file, is_optional=is_optional)
    return postgres_session(store)


def path_of(store: Store) -> Path:
    """Return where the rows are, for error messages."""
    return store / STATE_DB if isinstance(store, Path) else Path("PostgreSQL")


class Members(NamedTuple):
    """The processes that are connected to PostgreSQL, as ``PID on HOST``. ``deliver``: the one that sends; "" if none does."""

    workers: list[str]
    deliver: str


def members_of(database: str) -> Members:
    """
    Return the workers that are connected to PostgreSQL, and the ``deliver`` that has the lock.

    Raises:
        StoreError: it does not answer.
    """
    with closing(postgres_session(database)) as session:
        return session.members()


def postgres_session(database: str) -> "PostgresSession":
    """Return a connection to PostgreSQL, which opens at the first statement."""
    try:
        from consumer.store.postgresql import PostgresSession  # noqa: PLC0415 - only workers need its library
    except ImportError as error:
        raise missing_package(error, "kafka") from error
    return PostgresSession(database)
