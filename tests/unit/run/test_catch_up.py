"""``consumer.run.catch_up``: when rsyslogd's backlog has come in, and what ``run`` does then."""

from __future__ import annotations

import time
from datetime import UTC
from typing import TYPE_CHECKING

import pytest

from consumer.clock import SECOND_US, isoformat
from consumer.intake.journal import Kind
from consumer.pipeline import Pipeline
from consumer.run.catch_up import Backlog, CatchUp, RotatedLog

if TYPE_CHECKING:
    from pathlib import Path

BEGUN_US = 1_790_000_000 * SECOND_US


def line(received_us: int | None) -> bytes:
    """Return a line of our template that rsyslogd received then; None: of another sender."""
    if received_us is None:
        return b"<86>1 2026-11-22T10:00:00Z web1 sshd 7 - - x\n"
    stamp = isoformat(received_us).replace("Z", "+00:00")
    return f'{{"v":"1","ts":"2020-01-01T00:00:00+00:00","rcvd":"{stamp}","host":"web1","msg":"x"}}\n'.encode()


def test_nothing_comes() -> None:
    """Fifteen seconds without an old line are the end of it."""
    backlog = Backlog(BEGUN_US, 100.0)
    assert not backlog.has_drained(114.9)
    assert backlog.has_drained(115.0)


@pytest.mark.parametrize(
    ("received_us", "last_us", "is_old"),
    [
        (BEGUN_US - 1, BEGUN_US + 1, True),
        (BEGUN_US, 0, False),
        (BEGUN_US + 1, 0, False),
        (None, BEGUN_US - 1, True),
        (None, BEGUN_US, False),
    ],
)
def test_old_lines_prolong_it(received_us: int | None, last_us: int, is_old: bool) -> None:  # noqa: FBT001 - a case
    """By the time of receipt where a line has one, to the microsecond; else by the time of the line before it."""
    backlog = Backlog(BEGUN_US, 100.0)
    backlog.note(line(received_us), last_us, 114.0)
    assert backlog.has_drained(115.0) == (not is_old)
    assert backlog.has_drained(129.0)


def test_the_last_line_of_a_block_counts() -> None:
    """In plain mode many lines come at once."""
    backlog = Backlog(BEGUN_US, 100.0)
    backlog.note(line(BEGUN_US - 1) + line(BEGUN_US + 1), 0, 114.0)
    assert backlog.has_drained(115.0)
    backlog.note(line(BEGUN_US + 1) + line(BEGUN_US - 1), 0, 116.0)
    assert not backlog.has_drained(130.0)


def test_a_backlog_without_end() -> None:
    """Old lines may come for ever, on a relay; stories wait for ten minutes then."""
    backlog = Backlog(BEGUN_US, 100.0)
    for second in range(600):
        assert not backlog.is_endless(100.0 + second)
        backlog.note(line(BEGUN_US - 1), 0, 100.0 + second)
        assert not backlog.has_drained(101.0 + second)
    assert backlog.is_endless(700.0)


def test_a_wait_for_the_disk_is_no_silence() -> None:
    """``run`` neither reads nor ticks meanwhile. What has passed before still counts."""
    backlog = Backlog(BEGUN_US, 100.0)
    for second in (101.0, 102.0, 103.0, 603.0):
        backlog.tick(second)
    assert not backlog.has_drained(603.0)
    assert not backlog.is_endless(1199.9)
    assert backlog.has_drained(615.0)
    assert backlog.is_endless(1200.0)


def test_a_line_just_after_a_wait_for_the_disk() -> None:
    """The time of the wait does not prolong the silence after it."""
    backlog = Backlog(BEGUN_US, 100.0)
    backlog.note(line(BEGUN_US - 1), 0, 150.0)
    backlog.tick(150.5)
    assert not backlog.has_drained(165.4)
    assert backlog.has_drained(165.5)


class Written:
    """A catch-up with its journal."""

    def __init__(self, log_file: RotatedLog) -> None:
        self.records: list[tuple[Kind, bytes]] = []
        pipeline = Pipeline([], UTC, BEGUN_US, pytest.fail)
        self.catch_up = CatchUp(log_file, pipeline, lambda kind, payload: self.records.append((kind, payload)), BEGUN_US)


def test_the_first_start_begins_at_the_end(tmp_path: Path) -> None:
    """It compares no line of the file, and no story waits."""
    path = tmp_path / "auth.log"
    path.write_bytes(b"old\n")
    log_file = RotatedLog(str(path))
    written = Written(log_file)
    assert written.catch_up.begin()
    assert written.catch_up.is_over
    assert log_file.position is not None
    assert log_file.position[2] == 4
    assert written.records == [(Kind.HOLDING, b"0")]


