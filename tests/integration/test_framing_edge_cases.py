"""
What rsyslog makes of 36 odd headers, read back in each of its output formats.

``relay.truth.jsonl`` holds the bytes that went over the wire, and line N of each file is what became of message N. The
expectations below come from the wire, and from nothing that rsyslog wrote.
"""

from __future__ import annotations

import re

import pytest

from tests.integration.truth import FRAMING_DIR, Capture, Event, Record, all_captures, differences, parse

CAPTURES = {capture.format: capture for capture in all_captures() if capture.folder == FRAMING_DIR}
MESSAGES = CAPTURES["rfc3339"].truth

LOGIN = "Accepted password for alice from 192.0.2.10 port 40022 ssh2"

# The PID in an RFC 3164 tag, or the PROCID of an RFC 5424 header.
_PID = re.compile(r"sshd\[(\d+)\]|sshd(?:-session)? (\d+) ")

#: The sender's own name, where it is not web1. `localhost` is what rsyslog puts where the sender gave none.
HOSTS = {
    "RFC3164 fully qualified host": "db1.example.net",
    "RFC3164 IPv4 host": "192.0.2.1",
    "RFC3164 IPv6 host": "2001:db8::7",
    "RFC3164 no host": "localhost",
    "RFC3164 no host, no pid": "localhost",
    "RFC5424 IPv6 host": "2001:db8::7",
    "BusyBox file line forwarded": "alpine1",
    "UDP no header": "localhost",
    "hostname in brackets or odd characters": "web_1!",
}
NIL_HOST = "RFC5424 nil host"

#: The time, where it is not 2026-11-22T10:00:00Z in every format. `None`: the sender gave none, so it is rsyslog's own.
TIMES = {
    "RFC3164 day with blank": "2026-11-02T10:00:00",
    "RFC3164 day with zero": "2026-11-02T10:00:00",
    "RFC3164 last second of the year": "2026-12-31T23:59:59",
    "RFC3164 header with RFC3339 time": "2026-11-22T08:00:00.123456",
    "RFC5424": "2026-11-22T08:00:00.123456",
    "RFC5424 nil time and pid": None,
    "UDP no header": None,
}
LEAP_DAY = "RFC3164 leap day"
DAMAGED_FRACTION = "RFC3339 nanoseconds"

every_format = pytest.mark.parametrize("capture", CAPTURES.values(), ids=CAPTURES)
LOGINS = [message for message in MESSAGES if message["wire"].rstrip().endswith(LOGIN) and "one\ntwo" not in message["wire"]]
DATED = [message for message in LOGINS if message["case"] not in {LEAP_DAY, DAMAGED_FRACTION}]


def case_id(message: Record) -> str:
    """Name a message in the test's id."""
    return f"{message['seq']}-{message['case']}"


def read(capture: Capture, case: str | int) -> list[Event]:
    """Return the objects that ``parse`` gave for one message, named by its number or its case."""
    (seq,) = [message["seq"] for message in MESSAGES if case in {message["seq"], message["case"]}]
    return [event for event in parse(capture) if event["log.file.line"] == seq]


def only(events: list[Event]) -> Event:
    """Return the single object of a line."""
    assert len(events) == 1, events
    return events[0]


def test_all_messages_are_tried() -> None:
    """The 36 messages came through in each of the five formats, 30 of them as a login."""
    assert set(CAPTURES) == {"traditional", "rfc3339", "rfc5424", "json", "omprog-jsonmesg"}
    assert [message["seq"] for message in MESSAGES] == list(range(1, 37))
    assert {capture.read().count(b"\n") for capture in CAPTURES.values()} == {36}
    assert len(LOGINS) == 30


@every_format
@pytest.mark.parametrize("message", LOGINS, ids=case_id)
def test_a_login_survives_its_header(capture: Capture, message: Record) -> None:
    """A login is read with its user, address, port and the PID of the wire, whatever the header became."""
    pid = _PID.search(message["wire"])
    expected = {
        "event.action": "accepted",
        "user.name": "alice",
        "source.ip": "192.0.2.10",
        "source.port": 40022,
        "ssh.method": "password",
        "process.name": "sshd-session" if "sshd-session" in message["wire"] else "sshd",
        "process.pid": int(pid[1] or pid[2]) if pid else None,
    }
    assert not differences(only(read(capture, message["seq"])), expected)


