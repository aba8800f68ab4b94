"""What a forger, a client or a relay once got past: each attack, and what must come of it."""

import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from consumer.events import Event, Logout
from consumer.framing.timestamps import Timestamps
from consumer.matching.matcher import Matcher
from consumer.pipeline import LineReader
from consumer.records import Line
from consumer.story import connections
from consumer.story.correlate import Correlator

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
    return [f"{event.action} {event.user} {event.address}" for event in events]


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


NAME = "x @[_PID=1 _UID=1000 _GID=1000 _EXE=y"
LONG_ID = "x" * 400
CUT = f"Accepted publickey for alice from 203.0.113.9 port 4000 ssh2: ED25519-CERT SHA256:{'a' * 43} ID {LONG_ID}"
BY_RSYSLOG = '@[_PID=99 _UID=0 _GID=0 _COMM=sshd _EXE=/usr/sbin/sshd _CMDLINE="sshd: unknown [priv]"]'


JournalLine = tuple[float, int, str] | tuple[float, int, str, dict[str, str]]


def journal_lines(*lines: JournalLine) -> list[Line]:
    """Read lines of ``journalctl -o json``: seconds, PID, message and other fields; by root's sshd by default."""
    reader = LineReader(MATCHER, Timestamps(datetime(2026, 12, 1, tzinfo=UTC), UTC), keep_text=True)
    read: list[Line] = []
    for place, (at, pid, message, *others) in enumerate(lines, 1):
        fields = {
            "__REALTIME_TIMESTAMP": str(1795341600000000 + round(at * 1_000_000)), "_HOSTNAME": "web1",
            "SYSLOG_IDENTIFIER": "sshd", "SYSLOG_PID": str(pid), "_PID": str(pid), "_UID": "0",
            "_EXE": "/usr/sbin/sshd", "MESSAGE": message,
        }  # fmt: skip
        read += reader.lines(json.dumps(fields | (others[0] if others else {})).encode() + b"\n", place)
    return read


def journal(*lines: JournalLine) -> list[Event]:
    """Replay lines of ``journalctl -o json``."""
    events: list[Event] = []
    correlator = Correlator(MATCHER.rules, lambda name: MATCHER.program(name).family, events.append)
    for line in journal_lines(*lines):
        correlator.feed([line])
    correlator.settle()
    return events


def words(events: list[Event]) -> list[str]:
    """Return what happened as "action user address"."""
    return [f"{event.action} {event.user} {event.address}" for event in events]


@pytest.mark.parametrize("end", ["@[_PID=1 _UID=1000 _GID=1000]", "@[_PID=1 _UID=0 _GID=0]"])
def test_a_certificate_convicts_nobody(end: str) -> None:
    """What a client's certificate says behind sshd's cut is no word of the kernel's: the login is told."""
    message = f"{CUT[: 499 - len(end)]} {end}"
    assert len(message) == 500
    opened = "pam_unix(sshd:session): session opened for user alice(uid=1000) by (uid=0)"
    assert words(journal((0, 10, message), (0.01, 10, opened))) == ["ssh_login alice 203.0.113.9"]
    assert told(f"{FIRST} 10 {message}", f"{FIRST} 10 {opened}") == ["ssh_login alice 203.0.113.9"]


def test_a_client_accuses_no_local_user() -> None:
    """A client's offer that ends like an annotation makes a probe, not an alert about somebody else."""
    message = f"Unable to negotiate with 203.0.113.9 port 4000: no matching key exchange method found. Their offer: {'x' * 500}"
    end = " @[_PID=1 _UID=1000 _GID=1000]"
    for text in (message[: 500 - len(end)] + end, message[:300] + end + " [preauth]"):
        assert {word.split()[0] for word in (*words(journal((0, 10, text))), *told(f"{FIRST} 10 {text}"))} == {"ssh_probe"}


@pytest.mark.parametrize("name", [NAME, f"root from 6.6.6.6 port 22 ssh2 {NAME[2:]}", NAME.replace("1000", "0")])
def test_a_name_with_an_annotation(name: str) -> None:
    """A name that looks like an annotation neither hides a try nor gives it another address, before rsyslog's own."""
    lines = [
        f"Invalid user {name} from 203.0.113.9 port 4000",
        *[f"Failed password for invalid user {name} from 203.0.113.9 port 4000 ssh2"] * 2,
    ]
    for events in (
        told(*(f"{FIRST} 99 {line} {BY_RSYSLOG}" for line in lines)),
        words(journal(*((0, 99, line) for line in lines))),
    ):
        assert len(events) == 2
        assert all(word.startswith("ssh_attempt ") and word.endswith((" 203.0.113.9", " None")) for word in events)


