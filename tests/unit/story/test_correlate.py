"""One connection becomes one story: each login, logout, try and probe is told once, with what its lines said."""

from __future__ import annotations

import functools
import gc
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consumer.events import Attempt, Event, Forged, Login, Logout, Probe
from consumer.events_as_ecs import of_event
from consumer.framing.timestamps import Timestamps
from consumer.matching.matcher import Matcher
from consumer.pipeline import LineReader
from consumer.story import connections
from consumer.story.connection import SECOND, Connection
from consumer.story.connections import CONNECTION_LIMIT
from consumer.story.correlate import Correlator
from consumer.story.host import GRACE_US

START = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)
IP, PORT = "192.0.2.7", 4711
OTHER_IP, OTHER_PORT = "198.51.100.9", 50022
KEY = "ED25519 SHA256:lj7ZkpHJrXEKLvBHm9iyVhHSZbIXMRVzPQZPPMTQX5Q"
GRACE = GRACE_US / SECOND
SSHD = "/usr/sbin/sshd"

Told = dict[str, Any]
"""An event as the tests compare it: everything it says, with times in seconds since ``START``."""


@functools.cache
def matcher() -> Matcher:
    """Return the one matcher; it has no memory of lines."""
    return Matcher()


class Log:
    """A log that is read line by line, and what is told of it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._reader = LineReader(matcher(), Timestamps(START + timedelta(days=1), UTC), keep_text=True)
        self.correlator = Correlator(matcher().rules, lambda name: matcher().program(name).family, self.events.append)
        self._place = 0

    def feed(self, *lines: str) -> list[Told]:
        """Read ``lines``, and return what they made known."""
        before = len(self.events)
        for line in lines:
            self._place += 1
            self.correlator.feed(self._reader.lines(line.encode("latin-1") + b"\n", self._place))
        return shown(self.events[before:])

    def settle(self) -> list[Told]:
        """End the log, and return what was pending."""
        before = len(self.events)
        self.correlator.settle()
        return shown(self.events[before:])


def events_of(*lines: str) -> list[Told]:
    """Return everything that is told of a whole log."""
    log = Log()
    return log.feed(*lines) + log.settle()


def seconds(time_us: int) -> float:
    """Seconds since ``START``."""
    return (time_us - int(START.timestamp()) * SECOND) / SECOND


def shown(events: list[Event]) -> list[Told]:
    """Show events with everything they say, but their ids and lines."""
    told: list[Told] = []
    for event in events:
        one: Told = {
            "what": type(event).__name__,
            "at": seconds(event.time_us),
            "host": event.host,
            "user": event.user,
            "from": (event.address, event.port),
            "origin": event.origin,
        }
        match event:
            case Login():
                one |= {"method": event.method, "info": event.info, "uid": event.uid, "kind": event.session_kind}
            case Logout():
                one |= {"since": seconds(event.login.time_us)}
            case Attempt():
                one |= {"method": event.method, "valid": event.user_is_valid, "count": event.count, "reason": event.reason}
            case Forged():
                one |= {"uid": event.uid, "claim": event.claim}
            case Probe():
                pass  # its reason is free text
        told.append(one)
    return told


def _event(what: str, at: float, user: str | None, ip: str | None, port: int | None, host: str, origin: str) -> Told:
    where = (ip, None if port is None else str(port))
    return {"what": what, "at": at, "host": host, "user": user, "from": where, "origin": origin}


def login(
    user: str = "alice", *, at: float, ip: str | None = IP, port: int | None = PORT, method: str | None = "password",
    info: str | None = None, uid: int | None = None, kind: str | None = None, host: str = "web1", origin: str = "unverified",
) -> Told:  # fmt: skip
    """Return the login that is expected."""
    return _event("Login", at, user, ip, port, host, origin) | {"method": method, "info": info, "uid": uid, "kind": kind}


def logout(
    user: str = "alice", *, since: float, at: float, ip: str | None = IP, port: int | None = PORT, host: str = "web1",
    origin: str = "unverified",
) -> Told:  # fmt: skip
    """Return the logout that is expected."""
    return _event("Logout", at, user, ip, port, host, origin) | {"since": since}


def attempt(
    user: str | None = "alice", *, at: float, ip: str | None = IP, port: int | None = PORT, method: str | None = "password",
    valid: bool = True, count: int = 1, reason: str | None = None, host: str = "web1", origin: str = "unverified",
) -> Told:  # fmt: skip
    """Return the attempt that is expected."""
    more = {"method": method, "valid": valid, "count": count, "reason": reason}
    return _event("Attempt", at, user, ip, port, host, origin) | more


def probe(*, at: float, user: str | None = None, ip: str | None = IP, port: int | None = PORT, host: str = "web1") -> Told:
    """Return the probe that is expected."""
    return _event("Probe", at, user, ip, port, host, "unverified")


def forged(user: str | None, *, at: float, uid: int, claim: str, ip: str | None = IP, port: int | None = PORT) -> Told:
    """Return the alert that is expected."""
    return _event("Forged", at, user, ip, port, "web1", "forged") | {"uid": uid, "claim": claim}


# ---------------------------------------------------------------- lines, as sshd 9.2 and PAM 1.5 write them


def line(at: float, pid: int | None, text: str, *, host: str = "web1", program: str = "sshd") -> str:
    """Return a line in rsyslog's file format."""
    stamp = (START + timedelta(seconds=at)).isoformat(timespec="microseconds")
    return f"{stamp} {host} {program}{'' if pid is None else f'[{pid}]'}: {text}"


def trusted(at: float, pid: int, text: str, *, uid: int, exe: str = SSHD) -> str:
    """Return a line as our template gives it, with the sender's uid and program as the kernel knows them."""
    stamp = (START + timedelta(seconds=at)).isoformat(timespec="microseconds")
    found = {"ts": stamp, "host": "web1", "tag": f"sshd[{pid}]:", "prog": "sshd", "procid": str(pid), "msg": f" {text}"}
    return json.dumps(found | {"uid": str(uid), "exe": exe})


def accepted(user: str = "alice", *, ip: str = IP, port: int = PORT, method: str = "password", info: str = "") -> str:
    """Return sshd's line about a right key or password."""
    return f"Accepted {method} for {user} from {ip} port {port} ssh2{info and ': '}{info}"


def failed(user: str = "alice", *, ip: str = IP, port: int = PORT, method: str = "password") -> str:
    """Return sshd's line about a wrong key or password."""
    return f"Failed {method} for {user} from {ip} port {port} ssh2"


def opened(user: str = "alice", uid: int = 1001) -> str:
    """Return PAM's line at the start of a session."""
    return f"pam_unix(sshd:session): session opened for user {user}(uid={uid}) by (uid=0)"


def closed(user: str = "alice") -> str:
    """Return PAM's line at the end of a session."""
    return f"pam_unix(sshd:session): session closed for user {user}"


def disconnected(user: str = "alice", *, ip: str = IP, port: int = PORT) -> str:
    """Return the last line of the session's own process."""
    return f"Disconnected from user {user} {ip} port {port}"


def pam_failure(user: str = "alice", ip: str = IP) -> str:
    """Return pam_unix's line about the first wrong password of a connection."""
    tail = f" user={user}" if user else ""
    return f"pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost={ip} {tail}"


def preauth(verb: str, who: str = "", *, ip: str = IP, port: int = PORT) -> str:
    """Return the line that ends a connection without a login."""
    return f"{verb} {who}{ip} port {port} [preauth]"


CONNECTION_FROM = f'Connection from {IP} port {PORT} on 192.0.2.1 port 22 rdomain ""'


# ---------------------------------------------------------------- logins and their ends


def test_login_is_told_when_its_session_opens() -> None:
    """A login is told with the session line, not before, once, with the uid that PAM gives; its logout has the duration."""
    log = Log()
    assert log.feed(line(0, 10, accepted(method="publickey", info=KEY))) == []
    assert log.feed(line(0.5, 10, opened())) == [login(at=0, method="publickey", info=KEY, uid=1001)]
    assert log.feed(line(60, 11, f"Received disconnect from {IP} port {PORT}:11: disconnected by user")) == []
    assert log.feed(line(60, 11, disconnected())) == []
    assert log.feed(line(60.25, 10, closed())) == [logout(since=0, at=60.25)]
    assert log.settle() == []


