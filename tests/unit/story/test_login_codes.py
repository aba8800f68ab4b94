"""The one-time code of a login belongs to that login, and a refused code is one try, however many lines report it."""

from __future__ import annotations

import json
from datetime import UTC, timedelta

import pytest

from consumer.codes.log_lines import (
    REASONS,
    Asker,
    accepted,
    emergency_accepted,
    let_in,
    not_delivered,
    not_needed,
    refused,
    sent,
)
from consumer.ecs import json_line
from consumer.events import Attempt, Event, Forged, Login, LoginCode, Logout, Probe, Trouble
from consumer.events_as_ecs import of_event
from consumer.pipeline import Pipeline
from consumer.story import login_codes
from tests.unit.story.test_correlate import IP, PORT, START, Log, closed, disconnected, line, opened, preauth, trusted

NOW_US = 1795400000000000
ALICE = Asker("sshd", 10, "alice", IP)
RIGHT = LoginCode("accepted", "ops", "482913", 14)
LOGIN = f"Accepted keyboard-interactive/pam for alice from {IP} port {PORT} ssh2"
PAM_ERROR = f"error: PAM: System error for alice from {IP}"
FAILED = f"Failed keyboard-interactive/pam for alice from {IP} port {PORT} ssh2"
SENT, ACCEPTED = sent(ALICE, "482913", "ops"), accepted(ALICE, "482913", "ops", 14)
WRONG = refused(ALICE, "wrong", "482913", "ops")


def code(at: float, text: str, *, pid: int = 55, host: str = "web1") -> str:
    """Return a line of the commands that PAM runs, each in a process of its own."""
    return line(at, pid, text, program="sshbell-pam", host=host)


def trusted_code(text: str, uid: int, exe: str) -> str:
    """Return such a line with the sender that the kernel knows."""
    found = {"ts": START.isoformat(), "host": "web1", "tag": "sshbell-pam[55]:", "prog": "sshbell-pam", "procid": "55"}
    return json.dumps(found | {"msg": f" {text}", "uid": str(uid), "exe": exe})


def told(*lines: str) -> list[Event]:
    """Return all events of a log."""
    log = Log()
    log.feed(*lines)
    log.settle()
    return log.events


def the_login(*lines: str) -> Login:
    """Return the only event of a log, a login, apart from its end."""
    found = [event for event in told(*lines) if not isinstance(event, Trouble)]
    assert [type(event) for event in found] == [Login]
    assert isinstance(found[0], Login)
    return found[0]


def the_attempts(*lines: str) -> list[tuple[str | None, int]]:
    """Return the reason and the count of each try; there is nothing else."""
    return [(event.reason, event.count) if isinstance(event, Attempt) else (repr(event), 0) for event in told(*lines)]


# ---------------------------------------------------------------- the login


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ACCEPTED, RIGHT),
        (emergency_accepted(ALICE, 7), LoginCode("emergency", left=7)),
        (not_needed(ALICE), LoginCode("not_needed")),
        (let_in(ALICE), LoginCode("let_in")),
    ],
    ids=["right", "emergency", "not needed", "let in"],
)
def test_login_has_its_code(text: str, expected: LoginCode) -> None:
    """At INFO, the code's lines are the first of a connection. The login has the code, and its end has it, too."""
    events = told(code(0, SENT), code(14, text), line(14.1, 10, LOGIN), line(14.2, 10, opened()), line(60, 10, closed()))
    assert [str(event.action) for event in events] == ["ssh_login", "ssh_logout"]
    login, logout = events
    assert isinstance(login, Login)
    assert isinstance(logout, Logout)
    assert (login.code, logout.login.code) == (expected, expected)
    assert (events[0].address, events[0].port, events[0].user) == (IP, str(PORT), "alice")


