"""``consumer.intake.journal``: what was appended comes back, whatever a crash or a disk did to the end of it."""

import os
import threading
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.errors import StoreError
from consumer.intake.journal import Journal, Kind, replayed, segments
from tests.waiting import wait_for

RECORDS = [(Kind.LINES, b"one\ntwo\n"), (Kind.TICK, b"1795341600000000"), (Kind.CAUGHT_UP, b""), (Kind.LINES, bytes(range(256)))]


def written(folder: Path, records: list[tuple[Kind, bytes]] = RECORDS) -> Path:
    """Write records into the first segment, and return its path."""
    journal = Journal(folder, 1)
    for kind, payload in records:
        journal.append(kind, payload)
    journal.close()
    return folder / "00000001.journal"


def read(folder: Path, first: int = 1) -> tuple[list[tuple[Kind, bytes]], list[str]]:
    """Read all records from a segment on, and what was reported."""
    reports: list[str] = []
    return list(replayed(folder, first, reports.append)), reports


def test_records_come_back(tmp_path: Path) -> None:
    """Records come back in order, of all segments from the one asked for on."""
    journal = Journal(tmp_path, 1)
    for kind, payload in RECORDS:
        journal.append(kind, payload)
        journal.turn()
    journal.close()
    assert read(tmp_path) == (RECORDS, [])
    assert read(tmp_path, 3) == (RECORDS[2:], [])
    assert [number for number, _path in segments(tmp_path)] == [1, 2, 3, 4, 5]


def test_dropping(tmp_path: Path) -> None:
    """Segments before the snapshot's are removed, later ones stay."""
    journal = Journal(tmp_path, 1)
    for kind, payload in RECORDS:
        journal.append(kind, payload)
        journal.turn()
    journal.drop_before(3)
    assert [number for number, _path in segments(tmp_path)] == [3, 4, 5]
    journal.close()


def test_an_empty_segment_is_used(tmp_path: Path) -> None:
    """A snapshot that is tried again and again, on a full disk, leaves no segment behind for each try."""
    journal = Journal(tmp_path, 1)
    assert journal.turn() == 1
    journal.append(Kind.TICK, b"1")
    assert [journal.turn() for _ in range(3)] == [2, 2, 2]
    journal.append(Kind.TICK, b"2")
    assert journal.turn() == 3
    journal.close()
    assert read(tmp_path, 2) == ([(Kind.TICK, b"2")], [])


def test_no_journal(tmp_path: Path) -> None:
    """A folder that is not there has no records."""
    assert read(tmp_path / "none") == ([], [])


@given(cut=st.integers(0, 400))
def test_torn_end(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    """Wherever a crash tore the file, all whole records come back, and nothing is reported: it is what a crash leaves."""
    path = written(tmp_path_factory.mktemp("journal"))
    data = path.read_bytes()
    # The header is one line; a record is length (4 bytes), checksum (4), kind (1) and payload.
    _header, *ends = accumulate((9 + len(payload) for _kind, payload in RECORDS), initial=data.index(b"\n") + 1)
    assert ends[-1] == len(data)
    size = max(0, len(data) - cut)
    path.write_bytes(data[:size])
    found, reports = read(path.parent)
    assert found == RECORDS[: sum(end <= size for end in ends)]
    assert reports == []


@given(place=st.integers(0, 340), bit=st.integers(0, 7))
def test_damage(tmp_path_factory: pytest.TempPathFactory, place: int, bit: int) -> None:
    """A bit that turned is found: no record that comes back is another than was written."""
    path = written(tmp_path_factory.mktemp("journal"))
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << bit
    path.write_bytes(data)
    found, _reports = read(path.parent)
    assert found == RECORDS[: len(found)]


def test_damage_is_set_aside(tmp_path: Path) -> None:
    """What is behind a damaged record is kept for study and reported, and later segments are read."""
    path = written(tmp_path)
    data = bytearray(path.read_bytes())
    data[30] ^= 1
    path.write_bytes(data)
    later = Journal(tmp_path, 2)
    later.append(Kind.TICK, b"7")
    later.close()
    found, (report,) = read(tmp_path)
    assert found == [(Kind.TICK, b"7")]
    assert "damaged" in report
    assert path.with_name("00000001.journal.damaged").exists()


def test_a_file_that_is_none_of_ours(tmp_path: Path) -> None:
    """Another file under the name of a segment is set aside too."""
    (tmp_path / "00000001.journal").write_bytes(b"something else altogether")
    found, reports = read(tmp_path)
    assert found == []
    assert len(reports) == 1


def test_what_cannot_be_written(tmp_path: Path) -> None:
    """A folder that cannot be made is an error that names it."""
    (tmp_path / "journal").write_text("")
    with pytest.raises(StoreError, match="journal"):
        Journal(tmp_path / "journal", 1)


def test_a_sync_in_the_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is begun once for what was written; one that fails is said by the next call, and what it was for is synced after all."""
    real, outcomes = os.fdatasync, iter([OSError(5, "Input/output error")])
    synced: list[int] = []

    def fdatasync(fd: int) -> None:
        for outcome in outcomes:
            raise outcome
        synced.append(os.fstat(fd).st_size)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    journal = Journal(tmp_path, 1)
    journal.append(Kind.TICK, b"1")
    assert journal.begin_sync()
    with pytest.raises(StoreError, match="Input/output error"):
        wait_for(journal.begin_sync, "the sync in the background ends")
    journal.sync()
    assert journal.begin_sync()
    assert synced == [journal.size]
    journal.append(Kind.TICK, b"2")
    assert journal.begin_sync()
    journal.turn()
    assert synced[1:] == [(tmp_path / "00000001.journal").stat().st_size]
    journal.close()
    assert read(tmp_path) == ([(Kind.TICK, b"1"), (Kind.TICK, b"2")], [])


def test_a_sync_that_takes_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are written while it lasts; they need another one."""
    is_done = threading.Event()
    monkeypatch.setattr(os, "fdatasync", lambda _fd: is_done.wait(10))
    journal = Journal(tmp_path, 1)
    journal.append(Kind.TICK, b"1")
    assert journal.begin_sync()
    journal.append(Kind.TICK, b"2")
    assert not journal.begin_sync()
    is_done.set()
    journal.close()
    assert read(tmp_path) == ([(Kind.TICK, b"1"), (Kind.TICK, b"2")], [])