def test_login_at_verbose_level() -> None:
    """All lines of one connection at LogLevel VERBOSE are one login and one logout; an accepted key is none."""
    assert events_of(
        line(0, 10, CONNECTION_FROM),
        line(0.1, 10, f"Accepted key {KEY} found at /etc/ssh/authorized_keys/alice:1"),
        line(0.1, 10, f"Postponed publickey for alice from {IP} port {PORT} ssh2 [preauth]"),
        line(0.2, 10, f"Accepted key {KEY} found at /etc/ssh/authorized_keys/alice:1"),
        line(0.3, 10, accepted(method="publickey", info=KEY)),
        line(0.4, 10, opened()),
        line(0.5, 10, "User child is on pid 11"),
        line(0.6, 11, f"Starting session: shell on pts/0 for alice from {IP} port {PORT} id 0"),
        line(9.0, 11, f"Close session: user alice from {IP} port {PORT} id 0"),
        line(9.1, 11, f"Received disconnect from {IP} port {PORT}:11: disconnected by user"),
        line(9.2, 11, disconnected()),
        line(9.3, 10, closed()),
    ) == [login(at=0.3, method="publickey", info=KEY, uid=1001), logout(since=0.3, at=9.3)]


@pytest.mark.parametrize("program", ["sshd-session", "sshd.pam"])
def test_login_under_other_program_names(program: str) -> None:
    """OpenSSH 9.8 renamed the program that logs, Alpine has a build of its own: logins are told all the same."""
    assert events_of(
        line(0, 10, accepted(), program=program), line(0.1, 10, opened(), program=program),
        line(5, 10, closed(), program=program),
    ) == [login(at=0, uid=1001), logout(since=0, at=5)]  # fmt: skip


def test_without_pam_the_grace_tells() -> None:
    """Where no session line comes, a login is told once its grace has passed in event time, also without a line of its own."""
    log = Log()
    assert log.feed(line(0, 10, accepted())) == []
    assert log.feed(line(GRACE - 1, 99, "Server listening on 0.0.0.0 port 22.")) == []
    assert log.feed(line(GRACE + 1, 99, failed("bob", port=1))) == [login(at=0), attempt("bob", at=GRACE + 1, port=1)]
    assert log.feed(line(100, 11, disconnected())) == [logout(since=0, at=100)]
    assert log.settle() == []


def test_without_pam_the_first_line_of_the_child_tells() -> None:
    """Where the session's process speaks before any session line, there is no PAM: the login is told at once."""
    log = Log()
    log.feed(line(0, 10, accepted()))
    started = line(0.1, 11, f"Starting session: command for alice from {IP} port {PORT} id 0")
    assert log.feed(started) == [login(at=0, kind="command")]
    assert log.feed(line(7, 11, disconnected())) == [logout(since=0, at=7)]
    assert log.feed(line(7, 11, f"Closing connection to {IP} port {PORT}")) == []
    assert log.settle() == []


def test_without_pam_all_last_lines_of_the_child_are_one_end() -> None:
    """Received disconnect, Disconnected and Connection closed of one session are one logout, of the first of them."""
    assert events_of(
        line(0, 10, accepted()),
        line(3, 11, f"Received disconnect from {IP} port {PORT}:11: disconnected by user"),
        line(3.5, 11, disconnected()),
        line(4, 11, f"Connection closed by {IP} port {PORT}"),
    ) == [login(at=0), logout(since=0, at=3)]


@pytest.mark.parametrize(
    "last",
    [
        f"Disconnected from {IP} port {PORT}",
        f"Connection closed by {IP} port {PORT}",
        f"Connection reset by {IP} port {PORT}",
        f"Read error from remote host {IP} port {PORT}: Connection timed out",
        f"Timeout, client not responding from user alice {IP} port {PORT}",
        f"terminating inactive connection from user alice {IP} port {PORT}",
    ],
)
def test_without_pam_each_last_line_ends_the_session(last: str) -> None:
    """Every way in which sshd says that a session is over ends it where there is no PAM, and never where there is."""
    assert events_of(line(0, 10, accepted()), line(30, 11, last)) == [login(at=0), logout(since=0, at=30)]
    assert events_of(line(0, 10, accepted()), line(0, 10, opened()), line(30, 11, last)) == [login(at=0, uid=1001)]
    assert events_of(
        line(0, 10, accepted()), line(0, 10, opened()), line(30, 11, last), line(31, 10, closed()),
    ) == [login(at=0, uid=1001), logout(since=0, at=31)]  # fmt: skip


def test_monitor_was_killed() -> None:
    """No session closed line, no logout, whatever the remaining processes complain about."""
    assert events_of(
        line(0, 10, accepted()),
        line(0.1, 10, opened()),
        line(20, 11, "fatal: mm_request_send: write: Broken pipe"),
        line(20, 11, f"Connection closed by {IP} port {PORT}"),
        line(20, 11, "error: mm_reap: child terminated by signal 15"),
    ) == [login(at=0, uid=1001)]


def test_chroot_leaves_only_the_closed_line() -> None:
    """After ChrootDirectory the child has no log; the closed line alone ends the session."""
    assert events_of(
        line(0, 10, accepted()), line(0.1, 10, opened()), line(0.2, 11, 'Changed root directory to "/srv"'),
        line(0.3, 11, f"Starting session: subsystem 'sftp' for alice from {IP} port {PORT} id 0"), line(9, 10, closed()),
    ) == [login(at=0, uid=1001), logout(since=0, at=9)]  # fmt: skip


def test_chroot_under_red_hat() -> None:
    """There the monitor relays what the session's process says: it ends a session only where PAM opened none."""
    ends = [
        line(8, 10, f"Received disconnect from {IP} port {PORT}:11: disconnected by user [postauth]"),
        line(8, 10, f"{disconnected()} [postauth]"),
    ]
    assert events_of(line(0, 10, accepted()), line(0, 10, opened()), *ends, line(9, 10, closed())) == [
        login(at=0, uid=1001), logout(since=0, at=9),
    ]  # fmt: skip
    assert events_of(line(0, 10, accepted()), *ends) == [login(at=0), logout(since=0, at=8)]


def test_journalctl_with_unit() -> None:
    """The monitor's lines stand under sshd's unit, and under the session's scope once the session is open."""
    head, pid = "Sun 2026-11-22 10:00:0{} UTC web1 {}[10]: {}", 1001
    assert events_of(
        head.format(0, "ssh.service", accepted()),
        head.format(0, "ssh.service", opened()),
        head.format(1, "session-3.scope", "pam_unix(sudo:session): session opened for user root(uid=0) by alice(uid=1001)"),
        head.format(9, "session-3.scope", closed()),
    ) == [login(at=0, uid=pid), logout(since=0, at=9)]


def test_session_line_is_lost() -> None:
    """A login whose session line was lost is told after its grace, and still ended by its closed line."""
    assert events_of(line(0, 10, accepted()), line(3600 * 9, 10, closed())) == [login(at=0), logout(since=0, at=3600 * 9)]
    log = Log()
    log.feed(line(0, 10, accepted()), line(GRACE + 1, 99, failed("bob", port=1)))
    assert log.feed(line(500, 10, closed())) == [logout(since=0, at=500)]


def test_session_without_accepted_is_told_with_an_unknown_address() -> None:
    """A session that opens without Accepted is told after the grace: it is a login, from nobody knows where."""
    unknown: dict[str, Any] = {"ip": None, "port": None}
    log = Log()
    assert log.feed(line(0, 10, opened())) == []
    assert log.feed(line(GRACE + 1, 99, failed("bob", port=1)))[:1] == [login(at=0, method=None, uid=1001, **unknown)]
    assert log.feed(line(5000, 99, failed("bob", port=2)), line(5001, 10, closed()))[1:] == [
        logout(since=0, at=5001, ip=None, port=None)
    ]
    assert log.settle() == []


@pytest.mark.parametrize("name", ["EXAMPLE\\alice", "EXAMPLE+alice", "alice@example.net", "Alice", "EXAMPLE\\Alice"])
def test_a_directory_spells_the_name_in_its_own_way(name: str) -> None:
    """A module may set another form of the name for the session (pam_winbind): it is one login, under sshd's name."""
    assert events_of(line(0, 10, accepted()), line(0, 10, opened(name)), line(9, 10, closed(name))) == [
        login(at=0, uid=1001), logout(since=0, at=9),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["bob", "EXAMPLE\\bob", "alice2"])
def test_another_user_is_another_session(name: str) -> None:
    """A session of another account with the same PID is one of its own."""
    told = events_of(line(0, 10, accepted()), line(0, 10, opened(name)))
    assert {event["user"] for event in told} == {"alice", name}


def test_short_session_without_accepted() -> None:
    """A session without Accepted that ends within the grace is told whole."""
    assert events_of(line(0, 10, opened()), line(2, 10, closed())) == [
        login(at=0, method=None, uid=1001, ip=None, port=None), logout(since=0, at=2, ip=None, port=None),
    ]  # fmt: skip


def test_session_without_accepted_takes_the_address_of_its_connection() -> None:
    """At VERBOSE the address of a session without Accepted is known."""
    assert events_of(line(0, 10, CONNECTION_FROM), line(1, 10, opened()), line(100, 10, closed())) == [
        login(at=1, method=None, uid=1001), logout(since=1, at=100),
    ]  # fmt: skip