def test_login_with_a_key_at_verbose() -> None:
    """The key of the first factor and the code of the second are one login."""
    found = the_login(
        line(0, 10, f'Connection from {IP} port {PORT} on 192.0.2.1 port 22 rdomain ""'),
        line(0.1, 10, f"Partial publickey for alice from {IP} port {PORT} ssh2: ED25519 SHA256:abc"),
        line(0.1, 10, f"Postponed keyboard-interactive for alice from {IP} port {PORT} ssh2 [preauth]"),
        code(0.2, SENT),
        code(14, ACCEPTED),
        line(14.1, 10, LOGIN),
        line(14.2, 10, opened()),
    )
    assert (found.code, found.factors, found.info) == (RIGHT, ("publickey", "keyboard-interactive/pam"), "ED25519 SHA256:abc")


def test_login_as_ecs() -> None:
    """Programs get each fact in a field of its own."""
    (event,) = told(code(0, SENT), code(14, ACCEPTED), line(14.1, 10, LOGIN), line(14.2, 10, opened()))
    assert json.loads(json_line(of_event(event, [])))["ssh"]["code"] == {
        "outcome": "accepted", "channel": "ops", "session": "482913", "after_s": 14,
    }  # fmt: skip


def test_code_late() -> None:
    """A line that comes after "Accepted", but before the session line, is of that login."""
    assert the_login(line(14.1, 10, LOGIN), code(14, ACCEPTED), line(14.2, 10, opened())).code == RIGHT


def test_wrong_then_right() -> None:
    """A mistyped code is a try, and the login has the code that was right."""
    events = told(
        code(0, SENT), code(5, WRONG), line(5, 10, PAM_ERROR), line(5.1, 10, FAILED),
        code(6, sent(ALICE, "111111", "mail")), code(20, accepted(ALICE, "111111", "mail", 14)),
        line(20.1, 10, LOGIN), line(20.2, 10, opened()),
    )  # fmt: skip
    assert [type(event) for event in events] == [Attempt, Login]
    assert isinstance(events[1], Login)
    assert events[1].code == LoginCode("accepted", "mail", "111111", 14)


@pytest.mark.parametrize(
    "login",
    [
        LOGIN.replace("alice", "bob"),
        LOGIN.replace(IP, "198.51.100.9"),
    ],
    ids=["user", "address"],
)
def test_code_of_another_login(login: str) -> None:
    """A PID that sshd has used again proves nothing: the code was for another user, or for another address."""
    (found,) = (
        event for event in told(code(0, SENT), code(14, ACCEPTED), line(20, 10, login), line(20.1, 10, opened("bob")))
        if isinstance(event, Login) and event.method
    )  # fmt: skip
    assert found.code is None


@pytest.mark.parametrize("port", [PORT, PORT + 1])
def test_code_of_an_earlier_connection(port: int) -> None:
    """The client gave up after the right code. The next connection with this PID had no code, even from the same port."""
    events = told(
        code(0, SENT), code(14, ACCEPTED), line(15, 10, preauth("Connection closed by authenticating user alice ")),
        line(20, 10, LOGIN.replace(str(PORT), str(port))), line(20.1, 10, opened()),
    )  # fmt: skip
    assert [event.code for event in events if isinstance(event, Login)] == [None]


def test_code_of_another_connection() -> None:
    """Two logins of one user at once keep their codes apart."""
    other = ALICE._replace(pid=20)
    events = told(
        code(0, SENT), code(0, sent(other, "777777", "mail"), pid=56),
        code(5, accepted(other, "777777", "mail", 5), pid=58), code(14, ACCEPTED, pid=57),
        line(14.1, 10, LOGIN), line(14.1, 20, LOGIN.replace(str(PORT), "4712")),
        line(14.2, 20, opened()), line(14.2, 10, opened()),
    )  # fmt: skip
    found = {event.port: event.code for event in events if isinstance(event, Login)}
    assert found == {str(PORT): RIGHT, "4712": LoginCode("accepted", "mail", "777777", 5)}


def test_code_of_another_host() -> None:
    """PIDs are a host's own."""
    found = told(
        code(0, SENT, host="db1"), code(14, ACCEPTED, host="db1"), line(14.1, 10, LOGIN), line(14.2, 10, opened()),
    )  # fmt: skip
    assert [event.code for event in found if isinstance(event, Login)] == [None]