@every_format
@pytest.mark.parametrize("message", [m for m in LOGINS if m["case"] != NIL_HOST], ids=case_id)
def test_the_host_is_the_senders(capture: Capture, message: Record) -> None:
    """``host.name`` is what the sender called itself, also where rsyslog took that name for a tag."""
    event = only(read(capture, message["seq"]))
    assert event.get("host.name") == HOSTS.get(message["case"], "web1")


@every_format
@pytest.mark.parametrize("message", DATED, ids=case_id)
def test_the_time_is_the_senders(capture: Capture, message: Record) -> None:
    """``@timestamp`` is the time of the header in UTC; the traditional format keeps only its whole local second."""
    event = only(read(capture, message["seq"]))
    expected = TIMES.get(message["case"], "2026-11-22T10:00:00")
    if expected is None:
        expected = "2026-11-22T10:10:1"
    elif capture.format == "traditional" and "." in expected:
        expected = "2026-11-22T10:00:00"
    assert event.get("@timestamp", "").startswith(expected)
    assert event["@timestamp"].endswith("Z")


@pytest.mark.parametrize("capture", [c for c in CAPTURES.values() if c.format != "traditional"], ids=str)
def test_an_impossible_date_costs_only_the_time(capture: Capture) -> None:
    """A date that does not exist, Feb 29 of 2026, is no reason to lose a login: it has no time, and says why."""
    event = only(read(capture, LEAP_DAY))
    assert "@timestamp" not in event
    assert event.get("error.message")


@every_format
def test_a_damaged_fraction_invents_no_time(capture: Capture) -> None:
    """A fraction of nine digits is damaged by rsyslog: the time is left out, or is right as far as it can be read."""
    event = only(read(capture, DAMAGED_FRACTION))
    assert event.get("@timestamp", "2026-11-22T10:00:00").startswith("2026-11-22T10:00:00")


@every_format
@pytest.mark.parametrize("case", ["octet counted with newline inside", "empty message"])
def test_what_sshd_never_wrote_is_unmatched(capture: Capture, case: str) -> None:
    """An sshd line that no rule understands is told as ``unmatched``, also when a verdict hides inside it."""
    event = only(read(capture, case))
    assert event["event.action"] == "unmatched"
    assert "source.ip" not in event
    assert "user.name" not in event


@every_format
def test_a_second_factor_is_no_login(capture: Capture) -> None:
    """``Accepted google_authenticator for alice`` is what a PAM module says about a code, not a login."""
    events = read(capture, "tag with parentheses")
    assert all(event["event.action"] != "accepted" for event in events), events


@every_format
def test_raw_bytes_reach_the_user_name(capture: Capture) -> None:
    r"""PAM does not encode names: UTF-8 is read as such, and any other byte is shown as ``\xNN``."""
    event = only(read(capture, "raw 8-bit bytes"))
    expected = {"event.action": "pam_failure", "user.name": "zoë caf\\xe9", "source.ip": "192.0.2.1", "process.pid": 28}
    assert not differences(event, expected)


@every_format
def test_folded_repeats_are_counted(capture: Capture) -> None:
    """``message repeated 3 times: [ ... ]`` is the line inside it, three times."""
    event = only(read(capture, "message repeated by the sender"))
    expected = {
        "event.action": "failed",
        "ssh.count": 3,
        "user.name": "root",
        "source.ip": "192.0.2.9",
        "source.port": 5000,
        "process.pid": 30,
    }
    assert not differences(event, expected)


@every_format
def test_old_repetition_text_says_nothing(capture: Capture) -> None:
    """``last message repeated 3 times`` does not say which message: behind one that is folded already, nothing is told."""
    assert read(capture, "old repetition text") == []
