"""A disk that is full, and a store that may not be written: an error that makes rsyslog wait, and nothing half written."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from consumer.errors import StoreError
from consumer.store import database
from consumer.store.database import reading, schema_of, set_aside_of
from consumer.store.state import State
from tests import needs
from tests.integration.lines import ours
from tests.integration.site import Site
from tests.store_events import START_US, events_of, session_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

MOUNT, UMOUNT = shutil.which("mount") or "mount", shutil.which("umount") or "umount"
SIZE = 2 << 20
TOLD = frozenset({"ssh_login"})
BATCH = 200


@pytest.fixture
def small() -> Iterator[Path]:
    """Mount a small tmpfs, and take it away again."""
    needs.root("mount a small disk")
    with tempfile.TemporaryDirectory() as folder:
        command = [MOUNT, "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "sshbell-test", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"mount: {done.stderr.strip()}")
        try:
            yield Path(folder)
        finally:
            subprocess.run([UMOUNT, "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Take all the space that is left."""
    file = folder / "ballast"
    with file.open("ab", buffering=0) as out, suppress(OSError):
        while out.write(bytes(4096)):
            pass
    return file


def counts(folder: Path) -> dict[str, int]:
    """Return how many rows each table holds, and that the file is whole."""
    with reading(folder / "state.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - our own names
            for table in ("event", "session", "outbox", "snapshot")
        }


def batch(number: int) -> list[bytes]:
    """Return the lines of many logins."""
    return [
        line
        for pid in range(1, BATCH + 1)
        for line in session_lines(pid, f"user{pid}", at_us=START_US + number * 86400_000_000, lasts_s=None)
    ]


def test_full(small: Path) -> None:
    """On a full disk a batch is refused as a whole, again and again; with space it is taken, and nothing else was lost."""
    with closing(State(small, pytest.fail)) as state:
        state.record(events_of(*batch(0)), TOLD, START_US)
        state.keep_snapshot([("a", [b"1"])])
        before = counts(small)
        assert before == {"event": BATCH, "session": BATCH, "outbox": BATCH, "snapshot": 1}
        ballast = fill(small)
        for _ in range(3):
            with pytest.raises(StoreError, match=r"state\.db: .*(full|disk I/O error)"):
                state.record(events_of(*batch(1)), TOLD, START_US)
            with pytest.raises(StoreError, match=r"state\.db: .*(full|disk I/O error)"):
                state.keep_snapshot([("a", [bytes(1 << 19)] * 2)])
            assert counts(small) == before
            assert [(part, list(pieces)) for part, pieces in state.snapshot()] == [("a", [b"1"])]
        ballast.unlink()
        assert state.record(events_of(*batch(1)), TOLD, START_US) == BATCH
        state.keep_snapshot([("a", [b"2"])])
    assert counts(small) == {"event": 2 * BATCH, "session": 2 * BATCH, "outbox": 2 * BATCH, "snapshot": 1}


def test_run_on_a_full_disk(small: Path) -> None:
    """``run`` holds the line that it cannot keep, sends dots, and goes on where it was once there is room; nothing is lost."""
    with Site(small) as site:
        run = site.start_run()
        ballast = fill(small)
        for number in range(1, 10_000):
            text = f"Failed password for root from 192.0.2.9 port {number} ssh2"
            run.write(ours(text, number=number, pid=number))
            if run.is_waiting():
                break
            assert run.reply() == b"K\n"
        else:
            pytest.fail("it never waits")
        ballast.unlink()
        assert run.reply() == b"OK\n"
        code, said = run.end()
        assert code == 0
        assert b"waiting" in said
        # So many tries may also be a finding.
        tries = [row[3] for row in site.events() if row[0] == "ssh_attempt"]
        assert len(set(tries)) == len(tries) == number


def test_run_begins_on_a_full_disk(small: Path) -> None:
    """Not even its lock can be written: it waits with dots, since to end before the first OK would crash rsyslogd."""
    with Site(small) as site:
        ballast = fill(small)
        run = site.start_run(is_ready=False)
        assert run.is_waiting()
        ballast.unlink()
        assert run.reply() == b"OK\n"
        code, said = run.end()
    assert code == 0
    assert b"run.lock: No space left on device" in said


