"""
Every capture, in every format, told by the real command and compared with what really happened.

The captures with made-up headers have a module of their own, ``test_framing_edge_cases.py``.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter

import pytest

from tests.integration.truth import (
    FORGED_DIR,
    FRAMING_DIR,
    JOURNALD_DIR,
    WHOLE_SECOND_FORMATS,
    Capture,
    Event,
    Peer,
    Record,
    accepted_at,
    all_captures,
    by_peer,
    describe,
    differences,
    expected_login,
    parse,
    parse_time,
    password_tries,
    peer,
    replay,
    shown_name,
    true_name,
)

# One worker of pytest-xdist runs all tests of captures, so that sshbell reads each capture once.
pytestmark = pytest.mark.xdist_group("captures")

SECOND = dt.timedelta(seconds=1)
CAPTURES = [capture for capture in all_captures() if capture.folder != FRAMING_DIR]

#: Captures of real connections, in several formats each.
REAL_CAPTURES = sorted(
    {f"{capture.folder}/{capture.prefix}" for capture in CAPTURES if any("src_ip" in record for record in capture.truth)}
    - {"three-hosts-9.2p1-debian12/merged"},
)

#: Sessions whose closing line lies well before the end of the script's record: the server gave up on a frozen client,
#: and a forged line closed the session of a live one.
CLOSED_BEFORE_THE_CLIENT_ENDED = {"client-frozen-timeout", "genuine-while-forged"}

#: The line that an unprivileged account planted in the journal.
FORGED_IN_JOURNAL = Peer("203.0.113.66", 40022)

every_capture = pytest.mark.parametrize("capture", CAPTURES, ids=str)


def may_be_forged(event: Event, capture: Capture) -> bool:
    """Whether a login or a logout that the truth does not know may be told: only unproved, where lines were forged."""
    if capture.has_trusted_fields or event.get("ssh.origin") != "unverified":
        return False
    return capture.folder == FORGED_DIR or (capture.folder == JOURNALD_DIR and peer(event) == FORGED_IN_JOURNAL)


def strangers(events: list[Event], action: str, capture: Capture) -> list[str]:
    """Describe the events of one action that belong to no accepted record and may not be told either."""
    known = {peer(record) for record in capture.accepted}
    return [
        f"{action} of {event.get('user.name')!r} from {key}, which never happened"
        for key, group in by_peer(events, action).items()
        for event in group
        if key not in known and not may_be_forged(event, capture)
    ]


def test_captures_are_complete() -> None:
    """All formats of all captures are tried, so that a lost file cannot make the tests pass."""
    formats = Counter(capture.format for capture in all_captures())
    rsyslog = ["traditional", "rfc3339", "rfc5424", "omprog-jsonmesg"]
    journald = ["short", "short-full", "short-iso", "short-iso-precise", "short-precise", "short-unix", "with-unit"]
    assert formats == Counter(
        {
            **dict.fromkeys(rsyslog, 21),
            "rfc3339": 22,  # and the merged file of three hosts
            "json": 22,  # and journalctl's
            **dict.fromkeys(journald, 1),
        },
    )


@every_capture
def test_each_login_is_told_once(capture: Capture) -> None:
    """Each login that took place is told by one ``ssh_login`` with its user, address, method, key and origin."""
    told = by_peer(replay(capture), "ssh_login")
    wrong = []
    for record in capture.accepted:
        logins = told.get(peer(record), [])
        found = differences(logins[0], expected_login(record, capture)) if len(logins) == 1 else [f"told {len(logins)} times"]
        wrong += [f"{describe(record)}: {difference}" for difference in found]
    assert not wrong, "\n".join(wrong)


@every_capture
def test_no_login_is_invented(capture: Capture) -> None:
    """Nothing else is told as a login: no noise, no text of a client, and no forged line that could be proved forged."""
    wrong = strangers(replay(capture), "ssh_login", capture)
    assert not wrong, "\n".join(wrong)


def faults_of_logout(logout: Event, record: Record, capture: Capture) -> list[str]:
    """Compare a session's end with the time the client's script saw it end."""
    began, ended = parse_time(logout["event.start"]), parse_time(logout["event.end"])
    accepted = accepted_at(capture)[Peer(record["src_ip"], record["src_port"])]
    true_end = parse_time(record["end"])
    slack = 2 * SECOND if capture.format in WHOLE_SECOND_FORMATS else SECOND
    # The log tells a session from `Accepted` on, the script from its connection on: the start comes from the log's twin.
    early = true_end - parse_time(record["start"]) if record["scenario"] in CLOSED_BEFORE_THE_CLIENT_ENDED else slack
    duration_s = logout["event.duration"] / 1e9
    true_duration = true_end - accepted
    faults = []
    if logout["event.duration"] != (ended - began) // dt.timedelta(microseconds=1) * 1000:
        faults.append(f"duration of {duration_s} s from {began} to {ended}")
    if abs(began - accepted) > slack:
        faults.append(f"start {began}, accepted {accepted}")
    if not -early <= ended - true_end <= slack:
        faults.append(f"end {ended}, not {true_end}")
    if not -early <= dt.timedelta(seconds=duration_s) - true_duration <= slack:
        faults.append(f"duration {duration_s} s, not {true_duration}")
    name = shown_name(true_name(record) or b"")
    return faults + differences(logout, {"user.name": name, "source.ip": record["src_ip"], "source.port": record["src_port"]})


@every_capture
def test_each_session_ends_once(capture: Capture) -> None:
    """Each session whose end was logged is told by one ``ssh_logout`` with the right times; no other session ends."""
    events = replay(capture)
    told = by_peer(events, "ssh_logout")
    wrong = strangers(events, "ssh_logout", capture)
    for record in capture.accepted:
        logouts = told.get(peer(record), [])
        expected = 0 if record.get("session_closed_logged") is False else 1
        if len(logouts) != expected:
            wrong.append(f"{describe(record)}: ended {len(logouts)} times, not {expected}")
        elif expected:
            wrong += [f"{describe(record)}: {fault}" for fault in faults_of_logout(logouts[0], record, capture)]
    assert not wrong, "\n".join(wrong)


@every_capture
def test_password_tries_are_counted_once(capture: Capture) -> None:
    """Password tries of a connection are its ``Failed password|none`` lines, repeats expanded; nothing else adds to them."""
    forged_only = capture.has_trusted_fields and capture.folder == FORGED_DIR
    expected = Counter[Peer | None]() if forged_only else Counter[Peer | None](password_tries(capture))
    told: Counter[Peer | None] = Counter()
    for event in replay(capture):
        if event["event.action"] == "ssh_attempt" and event.get("ssh.method") in {"password", "none"}:
            told[peer(event)] += event.get("ssh.count", 1)
    wrong = [f"{key}: {told[key]} tries told, {expected[key]} logged" for key in told | expected if told[key] != expected[key]]
    assert not wrong, "\n".join(wrong)


@every_capture
def test_attempts_name_the_user_as_sent(capture: Capture) -> None:
    """A password try names the user as the client sent it, escapes undone, up to the 100 bytes that sshd logs."""
    names = {
        peer(record): true_name(record)
        for record in capture.truth
        if "src_ip" in record and record["scenario"] != "change-user-name-mid-connection"  # it has two names
    }
    wrong = [
        f"{key}: {event.get('user.name')!r}, not {shown_name(name[:100])!r}"
        for key, attempts in by_peer(replay(capture), "ssh_attempt").items()
        for event in attempts
        if event.get("ssh.method") in {"password", "none"}
        and (name := names.get(key)) is not None
        and event.get("user.name") != shown_name(name[:100])
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("capture", [c for c in CAPTURES if c.has_trusted_fields], ids=str)
def test_proved_forgeries_are_alerts_only(capture: Capture) -> None:
    """Where the kernel vouches for the sender, a forged line is told as ``ssh_forged`` and changes no story."""
    events = replay(capture)
    forged = [event for event in events if event["event.action"] == "ssh_forged"]
    assert forged
    wrong = [
        f"{event['event.id']}: {difference}"
        for event in forged
        for difference in differences(event, {"event.kind": "alert", "ssh.origin": "forged"})
    ]
    stories = {"ssh_login", "ssh_logout", "ssh_attempt"}
    if capture.folder == FORGED_DIR:
        wrong += [f"{event['event.action']} of a forged line: {event}" for event in events if event["event.action"] in stories]
    else:
        peers = {peer(event) for event in forged}
        assert FORGED_IN_JOURNAL in peers
        wrong += [f"{describe(record)}: told as forged" for record in capture.truth if peer(record) in peers - {None}]
    assert not wrong, "\n".join(wrong)


@every_capture
def test_parse_reads_each_login_at_its_line(capture: Capture) -> None:
    """``parse`` gives one ``accepted`` object for each login, at the number of the line that says so."""
    lines = capture.read().split(b"\n")
    told = by_peer(parse(capture), "accepted")
    wrong = []
    for record in capture.accepted:
        objects = told.get(peer(record), [])
        if len(objects) != 1:
            wrong.append(f"{describe(record)}: {len(objects)} objects")
            continue
        line = lines[objects[0]["log.file.line"] - 1]
        if b"Accepted " not in line or b" port %d ssh2" % record["src_port"] not in line:
            wrong.append(f"{describe(record)}: line {objects[0]['log.file.line']} is {line!r}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", REAL_CAPTURES)
def test_identity_does_not_depend_on_the_format(name: str) -> None:
    """The same login, logout or attempt has the same ``event.id``, whichever format it was read from."""
    ids: dict[str, set[tuple[str, str, str]]] = {}
    for capture in CAPTURES:
        if f"{capture.folder}/{capture.prefix}" == name:
            known = {peer(record) for record in capture.truth if "src_ip" in record}
            ids[capture.format] = {
                (event["event.action"], str(peer(event)), event["event.id"])
                for event in replay(capture)
                if event["event.action"] in {"ssh_login", "ssh_logout", "ssh_attempt"} and peer(event) in known
            }
    everywhere = set.intersection(*ids.values())
    wrong = [f"only in {fmt}: {sorted(found - everywhere)}" for fmt, found in ids.items() if found - everywhere]
    assert not wrong, "\n".join(wrong)
