"""
PostgreSQL, through psycopg 3. Only ``sshbell worker`` and its ``deliver`` need it: ``pip install 'sshbell[kafka]'``.

All tables are in the schema ``sshbell``. Statements that SQLite gets, too, are written for SQLite and in_postgres here.
"""

import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.resources import files
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from consumer.errors import ConfigError, NewerStoreError, StoreError
from consumer.store.reader import Members

_VERSION = 2
# Steps from each version to the next, as in database.py.
_MIGRATIONS = {
    # What sshbell status and sshbell block export read.
    1: (
        "CREATE TABLE note (name text PRIMARY KEY, text text NOT NULL);"
        "CREATE INDEX event_block ON event (time_us) WHERE action = 'ssh_block';"
    ),
}
# Of the locks below; any number that no other program is likely to use.
_SPACE = 7_554_352
_UPGRADE, _DELIVER = 1, 2
# A server that does not answer must not hold up a worker for hours. The connection string may have other values.
_DEFAULTS = {
    "connect_timeout": "5", "keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}  # fmt: skip
# The same for the server: the locks of a machine without power, or behind a broken network, must not last for hours.
_SESSION = (
    "SELECT set_config('search_path', 'sshbell, pg_catalog', false), set_config('tcp_keepalives_idle', '10', false),"
    " set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '3', false),"
    " set_config('tcp_user_timeout', '20000', false), set_config('idle_in_transaction_session_timeout', '60000', false)"
)
# The beginnings of the names of sessions, for ``end_stuck``, ``members_of`` and people who look at pg_stat_activity.
WORKER, _OTHER = "sshbell worker", "sshbell"


@lru_cache(maxsize=500)
def in_postgres(statement: str) -> str:
    """Return a statement of SQLite as PostgreSQL and psycopg want it."""
    statement = re.sub(r":([a-z]+)", r"%(\1)s", statement).replace("?", "%s")
    statement = re.sub(r'(?<!["\w])user\b(?!\()', '"user"', statement.replace("%(user)s", "%(\0)s")).replace("\0", "user")
    statement = re.sub(r"(\w+\.\w+) IS (\w+\.\w+)", r"\1 IS NOT DISTINCT FROM \2", statement)
    return statement.replace("CROSS JOIN", "JOIN").replace("COLLATE BINARY", 'COLLATE "C"')


class PostgresSession:
    """
    A connection, which is opened again after it broke.

    Args:
        database: a connection string.
        name: for pg_stat_activity, which also gets the process and the host.
        is_deliver: take the lock of ``deliver`` with each new connection. So no statement runs without it.
    """

    def __init__(self, database: str, *, name: str = _OTHER, is_deliver: bool = False) -> None:
        self._database, self._name, self._is_deliver = database, name, is_deliver
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def close(self) -> None:
        """Close the connection. The next statement opens another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def run(
        self, statement: str, values: Sequence[object] | Mapping[str, object] = ()
    ) -> psycopg.Cursor[tuple[Any, ...]]:  # fmt: skip
        """
        Run a statement in PostgreSQL's own form.

        Raises:
            StoreError: it failed.
        """
        with self._guarded() as connection:
            return connection.execute(statement.encode(), _storable(values))

    def rows(self, statement: str, values: Sequence[object] | Mapping[str, object] = ()) -> list[tuple[Any, ...]]:
        """
        Return all rows of a query in SQLite's form.

        Raises:
            StoreError: it failed.
        """
        with self._guarded() as connection:
            return connection.execute(in_postgres(statement).encode(), _storable(values)).fetchall()

    def members(self) -> Members:
        """See ``members_of``."""
        names = "SELECT application_name FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user"
        workers = self.run(f"{names} AND starts_with(application_name, %s) ORDER BY 1", (WORKER,)).fetchall()
        deliver = self.run(f"{names} AND pid IN ({_LOCKED})", (_SPACE, _DELIVER)).fetchall()
        return Members(
            [name.removeprefix(WORKER).strip() for (name,) in workers],
            deliver[0][0].removeprefix(_OTHER).strip() if deliver else "",
        )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """
        Run all statements of the block in one transaction.

        Raises:
            StoreError: it failed. If the connection broke at its end, PostgreSQL may have committed it all the same.
        """
        with self._guarded() as connection, connection.transaction():
            yield

    @contextmanager
    def _guarded(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        try:
            if self._connection is None:
                self._connection = self._opened()
            yield self._connection
        except psycopg.Error as error:
            if self._connection is not None and self._connection.broken:
                self.close()
            raise _store_error(error) from error

    def _opened(self) -> psycopg.Connection[tuple[Any, ...]]:
        try:
            parameters = _DEFAULTS | conninfo_to_dict(self._database)
        except psycopg.ProgrammingError:
            # Its text may have a part of the string, and that may be a password.
            raise ConfigError("database under [worker] is not a connection string of PostgreSQL") from None
        connection = psycopg.connect(**(parameters | {"application_name": _session_name(self._name), "autocommit": True}))  # type: ignore[arg-type]
        try:
            connection.execute(_SESSION)
            _upgrade(connection)
            if self._is_deliver and not _has_lock(connection):
                raise StoreError("another sshbell deliver has the lock in the database, and sends the messages")  # noqa: TRY301
        except BaseException:
            connection.close()
            raise
        return connection


def end_stuck(session: PostgresSession) -> int:
    """
    End the sessions of workers whose transaction has lasted for more than two seconds; return how many.

    A worker that was stopped in a transaction still has locks. A worker that is only slow connects again, and repeats its own.
    """
    return len(
        session.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE starts_with(application_name, %s) AND datname = current_database()"
            " AND usename = current_user AND pid <> pg_backend_pid() AND xact_start < clock_timestamp() - interval '2 s'",
            (WORKER,),
        ).fetchall()
    )


_LOCKED = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = %s AND objid = %s"


def _session_name(name: str) -> str:
    # PostgreSQL keeps 63 bytes of it.
    return f"{name} {os.getpid()} on {socket.gethostname()}"


def _has_lock(connection: psycopg.Connection[tuple[Any, ...]]) -> bool:
    row = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (_SPACE, _DELIVER)).fetchone()
    return row is not None and bool(row[0])


def _upgrade(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    """
    Create the tables, if there are none, or bring older ones to this version.

    Raises:
        NewerStoreError: a newer sshbell has made them.
    """
    if _version(connection) == _VERSION:
        return
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", (_SPACE, _UPGRADE))
        version = _version(connection)
        if not version:
            connection.execute("CREATE SCHEMA IF NOT EXISTS sshbell")
            connection.execute(files("consumer.store").joinpath("postgresql.sql").read_bytes())
            return
        for number in range(version, _VERSION):
            connection.execute(_MIGRATIONS[number].encode())
            connection.execute("UPDATE version SET number = %s", (number + 1,))
    if version > _VERSION:
        raise NewerStoreError(f"a newer sshbell has made the tables (version {version}, this one knows {_VERSION})")


def _version(connection: psycopg.Connection[tuple[Any, ...]]) -> int:
    """Return the version of the tables; 0 if there are none."""
    row = connection.execute("SELECT to_regclass('sshbell.version')").fetchone()
    if row is None or row[0] is None:
        return 0
    found = connection.execute("SELECT number FROM version").fetchone()
    return int(found[0]) if found else 0


def _storable(values: Sequence[object] | Mapping[str, object]) -> Sequence[object] | Mapping[str, object] | None:
    r"""Return the values of a statement. No text in PostgreSQL has a NUL, but a line may: it becomes ``\x00``, as in rows."""
    if isinstance(values, Mapping):
        return {name: _without_nul(value) for name, value in values.items()} or None
    return [_without_nul(value) for value in values] or None


def _without_nul(value: object) -> object:
    if isinstance(value, list):
        return [_without_nul(each) for each in value]
    return value.replace("\0", r"\x00") if isinstance(value, str) else value


def _store_error(error: psycopg.Error) -> StoreError:
    return StoreError(f"PostgreSQL: {str(error).strip() or type(error).__name__}".replace("\n", " "))
