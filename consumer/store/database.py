"""SQLite files: opened, checked, brought to this version; damaged ones are set aside."""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.resources import files
from itertools import count
from pathlib import Path

from consumer.errors import DamagedStoreError, StoreError

# Steps from each version to the next, by file: MIGRATIONS["state"][1] makes version 2 of version 1.
MIGRATIONS: dict[str, dict[int, str]] = {
    "state": {
        # Jump hosts: who was on a host at a moment, and whose an address is.
        1: (
            "CREATE INDEX session_host ON session (host, closed_us, opened_us);"
            "CREATE TABLE sender"
            " (address TEXT NOT NULL, host TEXT NOT NULL, seen_us INTEGER NOT NULL, PRIMARY KEY (address, host));"
        ),
    },
    "delivery": {
        # A budget of messages for each account and host. Older SQLite cannot drop a column, so the table is made anew.
        1: (
            "ALTER TABLE delivery ADD COLUMN budget TEXT NOT NULL DEFAULT '';"
            "CREATE INDEX delivery_login ON delivery (channel, seq, budget) WHERE state = 'pending' AND budget <> '';"
            "CREATE TABLE budget (channel TEXT NOT NULL, name TEXT NOT NULL, tokens REAL, tokens_us INTEGER NOT NULL,"
            " PRIMARY KEY (channel, name)) WITHOUT ROWID;"
            "CREATE INDEX budget_spent ON budget (channel) WHERE tokens < 1;"
            "INSERT INTO budget SELECT name, '', tokens, tokens_us FROM channel;"
            "ALTER TABLE channel RENAME TO channel_1;"
            "CREATE TABLE channel (name TEXT PRIMARY KEY, last_success_us INTEGER, last_error_us INTEGER, last_error TEXT,"
            " failures INTEGER NOT NULL DEFAULT 0, retry_us INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;"
            "INSERT INTO channel SELECT name, last_success_us, last_error_us, last_error, failures, retry_us FROM channel_1;"
            "DROP TABLE channel_1;"
        ),
    },
    "keys": {},
}
# Damaged files that are kept to be looked at; the oldest goes first, or a bad disk would fill itself with them.
DAMAGED_LIMIT = 5
_BUSY_S = 5.0
# What a large transaction leaves of the log is cut to this.
_LOG_LIMIT_BYTES = 64 << 20
_SUFFIXES = ("", "-wal", "-shm", "-journal")

# Whose primary code says that the file cannot be used now, not that its content is wrong. It is tried again.
_PASSING = frozenset(
    [
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOLFS,
        sqlite3.SQLITE_AUTH,
    ]
)
# Faults of reading that stay: a bad sector, a file that is shorter than its own header says. sqlite.org/rescode.html; Python
# 3.11 has names for them only where its SQLite was new enough.
_LASTING = frozenset([266, 522, 8202, 8458])  # SQLITE_IOERR_READ, _SHORT_READ, _DATA, _CORRUPTFS


def version_of(name: str) -> int:
    """Return the version that this program writes of ``state``, ``delivery`` or ``keys``."""
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
        try:
            return _opened(path)
        except sqlite3.Error as error:
            if not _is_damage(path, error):
                raise
            set_aside(path, str(error), report)
        return _opened(path)
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{path}: {_text_of(error)}") from error


def set_aside(path: Path, reason: str, report: Callable[[str], None]) -> None:
    """
    Give a damaged database and its log another name, and report it; forget the oldest of too many.

    Raises:
        OSError: it cannot be done now.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    for number in count(1):
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{number:02}")
        if not any(os.path.lexists(_with_suffix(aside, suffix)) for suffix in _SUFFIXES):
            break
    for suffix in _SUFFIXES:
        file = _with_suffix(path, suffix)
        if os.path.lexists(file):
            file.rename(_with_suffix(aside, suffix))
    for old in set_aside_of(path)[:-DAMAGED_LIMIT]:
        for suffix in _SUFFIXES:
            _remove(_with_suffix(old, suffix))
    report(f"{path} is damaged ({reason}); it is now {aside}, and a new one is made")


def set_aside_of(path: Path) -> list[Path]:
    """Return what a database's damaged predecessors are called now, the oldest first; without their logs."""
    return sorted(file for file in path.parent.glob(f"{path.name}.damaged-*") if not file.name.endswith(_SUFFIXES[1:]))


def _remove(file: Path) -> None:
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    else:
        file.unlink(missing_ok=True)