def test_a_new_login_after_a_lost_end() -> None:
    """The lines at the end of a session may be lost. A code then begins a new connection, and leaves the old login alone."""
    events = told(
        line(0, 10, LOGIN), line(0.1, 10, opened()),
        code(500, SENT), code(514, ACCEPTED), line(514.1, 10, LOGIN.replace(str(PORT), "4712")), line(514.2, 10, opened()),
    )  # fmt: skip
    assert [(event.port, event.code) for event in events if isinstance(event, Login)] == [(str(PORT), None), ("4712", RIGHT)]


def test_hostile_name() -> None:
    """A client's name is no field, and the code of its login is found by the name as sshd writes it."""
    user = "x, sshd 1, from 203.0.113.66 for root"
    asker = ALICE._replace(user=user)
    events = told(
        code(0, sent(asker, "482913", "ops")), code(14, accepted(asker, "482913", "ops", 14)),
        line(14.1, 10, LOGIN.replace("alice", user)), line(14.2, 10, opened(user)),
    )  # fmt: skip
    (found,) = (event for event in events if isinstance(event, Login))
    assert (found.user, found.address, found.code) == (user, IP, RIGHT)


# ---------------------------------------------------------------- tries


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize(
    "after",
    [[], [PAM_ERROR], [FAILED], [PAM_ERROR, FAILED], [FAILED.replace("keyboard-interactive/pam", "password")]],
    ids=["alone", "PAM", "Failed", "both", "password"],
)
def test_a_refused_code_is_one_try(reason: str, after: list[str]) -> None:
    """It has its reason, whatever sshd writes about the same try at its log level."""
    lines = [code(5, refused(ALICE, reason, "482913", "ops")), *(line(5.1, 10, text) for text in after)]
    end = line(9, 10, preauth("Connection closed by authenticating user alice "))
    found = [event for event in told(code(0, SENT), *lines, end) if isinstance(event, Attempt)]
    assert [(event.reason, event.count, event.user, event.address) for event in found] == [
        (login_codes.REASONS[reason], 1, "alice", IP)
    ]


def test_three_tries() -> None:
    """Each refused code is a try, and so is a password between them. The end of the connection adds none."""
    again = [code(5, WRONG), line(5.1, 10, PAM_ERROR), line(5.2, 10, FAILED)]
    password = line(6, 10, FAILED.replace("keyboard-interactive/pam", "password"))
    end = [
        line(9, 10, f"error: maximum authentication attempts exceeded for alice from {IP} port {PORT} ssh2 [preauth]"),
        line(9, 10, preauth("Disconnecting authenticating user alice ").replace(" [", ": Too many authentication failures [")),
    ]  # fmt: skip
    assert the_attempts(code(0, SENT), *again, *again, password, *again, *end) == [
        ("wrong code", 1), ("wrong code", 1), (None, 1), ("wrong code", 1),
    ]  # fmt: skip


def test_a_wrong_password_and_a_wrong_code() -> None:
    """PAM's error about the password comes first, and is a try of its own."""
    assert the_attempts(
        line(0, 10, PAM_ERROR.replace("System error", "Authentication failure")), code(1, SENT), code(5, WRONG),
        line(5.1, 10, PAM_ERROR),
    ) == [(None, 1), ("wrong code", 1)]  # fmt: skip


def test_both_commands_refuse() -> None:
    """In a stack with "required" for the challenge, verify runs after its refusal. That is still one try."""
    both = [code(1, refused(ALICE, "too many tries")), code(1.1, refused(ALICE, "unknown"), pid=56), line(1.2, 10, PAM_ERROR)]
    assert the_attempts(*both, *both) == [("too many codes tried", 1)] * 2


def test_no_code_given() -> None:
    """Somebody who has passed all checks before the code gives up: that is a try, too."""
    assert the_attempts(code(0, SENT), line(30, 10, preauth("Connection closed by authenticating user alice "))) == [
        ("code not given", 1)
    ]


