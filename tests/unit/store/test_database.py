"""SQLite files: made, brought to this version, and replaced when they are damaged; sshbell never refuses to start for one."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from consumer.errors import StoreError
from consumer.store import database
from consumer.store.database import (
    DAMAGED_LIMIT,
    MIGRATIONS,
    DatabaseReader,
    open_for_writing,
    reading,
    schema_of,
    set_aside,
    set_aside_of,
    transaction,
    version_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = sorted(MIGRATIONS)
# The schema of each earlier version, as NAME.VERSION.sql: copied there when the version is raised.
EARLIER_DIR = Path(__file__).parents[2] / "samples" / "store"
PAGE = 4096
# Enough for tables of several pages each.
ROWS = 2_000


def opened(path: Path, said: list[str] | None = None) -> sqlite3.Connection:
    """Open a database for writing; what is reported goes to ``said``, and without it nothing may be."""
    return open_for_writing(path, pytest.fail if said is None else said.append)


def shape(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """Return the columns of each table, and the names of its indexes."""
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    return {
        table: [str(row[1:]) for row in connection.execute("SELECT * FROM pragma_table_info(?)", (table,))]
        + sorted(str(row[1]) for row in connection.execute("SELECT * FROM pragma_index_list(?)", (table,)))
        for table in tables
    }


def filled(path: Path) -> None:
    """Make a ``state.db`` with rows, and leave no log behind."""
    with closing(opened(path)) as connection:
        with transaction(connection):
            connection.executemany(
                "INSERT INTO outbox (event_id, action, queued_us, body) VALUES (?, 'ssh_login', 1, ?)",
                [(f"{number:032x}", b"x" * 100) for number in range(ROWS)],
            )
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def rows(path: Path) -> int:
    """Return how many messages a ``state.db`` holds."""
    with reading(path) as connection:
        (found,) = connection.execute("SELECT count(*) FROM outbox").fetchone()
    return int(found)


@pytest.mark.parametrize("name", NAMES)
def test_new(tmp_path: Path, name: str) -> None:
    """A file that is not there is made, of this version, and readable to nobody else."""
    path = tmp_path / f"{name}.db"
    with closing(opened(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (version_of(name),)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == {f"{name}.db{suffix}": 0o600 for suffix in ("", "-wal", "-shm")}


def test_opened_again(tmp_path: Path) -> None:
    """What was written is there, and nothing is reported."""
    path = tmp_path / "state.db"
    filled(path)
    opened(path).close()
    assert rows(path) == ROWS


def made(path: Path, version: int, schema: str) -> None:
    """Make the file of a version, with a message in it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"BEGIN; {schema}; PRAGMA user_version = {version}; COMMIT")
        if path.stem == "state":
            connection.execute("INSERT INTO outbox (event_id, action, queued_us, body) VALUES ('a', 'ssh_login', 1, '{}')")
            connection.commit()


@pytest.mark.parametrize(("name", "version"), [(name, version) for name in NAMES for version in range(1, version_of(name) + 1)])
def test_from_every_version(tmp_path: Path, name: str, version: int) -> None:
    """The file of any version up to now becomes what a new one is, and keeps its rows."""
    is_now = version == version_of(name)
    path = tmp_path / f"{name}.db"
    made(path, version, schema_of(name) if is_now else (EARLIER_DIR / f"{name}.{version}.sql").read_text(encoding="utf-8"))
    with closing(opened(path)) as old, closing(sqlite3.connect(":memory:")) as new:
        new.executescript(schema_of(name))
        assert shape(old) == shape(new)
        assert old.execute("PRAGMA user_version").fetchone() == (version_of(name),)
        if name == "state":
            assert old.execute("SELECT event_id FROM outbox").fetchall() == [("a",)]


@pytest.mark.parametrize("name", NAMES)
def test_steps_are_complete(name: str) -> None:
    """There is one step from each earlier version."""
    assert sorted(MIGRATIONS[name]) == list(range(1, version_of(name)))


STEPS = {
    1: "ALTER TABLE outbox ADD COLUMN late_us INTEGER;",
    2: "CREATE TABLE extra (a INTEGER NOT NULL); INSERT INTO extra SELECT count(*) FROM outbox;",
}


