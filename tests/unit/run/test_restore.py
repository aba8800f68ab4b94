"""``consumer.run.restore``: what a new process knows of the one before, by real journals and stores, damaged ones among them."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from consumer.clock import SECOND_US, local_zone, now_us
from consumer.config import Config
from consumer.detect.detectors import no_place
from consumer.intake.journal import Journal, Kind, segments
from consumer.intake.omprog import Lines, Replies
from consumer.pipeline import Pipeline
from consumer.run import retry
from consumer.run.catch_up import RotatedLog
from consumer.run.restore import Restored, restored, snapshot_parts
from consumer.run.retry import Patience, PatientState
from consumer.store.database import reading, set_aside_of
from consumer.store.state import State
from tests.store_events import session_lines, try_line

if TYPE_CHECKING:
    from collections.abc import Iterator

TOLD = frozenset({"ssh_login"})
ACCEPTED, OPENED, CLOSED = (line + b"\n" for line in session_lines(4711))
TRIES = [try_line(pid) + b"\n" for pid in range(1, 251)]
OTHER_NAME = ACCEPTED.replace(b"sshd[", b"sshd-ga["), OPENED.replace(b"sshd[", b"sshd-ga[")
SAMPLES_DIR = Path(__file__).parents[2] / "samples" / "store"
OURS = b'{"v": "1", "ts":"2026-11-22T10:00:00+00:00", "rcvd":"2026-11-22T10:00:00.000001+00:00", "host":"web1", "msg":"x"}\n'


class Place:
    """A state directory, and what a start makes of it."""

    def __init__(self, folder: Path, patience: Patience) -> None:
        self.folder = folder
        self.patience = patience
        self.said: list[str] = []
        self.log = folder / "auth.log"
        self.config = Config(state_dir=str(folder))

    def store(self) -> PatientState:
        """Open the store."""
        return PatientState(self.patience, lambda: State(self.folder, self.said.append))

    def restored(self, store: PatientState) -> Restored:
        """Restore."""
        found = store.until(lambda: restored(store, self.folder, self.config, TOLD, self.said.append, no_place))
        found.journal.close()
        return found

    def start(self) -> Restored:
        """Open the store, restore, and close it again."""
        store = self.store()
        with closing(store.state):
            return self.restored(store)

    def write(self, *records: tuple[Kind, bytes]) -> None:
        """Write a segment of the journal, as a process that is killed then leaves it."""
        journal = Journal(
            self.folder / "journal", 1 + max((number for number, _ in segments(self.folder / "journal")), default=0)
        )
        for kind, payload in records:
            journal.append(kind, payload)
        journal.close()

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask the store as another process would."""
        with reading(self.folder / "state.db") as connection:
            return connection.execute(statement).fetchall()

    def users(self) -> list[tuple[Any, ...]]:
        """Return action, user and address of all events."""
        return self.rows("SELECT action, user, address FROM event ORDER BY time_us, user")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Return a new state directory; the other end of the input stays open."""
    ours, theirs = os.pipe()
    yield Place(tmp_path, Patience(Lines(ours), Replies(is_plain=True)))
    os.close(ours)
    os.close(theirs)


def pipeline() -> Pipeline:
    """Return a new one."""
    return Pipeline((), local_zone(), now_us(), pytest.fail)


def minute() -> list[tuple[Kind, bytes]]:
    """Return the ticks of a minute from now on."""
    start_us = now_us()
    return [(Kind.TICK, str(start_us + second * SECOND_US).encode()) for second in range(60)]


def test_nothing_is_there(place: Place) -> None:
    """A first start knows nothing, and begins a journal."""
    found = place.start()
    assert (found.journal.segment, found.position) == (1, None)
    assert sum(found.pipeline.counts) == 0
    assert place.users() == []


def test_the_journal_is_stored(place: Place) -> None:
    """What was confirmed and not stored yet is stored now, once, however often that is done."""
    place.write((Kind.LINES, ACCEPTED + OPENED), (Kind.LINES, TRIES[0]), (Kind.CAUGHT_UP, CLOSED))
    for segment in (2, 3, 4):
        assert place.start().journal.segment == segment
        assert [row[:2] for row in place.users()] == [("ssh_login", "alice"), ("ssh_attempt", "root"), ("ssh_logout", "alice")]
        assert place.rows("SELECT action FROM outbox") == [("ssh_login",)]
    assert place.said == []


def test_many_events(place: Place) -> None:
    """Those of a long journal are stored in batches, and none is lost at the end of one."""
    place.write(*((Kind.LINES, line) for line in TRIES))
    place.start()
    assert place.rows("SELECT action, count(*) FROM event GROUP BY action") == [("guessing", 1), ("ssh_attempt", 250)]


def test_half_a_story_in_the_snapshot(place: Place) -> None:
    """The snapshot has the Accepted line, the journal behind it the session line: together they are a login with its address."""
    before = pipeline()
    before.feed(ACCEPTED)
    with closing(place.store().state) as state:
        state.keep_snapshot([*before.changed(), *snapshot_parts(2, (1, 2, 3))])
    place.write((Kind.LINES, TRIES[0]))  # the snapshot stands for it
    place.write((Kind.LINES, OPENED))
    found = place.start()
    assert place.users() == [("ssh_login", "alice", "192.0.2.7")]
    assert (found.position, found.journal.segment) == ((1, 2, 3), 3)


def test_the_snapshot_is_ahead_of_the_journal(place: Place) -> None:
    """Where the journal is gone, new segments get numbers for which the snapshot does not stand."""
    with closing(place.store().state) as state:
        state.keep_snapshot([*pipeline().changed(), *snapshot_parts(7, None)])
    assert place.start().journal.segment == 7


def test_redelivered_lines(place: Place) -> None:
    """Lines of the journal are known when rsyslog sends them again; what only the log file had is none of them."""
    other = OURS.replace(b"000001", b"000002")
    place.write((Kind.LINES, OURS), (Kind.CAUGHT_UP, other))
    found = place.start().pipeline
    assert [found.redelivery.has_seen(line) for line in (OURS, other)] == [True, False]


def test_time_passes(place: Place) -> None:
    """Ticks of the journal bring a login without a session line its end of grace, as they did then."""
    place.write((Kind.LINES, ACCEPTED), *minute())
    place.start()
    assert place.users() == [("ssh_login", "alice", "192.0.2.7")]


def test_names_of_then(place: Place) -> None:
    """Lines are read under the names that the configuration had for sshd when they came."""
    programs = (Kind.PROGRAMS, b'["sshd-ga"]')
    place.write((Kind.LINES, OTHER_NAME[0]), programs, (Kind.LINES, OTHER_NAME[1]), (Kind.PROGRAMS, b"[]"), *minute())
    place.start()
    # The Accepted line was not understood, so where from is not known.
    assert place.users() == [("ssh_login", "alice", None)]


@pytest.mark.parametrize("is_holding", [True, False])
def test_holding(place: Place, *, is_holding: bool) -> None:
    """A process that was killed while it waited for lost lines goes on with that."""
    place.write((Kind.HOLDING, b"1"), (Kind.HOLDING, b"1" if is_holding else b"0"))
    assert place.start().pipeline._correlator.held.is_holding == is_holding


def damage(store: PatientState) -> None:
    """Overwrite all pages of an open file but the first; nothing may be left in its log."""
    connection = store.state._connection
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with store.state._path.open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    connection.execute("PRAGMA shrink_memory")


def test_a_store_that_is_damaged_while_it_is_read(place: Place) -> None:
    """It is set aside, and all that the journal has is stored in a new one; that has no snapshot yet."""
    place.write((Kind.LINES, ACCEPTED + OPENED))
    store = place.store()
    with closing(store.state):
        store.state.keep_snapshot([*snapshot_parts(1, None), ("x", [bytes(100_000)])])
        damage(store)
        before = store.has_snapshot
        place.restored(store)
        assert (before, store.has_snapshot) == (True, False)
    assert place.users() == [("ssh_login", "alice", "192.0.2.7")]
    assert len(place.said) == len(set_aside_of(place.folder / "state.db")) == 1


def test_a_store_that_is_damaged_while_it_is_written(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read of the old snapshot is not forgotten: it goes on in the new store."""
    before = pipeline()
    before.feed(ACCEPTED)
    store = place.store()
    with closing(store.state):
        store.state.keep_snapshot([*before.changed(), *snapshot_parts(1, None)])
        place.write((Kind.LINES, b"".join(TRIES[:150])))
        feed = Pipeline.feed

        def damaging(self: Pipeline, block: bytes) -> list[Any]:
            damage(store)
            monkeypatch.undo()
            return feed(self, block)

        monkeypatch.setattr(Pipeline, "feed", damaging)
        found = place.restored(store)
        assert not store.has_snapshot
        (login,) = found.pipeline.feed(OPENED)
        assert login.address == "192.0.2.7"
    assert place.rows("SELECT action, count(*) FROM event GROUP BY action") == [("guessing", 1), ("ssh_attempt", 150)]
    assert len(place.said) == 1