def test_right_code_but_no_login() -> None:
    """After the right code, the account is refused: the reason is that of the account."""
    denied = "User alice not allowed because account is locked"
    assert the_attempts(code(0, SENT), code(14, ACCEPTED), line(14.1, 10, denied)) == [("account is locked", 1)]


def test_sent_comes_late() -> None:
    """In rsyslog, "Code sent" waits behind other lines: it does not make a right code one that nobody gave."""
    end = line(15, 10, preauth("Connection closed by authenticating user alice "))
    assert [type(event) for event in told(code(14, ACCEPTED), code(0, SENT), end)] == [Probe]
    assert the_login(code(14, ACCEPTED), line(14.1, 10, LOGIN), code(0, SENT), line(14.2, 10, opened())).code == RIGHT
    assert the_login(line(14.1, 10, LOGIN), line(14.2, 10, opened()), code(0, SENT)).code is None


def test_right_code_and_nothing_more() -> None:
    """The client is gone. No try has failed."""
    found = told(code(0, SENT), code(14, ACCEPTED), line(15, 10, preauth("Connection closed by authenticating user alice ")))
    assert [type(event) for event in found] == [Probe]


def test_a_burst_of_prompts() -> None:
    """It is a try with its reason, and a report of its own about this user."""
    found = told(code(0, refused(ALICE, "too many prompts")), line(0.1, 10, PAM_ERROR))
    assert [(type(event), event.user, event.address) for event in found] == [(Attempt, "alice", IP), (Trouble, "alice", IP)]
    assert isinstance(found[1], Trouble)
    assert (found[1].what, found[1].reason) == ("prompt_burst", None)


def test_no_channel() -> None:
    """The fault of the channels is a report of its own, with the user and the address of the connection."""
    found = told(
        code(0, not_delivered(ALICE, "ops: no answer within 10 s")), code(0.1, let_in(ALICE)), line(0.2, 10, LOGIN),
        line(0.3, 10, opened()),
    )  # fmt: skip
    assert [type(event) for event in found] == [Trouble, Login]
    assert isinstance(found[0], Trouble)
    assert (found[0].what, found[0].reason) == ("code_not_delivered", "ops: no answer within 10 s")


def test_pam_hints_count_where_sshd_is_silent() -> None:
    """The lines of sshbell-pam are not sshd's: where those are missing, PAM's own line about a wrong password still counts."""
    hint = f"pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost={IP}  user=bob"
    found = told(code(0, SENT), code(5, WRONG), line(9, 20, hint))
    assert [(event.user, event.reason) for event in found if isinstance(event, Attempt)] == [
        ("alice", "wrong code"),
        ("bob", None),
    ]


# ---------------------------------------------------------------- other programs than sshd


def test_other_services() -> None:
    """There is no story of a su. A refused code is a try all the same, and a login without a code is reported."""
    su = Asker("su", 10, "root")
    found = told(
        code(0, sent(su, "482913", "ops")), code(5, refused(su, "wrong", "482913", "ops")),
        code(6, accepted(su, "482913", "ops", 6)), code(7, let_in(su)), code(8, not_delivered(su, "ops: refused")),
    )  # fmt: skip
    assert [(type(event).__name__, event.user, event.address) for event in found] == [
        ("Attempt", "root", None), ("Trouble", "root", None), ("Trouble", None, None),
    ]  # fmt: skip
    assert isinstance(found[0], Attempt)
    assert found[0].reason == "wrong code, su"


def test_other_services_and_a_login() -> None:
    """The PID of a su is not that of a login."""
    found = told(code(0, accepted(Asker("su", 10, "alice"), "1", "ops", 1)), line(0.1, 10, LOGIN), line(0.2, 10, opened()))
    assert [event.code for event in found if isinstance(event, Login)] == [None]


# ---------------------------------------------------------------- forged lines


