"""What a forger, a client or a relay once got past: each attack, and what must come of it."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from consumer.correlate import Correlator
from consumer.framing.timestamps import Timestamps
from consumer.matching.matcher import Matcher
from consumer.pipeline import LineReader

if TYPE_CHECKING:
    from consumer.events import Event

MATCHER = Matcher()
ACCEPTED = "Accepted publickey for root from 203.0.113.66 port 40022 ssh2: RSA SHA256:abc"
BY_A_USER = "@[_PID=3377 _UID=1012 _GID=1012"
BY_ROOT = "@[_PID=3377 _UID=0 _GID=0 _COMM=sshd _EXE=/usr/sbin/sshd _CMDLINE="
FIRST = "2026-11-22T10:00:00+00:00"


def told(*lines: str) -> list[str]:
    """Replay messages of sshd[PID], as "TIME PID MESSAGE"; return what happened as "action user address"."""
    events: list[Event] = []
    reader = LineReader(MATCHER, Timestamps(datetime(2026, 12, 1, tzinfo=UTC), UTC), keep_text=True)
    correlator = Correlator(MATCHER.rules, lambda name: MATCHER.program(name).family, events.append)
    for place, line in enumerate(lines, 1):
        stamp, pid, message = line.split(" ", 2)
        correlator.feed(reader.lines(f"{stamp} web1 sshd[{pid}]: {message}\n".encode(), place))
    correlator.settle()
    return [f"{event.__struct_config__.tag} {event.user} {event.address}" for event in events]


@pytest.mark.parametrize(
    "end",
    [
        ' _COMM=x _EXE=/tmp/x (deleted) _CMDLINE="x"]',
        ' _COMM=x _EXE=/home/eve/my dir/a long name _CMDLINE=""]',
        " _COMM=x _EXE=/home/eve/my dir/a long name]",
        ' _COMM=x"y _CMDLINE="x"]',
        " _COMM=x [preauth]",
        "]",
    ],
)
def test_a_forger_cannot_hide_its_annotation(end: str) -> None:
    """However a program is called, its user's id convicts it."""
    assert told(f"{FIRST} 1 {ACCEPTED} {BY_A_USER}{end}") == ["ssh_forged root 203.0.113.66"]
    failed = "Failed password for root from 203.0.113.66 port 40022 ssh2"
    assert not [event for event in told(f"{FIRST} 1 {failed} {BY_A_USER}{end}") if event.startswith("ssh_attempt")]


def test_folded_lines_with_annotations() -> None:
    """Rsyslog folds lines with their annotations: a forged one is known, and a genuine one counts."""
    folded = f'message repeated 2 times: [ {ACCEPTED} {BY_A_USER} _COMM=x _EXE=/tmp/x _CMDLINE="x"]]'
    assert told(f"{FIRST} 1 {folded}") == ["ssh_forged root 203.0.113.66"]
    failed = "Failed password for root from 203.0.113.66 port 40022 ssh2"
    assert told(f'{FIRST} 1 message repeated 3 times: [ {failed} {BY_ROOT}"sshd: root [priv]"]]') == [
        "ssh_attempt root 203.0.113.66"
    ]


def test_a_planted_login_without_a_port() -> None:
    """A line that names no port takes nothing from the login that comes with one."""
    events = told(
        f"{FIRST} 12 Accepted password for alice from 1.1.1.1 ssh2",
        "2026-11-22T10:05:05+00:00 12 Accepted publickey for alice from 1.1.1.1 port 5 ssh2: RSA SHA256:x",
        "2026-11-22T10:05:05+00:00 12 pam_unix(sshd:session): session opened for user alice(uid=1001) by (uid=0)",
    )
    assert events == ["ssh_login alice 1.1.1.1"] * 2


def test_a_line_from_the_future_holds_nobody_up() -> None:
    """A login without a session line is told in time, also behind one with a time a year ahead."""
    events: list[Event] = []
    reader = LineReader(MATCHER, Timestamps(datetime(2026, 12, 1, tzinfo=UTC), UTC), keep_text=True)
    correlator = Correlator(MATCHER.rules, lambda name: MATCHER.program(name).family, events.append)
    for stamp, pid, message in (
        (FIRST, 1, "Connection from 3.3.3.3 port 9 on 1.1.1.1 port 22"),
        ("2027-11-22T10:00:00+00:00", 2, "Accepted password for x from 6.6.6.6 port 9 ssh2"),
        ("2026-11-22T10:01:00+00:00", 12, "Accepted password for alice from 1.1.1.1 port 5 ssh2"),
        ("2026-11-22T10:50:00+00:00", 99, "Connection from 3.3.3.3 port 10 on 1.1.1.1 port 22"),
    ):
        correlator.feed(reader.lines(f"{stamp} web1 sshd[{pid}]: {message}\n".encode(), 1))
    assert "alice" in [event.user for event in events]


def test_a_leap_of_the_clock_ends_no_session() -> None:
    """Two lines from the future do not make a host forget who is in."""
    events = told(
        f"{FIRST} 12 Accepted password for alice from 1.1.1.1 port 5 ssh2",
        f"{FIRST} 12 pam_unix(sshd:session): session opened for user alice(uid=1001) by (uid=0)",
        "2027-11-22T10:00:00+00:00 2 Connection from 3.3.3.3 port 9 on 1.1.1.1 port 22",
        "2027-11-22T10:00:00+00:00 2 Connection from 3.3.3.3 port 9 on 1.1.1.1 port 22",
        "2026-11-22T10:50:00+00:00 12 pam_unix(sshd:session): session closed for user alice",
    )
    assert "ssh_logout alice 1.1.1.1" in events


def test_a_good_bye_that_looks_relayed() -> None:
    """A client's text that ends in [preauth] hides no logout, and is no probe."""
    events = told(
        f"{FIRST} 12 Accepted publickey for root from 1.1.1.1 port 5 ssh2: RSA SHA256:x",
        f"{FIRST} 12 User child is on pid 13",
        "2026-11-22T10:05:00+00:00 13 Received disconnect from 1.1.1.1 port 5:11: bye [preauth]",
        "2026-11-22T10:05:00+00:00 13 Disconnected from user root 1.1.1.1 port 5",
    )
    assert events == ["ssh_login root 1.1.1.1", "ssh_logout root 1.1.1.1"]