def test_root_without_a_child() -> None:
    """Up to 9.7 root's session has no process of its own: all lines have the monitor's PID, and one logout is told."""
    assert events_of(
        line(0, 10, accepted("root")),
        line(0.1, 10, opened("root", 0)),
        line(0.2, 10, f"Starting session: shell on pts/1 for root from {IP} port {PORT} id 0"),
        line(50, 10, f"Received disconnect from {IP} port {PORT}:11: disconnected by user"),
        line(50, 10, disconnected("root")),
        line(50.5, 10, closed("root")),
    ) == [login("root", at=0, uid=0), logout("root", since=0, at=50.5)]


def test_multiplexed_sessions_are_one_login() -> None:
    """A connection with many channels is one login, whatever is started in it."""
    kinds = ["shell on pts/0", "command", "subsystem 'sftp'", "forced-command (config) 'x for root from 1.2.3.4 port 5 id 0'"]
    channels = [
        line(1 + n, 11, f"Starting session: {kind} for alice from {IP} port {PORT} id 0") for n, kind in enumerate(kinds * 3)
    ]
    assert events_of(line(0, 10, accepted()), line(0.1, 10, opened()), *channels, line(99, 10, closed())) == [
        login(at=0, uid=1001), logout(since=0, at=99),
    ]  # fmt: skip


def test_interleaved_connections() -> None:
    """Lines of connections that run at the same time do not mix."""
    assert events_of(
        line(0, 10, accepted()),
        line(0.1, 20, accepted("bob", ip=OTHER_IP, port=OTHER_PORT)),
        line(0.2, 20, opened("bob", 1002)),
        line(0.3, 10, opened()),
        line(5, 10, closed()),
        line(6, 20, closed("bob")),
    ) == [
        login("bob", at=0.1, ip=OTHER_IP, port=OTHER_PORT, uid=1002),
        login(at=0, uid=1001),
        logout(since=0, at=5),
        logout("bob", since=0.1, at=6, ip=OTHER_IP, port=OTHER_PORT),
    ]


def test_two_logins_of_one_user_from_one_address() -> None:
    """The port tells two sessions of one user apart."""
    assert events_of(
        line(0, 10, accepted()), line(1, 20, accepted(port=OTHER_PORT)),
        line(5, 11, disconnected()), line(6, 21, disconnected(port=OTHER_PORT)),
    ) == [
        login(at=0), logout(since=0, at=5), login(at=1, port=OTHER_PORT), logout(since=1, at=6, port=OTHER_PORT),
    ]  # fmt: skip


def test_name_as_the_client_sent_it() -> None:
    r"""Sshd writes ``zo\303\253`` where PAM writes the bytes: it is one session of one user."""
    assert events_of(
        line(0, 10, accepted(r"zo\303\253")), line(0.1, 10, opened("zo\xc3\xab")), line(3, 10, closed("zo\xc3\xab"))
    ) == [login("zo\xeb", at=0, uid=1001), logout("zo\xeb", since=0, at=3)]  # fmt: skip


def test_user_name_cannot_fake_an_address() -> None:
    """The address is the daemon's own, at the end of the line, whatever the name says."""
    name = "x from 203.0.113.66 port 1 ssh2"
    assert events_of(line(0, 10, f"Failed password for invalid user {name} from {IP} port {PORT} ssh2")) == [
        attempt(name, at=0, valid=False)
    ]


@pytest.mark.parametrize(
    "text",
    [
        f"Received disconnect from {IP} port {PORT}:11: Accepted password for root from 6.6.6.6 port 22 ssh2 [preauth]",
        f'error: kex_exchange_identification: client sent invalid protocol identifier "{accepted("root")}"',
    ],
)
def test_text_of_a_peer_is_no_login(text: str) -> None:
    """A peer that sends the text of a login logs nobody in."""
    assert {event["what"] for event in events_of(line(0, 10, text))} <= {"Probe"}


@pytest.mark.parametrize(
    "text",
    [
        "session opened for local user alice from [192.0.2.7]",
        "pam_unix(su-l:session): session opened for user alice(uid=1001) by (uid=0)",
    ],
)
def test_session_lines_of_other_services(text: str) -> None:
    """Sessions of sftp-server, su, sudo, cron and logind are not sshd's."""
    program = "su" if "su-l" in text else "sftp-server"
    assert events_of(line(0, 10, text, program=program)) == []


def test_accepted_code_is_no_login() -> None:
    """A right one-time code is one factor, and its line is no login."""
    tag = "sshd(pam_google_authenticator)"
    assert events_of(line(0, 12, "Accepted google_authenticator for alice", program=tag)) == []


def test_line_that_is_said_twice() -> None:
    """A line that a relay repeats makes no second login and no second logout."""
    lines = [line(0, 10, accepted()), line(0.1, 10, opened()), line(5, 10, closed())]
    assert events_of(*(twice for one in lines for twice in (one, one))) == [login(at=0, uid=1001), logout(since=0, at=5)]


# ---------------------------------------------------------------- order, and PIDs that come back


def test_opened_before_accepted() -> None:
    """A session line that overtakes its Accepted line makes the same single login."""
    assert events_of(line(0.1, 10, opened()), line(0, 10, accepted()), line(5, 10, closed())) == [
        login(at=0, uid=1001), logout(since=0, at=5),
    ]  # fmt: skip


def test_opened_seconds_before_accepted() -> None:
    """The same within the grace, with other lines between."""
    assert events_of(
        line(3, 10, opened()), line(4, 99, failed("bob", port=1)), line(0, 10, accepted()), line(50, 10, closed())
    ) == [attempt("bob", at=4, port=1), login(at=0, uid=1001), logout(since=0, at=50)]  # fmt: skip


def test_closed_before_opened() -> None:
    """A closed line that overtakes the opened line ends the session once."""
    assert events_of(line(0, 10, accepted()), line(2, 10, closed()), line(1, 10, opened())) in (
        [login(at=0), logout(since=0, at=2)],
        [login(at=0, uid=1001), logout(since=0, at=2)],
    )


@pytest.mark.parametrize("before", [[], [line(0, 10, CONNECTION_FROM)]], ids=["info", "verbose"])
def test_closed_before_accepted(before: list[str]) -> None:
    """A closed line that overtakes the whole login still ends it, also where the connection is known already."""
    assert events_of(*before, line(2, 10, closed()), line(0.5, 10, accepted()), line(1, 10, opened())) == [
        login(at=0.5, uid=1001), logout(since=0.5, at=2),
    ]  # fmt: skip


def test_closed_line_of_a_session_from_before_the_log() -> None:
    """A closed line of another user, whose PID is reused in the same second, does not end the new session."""
    assert events_of(
        line(0, 10, closed("bob")), line(0, 10, accepted()), line(0, 10, opened()), line(60, 10, closed()),
    ) == [login(at=0, uid=1001), logout(since=0, at=60)]  # fmt: skip


def test_failed_after_connection_closed() -> None:
    """A Failed line that comes after the end of its connection is the one try of that connection."""
    assert events_of(
        line(0, 10, f"Invalid user x from {IP} port {PORT}"),
        line(1.1, 10, preauth("Connection closed by", "invalid user x ")),
        line(1, 10, failed("invalid user x")),
    ) == [attempt("x", at=1, valid=False)]


def test_failed_of_a_valid_user_after_connection_closed() -> None:
    """The same for a user that exists: one try, and no probe."""
    assert events_of(
        line(1.1, 10, preauth("Connection closed by", "authenticating user alice ")), line(1, 10, failed())
    ) == [attempt(at=1)]  # fmt: skip


def test_pid_is_reused_after_a_lost_close() -> None:
    """A PID that comes back with another connection means that the older one is over; its end is not made up."""
    assert events_of(
        line(0, 10, accepted()), line(0.1, 10, opened()),
        line(500, 10, accepted("bob", port=OTHER_PORT)), line(500.1, 10, opened("bob", 1002)), line(510, 10, closed("bob")),
    ) == [
        login(at=0, uid=1001), login("bob", at=500, port=OTHER_PORT, uid=1002), logout("bob", since=500, at=510, port=OTHER_PORT),
    ]  # fmt: skip


@pytest.mark.parametrize("user", ["alice", "bob"])
def test_pid_is_reused_at_once(user: str) -> None:
    """A PID may come back in the same second, by another user or the same."""
    assert events_of(
        line(0, 10, accepted()), line(0, 10, opened()), line(1, 10, closed()),
        line(1, 10, accepted(user, port=OTHER_PORT)), line(1, 10, opened(user, 1002)), line(2, 10, closed(user)),
    ) == [
        login(at=0, uid=1001), logout(since=0, at=1),
        login(user, at=1, port=OTHER_PORT, uid=1002), logout(user, since=1, at=2, port=OTHER_PORT),
    ]  # fmt: skip


