"""``consumer.run.catch_up``: when what rsyslogd had for us has come in."""

from __future__ import annotations

import pytest

from consumer.clock import SECOND_US, isoformat
from consumer.run.catch_up import Backlog

BEGUN_US = 1_790_000_000 * SECOND_US


def line(received_us: int | None) -> bytes:
    """Return a line of our template that rsyslogd received then; None: of another sender."""
    if received_us is None:
        return b"<86>1 2026-11-22T10:00:00Z web1 sshd 7 - - x\n"
    stamp = isoformat(received_us).replace("Z", "+00:00")
    return f'{{"v":"1","ts":"2020-01-01T00:00:00+00:00","rcvd":"{stamp}","host":"web1","msg":"x"}}\n'.encode()


def test_nothing_comes() -> None:
    """Five seconds without an old line are the end of it."""
    backlog = Backlog(BEGUN_US, 100.0)
    assert not backlog.has_drained(104.9)
    assert backlog.has_drained(105.0)


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
    backlog.note(line(received_us), last_us, 104.0)
    assert backlog.has_drained(105.0) == (not is_old)
    assert backlog.has_drained(109.0)


def test_the_last_line_of_a_block_counts() -> None:
    """In plain mode many lines come at once."""
    backlog = Backlog(BEGUN_US, 100.0)
    backlog.note(line(BEGUN_US - 1) + line(BEGUN_US + 1), 0, 104.0)
    assert backlog.has_drained(105.0)
    backlog.note(line(BEGUN_US + 1) + line(BEGUN_US - 1), 0, 106.0)
    assert not backlog.has_drained(107.0)


def test_a_backlog_without_end() -> None:
    """Old lines may come for ever, on a relay; stories wait for ten minutes then."""
    backlog = Backlog(BEGUN_US, 100.0)
    for second in range(600):
        assert not backlog.is_endless(100.0 + second)
        backlog.note(line(BEGUN_US - 1), 0, 100.0 + second)
        assert not backlog.has_drained(101.0 + second)
    assert backlog.is_endless(700.0)