def _with_suffix(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _is_damage(path: Path, error: sqlite3.Error) -> bool:
    """Tell whether another file has to take the place of this one, since waiting does not help."""
    if any(_is_no_file(_with_suffix(path, suffix)) for suffix in _SUFFIXES):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    return code is None or code in _LASTING or code & 0xFF not in _PASSING


def _is_no_file(path: Path) -> bool:
    return path.exists() and not path.is_file()


def _text_of(error: sqlite3.Error | OSError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _opened(path: Path) -> sqlite3.Connection:
    name = path.stem
    if not path.exists():
        # SQLite would make it readable to all; log and shared memory take its mode.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    elif not os.access(path, os.W_OK, effective_ids=True):
        # SQLite would give a new log the same mode, and that would still stop us when this file may be written again.
        raise StoreError(f"{path}: this user may not write it, or the disk is read-only")
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        _check(connection)
        version = _version(connection, path, name)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_LIMIT_BYTES}")
        _migrate(connection, name, version)
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection) -> None:
    (fault,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if fault != "ok":
        raise sqlite3.DatabaseError(fault.partition("\n")[2] or fault)


def _version(connection: sqlite3.Connection, path: Path, name: str) -> int:
    """Return the version that has been written; 0 for a new file."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > version_of(name):
        raise StoreError(
            f"{path}: a newer sshbell has written it (version {version}, this one knows {version_of(name)}); install that one"
        )
    if version < 0:
        raise sqlite3.DatabaseError(f"version {version}")
    return int(version)


def _migrate(connection: sqlite3.Connection, name: str, version: int) -> None:
    """Bring the tables to this version, and look whether they are ours."""
    wanted = version_of(name)
    if version < wanted:
        steps = [MIGRATIONS[name][number] for number in range(version, wanted)] if version else [schema_of(name)]
        connection.executescript("BEGIN IMMEDIATE;" + "".join(steps) + f"PRAGMA user_version = {wanted}; COMMIT;")
    with closing(sqlite3.connect(":memory:")) as model:
        model.executescript(schema_of(name))
        if _columns(connection) != _columns(model):
            raise sqlite3.DatabaseError("its tables are not those of sshbell")


def _columns(connection: sqlite3.Connection) -> set[tuple[str, int, str]]:
    """Return table, place and name of each column, and of what keeps rows apart: rows are inserted by place."""
    return set(
        connection.execute(
            "SELECT t.name, c.cid, c.name || ' ' || c.pk FROM sqlite_schema t, pragma_table_info(t.name) c"
            " WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        )
    )


def schema_of(name: str) -> str:
    """Return the schema of ``state``, ``delivery`` or ``keys``, as this version makes it."""
    return files("consumer.store").joinpath(f"{name}.sql").read_text("utf-8")


def open_of_another(path: Path) -> sqlite3.Connection:
    """
    Open a database for short transactions beside the process that it belongs to: it is neither made, brought to this version
    nor replaced, since that process would go on with the old one.

    Raises:
        StoreError: there is none, it cannot be used, or it is of another version.
    """
    with reading(path):
        pass
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_S, isolation_level=None)
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error
    return connection


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """
    Open a database that another process writes, to read it.

    Raises:
        StoreError: there is none, it cannot be read, or it is of another version.
    """
    try:
        path.stat()
    except FileNotFoundError as error:
        raise StoreError(f"{path}: there is none yet; sshbell run makes it: restart rsyslog") from error
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    try:
        connection, version = _connected(path)
        with closing(connection):
            known = version_of(path.stem)
            if version == 0:
                raise StoreError(f"{path}: it is not made yet")
            if version > known:
                raise StoreError(
                    f"{path}: a newer sshbell has written it (version {version}, this one knows {known}); install that one"
                )
            if version < known:
                raise StoreError(
                    f"{path}: it is of version {version}; sshbell run makes {known} of it when rsyslog starts it anew"
                )
            yield connection
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error


def _connected(path: Path) -> tuple[sqlite3.Connection, int]:
    """Return a connection that cannot write, and the version of the file."""
    try:
        return _connected_with(path, "mode=ro")
    except sqlite3.OperationalError:
        # On a full or a read-only disk no shared memory can be made. Without a log nobody writes, and none is needed.
        log = _with_suffix(path, "-wal")
        if log.exists() and log.stat().st_size:
            raise
        return _connected_with(path, "mode=ro&immutable=1")


def _connected_with(path: Path, options: str) -> tuple[sqlite3.Connection, int]:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{options}", uri=True, timeout=_BUSY_S, isolation_level=None)
    try:
        # The first to read the file.
        return connection, int(connection.execute("PRAGMA user_version").fetchone()[0])
    except BaseException:
        connection.close()
        raise


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """
    Do all of it or nothing.

    Raises:
        DamagedStoreError: it never can be written, with this file.
        StoreError: it could not be written; nothing is.
    """
    with guarded(connection):
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("COMMIT")
        except BaseException:
            # A full disk has ended it already, and a second end would be another error.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


@contextmanager
def guarded(connection: sqlite3.Connection) -> Iterator[None]:
    """
    Make a StoreError of what SQLite says, with the name of the file.

    Raises:
        DamagedStoreError: it never can be, with this file.
        StoreError: it could not be done.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise store_error(connection, error) from error


def store_error(connection: sqlite3.Connection, error: sqlite3.Error) -> StoreError:
    """Return a StoreError that names the file; a DamagedStoreError where waiting does not help."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    is_damage = code in _LASTING or code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
    return (DamagedStoreError if is_damage else StoreError)(f"{_path_of(connection)}: {error}")


def _path_of(connection: sqlite3.Connection) -> str:
    try:
        return str(connection.execute("PRAGMA database_list").fetchone()[2])
    except sqlite3.Error:
        return "the store"