def test_a_later_start(tmp_path: Path) -> None:
    """Stories wait until the backlog has drained."""
    path = tmp_path / "auth.log"
    path.write_bytes(b"old\n")
    log_file = RotatedLog(str(path))
    log_file.position = (1, 2, 3)
    written = Written(log_file)
    assert not written.catch_up.begin()
    now_s = time.monotonic()
    assert not written.catch_up.tick(now_s)
    written.catch_up.mark(now_s, BEGUN_US, now_s - 100.0, is_ready=False)
    assert log_file.position == (1, 2, 3)
    assert not any(written.catch_up.tick(now_s + second) for second in range(1, 15))
    assert written.catch_up.tick(now_s + 15.0)
    assert written.catch_up.found() == []
    assert written.catch_up.is_over
    assert not written.catch_up.tick(now_s + 30.0)
    assert written.records == [(Kind.HOLDING, b"1"), (Kind.HOLDING, b"0")]


def test_stories_wait_for_ten_minutes_at_most() -> None:
    """A backlog without an end does not hold them for ever; the file is still to be read."""
    log_file = RotatedLog("/nonexistent/auth.log")
    log_file.position = (1, 2, 3)
    written = Written(log_file)
    written.catch_up.begin()
    now_s = time.monotonic()
    for second in range(1, 603):
        written.catch_up.note(line(BEGUN_US - 1), now_s + second)
        assert not written.catch_up.tick(now_s + second)
    assert written.records == [(Kind.HOLDING, b"1"), (Kind.HOLDING, b"0")]
    assert not written.catch_up.is_over


def test_no_file_has_no_place() -> None:
    """Without ``catch_up``, no position is recorded, least of all that of the working directory."""
    log_file = RotatedLog("")
    written = Written(log_file)
    assert not written.catch_up.begin()
    for at_s in (100.0, 200.0):
        written.catch_up.note(line(BEGUN_US + 200 * SECOND_US), at_s)
        written.catch_up.mark(at_s, BEGUN_US, 0.0, is_ready=False)
    assert log_file.position is None


class Marked:
    """A catch-up that has compared its file and now marks it each second. The last line has come at second 0."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(b"old\n")
        self._path = path
        self._log_file = RotatedLog(str(path))
        self._catch_up = Written(self._log_file).catch_up
        self._catch_up.begin()
        self._last_line_s = 0.0
        self.come(0.0, received_s=0.0)

    def come(self, at_s: float, received_s: float | None) -> None:
        """Let a line come that rsyslogd received at a second."""
        self._catch_up.note(line(None if received_s is None else BEGUN_US + round(received_s * SECOND_US)), at_s)
        self._last_line_s = at_s

    def position_at(self, second: int) -> int:
        """Mark at a second; return the position."""
        self._catch_up.mark(float(second), BEGUN_US + second * SECOND_US, self._last_line_s, is_ready=False)
        assert self._log_file.position is not None
        return self._log_file.position[2]

    def write(self) -> None:
        """Let a line reach the file."""
        self._path.write_bytes(self._path.read_bytes() + b"new\n")


def test_a_rsyslogd_that_is_stopping_moves_no_position(tmp_path: Path) -> None:
    """It sends nothing for a while, as if it had nothing, keeps ``run`` waiting, and may then lose what it has."""
    marked = Marked(tmp_path / "auth.log")
    marked.write()
    for second in range(1, 90):
        assert marked.position_at(second) == 4


def test_a_later_line_confirms_a_position(tmp_path: Path) -> None:
    """It came after all lines of that time, which are ten seconds older."""
    marked = Marked(tmp_path / "auth.log")
    assert marked.position_at(2) == 4
    marked.write()
    assert marked.position_at(3) == 4
    marked.come(14.0, received_s=12.9)
    assert marked.position_at(14) == 4
    marked.come(14.1, received_s=13.0)
    assert marked.position_at(15) == 8


def test_an_old_line_from_the_disk_confirms_nothing(tmp_path: Path) -> None:
    """Nor does one without a time of receipt, if the line before it is old."""
    marked = Marked(tmp_path / "auth.log")
    marked.write()
    for second in range(1, 40):
        marked.come(second - 0.5, received_s=0.5 if second % 2 else None)
        assert marked.position_at(second) == 4


def test_a_line_after_a_long_silence_confirms_a_position(tmp_path: Path) -> None:
    """Only the latest minute of marks is kept."""
    marked = Marked(tmp_path / "auth.log")
    marked.write()
    for second in range(1, 1000):
        marked.position_at(second)
    marked.come(1000.0, received_s=1000.0)
    assert marked.position_at(1000) == 8