def test_a_segment_that_cannot_be_read_for_now(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is done again until it can be, and counts once."""
    place.write((Kind.LINES, ACCEPTED))
    place.write((Kind.LINES, OPENED))
    path = place.folder / "journal" / "00000002.journal"
    aside = path.rename(path.with_name("aside"))
    path.mkdir()  # to read it is an error for root, too
    naps = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            path.rmdir()
            aside.rename(path)

    monkeypatch.setattr(retry, "time", SimpleNamespace(monotonic=time.monotonic, sleep=nap))
    found = place.start()
    assert len(naps) == 3
    assert place.users() == [("ssh_login", "alice", "192.0.2.7")]
    assert sum(found.pipeline.counts) == 2


def test_a_damaged_part_of_the_snapshot(place: Place) -> None:
    """One host's memory that cannot be read costs that host's half-known stories, is reported, and no more."""
    before = pipeline()
    before.feed(ACCEPTED + ACCEPTED.replace(b"web1", b"web2"))
    with closing(place.store().state) as state:
        state.keep_snapshot([*before.changed(), *snapshot_parts(1, None)])
    with closing(sqlite3.connect(place.folder / "state.db")) as connection, connection:
        assert connection.execute("UPDATE snapshot SET body = x'00' WHERE part LIKE '%web2%'").rowcount == 1
    found = place.start().pipeline
    assert [event.address for event in found.feed(OPENED)] == ["192.0.2.7"]
    assert len(place.said) == 1


def damage_part(place: Place, part: str, body: bytes) -> None:
    """Overwrite a part of the snapshot."""
    with closing(sqlite3.connect(place.folder / "state.db")) as connection, connection:
        assert connection.execute("UPDATE snapshot SET body = ? WHERE part = ?", (body, part)).rowcount == 1


@pytest.mark.parametrize("body", [b"", b"\xff", b"seven"])
def test_a_damaged_number_of_the_segment(place: Place, body: bytes) -> None:
    """All that is left of the journal is read, and the next segment comes behind it."""
    before = pipeline()
    before.feed(ACCEPTED)
    place.write()  # the snapshot stood for it
    place.write((Kind.LINES, OPENED))
    (place.folder / "journal" / "00000001.journal").unlink()
    with closing(place.store().state) as state:
        state.keep_snapshot([*before.changed(), *snapshot_parts(2, (1, 2, 3))])
    damage_part(place, "journal", body)
    found = place.start()
    assert place.users() == [("ssh_login", "alice", "192.0.2.7")]
    assert (found.journal.segment, found.position) == (3, (1, 2, 3))
    assert ["'journal'" in text for text in place.said] == [True]


@pytest.mark.parametrize("body", [b"", b"\xff", b"[1, 2]", b'["a", 2, 3]'])
def test_a_damaged_position(place: Place, body: bytes) -> None:
    """The log files are compared from their beginning on, as far back as lines are known: what rsyslogd lost is found."""
    lost = TRIES[0].replace(b"10:00:00", b"10:00:10")
    place.log.write_bytes(ACCEPTED.replace(b"2026", b"2025") + ACCEPTED + lost)
    before = pipeline()
    before.feed(ACCEPTED)
    with closing(place.store().state) as state:
        state.keep_snapshot([*before.changed(), *snapshot_parts(1, (1, 2, 3))])
    damage_part(place, "position", body)
    found = place.start()
    log_file = RotatedLog(str(place.log))
    log_file.position = found.position
    assert list(found.pipeline.missing(log_file.blocks(), local_zone())) == [lost]
    assert ["'position'" in text for text in place.said] == [True]


def test_a_damaged_part_of_the_pipeline(place: Place) -> None:
    """Lines of the file that came in before are read again behind the position, make the same events, and nothing else is new."""
    place.log.write_bytes(ACCEPTED + OPENED + TRIES[0])
    before = pipeline()
    store = place.store()
    with closing(store.state):
        store.state.record(before.feed(ACCEPTED + OPENED + TRIES[0]), TOLD, now_us())
        found = place.log.stat()
        store.state.keep_snapshot([*before.changed(), *snapshot_parts(1, (found.st_dev, found.st_ino, 0))])
    known = place.rows("SELECT * FROM event ORDER BY id")
    damage_part(place, "pipeline", b"\x00")
    restored = place.start()
    log_file = RotatedLog(str(place.log))
    log_file.position = restored.position
    missing = list(restored.pipeline.missing(log_file.blocks(), local_zone()))
    assert missing == [ACCEPTED, OPENED, TRIES[0]]
    store = place.store()
    with closing(store.state):
        assert store.state.record([event for line in missing for event in restored.pipeline.feed(line)], TOLD, now_us()) == 0
    assert place.rows("SELECT * FROM event ORDER BY id") == known
    assert ["'pipeline'" in text for text in place.said] == [True]


def test_all_parts_are_damaged(place: Place) -> None:
    """The start goes on, and compares nothing, since it knows of no line."""
    place.log.write_bytes(ACCEPTED)
    before = pipeline()
    before.feed(ACCEPTED + OPENED)
    before.redelivery.has_seen(OURS)
    with closing(place.store().state) as state:
        state.keep_snapshot([*before.changed(), *snapshot_parts(1, (1, 2, 3))])
        parts = [part for part, _ in state.snapshot()]
    for part in parts:
        damage_part(place, part, b"\xc1")
    found = place.start()
    log_file = RotatedLog(str(place.log))
    log_file.position = found.position
    assert list(found.pipeline.missing(log_file.blocks(), local_zone())) == []
    assert len(place.said) == len(parts)
    assert {part.partition("\t")[0] for part in parts} == {
        "detect", "host", "identities", "journal", "pipeline", "position", "seen",
    }  # fmt: skip


def test_a_snapshot_of_format_1(place: Place) -> None:
    """The version before kept a host in one part: its connections, one with an older one behind its PID, and its queues."""
    parts = msgspec.json.decode((SAMPLES_DIR / "snapshot.1.json").read_bytes(), type=dict[str, bytes])
    with closing(sqlite3.connect(place.folder / "state.db")) as connection:
        schema = (SAMPLES_DIR / "state.2.sql").read_text(encoding="utf-8")
        connection.executescript(f"BEGIN; {schema}; PRAGMA user_version = 2; COMMIT")
        with connection:
            connection.executemany("INSERT INTO snapshot VALUES (?, ?)", list(parts.items()))
    found = place.start()
    assert (place.said, found.position, found.journal.segment) == ([], (1, 2, 3), 7)
    events = []
    for text, pid, host in (
        ("pam_unix(sshd:session): session closed for user alice", 10, "web1"),
        ("pam_unix(sshd:session): session opened for user bob(uid=1002) by (uid=0)", 10, "web1"),
        ("Accepted password for dave from 192.0.2.6 port 6 ssh2", 40, "web2"),
        ("Connection closed by 192.0.2.5 port 5 [preauth]", 50, "web2"),
        ("Connection from 192.0.2.9 port 9 on 192.0.2.200 port 22", 60, "web1"),
    ):
        second = 5 if pid < 60 else 30  # behind the grace of a login without a session line
        events += found.pipeline.feed(f"2026-11-22T10:00:{second:02}.000000+00:00 {host} sshd[{pid}]: {text}\n".encode())
    assert [(str(event.action), event.user, event.address) for event in events] == [
        ("ssh_logout", "alice", "192.0.2.1"),
        ("ssh_login", "bob", "192.0.2.2"),
        ("ssh_login", "dave", "192.0.2.6"),
        ("ssh_login", "carol", "192.0.2.3"),
    ]
