"""``consumer.story.known_lines``: which lines of a log file rsyslogd never sent."""

from __future__ import annotations

from datetime import UTC
from itertools import chain

import pytest

from consumer.events import Login, Logout
from consumer.pipeline import Pipeline
from tests.integration.lines import ACCEPTED, CLOSED, OPENED, ours

NOW_US = 1_795_341_600_000_000  # 2026-11-22 10:00:00 UTC


def in_file(text: str, at: int, pid: int = 7) -> bytes:
    """Return a line as rsyslogd writes it to the log file."""
    return f"2026-11-22T10:00:{at:02}.123456+00:00 web1 sshd[{pid}]: {text}\n".encode()


def restarted(pipeline: Pipeline) -> Pipeline:
    """Return a pipeline with the memory of another one."""
    parts = [(name, list(pieces)) for name, pieces in pipeline.changed()]
    found = Pipeline([], UTC, NOW_US, pytest.fail)
    found.restore((name, pieces) for name, pieces in parts if pieces)  # the store deletes a part without pieces
    return found


def test_a_lost_session_line_after_the_end_of_its_session() -> None:
    """
    All other lines of a login have come, and sshbell compares the file from between "Accepted" and the session line on.

    The session is over, so the session line would become a second login.
    """
    pipeline = Pipeline([], UTC, NOW_US, pytest.fail)
    events = [*pipeline.feed(ours(ACCEPTED, 1)), *pipeline.feed(ours(CLOSED, 20, 1)), *pipeline.feed(ours("x", 59, 2, 9))]
    events += chain.from_iterable(pipeline.tick(NOW_US + second * 1_000_000) for second in range(60))
    pipeline = restarted(pipeline)
    for line in pipeline.missing([in_file(OPENED, 1)], UTC):
        events += pipeline.feed(line)
    events += chain.from_iterable(pipeline.tick(NOW_US + second * 1_000_000) for second in range(60, 120))
    assert [type(event) for event in events] == [Login, Logout]


@pytest.mark.parametrize(
    ("text", "pid"), [(OPENED, 8), (OPENED.replace("alice", "bob"), 7), (OPENED.replace("alice", "root"), 9), (CLOSED, 7)]
)
def test_lost_lines_of_others(text: str, pid: int) -> None:
    """The session line of another process or user is missing, and so is the end of the session."""
    pipeline = Pipeline([], UTC, NOW_US, pytest.fail)
    pipeline.feed(ours(ACCEPTED, 1))
    lost = in_file(text, 1, pid)
    assert list(restarted(pipeline).missing([lost], UTC)) == [lost]


def test_a_forged_line_hides_no_session_line() -> None:
    """A local user has written "Accepted" for somebody, from a process whose PID sshd then got: the session line is missing."""
    pipeline = Pipeline([], UTC, NOW_US, pytest.fail)
    pipeline.feed(ours(ACCEPTED, 1, uid=1012, exe="/usr/bin/logger"))
    lost = in_file(OPENED, 30)
    assert list(restarted(pipeline).missing([lost], UTC)) == [lost]


def test_a_login_of_which_nothing_has_come() -> None:
    """Both of its lines are missing, also if "Accepted" stands behind."""
    lost = [in_file(ACCEPTED, 1), in_file(OPENED, 1)]
    for order in (lost, lost[::-1]):
        pipeline = Pipeline([], UTC, NOW_US, pytest.fail)
        assert list(pipeline.missing([b"".join(order)], UTC)) == order