@pytest.mark.parametrize("user", ["alice", "bob"])
def test_pid_is_reused_without_pam(user: str) -> None:
    """The same where the session's process ends sessions."""
    assert events_of(
        line(0, 10, accepted()), line(1, 11, disconnected()),
        line(1, 10, accepted(user, port=OTHER_PORT)), line(2, 11, disconnected(user, port=OTHER_PORT)),
    ) == [
        login(at=0), logout(since=0, at=1), login(user, at=1, port=OTHER_PORT), logout(user, since=1, at=2, port=OTHER_PORT),
    ]  # fmt: skip


def test_late_close_of_the_older_session() -> None:
    """A closed line that comes after the PID was reused ends the session of its user."""
    assert events_of(
        line(0, 10, accepted()), line(0, 10, opened()),
        line(5, 10, accepted("bob", port=OTHER_PORT)), line(5, 10, opened("bob", 1002)),
        line(4.9, 10, closed()), line(9, 10, closed("bob")),
    ) == [
        login(at=0, uid=1001), login("bob", at=5, port=OTHER_PORT, uid=1002),
        logout(since=0, at=4.9), logout("bob", since=5, at=9, port=OTHER_PORT),
    ]  # fmt: skip


def test_late_close_of_the_older_session_of_the_same_user() -> None:
    """The same where one user has both sessions: the new one is not open yet, so the line is the older one's."""
    assert events_of(
        line(0, 10, accepted()), line(0, 10, opened()), line(5, 10, accepted(port=OTHER_PORT)), line(4.9, 10, closed()),
        line(5, 10, opened()), line(9, 10, closed()),
    ) == [
        login(at=0, uid=1001), logout(since=0, at=4.9),
        login(at=5, port=OTHER_PORT, uid=1001), logout(since=5, at=9, port=OTHER_PORT),
    ]  # fmt: skip


def test_late_end_of_an_older_probe_takes_nothing_from_a_login() -> None:
    """The last line of a probe, after its PID was reused by a login: the login and its logout are still told once."""
    events = events_of(
        line(0, 10, f'Connection from {OTHER_IP} port 1 on 192.0.2.1 port 22 rdomain ""'),
        line(1, 10, accepted()),
        line(0.9, 10, preauth("Connection closed by", ip=OTHER_IP, port=1)),
        line(1.1, 10, opened()),
        line(9, 10, closed()),
    )
    assert [event for event in events if event["what"] != "Probe"] == [login(at=1, uid=1001), logout(since=1, at=9)]


# ---------------------------------------------------------------- tries


def test_each_failed_password_is_a_try() -> None:
    """PAM's lines about the same tries count nothing: neither the first failure nor the sum at the end."""
    more = f"PAM 2 more authentication failures; logname= uid=0 euid=0 tty=ssh ruser= rhost={IP}  user=alice"
    assert events_of(
        line(0, 10, pam_failure()), line(1, 10, failed()), line(2, 10, failed()), line(3, 10, failed()),
        line(4, 10, preauth("Connection closed by", "authenticating user alice ")), line(4, 10, more),
    ) == [attempt(at=1), attempt(at=2), attempt(at=3)]  # fmt: skip


def test_unknown_user_with_passwords() -> None:
    """Invalid user, check pass, pam_unix and Failed about one try are one try."""
    assert events_of(
        line(0, 10, f"Invalid user admin from {IP} port {PORT}"),
        line(1, 10, "pam_unix(sshd:auth): check pass; user unknown"),
        line(1, 10, pam_failure("")),
        line(3, 10, failed("invalid user admin")),
        line(4, 10, "pam_unix(sshd:auth): check pass; user unknown"),
        line(5, 10, failed("invalid user admin")),
        line(6, 10, preauth("Connection closed by", "invalid user admin ")),
        line(6, 10, f"PAM 1 more authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost={IP} "),
    ) == [attempt("admin", at=3, valid=False), attempt("admin", at=5, valid=False)]


def test_login_after_failures() -> None:
    """Wrong passwords before the right one are tries of a connection that becomes a login."""
    assert events_of(
        line(0, 10, pam_failure()), line(1, 10, failed()), line(2, 10, accepted()), line(2, 10, opened()),
    ) == [attempt(at=1), login(at=2, uid=1001)]  # fmt: skip


def test_two_factors_at_verbose() -> None:
    """The key of a login by key and code stands in the Partial line."""
    assert events_of(
        line(0, 10, f"Partial publickey for alice from {IP} port {PORT} ssh2: {KEY}"),
        line(1, 10, accepted(method="keyboard-interactive/pam")), line(1, 10, opened()),
    ) == [login(at=1, method="keyboard-interactive/pam", info=KEY, uid=1001)]  # fmt: skip


OTHER_KEY = KEY.replace("lj7", "aaa")


@pytest.mark.parametrize(
    ("partials", "factors"),
    [
        ([], ()),
        ([("publickey", f": {KEY}")], ("publickey", "password")),
        ([("publickey", f": {KEY}"), ("keyboard-interactive/pam", "")], ("publickey", "keyboard-interactive/pam", "password")),
        ([("publickey", f": {KEY}"), ("publickey", f": {OTHER_KEY}")], ("publickey", "publickey", "password")),
        ([("publickey", f": {KEY}")] * 2, ("publickey", "password")),
        ([("password", ""), ("keyboard-interactive", "")] * 50, ("password", "keyboard-interactive") * 4 + ("password",)),
    ],
)
def test_factors(partials: list[tuple[str, str]], factors: tuple[str, ...]) -> None:
    """Each Partial line is a factor, the Accepted line the last one; a repeated line is one, and their number is bounded."""
    log = Log()
    log.feed(*(line(0, 10, f"Partial {method} for alice from {IP} port {PORT} ssh2{info}") for method, info in partials))
    log.feed(line(1, 10, accepted()), line(1, 10, opened()))
    assert [event.factors for event in log.events if isinstance(event, Login)] == [factors]


def test_factor_without_a_login() -> None:
    """A session whose "Accepted" line is lost has no last factor, so none is told."""
    log = Log()
    log.feed(line(0, 10, f"Partial publickey for alice from {IP} port {PORT} ssh2: {KEY}"), line(1, 10, opened()))
    log.settle()
    assert [event.factors for event in log.events if isinstance(event, Login)] == [()]


def test_two_factors_at_info() -> None:
    """At INFO the key of a two-factor login cannot be known, and none is told."""
    assert events_of(line(1, 10, accepted(method="keyboard-interactive/pam")), line(1, 10, opened())) == [
        login(at=1, method="keyboard-interactive/pam", uid=1001)
    ]


def test_keyboard_interactive_is_one_try() -> None:
    """PAM's line of a third PID, sshd's ``error: PAM:`` and Failed keyboard-interactive are one try."""
    assert events_of(
        line(0, 12, pam_failure()),
        line(1, 10, f"error: PAM: Authentication failure for alice from {IP}"),
        line(1, 10, failed(method="keyboard-interactive/pam")),
        line(2, 10, preauth("Connection closed by", "authenticating user alice ")),
    ) == [attempt(at=1, method="keyboard-interactive/pam")]


def test_pam_error_alone_is_one_try() -> None:
    """At INFO a valid user's failed keyboard-interactive leaves only ``error: PAM:``; each such line is a try."""
    assert events_of(
        line(0, 12, pam_failure()),
        line(1, 10, f"error: PAM: Authentication failure for alice from {IP}"),
        line(5, 10, f"error: PAM: Authentication failure for alice from {IP}"),
        line(7, 10, preauth("Connection closed by", "authenticating user alice ")),
    ) == [
        attempt(at=1, method="keyboard-interactive", port=None),
        attempt(at=5, method="keyboard-interactive"),
    ]


def test_pam_error_of_an_unknown_user() -> None:
    """The name of a user that does not exist is one try with the rest of its connection."""
    assert events_of(
        line(0, 10, f"Invalid user x from {IP} port {PORT}"),
        line(1, 10, f"error: PAM: User not known to the underlying authentication module for illegal user x from {IP}"),
        line(1, 10, failed("invalid user x", method="keyboard-interactive/pam")),
        line(2, 10, preauth("Connection closed by", "invalid user x ")),
    ) == [attempt("x", at=1, valid=False, method="keyboard-interactive/pam")]


def test_empty_password() -> None:
    """``Failed none`` is an empty password."""
    assert events_of(line(0, 10, failed(method="none"))) == [attempt(at=0, method="none")]


def test_last_message_repeated() -> None:
    """So syslogd of BSD, macOS and sysklogd say it, of the line before."""
    again = "Nov 22 10:00:09 web1 last message repeated 2 times"
    told = events_of(f"Nov 22 10:00:01 web1 sshd[10]: {failed()}", again, again)
    assert told == [attempt(at=1), attempt(at=9, count=2), attempt(at=9, count=2)]