def test_a_certificate_with_an_annotation_hides_no_login() -> None:
    """Nor does a certificate's id hide a login."""
    line = f"Accepted publickey for alice from 203.0.113.9 port 4000 ssh2: ED25519-CERT SHA256:{'a' * 43} ID {NAME}"
    events = told(f"{FIRST} 10 {line} (serial 7) CA ED25519 SHA256:{'b' * 43} {BY_RSYSLOG}")
    assert [word.rpartition(" ")[0] for word in events] == ["ssh_login alice"]


def test_a_flood_of_one_host_ends_no_session_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that nobody came in by are let go before sessions, whichever host they are of."""
    monkeypatch.setattr(connections, "CONNECTION_LIMIT", 50)
    flood = [(0, 1000 + i, f"Connection from 9.9.9.9 port {i} on 1.1.1.1 port 22", {"_HOSTNAME": "evil"}) for i in range(1, 100)]
    users = [("alice", 10), ("bob", 20)]
    logins = [
        line
        for user, pid in users
        for line in (
            (pid, pid, f"Accepted password for {user} from 1.1.1.1 port {pid} ssh2"),
            (pid, pid, f"pam_unix(sshd:session): session opened for user {user}(uid=1001) by (uid=0)"),
        )
    ]
    ends = [(3600, pid, f"pam_unix(sshd:session): session closed for user {user}") for user, pid in users]
    events = words(journal(*flood, *logins, *ends))
    assert [word for word in events if "ssh_logout" in word] == ["ssh_logout alice 1.1.1.1", "ssh_logout bob 1.1.1.1"]


def test_queues_are_bounded() -> None:
    """However lines come, no queue outgrows the connections that are held."""
    events: list[Event] = []
    reader = LineReader(MATCHER, Timestamps(datetime(2026, 12, 1, tzinfo=UTC), UTC), keep_text=True)
    correlator = Correlator(MATCHER.rules, lambda name: MATCHER.program(name).family, events.append)

    def feed(second: float, pid: int, text: str) -> None:
        line = f"2026-11-22T10:{second // 60:02.0f}:{second % 60:09.6f}+00:00 web1 sshd[{pid}]: {text}\n"
        correlator.feed(reader.lines(line.encode(), 1))

    def opens(second: float, pid: int, user: str, port: int) -> None:
        feed(second, pid, f"Accepted password for {user} from 1.1.1.1 port {port} ssh2")
        feed(second, pid, f"pam_unix(sshd:session): session opened for user {user}(uid=1) by (uid=0)")

    feed(0, 1, "Accepted password for a from 1.1.1.1 port 1 ssh2")  # waits at the head for its session line
    for number in range(600):
        opens(0, 2 + number % 5, "b", 1000 + number)
        feed(0, 2 + number % 5, "pam_unix(sshd:session): session closed for user b")
    for number in range(300):
        for tick in range(4):
            feed(1 + tick / 1e6, 5000 + number, f"Received disconnect from 9.9.9.9 port {number}:11: x [preauth]")
        feed(2, 5000 + number, f"Accepted password for u from 9.9.9.9 port {number} ssh2")
    for number in range(600):
        # One PID, whose session ends when another has begun.
        user, other = ("even", "odd") if number % 2 else ("odd", "even")
        feed(3 + number, 7, f"Accepted password for {user} from 2.2.2.2 port {number} ssh2")
        feed(3 + number, 7, f"pam_unix(sshd:session): session closed for user {other}")
        feed(3 + number, 7, f"pam_unix(sshd:session): session opened for user {user}(uid=1) by (uid=0)")
    (host,) = correlator.held._hosts.values()
    held = len(host.connections)
    assert len(host.waiting) <= 200 + 2 * held
    assert all(len(queue) <= 200 + 2 * held for queue in host.due.values())
    assert len(host.by_source) <= 2 * held


def test_a_clock_that_leaps_to_and_fro_has_to_insist() -> None:
    """Where many connections are held, two lines do not turn their clock."""
    events: list[Event] = []
    reader = LineReader(MATCHER, Timestamps(datetime(2026, 12, 1, tzinfo=UTC), UTC), keep_text=True)
    correlator = Correlator(MATCHER.rules, lambda name: MATCHER.program(name).family, events.append)
    for number in range(1000):
        text = f"{FIRST} web1 sshd[{number + 1}]: Connection from 9.9.9.9 port {number} on 1.1.1.1 port 22\n"
        correlator.feed(reader.lines(text.encode(), 1))
    (host,) = correlator.held._hosts.values()
    clock_us = host.clock_us
    for _ in range(8):
        correlator.feed(
            reader.lines(
                f"{FIRST[:11]}05:00:00+00:00 web1 sshd[5]: Connection from 9.9.9.9 port 4 on 1.1.1.1 port 22\n".encode(), 1
            )
        )
    assert host.clock_us == clock_us


def test_a_user_s_sshd_ends_no_session_of_root() -> None:
    """Whoever runs sshd's program himself can write what it writes; he still is not root."""
    ends = "Disconnected from user root 1.1.1.1 port 5"
    found = journal(
        (0, 10, "Accepted publickey for root from 1.1.1.1 port 5 ssh2: RSA SHA256:x"),
        (20, 777, ends, {"_UID": "1000"}),
        (3600, 10, ends),
    )
    # The user's line moves no clock, so the login, which waits for a session line, is reported after it.
    events = sorted(found, key=lambda event: event.time_us)
    assert words(events) == ["ssh_login root 1.1.1.1", "ssh_forged root 1.1.1.1", "ssh_logout root 1.1.1.1"]
    assert events[2].time_us - events[0].time_us == 3600 * 10**6