@pytest.mark.parametrize(
    ("uid", "exe", "is_forged"),
    [
        (0, "/usr/bin/python3.11", False),
        (0, "", False),
        (1000, "/usr/bin/python3.11", True),
        (1000, "", True),
        (0, "/usr/bin/su", True),
    ],
)
@pytest.mark.parametrize("text", [ACCEPTED, WRONG, SENT, let_in(ALICE)], ids=["accepted", "wrong", "sent", "let in"])
def test_forged(text: str, uid: int, exe: str, is_forged: bool) -> None:  # noqa: FBT001 - a table's column
    """Only root's Python writes such lines. A forged one adds nothing to a login, and is reported."""
    found = told(trusted_code(text, uid, exe))
    assert [type(event) for event in found].count(Forged) == is_forged
    if is_forged:
        assert [type(event) for event in found] == [Forged]


def test_a_forged_code_proves_nothing() -> None:
    """A user who has only the first factor cannot make the login look like one with two."""
    found = told(trusted_code(ACCEPTED, 1000, "/usr/bin/logger"), line(0.1, 10, LOGIN), line(0.2, 10, opened()))
    assert [event.code for event in found if isinstance(event, Login)] == [None]


@pytest.mark.parametrize("is_vouched_for", [True, False])
def test_a_code_from_another_machine(is_vouched_for: bool) -> None:  # noqa: FBT001 - a table's column
    """A relay passes on lines under any host's name. They prove nothing about a login for which the kernel vouches."""
    right = trusted_code(ACCEPTED, 0, "/usr/bin/python3.11") if is_vouched_for else code(0, ACCEPTED)
    found = told(right, trusted(0.1, 10, LOGIN, uid=0), trusted(0.2, 10, opened(), uid=0))
    assert [event.code for event in found if isinstance(event, Login)] == [RIGHT if is_vouched_for else None]


# ---------------------------------------------------------------- memory


LINES = [
    code(0, SENT), code(5, WRONG), line(5.1, 10, PAM_ERROR), line(5.2, 10, FAILED), code(6, sent(ALICE, "111111", "mail")),
    code(20, accepted(ALICE, "111111", "mail", 14)), line(20.1, 10, LOGIN), line(20.2, 10, opened()),
    line(60, 11, disconnected()), line(60.1, 10, closed()),
]  # fmt: skip


@pytest.mark.parametrize("before", range(1, len(LINES)))
def test_outlives_an_interruption(before: int) -> None:
    """A process that goes on from a snapshot reports the same events, with the same ids and the same code."""

    def fed(*parts: list[str]) -> list[Event]:
        events: list[Event] = []
        live = Pipeline([], UTC, NOW_US, pytest.fail)
        for number, part in enumerate(parts):
            if number:
                saved = [(name, list(pieces)) for name, pieces in live.changed()]
                live = Pipeline([], UTC, NOW_US, pytest.fail)
                live.restore(saved)
            events += [event for each in part for event in live.feed(each.encode() + b"\n")]
        return events

    whole, pieces = fed(LINES), fed(LINES[:before], LINES[before:])
    assert [str(event.action) for event in whole] == ["ssh_attempt", "ssh_login", "ssh_logout"]
    assert [of_event(event, []) for event in pieces] == [of_event(event, []) for event in whole]
    assert len({event.id for event in whole}) == len(whole)


def test_the_code_does_not_change_the_id() -> None:
    """The login is that of "Accepted", with or without the lines of sshbell-pam."""
    without = the_login(line(14.1, 10, LOGIN), line(14.2, 10, opened()))
    assert the_login(code(0, SENT), code(14, ACCEPTED), line(14.1, 10, LOGIN), line(14.2, 10, opened())).id == without.id


def test_time_since() -> None:
    """A code from long before the login belongs to another connection."""
    late = (START + timedelta(hours=2)).isoformat(timespec="microseconds")
    lines = [code(14, ACCEPTED), f"{late} web1 sshd[10]: {LOGIN}", f"{late} web1 sshd[10]: {opened()}"]
    assert [event.code for event in told(*lines) if isinstance(event, Login)] == [None]