def test_message_repeated() -> None:
    """``message repeated 4 times`` stands for four more tries."""
    repeated = f"message repeated 4 times: [ {failed('root')}]"
    assert events_of(line(0, 10, failed("root")), line(9, 10, repeated)) == [
        attempt("root", at=0), attempt("root", at=9, count=4),
    ]  # fmt: skip


def test_max_attempts_adds_no_try() -> None:
    """Sshd's last word after too many tries is no further one."""
    assert events_of(
        *(line(n, 10, failed()) for n in range(3)),
        line(3, 10, f"error: maximum authentication attempts exceeded for alice from {IP} port {PORT} ssh2 [preauth]"),
        line(3, 10, f"Disconnecting authenticating user alice {IP} port {PORT}: Too many authentication failures [preauth]"),
    ) == [attempt(at=0), attempt(at=1), attempt(at=2)]


@pytest.mark.parametrize("user", ["root", "invalid user bob"])
def test_only_max_attempts_of_openssh_6_7(user: str) -> None:
    """OpenSSH 6.7 says it once more in words of its own, with the client's address."""
    text = f"Disconnecting: Too many authentication failures for {user} from {IP} port {PORT} ssh2 [preauth]"
    name = user.removeprefix("invalid user ")
    assert events_of(line(0, 10, text)) == [
        attempt(name, at=0, method=None, valid=name == user, reason="too many authentication failures")
    ]


def test_a_name_that_looks_like_the_line_of_openssh_6_7() -> None:
    """Up to 6.6 the line ends in the user's name, which may hold an address: the connection's own stays."""
    name = f"x from {OTHER_IP} port 22 ssh2"
    text = f"Disconnecting: Too many authentication failures for {name} [preauth]"
    assert events_of(line(0, 10, failed(f"invalid user {name}")), line(1, 10, text)) == [attempt(name, at=0, valid=False)]


def test_only_max_attempts() -> None:
    """Eight wrong keys leave, at INFO, only the limit: one try, without a method."""
    events = events_of(
        line(3, 10, f"error: maximum authentication attempts exceeded for alice from {IP} port {PORT} ssh2 [preauth]"),
        line(3, 10, f"Disconnecting authenticating user alice {IP} port {PORT}: Too many authentication failures [preauth]"),
    )
    assert events == [attempt(at=3, method=None, reason="too many authentication failures")]


def test_scanner_with_keys_alone() -> None:
    """A key for a user that does not exist leaves no Failed line at any level: one try without a method."""
    assert events_of(
        line(0, 10, f"Invalid user git from {IP} port {PORT}"),
        line(1, 10, preauth("Connection closed by", "invalid user git ")),
    ) == [attempt("git", at=0, method=None, valid=False)]


def test_refused_keys_are_no_tries() -> None:
    """Clients offer several keys on their own: a refused one is no try, and the login by another one is a login."""
    offers = [line(n, 10, f"{failed(method='publickey')}: {KEY}") for n in range(4)]
    assert events_of(*offers, line(5, 10, accepted(method="publickey", info=KEY)), line(5, 10, opened())) == [
        login(at=5, method="publickey", info=KEY, uid=1001)
    ]
    events = events_of(*offers, line(5, 10, preauth("Connection closed by", "authenticating user alice ")))
    assert [event["what"] for event in events] in ([], ["Probe"])


def test_root_login_refused() -> None:
    """A right key of root that may not come in is logged twice, and is one try."""
    assert events_of(
        line(0, 10, f"ROOT LOGIN REFUSED FROM {IP} port {PORT}"),
        line(0.1, 10, f"ROOT LOGIN REFUSED FROM {IP} port {PORT} [preauth]"),
        line(1, 10, preauth("Connection closed by", "authenticating user root ")),
    ) == [attempt("root", at=0.1, method=None, reason="root_login_refused")]


def test_user_that_is_not_allowed() -> None:
    """A refused user who tried a password has made one try."""
    assert events_of(
        line(0, 10, f"User bob from {IP} not allowed because listed in DenyUsers"),
        line(1, 10, failed("invalid user bob")),
        line(2, 10, preauth("Connection closed by", "invalid user bob ")),
    ) == [attempt("bob", at=1, valid=False)]


def test_account_that_pam_denies() -> None:
    """A right password for an account that may not come in is one try."""
    assert events_of(
        line(0, 10, "pam_unix(sshd:account): account bob has expired (account expired)"),
        line(0, 10, failed("bob")),
        line(0, 10, "fatal: Access denied for user bob by PAM account configuration [preauth]"),
    ) == [attempt("bob", at=0)]


def test_nologin_file_after_a_login() -> None:
    """``not allowed because /etc/nologin exists`` comes after Accepted, and is no try."""
    assert events_of(
        line(0, 10, accepted()), line(0, 10, opened()),
        line(0, 11, "User alice not allowed because /etc/nologin exists"), line(0.2, 10, closed()),
    ) == [login(at=0, uid=1001), logout(since=0, at=0.2)]  # fmt: skip


# ---------------------------------------------------------------- logs of PAM alone


def test_first_connection_of_a_host_heard_through_pam() -> None:
    """Where a file begins within a connection, what PAM said of it hides nothing that sshd says of it later."""
    unknown = "pam_unix(sshd:auth): check pass; user unknown"
    too_many = f"error: maximum authentication attempts exceeded for invalid user admin from {IP} port {PORT} ssh2 [preauth]"
    assert events_of(line(0, 10, unknown), line(0, 10, pam_failure("")), line(4, 10, too_many)) == [
        attempt("admin", at=4, method=None, valid=False, reason="too many authentication failures")
    ]
    assert events_of(line(0, 10, pam_failure("root")), line(1, 10, failed("root")), line(2, 10, failed("root"))) == [
        attempt("root", at=1), attempt("root", at=2),
    ]  # fmt: skip
    assert events_of(line(0, 10, pam_failure()), line(1, 10, accepted()), line(1, 10, opened())) == [login(at=1, uid=1001)]
    ended = preauth("Connection closed by", "invalid user admin ")
    assert events_of(line(0, 10, unknown), line(0, 10, pam_failure("")), line(4, 10, ended)) == [
        attempt("admin", at=4, method=None, valid=False)
    ]


def test_pam_of_another_process_is_no_second_try() -> None:
    """By keyboard-interactive PAM speaks with a PID of its own: that it spoke first makes no try of it."""
    assert events_of(
        line(0, 11, pam_failure("root")), line(0, 10, f"error: PAM: Authentication failure for root from {IP}"),
    ) == [attempt("root", at=0, port=None, method="keyboard-interactive")]  # fmt: skip


def test_pam_alone() -> None:
    """Where sshd's own lines are missing (authpriv alone on Debian), PAM's first failure and its sum are the tries."""
    more = f"PAM 5 more authentication failures; logname= uid=0 euid=0 tty=ssh ruser= rhost={IP}  user=root"
    assert events_of(line(0, 10, pam_failure("root")), line(9, 10, more)) == [
        attempt("root", at=0, port=None, method=None, count=6)
    ]


def test_pam_alone_of_an_unknown_user() -> None:
    """``check pass; user unknown`` and the failure behind it are one try of nobody known."""
    assert events_of(line(0, 10, "pam_unix(sshd:auth): check pass; user unknown"), line(0, 10, pam_failure(""))) == [
        attempt(None, at=0, port=None, method=None, valid=False)
    ]


def test_pam_alone_with_sessions() -> None:
    """Sessions in such a log do not hide the tries of others."""
    lines = [
        line(0, 10, opened()),
        line(1, 20, pam_failure("root")),
        line(2, 10, closed()),
        line(3, 30, pam_failure("root", OTHER_IP)),
    ]
    tries = [event for event in events_of(*lines) if event["what"] == "Attempt"]
    assert tries == [
        attempt("root", at=1, port=None, method=None),
        attempt("root", at=3, ip=OTHER_IP, port=None, method=None),
    ]


def test_pam_alone_with_sessions_in_one_block() -> None:
    """The same where all lines are read at once."""
    log = Log()
    lines = [line(0, 10, opened()), line(1, 20, pam_failure("root")), line(2, 30, pam_failure("root", OTHER_IP))]
    log.feed("\n".join(lines))
    log.settle()
    assert sorted(event["from"][0] or "" for event in shown(log.events)) == ["", IP, OTHER_IP]


def test_old_linux_pam() -> None:
    """The form of Linux-PAM before 2005, with the module in the tag, counts too."""
    old = {"program": "sshd(pam_unix)", "host": "combo"}
    failure = f"authentication failure; logname= uid=0 euid=0 tty=NODEVssh ruser= rhost={IP}  user=root"
    assert events_of(line(0, 1, "check pass; user unknown", **old), line(0, 2, failure, **old), line(1, 3, failure, **old)) == [
        attempt("root", at=0, port=None, method=None, host="combo"),
        attempt("root", at=1, port=None, method=None, host="combo"),
    ]


# ---------------------------------------------------------------- probes