def test_a_hint_before_the_session_line_ends_nothing() -> None:
    """What a process of a user says between Accepted and PAM's line does not end the session that PAM then opens."""
    events = journal(
        (0, 10, "Accepted publickey for al from 1.1.1.1 port 5 ssh2: RSA SHA256:x"),
        (0.001, 777, "Disconnected from user al 1.1.1.1 port 5", {"_UID": "1000"}),
        (0.003, 10, "pam_unix(sshd:session): session opened for user al(uid=1001) by (uid=0)"),
        (3600, 10, "pam_unix(sshd:session): session closed for user al"),
    )
    assert words(events) == ["ssh_login al 1.1.1.1", "ssh_logout al 1.1.1.1"]
    assert events[1].time_us - events[0].time_us == 3600 * 10**6


@pytest.mark.parametrize("second_at", [0, 5])
def test_one_port_to_two_of_our_addresses(second_at: int) -> None:
    """A second connection from the same port, to another address of the host, neither ends the session nor hides its end."""
    second = [
        (second_at, 9, "Connection from 1.1.1.1 port 5 on 10.0.0.2 port 2222"),
        (15, 9, "Connection closed by 1.1.1.1 port 5"),
    ]
    first = [
        (1, 10, "Connection from 1.1.1.1 port 5 on 10.0.0.1 port 22"),
        (2, 10, "Accepted publickey for al from 1.1.1.1 port 5 ssh2: RSA SHA256:x"),
        (7200, 12, "Disconnected from user al 1.1.1.1 port 5"),
    ]
    events = journal(*sorted(first + second))
    assert [word for word in words(events) if "probe" not in word] == ["ssh_login al 1.1.1.1", "ssh_logout al 1.1.1.1"]
    (logout,) = (event for event in events if isinstance(event, Logout))
    assert logout.end_us - logout.login.time_us == 7198 * 10**6


def test_a_forged_line_does_not_move_the_clock() -> None:
    """However many lines a user writes, and whatever their times, no session expires by them."""
    alice = [
        (0, 10, "Accepted password for alice from 1.1.1.1 port 5 ssh2"),
        (0.1, 10, "pam_unix(sshd:session): session opened for user alice(uid=1001) by (uid=0)"),
    ]
    steps = [(3599 * i, 9, "Connection from 9.9.9.9 port 1 on 1.1.1.1 port 22", {"_UID": "1000"}) for i in range(1, 730)]
    end = (3601, 10, "pam_unix(sshd:session): session closed for user alice")
    assert "ssh_logout alice 1.1.1.1" in words(journal(*alice, *steps, end))