@pytest.fixture
def third(monkeypatch: pytest.MonkeyPatch) -> str:
    """Pretend that this program is at version 3 of ``state.db``, and return the schema of version 1."""
    first = schema_of("state")
    monkeypatch.setitem(MIGRATIONS, "state", STEPS)
    monkeypatch.setattr(database, "schema_of", lambda _name: first + STEPS[1] + STEPS[2])
    return first


@pytest.mark.parametrize("version", [1, 2, 3])
def test_steps(tmp_path: Path, third: str, version: int) -> None:
    """Each version takes the steps that it lacks, and those only."""
    path = tmp_path / "state.db"
    made(path, version, third + "".join(STEPS[number] for number in range(1, version)))
    with closing(opened(path)) as connection:
        assert connection.execute("SELECT event_id, late_us FROM outbox").fetchall() == [("a", None)]
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)
        assert connection.execute("SELECT a FROM extra").fetchall() == [(0 if version == 3 else 1,)]


@pytest.mark.usefixtures("third")
def test_a_new_file_takes_no_steps(tmp_path: Path) -> None:
    """The schema is that of the newest version."""
    with closing(opened(tmp_path / "state.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)


def test_a_step_that_fails(tmp_path: Path, third: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that cannot be done is undone as a whole: the file that is set aside is what it was, and sshbell starts."""
    path, said = tmp_path / "state.db", list[str]()
    made(path, 1, third)
    monkeypatch.setitem(MIGRATIONS, "state", STEPS | {2: "CREATE TABLE half (a); INSERT INTO nowhere VALUES (1);"})
    opened(path, said).close()
    (aside,) = set_aside_of(path)
    assert len(said) == 1
    with closing(sqlite3.connect(aside)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("SELECT * FROM outbox").fetchall() == [(1, "a", "ssh_login", 1, "{}")]


@pytest.mark.parametrize("name", NAMES)
def test_a_newer_version_is_refused(tmp_path: Path, name: str) -> None:
    """What a newer sshbell has written stays as it is, for reading and for writing."""
    path = tmp_path / f"{name}.db"
    made(path, version_of(name) + 1, schema_of(name))
    before = path.read_bytes()
    with pytest.raises(StoreError, match="a newer sshbell has written it"):
        opened(path)
    with pytest.raises(StoreError, match="a newer sshbell has written it"), reading(path):
        pass
    assert path.read_bytes() == before
    assert set_aside_of(path) == []


def garbage(path: Path) -> None:
    """Write what is no database."""
    path.write_bytes(b"sshd[1]: " * 1000)


def truncated(path: Path) -> None:
    """Cut the file within a page, and not at its end."""
    os.truncate(path, path.stat().st_size // 2 + 100)


def zeroed_page(path: Path) -> None:
    """Lose one page in the middle, as a bad sector does."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // PAGE // 2 * PAGE)
        file.write(bytes(PAGE))


def zeroed_head(path: Path) -> None:
    """Lose the first page."""
    with path.open("r+b") as file:
        file.write(bytes(PAGE))


def scrambled_head(path: Path) -> None:
    """Keep the signature alone."""
    with path.open("r+b") as file:
        file.seek(16)
        file.write(b"\xff" * 84)


def folder(path: Path) -> None:
    """Put a directory with something in it in its place."""
    path.unlink()
    path.mkdir()
    (path / "file").touch()


def pipe(path: Path) -> None:
    """Put a named pipe in its place."""
    path.unlink()
    os.mkfifo(path)


def log_is_a_folder(path: Path) -> None:
    """Put a directory where the log has to be."""
    path.with_name("state.db-wal").mkdir()


def another_program(path: Path) -> None:
    """Put another program's database in its place."""
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE outbox (a); CREATE TABLE event (id)")


def another_table(path: Path) -> None:
    """Change a table, with the version left as it is."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("DROP TABLE session; CREATE TABLE session (a)")


def negative_version(path: Path) -> None:
    """Give it a version that never was."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = -7")


DAMAGES = [
    garbage, truncated, zeroed_page, zeroed_head, scrambled_head, folder, pipe, log_is_a_folder, another_program, another_table,
    negative_version,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """A damaged file is set aside and reported in one line, a new one is made, and it can be written."""
    path, said = tmp_path / "state.db", list[str]()
    filled(path)
    damage(path)
    with closing(opened(path, said)) as connection, transaction(connection):
        connection.execute("INSERT INTO note VALUES ('a', 'b')")
    (aside,) = set_aside_of(path)
    assert len(said) == 1
    assert "\n" not in said[0]
    assert f"{path} is damaged" in said[0]
    assert str(aside) in said[0]
    assert rows(path) == 0
    # And the new one is not damaged.
    opened(path).close()


def test_the_log_of_another_file(tmp_path: Path) -> None:
    """A log that belongs to another database does not stop sshbell: what comes of it is whole, or set aside."""
    path, other, said = tmp_path / "state.db", tmp_path / "other" / "state.db", list[str]()
    filled(path)
    other.parent.mkdir()
    with closing(opened(other)) as connection:
        with transaction(connection):
            connection.executemany("INSERT INTO note VALUES (?, ?)", [(str(number), "y" * 900) for number in range(ROWS)])
        shutil.copy(other.with_name("state.db-wal"), path.with_name("state.db-wal"))
    with closing(opened(path, said)) as connection:
        with transaction(connection):
            connection.execute("INSERT OR REPLACE INTO note VALUES ('a', 'b')")
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert len(said) == len(set_aside_of(path))


def test_a_log_of_garbage(tmp_path: Path) -> None:
    """A log that is none is no reason to lose the file."""
    path = tmp_path / "state.db"
    filled(path)
    path.with_name("state.db-wal").write_bytes(b"x" * 100_000)
    path.with_name("state.db-shm").write_bytes(b"y" * 40_000)
    opened(path).close()
    assert rows(path) == ROWS


def test_the_log_goes_with_its_file(tmp_path: Path) -> None:
    """What was not written back yet is set aside as well, and not taken for the new file's."""
    path = tmp_path / "state.db"
    filled(path)
    with closing(opened(path)) as connection:
        with transaction(connection):
            connection.execute("INSERT INTO note VALUES ('a', 'b')")
        copies = {name: (tmp_path / name).read_bytes() for name in ("state.db", "state.db-wal")}
    for name, content in copies.items():
        (tmp_path / name).write_bytes(content)
    garbage(path)
    opened(path, []).close()
    (aside,) = set_aside_of(path)
    assert aside.with_name(f"{aside.name}-wal").read_bytes() == copies["state.db-wal"]


def test_damaged_files_are_bounded(tmp_path: Path) -> None:
    """However often it happens, within one second too, the newest damaged files are kept and no more."""
    path, said = tmp_path / "state.db", list[str]()
    for number in range(DAMAGED_LIMIT + 3):
        (folder if number == 1 else garbage)(path) if path.exists() else garbage(path)
        opened(path, said).close()
    assert len(said) == DAMAGED_LIMIT + 3
    assert len(set_aside_of(path)) == DAMAGED_LIMIT


def test_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that another process holds is waited for, and then an error; nothing is set aside."""
    monkeypatch.setattr(database, "_BUSY_S", 0.05)
    path = tmp_path / "state.db"
    filled(path)
    with closing(opened(path)) as connection, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"state\.db: database is locked"), transaction(connection):
            pytest.fail("nobody else may write")
        other.execute("ROLLBACK")
        with transaction(connection):
            connection.execute("INSERT INTO note VALUES ('a', 'b')")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("INSERT INTO note VALUES ('c', 'd')")
        with pytest.raises(StoreError, match="locked"):
            opened(path)
    assert set_aside_of(path) == []


def test_no_folder(tmp_path: Path) -> None:
    """Where the state directory is missing, one line says so."""
    path = tmp_path / "missing" / "state.db"
    attempts: list[Callable[[], object]] = [lambda: opened(path), lambda: reading(path).__enter__()]
    for attempt in attempts:
        with pytest.raises(StoreError, match=str(path.parent)) as caught:
            attempt()
        assert "\n" not in str(caught.value)


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    """What fails in the middle leaves nothing, whoever raised it."""
    with closing(opened(tmp_path / "state.db")) as connection:

        def write(statement: str) -> None:
            with transaction(connection):
                connection.execute("INSERT INTO note VALUES ('a', 'b')")
                connection.execute(statement)
                raise ZeroDivisionError

        with pytest.raises(StoreError):
            write("INSERT INTO note VALUES ('a', NULL)")
        with pytest.raises(ZeroDivisionError):
            write("")
        assert connection.execute("SELECT * FROM note").fetchall() == []


def test_reading(tmp_path: Path) -> None:
    """A reader sees what is committed, writes nothing, and needs no writer."""
    path = tmp_path / "state.db"
    with pytest.raises(StoreError, match="sshbell run creates it"), reading(path):
        pass
    path.touch()
    with pytest.raises(StoreError, match="still empty"), reading(path):
        pass
    filled(path)
    assert rows(path) == ROWS
    with pytest.raises(StoreError, match="readonly"), reading(path) as connection:
        connection.execute("DELETE FROM outbox")
    with closing(opened(path)) as writer, reading(path) as connection:
        with transaction(writer):
            writer.execute("DELETE FROM outbox")
            assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (ROWS,)
        assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
    garbage(path)
    with pytest.raises(StoreError, match="not a database"), reading(path):
        pass


TOTAL = "SELECT count(*) FROM outbox"


def test_a_reader_keeps_its_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It opens the file again only if another one has its name, after an error, and after ``close``."""
    path = tmp_path / "state.db"
    filled(path)
    opens: list[Path] = []
    said: list[str] = []
    connect = database._connected

    def connected(path: Path) -> tuple[sqlite3.Connection, int, bool]:
        opens.append(path)
        return connect(path)

    monkeypatch.setattr(database, "_connected", connected)
    reader = DatabaseReader(path, is_optional=False)
    with closing(reader):
        with closing(opened(path)) as writer:
            assert reader.rows(TOTAL) == [(ROWS,)]
            writer.execute("DELETE FROM outbox WHERE seq = ?", (1,))
            assert reader.rows(TOTAL) == reader.rows("SELECT ?", [ROWS - 1]) == [(ROWS - 1,)]
        assert len(opens) == 1
        with pytest.raises(StoreError, match=r"state\.db: no such table: outbix"):
            reader.rows("SELECT * FROM outbix")
        assert reader.rows(TOTAL) == [(ROWS - 1,)]
        assert len(opens) == 2
        set_aside(path, "a test", said.append)
        filled(path)
        assert reader.rows(TOTAL) == reader.rows(TOTAL) == [(ROWS,)]
        assert len(opens) == 3
    assert reader.rows(TOTAL) == [(ROWS,)]
    assert len(opens) == 4
    reader.close()


@pytest.mark.parametrize("is_optional", [True, False])
def test_a_reader_without_a_file(tmp_path: Path, *, is_optional: bool) -> None:
    """A missing file has no rows or is an error. A damaged one is always an error. sshbell reads the file that replaces it."""
    path = tmp_path / "state.db"
    with closing(DatabaseReader(path, is_optional=is_optional)) as reader:
        for _ in range(2):
            if is_optional:
                assert reader.rows(TOTAL) == []
            else:
                with pytest.raises(StoreError, match="sshbell run creates it"):
                    reader.rows(TOTAL)
            path.write_bytes(b"garbage " * PAGE)
            for _ in range(2):
                with pytest.raises(StoreError, match=r"state\.db: file is not a database"):
                    reader.rows(TOTAL)
            path.unlink()
            filled(path)
            assert reader.rows(TOTAL) == [(ROWS,)]
            path.unlink()


def test_a_reader_in_a_read_only_folder(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite reads the file without a log there, and would not see later changes. So the reader opens it for each query."""
    schema = schema_of("state")
    monkeypatch.setattr(database, "schema_of", lambda _name: schema)
    path = nobody / "state.db"
    filled(path)
    nobody.chmod(0o500)
    with closing(DatabaseReader(path, is_optional=True)) as reader:
        assert reader.rows(TOTAL) == [(ROWS,)]
        nobody.chmod(0o700)
        with closing(opened(path)) as writer:
            writer.execute("DELETE FROM outbox")
            assert reader.rows(TOTAL) == [(0,)]


def test_errors_of_whoever_reads_are_theirs(tmp_path: Path) -> None:
    """A closed pipe while rows are written out is no fault of the store."""
    filled(tmp_path / "state.db")
    with pytest.raises(BrokenPipeError), reading(tmp_path / "state.db"):
        raise BrokenPipeError