PROBES = {
    "closed by remote host": [
        "error: kex_exchange_identification: Connection closed by remote host", f"Connection closed by {IP} port {PORT}",
    ],
    "reset": [
        "error: kex_exchange_identification: read: Connection reset by peer", f"Connection reset by {IP} port {PORT}",
    ],
    "bad banner": [
        'error: kex_exchange_identification: client sent invalid protocol identifier "GET / HTTP/1.1"',
        f"banner exchange: Connection from {IP} port {PORT}: invalid format",
    ],
    "bad banner, 9.8": [
        'kex_exchange_identification: client sent invalid protocol identifier "GET / HTTP/1.1"',
        f"banner exchange: Connection from {IP} port {PORT}: invalid format",
    ],
    "bad banner, 10.0": [
        'kex_exchange_identification: client sent invalid protocol identifier "GET / HTTP/1.1" [preauth]',
        f"banner exchange: Connection from {IP} port {PORT}: invalid format [preauth]",
    ],
    "invalid characters": [
        "error: kex_exchange_identification: banner line contains invalid characters",
        f"banner exchange: Connection from {IP} port {PORT}: invalid format",
    ],
    "line too long": [
        "error: kex_exchange_identification: banner line too long",
        f"banner exchange: Connection from {IP} port {PORT}: invalid format",
    ],
    "version 1": [
        "error: Protocol major versions differ: 2 vs. 1",
        f"banner exchange: Connection from {IP} port {PORT}: could not read protocol version",
    ],
    "no identification": [f"Did not receive identification string from {IP} port {PORT}"],
    "bad identification, 7.9": [f"Bad protocol version identification 'hello from 6.6.6.6 port 1' from {IP} port {PORT}"],
    "versions differ, 7.9": [f"Protocol major versions differ for {IP} port {PORT}: SSH-2.0-x vs. SSH-1.5-y"],
    "closed before a name": [preauth("Connection closed by")],
    "reset before a name": [preauth("Connection reset by")],
    "disconnect": [
        f"Received disconnect from {IP} port {PORT}:11: Bye Bye [preauth]", preauth("Disconnected from"),
    ],
    "error of the client": [
        f"error: Received disconnect from {IP} port {PORT}:14: No supported authentication methods available [preauth]",
        preauth("Disconnected from"),
    ],
    "no common method": [
        f"Unable to negotiate with {IP} port {PORT}: no matching key exchange method found. Their offer: x from 6.6.6.6 [preauth]"
    ],
    "bad packet": [
        "Bad packet length 1349676916. [preauth]",
        f"ssh_dispatch_run_fatal: Connection from {IP} port {PORT}: message authentication code incorrect [preauth]",
    ],
    "scanned": [f"scanned from {IP} port {PORT} with SSH-1.0-SSH_Version_Mapper.  Don't panic."],
    "timed out": [f"Connection from {IP} port {PORT} timed out [preauth]"],
    "grace": [f"fatal: Timeout before authentication for {IP} port {PORT}"],
}  # fmt: skip


@pytest.mark.parametrize("texts", PROBES.values(), ids=PROBES)
@pytest.mark.parametrize("verbose", [False, True], ids=["info", "verbose"])
def test_probe(texts: list[str], *, verbose: bool) -> None:
    """Each kind of scanner is one probe, with its address, however many lines tell of it, with and without VERBOSE."""
    before = [line(0, 10, CONNECTION_FROM)] if verbose else []
    events = events_of(*before, *(line(1, 10, text) for text in texts))
    assert [(event["what"], event["user"], event["from"]) for event in events] == [("Probe", None, (IP, str(PORT)))]


@pytest.mark.parametrize(
    "text",
    [
        preauth("Connection closed by", "authenticating user alice "),
        preauth("Connection reset by", "authenticating user alice "),
        preauth("Disconnected from", "authenticating user alice "),
        f"Connection from authenticating user alice {IP} port {PORT} timed out [preauth]",
        f"Disconnecting authenticating user alice {IP} port {PORT}: Change of username or service not allowed: (a,b) [preauth]",
    ],
)
def test_probe_that_gave_a_name(text: str) -> None:
    """A client that named a user and went without a try is one probe, with that name."""
    events = events_of(line(1, 10, text))
    assert [(event["what"], event["user"], event["from"]) for event in events] == [("Probe", "alice", (IP, str(PORT)))]


@pytest.mark.parametrize("verb", ["Connection closed by", "Connection reset by", "Disconnected from"])
def test_end_of_an_invalid_user(verb: str) -> None:
    """Where the Invalid user line is lost, the end of its connection is the try."""
    assert events_of(line(1, 10, preauth(verb, "invalid user x "))) == [attempt("x", at=1, method=None, valid=False)]


@pytest.mark.parametrize("text", ["kex_protocol_error: type 20 seq 2", "Fssh_kex_protocol_error: type 20 seq 2"])
def test_a_fault_before_the_end_is_the_probes_reason(text: str) -> None:
    """What a scanner did wrong has no address; the line that ends the connection has."""
    log = Log()
    log.feed(line(0, 10, f"error: {text} [preauth]"), line(1, 10, preauth("Connection reset by")))
    log.settle()
    assert [(event.address, getattr(event, "reason", "")) for event in log.events] == [(IP, "type 20 seq 2")]
    assert events_of(line(0, 10, f"error: {text}")) == []  # of a session, perhaps


def test_a_container_without_pids() -> None:
    """What sshd -e writes has a time, no host and no PID: the client's address and port join the lines."""
    stamps = [(START + timedelta(seconds=at)).isoformat(timespec="microseconds") for at in (0, 1, 9)]
    assert events_of(
        "Server listening on 0.0.0.0 port 22.", f"{stamps[0]} {failed()}", f"{stamps[1]} {accepted()}",
        f"{stamps[2]} {disconnected()}",
    ) == [attempt(at=0, host=""), login(at=1, host=""), logout(since=1, at=9, host="")]  # fmt: skip


def test_connection_without_an_end() -> None:
    """A client that only connects (Debian 12 logs no timeout) is one probe, after LoginGraceTime or at the end of the log."""
    assert events_of(line(0, 10, CONNECTION_FROM)) == [probe(at=0)]
    log = Log()
    log.feed(line(0, 10, CONNECTION_FROM))
    told = log.feed(*(line(n * 100, 99, failed("bob", port=1)) for n in range(1, 9)))
    assert [event for event in told if event["what"] == "Probe"] == [probe(at=0)]
    assert log.settle() == []


@pytest.mark.parametrize(
    "text",
    [
        f"drop connection #11 from [{IP}]:{PORT} on [192.0.2.1]:22 past MaxStartups",
        f"drop connection #11 from [{IP}]:{PORT} on [192.0.2.1]:22 past Maxstartups",
        f"drop connection #0 from [{IP}]:{PORT} on [192.0.2.1]:22 penalty: failed authentication",
        f"drop connection #11 from [{IP}]:{PORT} on [192.0.2.1]:22 Maxstartups",
    ],
)
def test_dropped_connection(text: str) -> None:
    """The listener drops connections that no process ever sees: each is one probe, and none belongs to the listener's PID."""
    assert events_of(line(0, 1, text), line(1, 1, text.replace(str(PORT), "5"))) == [probe(at=0), probe(at=1, port=5)]


def test_timeout_told_by_the_listener() -> None:
    """From 9.8 the listener tells of a timeout; the connection's PID stands in the text."""
    text = f"Timeout before authentication for connection from {IP} to 192.0.2.1, pid = 10"
    session = {"program": "sshd-session"}
    assert events_of(line(0, 10, CONNECTION_FROM, **session), line(120, 1, text)) == [probe(at=0)]
    assert events_of(line(120, 1, text)) == [probe(at=120, port=None)]
    assert events_of(line(0, 10, failed(), **session), line(120, 1, text)) == [attempt(at=0)]


def test_invalid_user_of_an_old_sshd() -> None:
    """Up to 7.4 a second line names the user again; it is still one try."""
    assert events_of(
        line(0, 10, f"Invalid user x from {IP}"),
        line(0, 10, "input_userauth_request: invalid user x [preauth]"),
        line(1, 10, f"Received disconnect from {IP}: 11: Bye Bye [preauth]"),
    ) == [attempt("x", at=0, method=None, valid=False, port=None)]


# ---------------------------------------------------------------- hosts and clocks


def test_hosts_with_the_same_pids() -> None:
    """PIDs and ports of one host mean nothing on another."""
    assert events_of(
        line(0, 10, accepted(), host="a"), line(0, 10, accepted("bob"), host="b"), line(1, 10, opened("bob", 1002), host="b"),
        line(1, 10, opened(), host="a"), line(2, 10, closed(), host="a"), line(3, 10, closed("bob"), host="b"),
    ) == [
        login("bob", at=0, uid=1002, host="b"), login(at=0, uid=1001, host="a"),
        logout(since=0, at=2, host="a"), logout("bob", since=0, at=3, host="b"),
    ]  # fmt: skip