def test_a_login_takes_no_address_from_the_process_before() -> None:
    """A PID that is used again brings nothing along."""
    events = journal(
        (0, 10, "Failed password for bob from 6.6.6.6 port 77 ssh2"),
        (1, 10, "Connection closed by authenticating user bob 6.6.6.6 port 77 [preauth]"),
        (5.01, 10, "pam_unix(sshd:session): session opened for user alice(uid=1000) by (uid=0)"),
    )
    assert words(events) == ["ssh_attempt bob 6.6.6.6", "ssh_login alice None"]


@pytest.mark.parametrize("stamp", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"])
@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_times_at_the_end_of_the_calendar(stamp: str, zone: str) -> None:
    """A relay's clock cannot stop the table: such times are no times."""
    assert Timestamps(datetime(2026, 12, 1, tzinfo=UTC), ZoneInfo(zone)).microseconds(stamp) is None


MALLORY = {"_UID": "1012", "_EXE": "/usr/bin/logger"}
OF_A_USER = "Disconnected from user root 6.6.6.6 port 9"


@pytest.mark.parametrize("text", [ACCEPTED, OF_A_USER, "Starting session: shell on pts/0 for al from 6.6.6.6 port 9 id 0"])
def test_a_user_s_lines_hold_up_no_login(text: str) -> None:
    """A login without a session line is reported in time, whatever a local user writes twice a second meanwhile."""
    events: list[Event] = []
    correlator = Correlator(MATCHER.rules, lambda name: MATCHER.program(name).family, events.append)
    correlator.feed(journal_lines((0, 10, "Accepted password for alice from 1.1.1.1 port 5 ssh2")))
    for _ in range(24):
        correlator.feed(journal_lines((0, 99, text, MALLORY)))
        correlator.tick(500_000)
    assert "ssh_login alice 1.1.1.1" in words(events)


@pytest.mark.parametrize("text", [ACCEPTED, OF_A_USER])
def test_a_user_s_lines_let_no_host_go(text: str) -> None:
    """No host is let go for the lines of a local user: one that is held keeps its session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "HOST_LIMIT", 2)
        events: list[Event] = []
        correlator = Correlator(MATCHER.rules, lambda name: MATCHER.program(name).family, events.append)
        correlator.feed(journal_lines((0, 10, "Accepted password for alice from 1.1.1.1 port 5 ssh2")))
        correlator.feed(journal_lines(*[(1, 99, text, MALLORY | {"_HOSTNAME": f"web{number}"}) for number in range(50)]))
        assert not correlator.counters
        held = correlator.held.keys()
        assert ("web1", "sshd") in held
        assert len(held) <= 2
        assert all("alice" not in word for word in words(events))


def test_a_user_s_lines_move_no_clock() -> None:
    """A line of a session's own process may have any time: no session of another expires by it."""
    alice = [
        (0, 10, "Accepted password for alice from 1.1.1.1 port 5 ssh2"),
        (0.1, 10, "pam_unix(sshd:session): session opened for user alice(uid=1001) by (uid=0)"),
    ]
    steps = [(3599 * i, 9, OF_A_USER, MALLORY) for i in range(1, 730)]
    end = (3601, 10, "pam_unix(sshd:session): session closed for user alice")
    assert "ssh_logout alice 1.1.1.1" in words(journal(*alice, *steps, end))


def opened_at(at: float, user: str = "root", pid: int = 10) -> tuple[float, int, str]:
    """Return a session line."""
    return at, pid, f"pam_unix(sshd:session): session opened for user {user}(uid=0) by (uid=0)"


CONNECTED = "Connection from 6.6.6.6 port 9 on 10.0.0.1 port 22"


@pytest.mark.parametrize("late", [1.5, 60, 3000, 86_400])
def test_a_session_line_older_than_its_connection(late: float) -> None:
    """A stranger whose connection has the PID of an earlier login takes nothing of it: somebody was let in, not from there."""
    events = journal((100_000, 10, CONNECTED), opened_at(100_000 - late), (100_020, 11, CONNECTED))
    assert "ssh_login root None" in words(events)
    assert "ssh_login root 6.6.6.6" not in words(events)
    assert words(events).count("ssh_probe None 6.6.6.6") == 2


def test_a_session_line_older_than_another_s_login() -> None:
    """A late session line of root's neither takes bob's login over, nor ends it, nor makes it come twice."""
    events = journal(
        (100, 10, "Accepted password for bob from 1.1.1.1 port 5 ssh2"),
        opened_at(50),
        opened_at(100.1, "bob"),
        (60, 10, "pam_unix(sshd:session): session closed for user root"),
        (200, 10, "pam_unix(sshd:session): session closed for user bob"),
    )
    assert sorted(words(events)) == sorted(
        ["ssh_login root None", "ssh_login bob 1.1.1.1", "ssh_logout root None", "ssh_logout bob 1.1.1.1"]
    )


def test_a_late_session_line_of_the_session_before() -> None:
    """Where the session before is known, its late lines are its own."""
    events = journal(
        (50, 10, "Accepted password for root from 1.1.1.1 port 5 ssh2"),
        (70, 11, CONNECTED),
        (100, 10, CONNECTED),
        opened_at(51),
        (130, 10, "Failed password for root from 6.6.6.6 port 9 ssh2"),
        (90, 10, "pam_unix(sshd:session): session closed for user root"),
    )
    assert [word for word in words(events) if "log" in word] == ["ssh_login root 1.1.1.1", "ssh_logout root 1.1.1.1"]
    assert "ssh_attempt root 6.6.6.6" in words(events)


@pytest.mark.parametrize("back", [0.9, 5, 3000])
def test_a_clock_that_is_set_back_within_a_login(back: float) -> None:
    """After "Accepted", session lines of an earlier time are the login's own, and so is its end."""
    events = journal(
        (10_000, 10, CONNECTED),
        (10_000.1, 10, "Accepted password for alice from 6.6.6.6 port 9 ssh2"),
        opened_at(10_000.2 - back, "alice"),
        (10_050 - back, 10, "pam_unix(sshd:session): session closed for user alice"),
    )
    assert words(events) == ["ssh_login alice 6.6.6.6", "ssh_logout alice 6.6.6.6"]


def test_a_session_line_without_a_time() -> None:
    """It joins the connection that has its PID, since it cannot be older."""
    events = told(
        f"{FIRST} 12 Connection from 1.1.1.1 port 5 on 10.0.0.1 port 22",
        "2026-13-45T10:00:00+00:00 12 pam_unix(sshd:session): session opened for user alice(uid=1001) by (uid=0)",
    )
    assert events == ["ssh_login alice 1.1.1.1"]


def test_a_connection_younger_than_the_session_of_its_pid() -> None:
    """A session whose "Accepted" was lost takes no address from a stranger who gets its PID within the grace."""
    events = journal(opened_at(100), (105, 10, CONNECTED), (130, 11, CONNECTED))
    assert "ssh_login root None" in words(events)
    assert "ssh_login root 6.6.6.6" not in words(events)


def test_a_session_line_before_its_connection_is_one_login() -> None:
    """The lines of a login come after those of the next connection with its PID: the login is reported once."""
    events = told(
        "2026-11-22T10:00:10+00:00 12 Connection from 3.3.3.3 port 9 on 10.0.0.1 port 22",
        "2026-11-22T10:00:05+00:00 12 pam_unix(sshd:session): session opened for user alice(uid=1001) by (uid=0)",
        "2026-11-22T10:00:05+00:00 12 Accepted password for alice from 192.0.2.7 port 4711 ssh2",
    )
    assert [event for event in events if event.startswith("ssh_login")] == ["ssh_login alice None"]


def test_a_session_of_su_under_the_name_of_sshd() -> None:
    """A user starts su through a link named sshd: PAM's line has that tag, and root wrote it. Nobody has logged in over SSH."""
    by_root = "@[_PID=3377 _UID=0 _GID=0 _COMM=sshd _CMDLINE=sshd]"
    for service in ("su", "su-l", "sudo", "polkit-1"):
        opened = f"pam_unix({service}:session): session opened for user bob(uid=1002) by eve(uid=1012) {by_root}"
        assert told(f"{FIRST} 1 {opened}", f"{FIRST} 1 pam_unix({service}:session): session closed for user bob {by_root}") == []


def test_a_long_certificate_id_hides_no_address() -> None:
    """A certificate has an id so long that sshd cuts the line: the address of the login stands before it, and is reported."""
    info = f"ED25519-CERT SHA256:{'a' * 43} ID {'x from 203.0.113.66 port 22 ssh2: ' * 20}"
    message = f"Accepted publickey for alice from 192.0.2.7 port 4711 ssh2: {info}"[:500]
    assert told(f"{FIRST} 1 {message}") == ["ssh_login alice 192.0.2.7"]
