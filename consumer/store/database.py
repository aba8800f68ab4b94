"""SQLite files: opened, checked, brought to this version; damaged ones are set aside."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path

from consumer.errors import StoreError

# Steps from each version to the next, by file: MIGRATIONS["state"][1] makes version 2 of version 1.
MIGRATIONS: dict[str, dict[int, str]] = {"state": {}, "delivery": {}}
_BUSY_S = 5.0


def version_of(name: str) -> int:
    """Return the version that this program writes of ``state`` or ``delivery``."""
    return 1 + len(MIGRATIONS[name])


def open_for_writing(path: Path, report: Callable[[str], None]) -> sqlite3.Connection:
    """
    Open a database that this process alone writes, or make it. A damaged one is set aside, and a new one made.

    Args:
        path: its name without the suffix is that of its schema.
        report: is told in one line what was set aside.

    Raises:
        StoreError: it cannot be written now, or a newer sshbell has written it.
    """
    try:
        return _opened(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
            raise StoreError(f"{path}: {error}") from error
        aside = set_aside(path)
        report(f"{path} is damaged ({error}); it is now {aside}, and a new one is made")
    try:
        return _opened(path)
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error


def set_aside(path: Path) -> Path:
    """Give a damaged database and its log another name, and return it."""
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}")
    for suffix in ("", "-wal", "-shm"):
        file = path.with_name(path.name + suffix)
        if file.exists():
            file.rename(aside.with_name(aside.name + suffix))
    return aside


def _opened(path: Path) -> sqlite3.Connection:
    name = path.stem
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        _check(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        _migrate(connection, path, name)
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection) -> None:
    (fault,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if fault != "ok":
        raise sqlite3.DatabaseError(fault.partition("\n")[2] or fault)


def _migrate(connection: sqlite3.Connection, path: Path, name: str) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    wanted = version_of(name)
    if version > wanted:
        raise StoreError(f"{path}: a newer sshbell has written it (version {version}, this one knows {wanted})")
    if version == wanted:
        return
    steps = [MIGRATIONS[name][number] for number in range(version, wanted)] if version else [schema_of(name)]
    connection.executescript("BEGIN IMMEDIATE;" + "".join(steps) + f"PRAGMA user_version = {wanted}; COMMIT;")


def schema_of(name: str) -> str:
    """Return the schema of ``state`` or ``delivery``, as this version makes it."""
    return files("consumer.store").joinpath(f"{name}.sql").read_text("utf-8")


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """
    Open a database that another process writes, to read it.

    Raises:
        StoreError: there is none, or it cannot be read.
    """
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S, isolation_level=None)
        ) as found:
            yield found
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """
    Do all of it or nothing.

    Raises:
        StoreError: it could not be written; nothing is.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.rollback()
        raise StoreError(str(error)) from error