def test_clock_of_another_host() -> None:
    """A host whose clock is a year ahead, in all its lines, lets nothing of another host expire."""
    year = 365 * 86400
    assert events_of(
        line(0, 10, accepted(), host="a"),
        *(line(year + n, 20 + n, failed("bob", port=n + 1), host="b") for n in range(5)),
        line(5, 10, opened(), host="a"), line(6, 10, closed(), host="a"),
    )[5:] == [login(at=0, uid=1001, host="a"), logout(since=0, at=6, host="a")]  # fmt: skip


def test_one_line_a_year_ahead() -> None:
    """A single line with a time that cannot be lets nothing expire."""
    year = 365 * 86400
    log = Log()
    log.feed(
        line(0, 10, accepted()),
        line(1, 20, CONNECTION_FROM.replace(IP, OTHER_IP)),
        line(year, 30, "Server listening on :: port 22."),
    )
    assert log.feed(line(year, 40, failed("bob", port=1))) in ([attempt("bob", at=year, port=1)], [])
    assert log.feed(line(2, 10, opened())) == [login(at=0, uid=1001)]
    assert log.feed(line(3, 10, closed())) == [logout(since=0, at=3)]
    assert log.feed(line(4, 20, failed("eve", ip=OTHER_IP))) == [attempt("eve", at=4, ip=OTHER_IP)]


def test_first_line_a_year_ahead() -> None:
    """A host whose first line has a time that cannot be still tells its logins when their grace has passed."""
    log = Log()
    log.feed(line(365 * 86400, 5, failed("bob", port=1)))
    log.feed(line(0, 10, accepted()))
    assert login(at=0) in log.feed(*(line(20 + n, 30 + n, failed("eve", port=2 + n)) for n in range(3)))


@pytest.mark.parametrize("pause", [3000, 4000, 86400 * 3])
def test_first_login_after_a_quiet_time(pause: int) -> None:
    """A night without lines changes nothing about the next login."""
    assert events_of(
        line(0, 5, failed("bob", port=1)), line(pause, 10, accepted()), line(pause + 0.01, 10, opened()),
        line(pause + 9, 10, closed()),
    )[1:] == [login(at=pause, uid=1001), logout(since=pause, at=pause + 9)]  # fmt: skip


@pytest.mark.parametrize("pause", [3000, 4000, 86400 * 3])
def test_first_try_after_a_quiet_time(pause: int) -> None:
    """Nor about the next try: it counts once."""
    assert events_of(
        line(0, 5, failed("bob", port=1)), line(pause, 10, f"Invalid user x from {IP} port {PORT}"),
        line(pause + 1, 10, failed("invalid user x")), line(pause + 2, 10, preauth("Connection closed by", "invalid user x ")),
    )[1:] == [attempt("x", at=pause + 1, valid=False)]  # fmt: skip


def test_first_connection_after_a_quiet_time() -> None:
    """A connection that begins after a quiet time is no probe when it becomes a login."""
    assert events_of(
        line(0, 5, failed("bob", port=1)), line(7200, 10, CONNECTION_FROM), line(7201, 10, accepted()), line(7201, 10, opened()),
    )[1:] == [login(at=7201, uid=1001)]  # fmt: skip


def test_long_session() -> None:
    """A session of days ends with its closed line, however much happened meanwhile."""
    between = (line(n * 1800, 100 + n, failed("bob", port=1 + n)) for n in range(1, 2 * 24 * 20))
    events = events_of(line(0, 10, accepted()), line(0, 10, opened()), *between, line(86400 * 20, 10, closed()))
    assert [event for event in events if event["what"] != "Attempt"] == [
        login(at=0, uid=1001), logout(since=0, at=86400 * 20),
    ]  # fmt: skip


# ---------------------------------------------------------------- lines that lack something


def test_lines_without_a_pid() -> None:
    """Without PIDs the client's address and port join the lines."""
    assert events_of(
        line(0, None, failed()), line(1, None, accepted()), line(1, None, opened()), line(9, None, closed())
    ) == [attempt(at=0), login(at=1, uid=1001), logout(since=1, at=9)]  # fmt: skip


def test_two_sessions_of_one_user_without_pids() -> None:
    """Two sessions and two ends are two logouts, one each, whichever it was."""
    events = events_of(
        line(0, None, accepted()), line(0, None, opened()),
        line(1, None, accepted(port=OTHER_PORT)), line(1, None, opened()),
        line(8, None, closed()), line(9, None, closed()),
    )  # fmt: skip
    ended = sorted(event["from"] for event in events if event["what"] == "Logout")
    assert ended == sorted([(IP, str(PORT)), (IP, str(OTHER_PORT))])


def test_lines_without_a_time() -> None:
    """An extract without times still tells who came in, at no time."""
    texts = [f"sshd[10]: {text}" for text in (accepted(), opened(), closed())]
    log = Log()
    log.feed(*texts)
    log.settle()
    assert [(type(event), event.user, event.time_us) for event in log.events] == [(Login, "alice", 0), (Logout, "alice", 0)]


NO_TIME = "Foo 31 10:00:00"  # a month of no language


def test_a_line_whose_time_cannot_be_read_takes_no_other_lines_time() -> None:
    """A login, an end, a try and a probe at such a line are told, at no time; the session's duration is not known."""
    log = Log()
    log.feed(
        line(0, 9, failed(ip=OTHER_IP)),
        f"{NO_TIME} web1 sshd[10]: {failed('root')}",
        f"{NO_TIME} web1 sshd[11]: {accepted(port=1)}",
        f"{NO_TIME} web1 sshd[11]: {opened()}",
        line(9, 12, accepted(port=2)),
        line(9, 12, opened()),
        f"{NO_TIME} web1 sshd[12]: {closed()}",
        f"{NO_TIME} web1 sshd[13]: {preauth('Connection closed by', port=3)}",
    )
    log.settle()
    told = [(type(event), event.port, event.time_us) for event in log.events]
    at = {0: int(START.timestamp()) * SECOND, 9: int((START + timedelta(seconds=9)).timestamp()) * SECOND}
    assert told == [
        (Attempt, str(PORT), at[0]), (Attempt, str(PORT), 0), (Login, "1", 0), (Login, "2", at[9]), (Logout, "2", 0),
        (Probe, "3", 0),
    ]  # fmt: skip
    assert log.correlator.counters["lines_without_time_total"] == 5
    ended = of_event(log.events[4], ["auth.log"])
    assert ended.timestamp is None
    assert ended.event.start is not None
    assert (ended.event.end, ended.event.duration) == (None, None)


def test_line_with_an_impossible_time() -> None:
    """A line whose time does not exist is placed by the host's clock, and joins its connection."""
    assert events_of(
        line(0, 10, accepted()),
        f"2026-02-30T10:00:00+00:00 web1 sshd[10]: {opened()}",
        line(9, 10, closed()),
    ) == [login(at=0, uid=1001), logout(since=0, at=9)]


# ---------------------------------------------------------------- dropbear


def test_dropbear() -> None:
    """Dropbear's login is told at once, and its Exit line is the end."""
    drop = {"program": "dropbear"}
    assert events_of(
        line(0, 10, f"Child connection from {IP}:{PORT}", **drop),
        line(1, 10, f"Bad password attempt for 'root' from {IP}:{PORT}", **drop),
        line(2, 10, f"Password auth succeeded for 'root' from {IP}:{PORT}", **drop),
        line(60, 10, f"Exit (root) from <{IP}:{PORT}>: Disconnect received", **drop),
    ) == [
        attempt("root", at=1), login("root", at=2, method="Password"), logout("root", since=2, at=60),
    ]  # fmt: skip


def test_dropbear_to_standard_error() -> None:
    """Dropbear -E writes PID and time itself; its own PID joins its lines where journald's is another."""
    own = "[10] Nov 22 10:00:00 "
    drop = {"program": "dropbear"}
    assert events_of(
        line(2, 77, f"{own}Password auth succeeded for 'root' from {IP}:{PORT}", **drop),
        line(60, 77, f"{own}Exit (root) from <{IP}:{PORT}>: Disconnect received", **drop),
    ) == [login("root", at=2, method="Password"), logout("root", since=2, at=60)]


def test_dropbear_with_two_factors() -> None:
    """The first of two factors is no login; the key of the first is told with the second."""
    drop = {"program": "dropbear"}
    key = "SHA256:mVPwvezndPv/ARoIadVY98vAC0g+P/5633yTC4d/wXE"
    assert events_of(
        line(1, 10, f"Pubkey auth succeeded for 'root' with ssh-ed25519 key {key} from {IP}:{PORT}, extra auth required", **drop),
        line(2, 10, f"Password auth succeeded for 'root' from {IP}:{PORT}", **drop),
    ) == [login("root", at=2, method="Password", info=key)]


