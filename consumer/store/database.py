"""SQLite files: open them, check them, upgrade them to this version, and set damaged ones aside."""

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from consumer.clock import now_us, utc
from consumer.errors import DamagedStoreError, NewerStoreError, StoreError
from consumer.stamp import Stamp

# In the state directory: what run knows, and what deliver has sent.
STATE_DB, DELIVERY_DB = "state.db", "delivery.db"

# Steps from each version to the next, by file: MIGRATIONS["state"][1] makes version 2 of version 1.
MIGRATIONS: dict[str, dict[int, str]] = {
    "state": {
        # Jump hosts: who was on a host at a moment, and which host an address belongs to.
        1: (
            "CREATE INDEX session_host ON session (host, closed_us, opened_us);"
            "CREATE TABLE sender"
            " (address TEXT NOT NULL, host TEXT NOT NULL, seen_us INTEGER NOT NULL, PRIMARY KEY (address, host));"
        ),
        # Logins with several factors. Parts of a snapshot in pieces: SQLite takes no blob over 1 GB.
        2: (
            "ALTER TABLE event ADD COLUMN factors TEXT; ALTER TABLE session ADD COLUMN factors TEXT;"
            "ALTER TABLE snapshot RENAME TO whole;"
            "CREATE TABLE snapshot"
            " (part TEXT NOT NULL, piece INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (part, piece)) WITHOUT ROWID;"
            "INSERT INTO snapshot SELECT part, 0, body FROM whole;"
            "DROP TABLE whole;"
        ),
        # What is new about a login.
        3: (
            "CREATE INDEX session_user ON session (user, info, address, host, opened_us);"
            "INSERT OR IGNORE INTO status SELECT 'created_us',"
            " coalesce(min(opened_us), CAST(strftime('%s', 'now') AS INTEGER) * 1000000) FROM session WHERE opened_us > 0;"
        ),
        # Findings and blocks.
        4: ("ALTER TABLE event ADD COLUMN found TEXT;CREATE INDEX event_block ON event (time_us) WHERE action = 'ssh_block';"),
        # The one-time codes of logins.
        5: "ALTER TABLE event ADD COLUMN code TEXT; ALTER TABLE session ADD COLUMN code TEXT;",
        # The partitions of "sshbell worker".
        6: (
            "CREATE TABLE partition (topic TEXT NOT NULL, number INTEGER NOT NULL, epoch INTEGER NOT NULL, next_offset INTEGER,"
            " PRIMARY KEY (topic, number)) WITHOUT ROWID;"
            "CREATE TABLE gathering (seq INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL);"
            "CREATE TABLE partition_snapshot (topic TEXT NOT NULL, number INTEGER NOT NULL, part BLOB NOT NULL,"
            " piece INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (topic, number, part, piece)) WITHOUT ROWID;"
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
        # Folds, digests and quiet hours.
        2: (
            "ALTER TABLE delivery ADD COLUMN hold TEXT NOT NULL DEFAULT '';"
            "ALTER TABLE delivery ADD COLUMN free_us INTEGER NOT NULL DEFAULT 0;"
            "ALTER TABLE delivery ADD COLUMN urgent INTEGER NOT NULL DEFAULT 0;"
            "DROP INDEX delivery_pending; DROP INDEX delivery_login;"
            "CREATE INDEX delivery_pending ON delivery (channel, seq) WHERE state = 'pending' AND hold = '';"
            "CREATE INDEX delivery_login ON delivery (channel, seq, budget)"
            " WHERE state = 'pending' AND hold = '' AND budget <> '';"
            "CREATE INDEX delivery_urgent ON delivery (channel, seq) WHERE state = 'pending' AND hold = '' AND urgent;"
            "CREATE INDEX delivery_hold ON delivery (channel, hold, seq) WHERE state = 'pending' AND hold <> '';"
            "CREATE TABLE hold (channel TEXT NOT NULL, name TEXT NOT NULL, due_us INTEGER, window_us INTEGER NOT NULL,"
            " omitted INTEGER NOT NULL DEFAULT 0, urgent INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (channel, name)) WITHOUT ROWID;"
            "CREATE INDEX hold_due ON hold (channel, due_us) WHERE due_us IS NOT NULL;"
        ),
        # How far deliver has routed logins ahead of noise.
        3: (
            "ALTER TABLE cursor ADD COLUMN ahead INTEGER NOT NULL DEFAULT 0;"
            "ALTER TABLE cursor ADD COLUMN ahead_id TEXT NOT NULL DEFAULT '';"
        ),
    },
    "keys": {},
    # Blocks of other machines.
    "block": {1: "ALTER TABLE entry ADD COLUMN imported INTEGER NOT NULL DEFAULT 0;"},
    "codes": {},
}
# Damaged files to keep for inspection. sshbell deletes the oldest, or a bad disk would fill up with them.
DAMAGED_LIMIT = 5
_BUSY_S = 5.0
# SQLite cuts the log to this size after a large transaction.
_LOG_LIMIT_BYTES = 64 << 20
_SUFFIXES = ("", "-wal", "-shm", "-journal")

# Primary codes of errors that may pass: the file is unusable now, but its content is not wrong. sshbell retries.
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
# Read errors that do not pass: a bad sector, a file that is shorter than its header requires. See sqlite.org/rescode.html.
# Python 3.11 has names for them only if it was built with a new enough SQLite.
_LASTING = frozenset([266, 522, 8202, 8458])  # SQLITE_IOERR_READ, _SHORT_READ, _DATA, _CORRUPTFS


def version_of(name: str) -> int:
    """Return the version of ``state``, ``delivery``, ``keys``, ``block`` or ``codes`` that this sshbell writes."""
    return 1 + len(MIGRATIONS[name])


def open_for_writing(path: Path, report: Callable[[str], None]) -> sqlite3.Connection:
    """
    Open a database that only this process writes, or create it. Set a damaged one aside and create a new one.

    Args:
        path: its name without the suffix names the schema.
        report: gets one line about a file that was set aside.

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


def open_intact(path: Path) -> sqlite3.Connection:
    """
    Open a database that only this process writes, or create it. Leave a damaged one where it is.

    Raises:
        DamagedStoreError: it is damaged, and waiting does not help.
        StoreError: it cannot be written now, or a newer sshbell has written it.
    """
    try:
        return _opened(path)
    except (sqlite3.Error, OSError) as error:
        is_damage = isinstance(error, sqlite3.Error) and _is_damage(path, error)
        raise (DamagedStoreError if is_damage else StoreError)(f"{path}: {_text_of(error)}") from error


def set_aside(path: Path, reason: str, report: Callable[[str], None]) -> None:
    """
    Rename a damaged database and its log, and report it; delete the oldest if there are too many.

    Raises:
        OSError: this fails now.
    """
    stamp = f"{utc(now_us()):%Y%m%dT%H%M%SZ}"
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
    report(f"{path} is damaged ({reason}); sshbell renamed it to {aside} and creates a new one")


def set_aside_of(path: Path) -> list[Path]:
    """Return the paths of a database's damaged predecessors, oldest first, without their logs."""
    return sorted(file for file in path.parent.glob(f"{path.name}.damaged-*") if not file.name.endswith(_SUFFIXES[1:]))


def _remove(file: Path) -> None:
    if file.is_dir() and not file.is_symlink():
        import shutil  # noqa: PLC0415 - it loads slowly, a login waits for a database, and nobody makes such directories

        shutil.rmtree(file)
    else:
        file.unlink(missing_ok=True)


def _with_suffix(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _is_damage(path: Path, error: sqlite3.Error) -> bool:
    """Return whether a new file has to replace this one, because waiting does not help."""
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
        # SQLite would make it readable for everybody. The log and the shared memory get the same mode.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    elif not os.access(path, os.W_OK, effective_ids=True):
        # SQLite would give a new log the same mode. That log would still block us once this file is writable again.
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
    """Return the version of a file; 0 for a new one."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > version_of(name):
        raise NewerStoreError(
            f"{path}: a newer sshbell has written it (version {version}, this one knows {version_of(name)}); install that one"
        )
    if version < 0:
        raise sqlite3.DatabaseError(f"version {version}")
    return int(version)


def _migrate(connection: sqlite3.Connection, name: str, version: int) -> None:
    """Upgrade the tables to this version, and check that they are ours."""
    wanted = version_of(name)
    if version < wanted:
        steps = [MIGRATIONS[name][number] for number in range(version, wanted)] if version else [schema_of(name)]
        connection.executescript("BEGIN IMMEDIATE;" + "".join(steps) + f"PRAGMA user_version = {wanted}; COMMIT;")
    with closing(sqlite3.connect(":memory:")) as model:
        model.executescript(schema_of(name))
        if _columns(connection) != _columns(model):
            raise sqlite3.DatabaseError("its tables are not those of sshbell")


def _columns(connection: sqlite3.Connection) -> set[tuple[str, int, str]]:
    """Return table, position, name and primary key number of each column. Positions matter: rows are inserted by position."""
    return set(
        connection.execute(
            "SELECT t.name, c.cid, c.name || ' ' || c.pk FROM sqlite_schema t, pragma_table_info(t.name) c"
            " WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        )
    )


def schema_of(name: str) -> str:
    """Return this version's schema of ``state``, ``delivery``, ``keys``, ``block`` or ``codes``."""
    # importlib.resources would take longer to load than a login should wait.
    return Path(__file__).with_name(f"{name}.sql").read_text("utf-8")


def open_of_another(path: Path) -> sqlite3.Connection:
    """
    Open another process's database for short transactions.

    This does not create, upgrade or replace the file, because the process that owns it would go on with the old one.

    Raises:
        StoreError: it does not exist, cannot be used, or has another version.
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
    Open a database that another process writes, read-only.

    Raises:
        StoreError: it does not exist, cannot be read, or has another version.
    """
    with _reading(path) as (connection, _):
        yield connection


class DatabaseReader:
    """
    Reads a database that another process writes, and may replace at any time.

    It keeps its connection until another file has the name. Only one thread may use it at a time.

    Args:
        path: of the database.
        is_optional: if the file does not exist, it has no rows; otherwise this is an error.
    """

    def __init__(self, path: Path, *, is_optional: bool) -> None:
        self._path = path
        self._is_optional = is_optional
        self._file: Stamp | None = None
        self._open = ExitStack()
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close the file. The next query opens it again."""
        self._open.close()
        self._connection = self._file = None

    def rows(self, statement: str, values: Sequence[object] | Mapping[str, object] = ()) -> list[tuple[Any, ...]]:
        """
        Return all rows of a query.

        Raises:
            StoreError: the file cannot be read now, or has another version.
            ValueError: a text is not valid Unicode.
        """
        found = Stamp.of(self._path)
        connection = self._connection
        if connection is None or found is None or not found.is_same_file(self._file):
            self.close()
            if found is None and self._is_optional:
                return []
            connection, sees_changes = self._open.enter_context(_reading(self._path))
            self._connection, self._file = connection, found if sees_changes else None
        try:
            return connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            self.close()
            raise StoreError(f"{self._path}: {error}") from error


@contextmanager
def _reading(path: Path) -> Iterator[tuple[sqlite3.Connection, bool]]:
    """Do the same as ``reading``; also yield whether the connection sees later changes of the file."""
    try:
        path.stat()
    except FileNotFoundError as error:
        if not path.parent.exists():
            raise StoreError(f"{path.parent} does not exist; run first: sudo sshbell install") from error
        raise StoreError(f"{path}: it does not exist yet; sshbell run creates it: restart rsyslog") from error
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    try:
        connection, version, sees_changes = _connected(path)
        with closing(connection):
            known = version_of(path.stem)
            if version == 0:
                raise StoreError(f"{path}: it is still empty")
            if version > known:
                raise NewerStoreError(
                    f"{path}: a newer sshbell has written it (version {version}, this one knows {known}); install that one"
                )
            if version < known:
                raise StoreError(
                    f"{path}: it has version {version}; sshbell run upgrades it to {known} when it starts: restart rsyslog"
                )
            yield connection, sees_changes
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error


def _connected(path: Path) -> tuple[sqlite3.Connection, int, bool]:
    """Return a read-only connection, the version of the file, and whether the connection sees later changes."""
    try:
        return *_connected_with(path, "mode=ro"), True
    except sqlite3.OperationalError:
        # On a full or read-only disk, SQLite cannot create the shared memory. It does not need any if there is no log, since
        # nobody writes then.
        log = _with_suffix(path, "-wal")
        if log.exists() and log.stat().st_size:
            raise
        return *_connected_with(path, "mode=ro&immutable=1"), False


def _connected_with(path: Path, options: str) -> tuple[sqlite3.Connection, int]:
    # A DatabaseReader may be used by one thread after another.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{options}", uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
    )
    try:
        # This is the first statement that reads the file.
        return connection, int(connection.execute("PRAGMA user_version").fetchone()[0])
    except BaseException:
        connection.close()
        raise


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """
    Run all statements of the block in one transaction.

    Raises:
        DamagedStoreError: this file can never be written.
        StoreError: the write failed, and nothing was written.
    """
    with guarded(connection):
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("COMMIT")
        except BaseException:
            # A full disk has already ended the transaction; a second end would raise another error.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def used_bytes(connection: sqlite3.Connection) -> int:
    """Return how much of a file is in use; what rows left behind that are gone is used again."""
    with guarded(connection):
        pages, free, size = (
            int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count", "page_size")
        )
    return (pages - free) * size


@contextmanager
def guarded(connection: sqlite3.Connection) -> Iterator[None]:
    """
    Turn an error of SQLite into a StoreError that names the file.

    Raises:
        DamagedStoreError: this file can never be used.
        StoreError: the statement failed.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise store_error(connection, error) from error


def store_error(connection: sqlite3.Connection, error: sqlite3.Error) -> StoreError:
    """Return a StoreError that names the file; a DamagedStoreError if waiting does not help."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    is_damage = code in _LASTING or code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
    return (DamagedStoreError if is_damage else StoreError)(f"{_path_of(connection)}: {error}")


def _path_of(connection: sqlite3.Connection) -> str:
    try:
        return str(connection.execute("PRAGMA database_list").fetchone()[2])
    except sqlite3.Error:
        return "the store"