def test_filled_by_the_store_itself(small: Path) -> None:
    """Batches until the disk is full: each is there as a whole or not at all, and old ones can be forgotten for new ones."""
    taken = 0
    with closing(State(small, pytest.fail)) as state:
        with pytest.raises(StoreError):  # noqa: PT012 - as often as there is room
            while taken < 1000:
                state.record(events_of(*batch(taken)), TOLD, START_US + taken)
                taken += 1
        assert taken
        assert counts(small)["event"] == counts(small)["outbox"] == taken * BATCH
    # A new start, too, lives with what there is.
    with suppress(StoreError):
        State(small, pytest.fail).close()
    assert counts(small)["event"] == taken * BATCH


def test_no_room_for_a_new_file(small: Path) -> None:
    """Where not even the tables can be made, it is an error and not damage; later it works."""
    ballast = fill(small)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"state\.db: "):
            State(small, pytest.fail)
    ballast.unlink()
    State(small, pytest.fail).close()
    assert counts(small)["event"] == 0
    assert set_aside_of(small / "state.db") == []


def test_read_only_disk(small: Path) -> None:
    """On a disk that has become read-only nothing is set aside; when it can be written again, all is there."""
    with closing(State(small, pytest.fail)) as state:
        state.record(events_of(*batch(0)), TOLD, START_US)
    subprocess.run([MOUNT, "-o", "remount,ro", small], check=True)
    with pytest.raises(StoreError, match=r"state\.db: "):
        State(small, pytest.fail)
    subprocess.run([MOUNT, "-o", "remount,rw", small], check=True)
    with closing(State(small, pytest.fail)) as state:
        assert state.record(events_of(*batch(1)), TOLD, START_US) == BATCH


@pytest.mark.parametrize("is_killed", [False, True])
def test_reading_without_room(small: Path, *, is_killed: bool) -> None:
    """``who`` and ``history`` answer on a full disk and on a read-only one, after an orderly end and after a kill."""
    with closing(State(small, pytest.fail)) as state:
        state.record(events_of(*batch(0)), TOLD, START_US)
        files = {name: (small / name).read_bytes() for name in ("state.db", "state.db-wal", "state.db-shm")}
    if is_killed:
        for name, content in files.items():
            (small / name).write_bytes(content)
        assert files["state.db-wal"]
    ballast = fill(small)
    assert counts(small)["event"] == BATCH
    ballast.unlink()
    subprocess.run([MOUNT, "-o", "remount,ro", small], check=True)
    assert counts(small)["event"] == BATCH


@pytest.fixture
def known_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the schema as root: the project may stand where nobody may look."""
    schema = schema_of("state")
    monkeypatch.setattr(database, "schema_of", lambda _name: schema)


@pytest.mark.usefixtures("known_schema")
@pytest.mark.parametrize("mode", [0o400, 0o000])
def test_read_only_file(nobody: Path, mode: int) -> None:
    """A file that we may not write is an error that names it, not damage; when we may again, all is there."""
    with closing(State(nobody, pytest.fail)) as state:
        state.record(events_of(*batch(0)), TOLD, START_US)
    (nobody / "state.db").chmod(mode)
    with pytest.raises(StoreError, match=r"state\.db: "):
        State(nobody, pytest.fail)
    (nobody / "state.db").chmod(0o600)
    State(nobody, pytest.fail).close()
    assert counts(nobody)["event"] == BATCH


@pytest.mark.usefixtures("known_schema")
def test_read_only_folder(nobody: Path) -> None:
    """A state directory in which nothing can be made: an error, for a damaged file that cannot be set aside as well."""
    (nobody / "state.db").write_bytes(b"garbage " * 1000)
    nobody.chmod(0o500)
    said: list[str] = []
    with pytest.raises(StoreError, match=r"state\.db: Permission denied"):
        State(nobody, said.append)
    (nobody / "state.db").chmod(0o000)
    with pytest.raises(StoreError, match=r"state\.db: "), reading(nobody / "state.db"):
        pass
    nobody.chmod(0o700)
    assert said == []