def test_dropbear_before_2020() -> None:
    """Older versions end a session without its address; the PID tells whose it was."""
    drop = {"program": "dropbear"}
    assert events_of(
        line(2, 10, f"Password auth succeeded for 'root' from {IP}:{PORT}", **drop),
        line(60, 10, "Exit (root): Disconnect received", **drop),
    ) == [login("root", at=2, method="Password"), logout("root", since=2, at=60)]


def test_dropbear_probe_and_unknown_user() -> None:
    """A connection without a try is a probe, a user that does not exist one try."""
    drop = {"program": "dropbear"}
    events = events_of(
        line(0, 10, f"Child connection from {IP}:{PORT}", **drop),
        line(1, 10, "Exit before auth: Exited normally", **drop),
        line(2, 11, f"Child connection from {IP}:5", **drop),
        line(3, 11, f"Login attempt for nonexistent user from {IP}:5", **drop),
        line(4, 11, f"Exit before auth from <{IP}:5>: Exited normally", **drop),
    )
    assert [(event["what"], event["from"]) for event in events] == [("Probe", (IP, str(PORT))), ("Attempt", (IP, "5"))]


# ---------------------------------------------------------------- what the kernel vouches for

ALICE, MALLORY = 1001, 1012


def test_verified_login() -> None:
    """Lines of root's sshd make a verified login; the child's own lines, with the user's uid, change nothing with PAM."""
    assert events_of(
        trusted(0, 10, accepted(), uid=0), trusted(0, 10, opened(), uid=0), trusted(9, 11, disconnected(), uid=ALICE),
        trusted(9, 10, closed(), uid=0),
    ) == [login(at=0, uid=1001, origin="verified"), logout(since=0, at=9, origin="verified")]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "claim", "named"),
    [
        (accepted("root"), "accepted", "root"),
        (failed("root"), "failed", "root"),
        (f"Invalid user root from {IP} port {PORT}", "invalid_user", "root"),
        (preauth("Connection closed by", "authenticating user root "), "connection_closed", "root"),
    ],
)
def test_forged_line_never_acts(text: str, claim: str, named: str) -> None:
    """A line of a user's process that only root's sshd writes is told as forged, once, and as nothing else."""
    assert events_of(trusted(0, 10, text, uid=MALLORY, exe="/usr/bin/logger")) == [forged(named, at=0, uid=MALLORY, claim=claim)]


def test_forged_session_lines_never_act() -> None:
    """A forged session line opens, confirms and ends nothing."""
    log = Log()
    log.feed(trusted(0, 10, accepted(), uid=0))
    bad: dict[str, Any] = {"uid": MALLORY, "exe": "/usr/bin/logger"}
    assert log.feed(trusted(1, 10, opened(), **bad)) == [
        forged("alice", at=1, claim="session_opened", uid=MALLORY, ip=None, port=None)
    ]
    assert log.feed(trusted(2, 10, opened(), uid=0)) == [login(at=0, uid=1001, origin="verified")]
    assert log.feed(trusted(3, 10, closed(), **bad)) == [
        forged("alice", at=3, claim="session_closed", uid=MALLORY, ip=None, port=None)
    ]
    assert log.feed(trusted(4, 10, closed(), uid=0)) == [logout(since=0, at=4, origin="verified")]


def test_forged_login_of_the_next_pid() -> None:
    """A line that was planted for the PID of the next login changes nothing about that login."""
    events = events_of(
        trusted(0, 10, accepted("root", ip="203.0.113.66"), uid=MALLORY, exe="/usr/bin/logger"),
        trusted(1, 10, accepted(), uid=0), trusted(1, 10, opened(), uid=0),
    )  # fmt: skip
    assert events == [
        forged("root", at=0, uid=MALLORY, claim="accepted", ip="203.0.113.66"), login(at=1, uid=1001, origin="verified"),
    ]  # fmt: skip


@pytest.mark.parametrize("uid", [0, MALLORY])
def test_forged_by_another_program(uid: int) -> None:
    """Root's logger is no sshd either; a program that is named sshd is none when a user runs it."""
    exe = "/usr/bin/logger" if uid == 0 else "/home/mallory/sshd"
    assert events_of(trusted(0, 10, accepted("root"), uid=uid, exe=exe)) == [forged("root", at=0, uid=uid, claim="accepted")]


@pytest.mark.parametrize("exe", ["", "/usr/sbin/sshd (deleted)", "/usr/lib/openssh/sshd-session"])
def test_program_that_is_unknown_or_replaced(exe: str) -> None:
    """A missing path is unknown, not forged; an upgraded sshd is still sshd."""
    assert events_of(trusted(0, 10, accepted(), uid=0, exe=exe), trusted(0, 10, opened(), uid=0, exe=exe)) == [
        login(at=0, uid=1001, origin="verified")
    ]


def test_end_by_another_user() -> None:
    """The last line of a session, written by another user, ends nothing: with PAM or without."""
    expected = forged("alice", at=5, uid=MALLORY, claim="disconnected")
    fake = trusted(5, 99, disconnected(), uid=MALLORY, exe="/usr/bin/logger")
    assert events_of(trusted(0, 10, accepted(), uid=0), trusted(0, 10, opened(), uid=0), fake) == [
        login(at=0, uid=1001, origin="verified"), expected,
    ]  # fmt: skip
    without_pam = events_of(trusted(0, 10, accepted(), uid=0), fake)
    assert [event["what"] for event in without_pam if event["what"] != "Login"] == ["Forged"]


def test_end_by_the_user_without_pam() -> None:
    """Without PAM the user's own sshd process ends the session."""
    assert events_of(trusted(0, 10, accepted(), uid=0), trusted(5, 11, disconnected(), uid=ALICE)) == [
        login(at=0, origin="verified"), logout(since=0, at=5),
    ]  # fmt: skip


def test_last_line_of_a_process_that_has_gone() -> None:
    """Processes that are exiting lack their path: such a line of the child raises no alarm."""
    events = events_of(trusted(0, 10, accepted(), uid=0), trusted(5, 11, disconnected(), uid=ALICE, exe=""))
    assert "Forged" not in [event["what"] for event in events]


def test_hint_of_a_user_about_nothing() -> None:
    """A line that a user's process may write, about no session that is known, is nothing."""
    assert events_of(trusted(5, 11, disconnected(), uid=ALICE)) == []


def test_annotation_of_imuxsock() -> None:
    """With SysSock.Annotate the uid stands behind the text; a login that a user wrote is forged."""
    tail = ' @[_PID=3377 _UID=1012 _GID=1012 _COMM=logger _EXE=/usr/bin/logger _CMDLINE="logger -t sshd"]'
    assert events_of(line(0, 10, accepted("root") + tail)) == [forged("root", at=0, uid=MALLORY, claim="accepted")]


# ---------------------------------------------------------------- promises about all events


def test_a_logout_never_comes_before_its_login() -> None:
    """Whatever the order of a session's three lines, its Login is told first and its Logout once."""
    three = [line(0, 10, accepted()), line(0.5, 10, opened()), line(1, 10, closed())]
    for first in three:
        for second in three:
            for third in three:
                if len({first, second, third}) == 3:
                    assert [event["what"] for event in events_of(first, second, third)] == ["Login", "Logout"]


def test_a_session_never_ends_before_it_began() -> None:
    """Where clocks say so, the duration is zero, not negative."""
    log = Log()
    log.feed(line(5, 10, accepted()), line(5, 10, opened()), line(3, 10, closed()))
    logouts = [event for event in log.events if isinstance(event, Logout)]
    assert [event.end_us - event.login.time_us for event in logouts] == [0]


def test_connections_that_are_over_are_let_go() -> None:
    """What a flood leaves is bounded by the limit of connections, in all tables and queues."""
    log = Log()
    limit = 200
    original = connections.CONNECTION_LIMIT
    connections.CONNECTION_LIMIT = limit
    try:
        for number in range(20 * limit):
            log.feed(line(number / 100, number + 100, CONNECTION_FROM.replace(str(PORT), str(number + 1))))
        gc.collect()
        held = sum(isinstance(found, Connection) for found in gc.get_objects())
    finally:
        connections.CONNECTION_LIMIT = original
    assert held <= 3 * limit


def test_children_of_one_connection_are_bounded() -> None:
    """Forged ``User child`` lines for one connection do not fill a table."""
    log = Log()
    log.feed(line(0, 10, accepted()), line(0, 10, opened()))
    log.feed("\n".join(line(1, 10, f"User child is on pid {number}") for number in range(1000, 3000)))
    assert max(len(host.children) for host in log.correlator.held._hosts.values()) < 100


def test_limit_is_named() -> None:
    """The bound of the connections is one that a busy host does not reach in ten minutes."""
    assert CONNECTION_LIMIT >= 10_000
