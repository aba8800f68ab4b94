"""Attacks by those who own one thing: a name, a client, a certificate, a sender of syslog. Each goes through all of sshbell."""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING, NamedTuple

import pytest

from consumer.codes import log_lines
from consumer.codes.log_lines import Asker
from consumer.deliver.rendering import Renderer
from consumer.ecs import event_of, json_line
from consumer.events import Event, Login
from consumer.events_as_ecs import of_event
from consumer.pipeline import Pipeline
from consumer.store.state import State
from tests.integration.lines import ACCEPTED, CLOSED, OPENED, ours

if TYPE_CHECKING:
    from pathlib import Path

    from consumer.deliver.channels import Message

NOW_US = 1_795_341_600_000_000  # 2026-11-22 10:00:00 UTC
TOLD = frozenset({"ssh_login", "ssh_logout", "ssh_attempt", "ssh_probe", "ssh_forged"})
GENUINE = ("ssh_login", "alice", "192.0.2.7")
# Whoever reads these in a terminal or a mail sees another text than the bytes have.
HARMFUL = "\x1b\u202e\u200b\x07\n"


class Outcome(NamedTuple):
    """The events, as action, user and address; their objects; and their messages."""

    found: list[Event]
    told: list[tuple[str, str | None, str | None]]
    objects: list[str]
    messages: list[Message]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder for a store and for the templates of a user."""
    (tmp_path / "own").mkdir()
    return tmp_path


def outcome(folder: Path, *lines: bytes, wait_s: int = 20) -> Outcome:
    """Take lines in as ``run`` does, let time pass, store the events and write their messages; fail at any fault of sshbell."""
    pipeline = Pipeline((), UTC, NOW_US, pytest.fail)
    found: list[Event] = []
    for line in lines:
        found += pipeline.feed(line)
    for second in range(wait_s):
        found += pipeline.tick(NOW_US + (second + 1) * 1_000_000)
    state = State(folder, pytest.fail)
    state.record(found, TOLD, NOW_US)
    state.close()
    objects = [json_line(of_event(event, [])) for event in found]
    renderer = Renderer(folder / "own", pytest.fail)
    messages = [
        renderer.message(event.id, event_of(body), now_us=NOW_US, queued_us=NOW_US, zone=UTC)
        for event, body in zip(found, objects, strict=True)
    ]
    told = [(str(event.action), event.user, event.address) for event in found]
    return Outcome(found, told, [body.decode() for body in objects], messages)


def test_a_sender_outside_the_calendar(folder: Path) -> None:
    """A remote sender's times are the first and the last that there are, or none: a genuine login is reported."""
    stamps = ["9999-12-31T23:59:59.999999+00:00", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:60-23:59", "+99:99", "", "T"]
    odd = [ours(ACCEPTED.replace("alice", "eve"), number=100 + at, ts=stamp, host=f"h{at}") for at, stamp in enumerate(stamps)]
    assert GENUINE in outcome(folder, *odd, ours(ACCEPTED), ours(OPENED, number=1)).told


def test_a_sender_with_a_number_of_5000_digits(folder: Path) -> None:
    """A PID, a port, a uid and a count of repeats are longer than any number: nothing fails, and the login is reported."""
    many = "9" * 5000
    lines = [
        ours("Connection closed by 203.0.113.66 port 22", tag=f"sshd[{many}]:", procid=many),
        ours(f"Failed password for root from 203.0.113.66 port {many} ssh2", number=1),
        ours(f"pam_unix(sshd:session): session opened for user eve(uid={many[:19]}) by (uid=0)", number=2, pid=8),
        ours(f"message repeated {many[:400]} times: [ Failed password for root from 203.0.113.66 port 22 ssh2]", number=3),
        ours(f"PAM {many[:400]} more authentication failures; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.66", number=4),
    ]
    assert GENUINE in outcome(folder, *lines, ours(ACCEPTED, number=5), ours(OPENED, number=6)).told


def test_a_sender_of_deep_and_broken_json(folder: Path) -> None:
    """Lines are JSON that nests without end, repeats its fields, or has half of a surrogate pair: sshbell counts them only."""
    deep = b'{"msg":' * 8000 + b"\n"
    half = ours("x", number=1).replace(b'" x"', rb'" Accepted password for \ud800 from 203.0.113.66 port 22 ssh2"')
    twice = ours(ACCEPTED.replace("alice", "eve"), number=2, uid=1012).replace(b"{", b'{"uid":0, "exe":"/usr/sbin/sshd", ', 1)
    told = outcome(folder, deep, half, twice, ours(ACCEPTED, number=3), ours(OPENED, number=4)).told
    assert GENUINE in told
    assert not [event for event in told if event[0] == "ssh_login" and event[1] == "eve"]


def test_a_sender_with_a_deceptive_host_name(folder: Path) -> None:
    """A sender's name turns the text around, clears the screen, or is 60 kB long: no message and no object has that as it is."""
    lines = [
        ours(text, number=at, host=f"web1{HARMFUL}{'x' * 60_000}".encode().decode("latin-1"))
        for at, text in enumerate((ACCEPTED, OPENED))
    ]
    done = outcome(folder, *lines)
    assert done.told == [GENUINE]
    for text in (done.objects[0].rstrip("\n"), done.messages[0].subject):
        assert not set(HARMFUL) & set(text)
    assert not set(HARMFUL) - {"\n"} & set(done.messages[0].text + done.messages[0].html)
    assert len(done.objects[0]) < 5000


def test_an_account_with_a_deceptive_name(folder: Path) -> None:
    """An account looks like root, has blanks around it, or turns the text around: the message does not let it pass for root."""
    for number, name in enumerate(
        ("r\u043e\u043et", "root\u200b", " root", "root \u202e"[:5], "root logged in from 203.0.113.66")
    ):
        raw = name.encode().decode("latin-1")
        logged = "".join(char if char.isascii() else f"\\{ord(char):03o}" for char in raw)
        accepted, opened = ACCEPTED.replace("alice", logged), OPENED.replace("alice", raw)
        place = folder / str(number)
        (place / "own").mkdir(parents=True)
        done = outcome(place, ours(accepted, number=1), ours(opened, number=2))
        assert len(done.told) == 1, name
        assert not done.messages[0].subject.startswith("root logged in to"), name
        assert "192.0.2.7" in done.messages[0].text


@pytest.mark.parametrize(
    "text",
    [
        "Bad protocol version identification 'Accepted password for root from 203.0.113.66 port 22 ssh2' from 203.0.113.9 port 5",
        "banner exchange: Connection from 203.0.113.9 port 5: Accepted password for root from 203.0.113.66 port 22 ssh2",
        "Received disconnect from 203.0.113.9 port 5:11: Accepted password for root from 203.0.113.66 port 22 ssh2 [preauth]",
        "Unable to negotiate with 203.0.113.9 port 5: no matching host key type found. Their offer: Accepted password",
        "Invalid user Accepted password for root from 203.0.113.66 port 22 ssh2 from 203.0.113.9 port 5",
        "error: Received disconnect from 203.0.113.9 port 5:3: session opened for user root by (uid=0) [preauth]",
    ],
)
def test_a_client_s_banner_and_good_bye(folder: Path, text: str) -> None:
    """A client sends the text of a login wherever it may: nobody has logged in, and the other address is none of the client's."""
    told = outcome(folder, ours(text), wait_s=700).told
    assert not [event for event in told if event[0] in {"ssh_login", "ssh_logout"}]
    assert {address for _, _, address in told} <= {"203.0.113.9"}


def test_a_user_s_own_session_names_another(folder: Path) -> None:
    """The process of alice's session, which is hers, reports a shell, a good-bye and an end of root's: root's session stays."""
    root = ["Accepted password for root from 192.0.2.8 port 22 ssh2", OPENED.replace("alice(uid=1001)", "root(uid=0)")]
    hers = [
        "Starting session: shell on pts/0 for root from 192.0.2.8 port 22 id 0",
        "Disconnected from user root 192.0.2.8 port 22",
        "Received disconnect from 192.0.2.8 port 22:11: disconnected by user",
        "pam_unix(sshd:session): session closed for user root",
    ]
    lines = [ours(text, number=at, pid=9) for at, text in enumerate(root)]
    lines += [ours(ACCEPTED, number=5), ours(OPENED, number=6)]
    lines += [ours(text, number=10 + at, pid=at % 2 + 8, uid=1001) for at, text in enumerate(hers)]
    told = outcome(folder, *lines).told
    assert [event for event in told if event[0] != "ssh_forged"] == [
        ("ssh_login", "root", "192.0.2.8"), ("root_by_password", "root", "192.0.2.8"), GENUINE,
    ]  # fmt: skip


@pytest.mark.parametrize("exe", [None, "/usr/sbin/sshd"])
@pytest.mark.parametrize(
    "text",
    [
        "Disconnected from user alice 192.0.2.7 port 4711",
        "Received disconnect from 192.0.2.7 port 4711:11: disconnected by user",
        "Connection closed by 192.0.2.7 port 4711",
        "Close session: user alice from 192.0.2.7 port 4711 id 0",
        CLOSED,
    ],
)
def test_a_user_writes_the_end_of_his_own_session(folder: Path, text: str, exe: str | None) -> None:
    """An intruder wants to vanish from ``who``: a process that ends at once, or sshd's own program, writes that he has gone."""
    hers = [ours(text, 5, number, pid=99, uid=1001, exe=exe) for number in (2, 3)]
    told = outcome(folder, ours(ACCEPTED), ours(OPENED, number=1), *hers, wait_s=700).told
    assert [event for event in told if event[0] != "ssh_forged"] == [GENUINE]


def test_a_name_with_the_end_of_a_line(folder: Path) -> None:
    """A name has a line feed as sshd, rsyslog and JSON escape it, and another line behind: it stays one try of one client."""
    for number, feed in enumerate(("\\n", "#012", "\\012", "\r", "\x85", "\u2028".encode().decode("latin-1"))):
        name = f"x{feed}web1 sshd {ACCEPTED}"  # sshd ends a name before its first colon
        place = folder / str(number)
        (place / "own").mkdir(parents=True)
        told = outcome(place, ours(f"Failed password for invalid user {name} from 203.0.113.9 port 5 ssh2"), wait_s=700).told
        assert [(action, address) for action, _, address in told] == [("ssh_attempt", "203.0.113.9")], feed


@pytest.mark.parametrize(
    "address", ["::ffff:192.0.2.7", "fe80::1%eth0", "UNKNOWN", "192.0.2.007", "host.example.org", "2001:DB8::1"]
)
def test_an_address_in_another_form(folder: Path, address: str) -> None:
    """However sshd writes the client's address, the login is reported with it."""
    told = outcome(folder, ours(ACCEPTED.replace("192.0.2.7", address)), ours(OPENED, number=1)).told
    assert told == [("ssh_login", "alice", address)]


def test_a_user_with_a_pid_of_a_login(folder: Path) -> None:
    """A forger's lines have the PID of a login, before and after each of its lines: the login and its end stay as they are."""
    lines: list[bytes] = []
    for number, text in enumerate((ACCEPTED, OPENED, CLOSED)):
        claims = [
            "Accepted password for root from 203.0.113.66 port 22 ssh2",
            CLOSED,
            "Connection closed by 203.0.113.66 port 22",
        ]
        lines += [ours(claim, number=10 * number + at, uid=1012, exe="/tmp/sshd") for at, claim in enumerate(claims)]  # noqa: S108
        lines.append(ours(text, number=10 * number + 9))
    told = outcome(folder, *lines).told
    assert [event for event in told if event[0] != "ssh_forged"] == [GENUINE, ("ssh_logout", *GENUINE[1:])]


def test_two_sessions_that_share_all_but_the_pid(folder: Path) -> None:
    """A client has two sessions from one port within a second, through two of the host's addresses: the end of one ends one."""
    lines = [
        ours(text, number=at, pid=pid) for at, (text, pid) in enumerate([(ACCEPTED, 7), (OPENED, 7), (ACCEPTED, 8), (OPENED, 8)])
    ]
    done = outcome(folder, *lines, ours(CLOSED, number=9, pid=8))
    assert [event[0] for event in done.told] == ["ssh_login", "ssh_login", "ssh_logout"]
    ended = done.found[2]
    assert getattr(ended, "login") is done.found[1]  # noqa: B009 - of a Logout
    assert isinstance(done.found[1], Login)


def test_a_kernel_that_knows_the_uid_as_text(folder: Path) -> None:
    """A relay passes the writer's uid on as text, as a fraction, or below zero: that is no word that root wrote the line."""
    for number, uid in enumerate(("0", 0.0, -1, "root", [0], {"uid": 0}, True, 1 << 70)):
        place = folder / str(number)
        (place / "own").mkdir(parents=True)
        done = outcome(place, ours(ACCEPTED, uid=uid), ours(OPENED, number=1, uid=uid))
        origins = {json.loads(body)["ssh"]["origin"] for body in done.objects}
        assert "verified" not in origins or uid in ("0", 0.0), uid


@pytest.mark.parametrize("source", ["imjournal", None])
def test_a_user_of_the_journal_with_a_uid_of_its_own(folder: Path, source: str | None) -> None:
    """A local user's entry has fields UID and EXE, which rsyslog passes on as it does the kernel's: the line stays forged."""
    claimed = {"uid": 0, "exe": "/usr/sbin/sshd", "j_uid": 1012, "j_exe": "/usr/bin/python3", "input": source}
    lines = [ours(text, 0, at, 7, **claimed) for at, text in enumerate((ACCEPTED, OPENED, CLOSED))]
    assert {action for action, _, _ in outcome(folder, *lines).told} == {"ssh_forged"}


def test_an_entry_of_the_journal_without_the_kernel_s_uid(folder: Path) -> None:
    """Another field's uid does not stand in for it."""
    done = outcome(folder, *(ours(text, number=at, input="imjournal") for at, text in enumerate((ACCEPTED, OPENED))))
    assert json.loads(done.objects[0])["ssh"]["origin"] == "unverified"


def test_a_sender_with_the_name_of_another_host(folder: Path) -> None:
    """Another machine logs, in this host's name, the end of a session for which the kernel vouched: the session stays open."""
    ends = [CLOSED, "Disconnected from user alice 192.0.2.7 port 4711", "Connection closed by 192.0.2.7 port 4711"]
    remote = [ours(text, 5, 10 + at, from_ip="203.0.113.66", input="imudp", uid=None, exe=None) for at, text in enumerate(ends)]
    assert outcome(folder, ours(ACCEPTED), ours(OPENED, number=1), *remote).told == [GENUINE]


def of_code(text: str, at: int = 0, *, is_remote: bool = False) -> bytes:
    """Return a line of ``sshbell-pam``: of this host, or of a machine that logs under its name."""
    remote = {"from_ip": "203.0.113.66", "input": "imudp", "uid": None, "exe": None}
    sender = remote if is_remote else {"exe": "/usr/bin/python3.11"}
    return ours(text, at, prog="sshbell-pam", tag="sshbell-pam[55]:", procid="55", **sender)


BEGUN = 'Connection from 192.0.2.7 port 4711 on 192.0.2.1 port 22 rdomain ""'
CODE_LOGIN = "Accepted keyboard-interactive/pam for alice from 192.0.2.7 port 4711 ssh2"
ASKER = Asker("sshd", 7, "alice", "192.0.2.7")
RIGHT_CODE, WRONG_CODE = log_lines.accepted(ASKER, "482913", "ops", 3), log_lines.refused(ASKER, "wrong", "482913", "ops")


@pytest.mark.parametrize("is_first", [True, False])
def test_a_sender_with_a_second_factor(folder: Path, *, is_first: bool) -> None:
    """Another machine logs that the code was right, for the login of somebody who has not typed any: the login shows none."""
    lines = [ours(CODE_LOGIN, 1), of_code(RIGHT_CODE, 1, is_remote=True)]
    (login,) = outcome(folder, *(reversed(lines) if is_first else lines), ours(OPENED, 1, 1)).found
    assert isinstance(login, Login)
    assert (login.origin, login.code) == ("verified", None)


def test_a_sender_with_a_refused_code(folder: Path) -> None:
    """Another machine logs a wrong code, to take the second factor from a login, or to stand for a guess at a password."""
    forged = of_code(WRONG_CODE, 2, is_remote=True)
    found = outcome(folder, ours(BEGUN), of_code(RIGHT_CODE, 1), forged, ours(CODE_LOGIN, 3), ours(OPENED, 3, 1)).found
    assert [(event.action, event.origin) for event in found] == [("ssh_attempt", "unverified"), ("ssh_login", "verified")]
    assert isinstance(found[1], Login)
    assert found[1].code is not None
    failed = ours("Failed password for alice from 192.0.2.7 port 4711 ssh2", 3)
    assert [event.origin for event in outcome(folder, ours(BEGUN), forged, failed).found] == ["unverified", "verified"]


def test_a_sender_hides_that_no_code_was_given(folder: Path) -> None:
    """Another machine logs that the code was right, so that the prompt of somebody with the password does not show."""
    sent, right = of_code(log_lines.sent(ASKER, "482913", "ops")), of_code(RIGHT_CODE, 1, is_remote=True)
    closed = ours("Connection closed by authenticating user alice 192.0.2.7 port 4711 [preauth]", 3)
    assert [(event.action, event.origin) for event in outcome(folder, sent, right, closed).found] == [("ssh_attempt", "verified")]
