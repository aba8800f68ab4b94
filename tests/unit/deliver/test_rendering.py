"""``consumer.deliver.rendering``: what messages say."""

from __future__ import annotations

import asyncio
import html
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from consumer.deliver import rendering
from consumer.deliver.facts import duration_text
from consumer.deliver.rendering import Renderer, fold, plain_id
from consumer.ecs import NoEventError, event_of, json_line
from consumer.events import Attempt, Event, Forged, Login, Logout, Probe
from consumer.events_as_ecs import of_event
from tests.ecs_events import ecs
from tests.lines import line_of

if TYPE_CHECKING:
    from consumer.deliver.channels import Message
    from consumer.records import Line, Trusted

SECOND = 1_000_000
START = int(datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC).timestamp()) * SECOND
KEY = "ED25519 SHA256:lj7ZkpHJrXEKLvBHm9iyVhHSZbIXMRVzPQZPPMTQX5Q"
ID, LOGIN_ID = "0" * 31 + "2", "0" * 31 + "1"


def line(time_us: int | None = START, trusted: Trusted | None = (0, "")) -> Line:
    """Return a line that decided."""
    return line_of(time_us, trusted=trusted)


def login(user: str | None = "alice", **more: Any) -> Login:
    """Return a login."""
    known = {"found": line(), "address": "203.0.113.7", "method": "publickey", "info": KEY} | more
    port = None if known["address"] is None else "4711"
    return Login(LOGIN_ID, known["found"], user, known["address"], port, known["method"], known["info"])


@pytest.fixture
def faults() -> list[str]:
    """Return what was complained about."""
    return []


@pytest.fixture
def renderer(tmp_path: Path, faults: list[str]) -> Renderer:
    """Return one with templates of the user's own in ``own``."""
    (tmp_path / "own").mkdir()
    return Renderer(tmp_path / "own", faults.append)


def rendered(renderer: Renderer, event: Event | bytes, *, late_us: int = 0) -> Message:
    """Return the message of an event."""
    body = event if isinstance(event, bytes) else json_line(of_event(event, []))
    return renderer.message(ID, event_of(body), queued_us=START, now_us=START + late_us)


def test_login(renderer: Renderer) -> None:
    """A login names user, host, address, port, method and key."""
    found = rendered(renderer, login())
    assert found.subject == "alice logged in to web1 from 203.0.113.7"
    assert (found.id, found.thread, found.late) == (ID, "", "")
    for text in ("alice", "web1", "203.0.113.7 port 4711", "publickey", KEY, "a process of root wrote"):
        assert text in found.text
        assert text in found.html


@pytest.mark.parametrize(
    ("event", "subject"),
    [
        (
            Logout(ID, line(), "alice", "203.0.113.7", "4711", login(), START + 61 * SECOND),
            "alice logged out of web1 after 1 min 1 s",
        ),
        (Attempt(ID, line(), "root", "203.0.113.7", "22", "password"), "Failed login to web1 as root from 203.0.113.7"),
        (Probe(ID, line(), None, "203.0.113.7", "22", "x"), "Connection to web1 from 203.0.113.7 without a login"),
        (Forged(ID, line(), "root", None, None, 1012, "accepted"), "FORGED line claims a login of root on web1"),
        (b'{"event":{"action":"sshbell_notice"},"message":"nothing came"}', "sshbell: nothing came"),
        (b'{"event":{"action":"sshbell_test"},"user":{"name":"alice"}}', "Test: alice logged in"),
        (b"{}", "sshbell reports an event that this version does not know"),
    ],
)
def test_subjects(renderer: Renderer, event: Event | bytes, subject: str) -> None:
    """Each kind of event has a subject that tells it from the others."""
    assert rendered(renderer, event).subject == subject


def test_logout_continues_its_login(renderer: Renderer) -> None:
    """A logout knows the message of its login."""
    logout = Logout(ID, line(), "alice", "203.0.113.7", "4711", login(), START + SECOND)
    assert rendered(renderer, logout).thread == LOGIN_ID


def test_what_is_not_known_is_left_out(renderer: Renderer) -> None:
    """Nothing says None, and no line stands without a value."""
    found = rendered(renderer, login(None, address=None, method=None, info=None, found=line(None)))
    for text in (found.subject, found.text, found.html):
        assert "None" not in text
        assert "1970" not in text
    assert "port" not in found.text
    assert not re.findall(r"^[A-Z][a-z ]{0,11}: *$", found.text, re.MULTILINE)


def test_unverified(renderer: Renderer) -> None:
    """A login that any local user could have written says so."""
    found = rendered(renderer, login(found=line(trusted=None)))
    note = "The log does not show which process wrote this: any user of web1 could have. Run `sshbell check` there to see how"
    assert note in " ".join(found.text.split())
    assert "any user of web1 could have. Run <code" in found.html
    assert "any user of web1" not in rendered(renderer, login()).text


def test_ambiguous(renderer: Renderer) -> None:
    """A line that the client may have twisted is said to be one."""
    for is_ambiguous in (False, True):
        found = rendered(renderer, login(found=line_of(START, ambiguous=is_ambiguous)))
        for text in (found.text, found.html):
            assert ("The log line can be read in several ways." in text) == is_ambiguous


@pytest.mark.parametrize("original", ["Accepted publickey for root", "x" * 600, "a\n\x1b[2Jb", "<b>`c`</b>"])
def test_a_forged_line_is_shown(renderer: Renderer, original: str) -> None:
    """The message about a forged line shows it, harmless and cut, and says who wrote it; no other message shows its line."""
    event = {
        "event": {"action": "ssh_forged", "original": original}, "user": {"name": "root"}, "host": {"name": "web1"},
        "ssh": {"claim": "accepted", "claimed_by_uid": 1000, "claimed_by_user": "mallory"},
    }  # fmt: skip
    found = told(renderer, event)
    shown = original.replace("\n", "\\x0a").replace("\x1b", "\\x1b")
    shown = f"{shown[:499]}…" if len(shown) > 500 else shown
    _, _, behind = found.text.partition("The line, as it was written:\n\n")
    assert shown.replace(" ", "") == "".join(behind.partition("\n\n")[0].split())
    assert all(row.startswith("    ") for row in behind.partition("\n\n")[0].split("\n"))
    assert html.escape(shown) in found.html
    assert "Written by:   mallory (uid 1000)\nClaimed user: root\n" in found.text
    assert "The line" not in told(renderer, event | {"event": {"action": "ssh_login", "original": original}}).text


def test_a_test_says_so(renderer: Renderer) -> None:
    """Nobody takes a test for a login."""
    found = rendered(renderer, b'{"event":{"action":"sshbell_test"}}')
    assert found.text.startswith("This is a test by `sshbell ring`: nobody logged in.")
    assert "This is a test by" in found.html


def test_late(renderer: Renderer) -> None:
    """What comes more than two minutes late says how late."""
    assert rendered(renderer, login(), late_us=120 * SECOND).late == ""
    found = rendered(renderer, login(), late_us=7500 * SECOND)
    assert found.late == "2 h 5 min"
    assert "This message is 2 h 5 min late." in found.text
    assert "This message is 2 h 5 min late." in found.html


def test_broken_event(renderer: Renderer) -> None:
    """What is no event is an error of its own, never a traceback."""
    other_types = b'{"event":"x"}', b'{"user":[1]}', b'{"source":{"ip":{}}}', b'{"source":{"geo":{"location":{"lat":"1&x="}}}}'
    for body in (b"", b"[]", b"null", b"\xff", b"{", b"[" * 100_000, *other_types):
        with pytest.raises(NoEventError):
            rendered(renderer, body)
    odd = rendered(renderer, b'{"event":{},"user":{},"later":{"version":[2]},"ssh":{"more":1},"@timestamp":"never"}')
    assert odd.subject == "sshbell reports an event that this version does not know"


def test_own_template(renderer: Renderer, tmp_path: Path) -> None:
    """A template of the user's own goes before the built-in one, and what it makes is one subject all the same."""
    (tmp_path / "own" / "subject.txt.j2").write_text("{{ user }}\r\nBcc: x@example.org {{ event.source.ip }}{{ event.no.such }}")
    (tmp_path / "own" / "message.html.j2").write_text("<b>{{ user }}</b>")
    found = rendered(renderer, login("<i>"))
    assert found.subject == "<i> Bcc: x@example.org 203.0.113.7"
    assert found.html == "<b>&lt;i&gt;</b>"
    assert "User:         <i>" in found.text


def test_a_copy_of_the_built_in_templates(renderer: Renderer, tmp_path: Path) -> None:
    """Who begins with a copy of all templates begins with the same mail."""
    before = rendered(renderer, login())
    folder = Path(rendering.__file__).with_name("templates")
    for file in folder.iterdir():
        (tmp_path / "own" / file.name).write_text(file.read_text())
    assert rendered(renderer, login()) == before
    layout = tmp_path / "own" / "layout.html.j2"
    layout.write_text(layout.read_text().replace("<body", "<!-- ours --><body"))
    assert "<!-- ours --><body" in rendered(Renderer(tmp_path / "own", pytest.fail), login()).html


@pytest.mark.parametrize(
    "broken",
    [
        "{% if %}",
        "{{ 1 / 0 }}",
        "{% include 'no' %}",
        "{{ user.__class__.__mro__ }}",
        "{{ ().__class__.__base__.__subclasses__() }}",
    ],
)
def test_broken_template(renderer: Renderer, tmp_path: Path, faults: list[str], broken: str) -> None:
    """A broken template costs its looks, not the message; it is said once. Nothing of Python is to be reached."""
    (tmp_path / "own" / "message.txt.j2").write_text(broken)
    for _ in range(3):
        found = rendered(renderer, login())
    if faults:
        assert "User:         alice" in found.text
        assert len(faults) == 1
        assert "message.txt.j2" in faults[0]
    else:
        assert found.text == ""  # the sandbox has made nothing of it


def test_digest(renderer: Renderer) -> None:
    """A digest counts, shows the first lines, and says how late it is."""
    bodies = [json_line(of_event(login("backup" if number % 2 else "ansible"), [])) for number in range(100)]
    folded = [(START + number, body) for number, body in enumerate([*bodies, b"broken"])]
    found = asyncio.run(renderer.digest("held-1", folded, max_per_hour=60, now_us=START + 3600 * SECOND))
    assert found.subject == "101 messages held back: 100 logins and 1 unreadable event"
    assert found.text.startswith(
        "sshbell held back 101 messages: 100 logins and 1 unreadable event.\n\nThis channel sends at most 60"
    )
    assert "backup on web1 from 203.0.113.7\n            50 times\n" in found.text
    assert "50 times" in found.html
    assert found.late == "1 h"
    assert "The first of them is 1 h late." in found.text
    assert "The first of them is 1 h late." in found.html


def test_own_digest(renderer: Renderer, tmp_path: Path) -> None:
    """A template of the user's own knows the lines, and who they are about."""
    (tmp_path / "own" / "digest.txt.j2").write_text(
        "{% for entry in held.groups + held.users %}{{ entry.count }} {{ entry.name }}\n{% endfor %}"
        "{% for line in held.groups[0].lines %}{{ line.time }}  {{ line.text }}{% endfor %}"
    )
    folded = [(START, json_line(of_event(login(), []))), (START, b"broken")]
    found = asyncio.run(renderer.digest("held-1", folded, max_per_hour=1, now_us=START, zone=ZoneInfo("UTC")))
    assert found.text.split("\n") == [
        "1 ssh_login", "1 unreadable", "1 alice@web1", "1 unknown user@unknown host",
        "2026-11-22 10:00:00 UTC  alice on web1 from 203.0.113.7",
    ]  # fmt: skip


def test_notice_shows_what_was_found(renderer: Renderer) -> None:
    """A notice names each event that it stands for, on a line of its own."""
    body = {
        "event": {"action": "sshbell_notice", "id": "n1"},
        "message": "2 events",
        "sshbell": {"found": ["mallory\n\x1b[2J", "bob"]},
    }
    found = renderer.message("n1", ecs(body), queued_us=START, now_us=START)
    assert "mallory\\x0a\\x1b[2J" in found.text
    assert "bob" in found.text
    assert "mallory" not in found.subject


def chat(renderer: Renderer, fields: dict[str, Any]) -> str:
    """Return the text of an event for a chat."""
    return renderer.message(ID, ecs(fields), queued_us=START, now_us=START, zone=UTC, medium="chat").text


LYON = {
    "source": {
        "ip": "203.0.113.7", "address": "203.0.113.7", "geo": {"city_name": "Lyon", "country_name": "France"},
        "as": {"number": 3215, "organization": {"name": "Orange"}},
    },
    "host": {"name": "web1"}, "@timestamp": "2026-11-22T10:00:00Z",
}  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "lead"),
    [
        (
            {"event": {"action": "ssh_login"}, "user": {"name": "deploy", "full_name": "Carol"}, "ssh": {"method": "publickey"}},
            ("Carol logged in to web1 as deploy from Lyon, France.\n"
            "From 203.0.113.7, AS3215 Orange. Not you, and nobody you know? Act on web1 now: "
            "lock the account, end its processes, remove the key."),
        ),
        (
            {
                "event": {"action": "ssh_login"}, "user": {"name": "root"},
                "ssh": {"method": "password", "via": {"host": {"name": "bastion1"}, "user": {"name": "bob x"}}},
            },
            ("root logged in to web1 through bastion1.\n"
            "From 203.0.113.7, Lyon, France, AS3215 Orange, through bastion1 as “bob·x”. Not you, and nobody you know? "
            "Act on web1 now: end the session, change the password."),
        ),
        (
            {"event": {"action": "ssh_attempt"}, "user": {"name": "root"}},
            "Somebody tried to log in to web1 as root from Lyon, France, and failed.\nFrom 203.0.113.7, AS3215 Orange.",
        ),
        (
            {"event": {"action": "ssh_forged"}, "user": {"name": "root"}, "ssh": {"claim": "accepted", "claimed_by_uid": 1012}},
            ("A process with uid 1012 on web1 forged a log line: it claims a login of root, but nobody logged in.\n"
            "The line claims the address 203.0.113.7, AS3215 Orange. Not a test of yours? See what uid 1012 runs on web1."),
        ),
    ],
)  # fmt: skip
def test_the_lead_of_a_chat(renderer: Renderer, fields: dict[str, Any], lead: str) -> None:
    """Its first two lines answer who, on which host, from where, and what to do."""
    assert chat(renderer, LYON | fields).partition("\n\n")[0] == lead


def test_a_chat(renderer: Renderer) -> None:
    """Behind the lead, a chat has the facts that it lacks, a line each, and the cautions."""
    fields = {
        "event": {"action": "ssh_login"}, "user": {"name": "deploy"},
        "ssh": {
            "method": "publickey", "origin": "unverified",
            "key": {"type": "ED25519", "fingerprint": "SHA256:x", "owner": ["a b"]},
        },
    }  # fmt: skip
    assert chat(renderer, LYON | fields).partition("\n\n")[2] == (
        "Time: 2026-11-22 10:00:00 UTC\nPlace: Lyon, France\nMethod: publickey\nKey: ED25519 SHA256:x\nKey of: a b\n"
        "The log does not show which process wrote this: any user of web1 could have. "
        "Run `sshbell check` there to see how to change that."
    )
    notice = {"event": {"action": "sshbell_notice"}, "host": {"name": "web1"}, "message": "All is well."}
    assert chat(renderer, notice) == "sshbell on web1 reports: All is well."
    late = renderer.message(ID, ecs(LYON | fields), queued_us=START, now_us=START + 600 * SECOND, medium="chat")
    assert late.text.endswith("\nThis message is 10 min late.")
    test = chat(renderer, LYON | {"event": {"action": "sshbell_test"}, "user": {"name": "alice"}})
    assert test.split("\n")[:2] == [
        "This is a test by `sshbell ring`: nobody logged in. A login looks like this:",
        "alice logged in to web1 from Lyon, France.",
    ]  # fmt: skip


def test_a_digest_for_a_chat(renderer: Renderer) -> None:
    """It has at most 20 logins and 3 of each other kind, and counts the others."""
    rows = [
        json_line(ecs(LYON | {"event": {"action": action}, "user": {"name": f"u{number}"}}))
        for action in ("ssh_login", "ssh_attempt", "ssh_probe")
        for number in range(30)
    ]
    made = asyncio.run(
        renderer.digest("held-1", [(0, row) for row in rows], max_per_hour=60, now_us=0, zone=ZoneInfo("UTC"), medium="chat")
    )
    assert made.html == ""
    blocks = made.text.split("\n\n")
    assert blocks[0].startswith(
        "sshbell held back 90 messages: 30 logins, 30 failed logins and 30 connections without a login.\n"
    )
    assert [block.count("\n- ") for block in blocks[1:]] == [21, 4, 4]
    assert [block.rpartition("\n")[2] for block in blocks[1:]] == ["- and 10 more", "- and 27 more", "- and 27 more"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0.9, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (7500, "2 h 5 min"),
        (86400 * 3 + 7200, "3 d 2 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    """Durations are said in at most two units."""
    assert duration_text(seconds) == text


def test_plain_id() -> None:
    """An id is kept where it can stand in a header, and hashed where it cannot."""
    assert plain_id(ID) == ID
    for odd in ("", "a b", "a\r\nb", "a@b", "é", "x" * 101):
        assert len(plain_id(odd)) == 32
        assert plain_id(odd).isalnum()


ENRICHED = {
    "@timestamp": "2026-11-22T10:00:01.5+00:00",
    "event": {"action": "ssh_login", "id": ID},
    "host": {"name": "db3"},
    "user": {"name": "root", "full_name": "Alice"},
    "source": {
        "ip": "9.9.9.9", "address": "9.9.9.9", "port": 4711, "domain": "host.example.org",
        "geo": {
            "city_name": "Lyon", "region_name": "Rhône", "country_name": "France", "country_iso_code": "FR",
            "location": {"lat": 45.7485, "lon": 4.84671},
        },
        "as": {"number": 64500, "organization": {"name": "Example Net"}}, "anonymous": ["hosting", "vpn"],
    },
    "ssh": {
        "method": "publickey", "key": {
            "type": "ED25519", "fingerprint": "SHA256:abc", "owner": ["alice@laptop"],
            "options": ['from="9.9.9.0/24"', "restrict"],
        },
        "certificate": {"id": "alice", "serial": 7, "ca_owner": "user CA"}, "origin": "verified",
        "via": {"host": {"name": "bastion1"}, "user": {"name": "bob"}},
    },
}  # fmt: skip


def told(renderer: Renderer, event: dict[str, Any], zone: str = "UTC", map_url: str = "") -> Message:
    """Return the message of an event that was enriched."""
    return renderer.message(ID, ecs(event), queued_us=START, now_us=START, zone=ZoneInfo(zone), map_url=map_url)


def test_all_that_is_known(renderer: Renderer) -> None:
    """The first sentence says who came and where from; a line each says the rest; the last says what to do."""
    found = told(renderer, ENRICHED)
    assert found.subject == "Alice logged in to db3 as root through bastion1"
    assert (
        found.text
        == """\
Alice logged in to db3 as root through bastion1.

Time:         2026-11-22 10:00:01 UTC
User:         root
Person:       Alice
Host:         db3
From:         9.9.9.9 port 4711
Reverse name: host.example.org
Place:        Lyon, Rhône, France
Network:      AS64500 Example Net
Anonymous:    hosting, vpn
Through:      bob@bastion1
Method:       publickey
Key:          ED25519 SHA256:abc
Key of:       alice@laptop
Key options:  from="9.9.9.0/24",restrict
Certificate:  alice serial 7
Signed by:    user CA
Origin:       verified: a process of root wrote the log line

If this was not you or somebody you know, act on db3 now:
1. End the session. This lists it: `pgrep -a sshd`
2. Revoke the certificate.
If you do not administer db3, call somebody who does.

sshbell, event 00000000000000000000000000000002
"""
    )
    assert "map" not in found.html.partition("<body")[2]


def test_all_factors_are_told(renderer: Renderer) -> None:
    """Of a login with several factors the message has all, not only the one that let somebody in."""
    ssh = {"method": "keyboard-interactive", "submethod": "pam", "factors": ["publickey", "keyboard-interactive"]}
    found = told(renderer, {"event": {"action": "ssh_login"}, "ssh": ssh})
    assert "publickey + keyboard-interactive" in found.text
    assert "publickey + keyboard-interactive" in found.html


def test_a_country_s_code_alone(renderer: Renderer) -> None:
    """Where a database has no names, sentence, list and HTML say the code."""
    found = told(renderer, {"event": {"action": "ssh_login"}, "source": {"ip": "9.9.9.9", "geo": {"country_iso_code": "NL"}}})
    assert found.text.startswith("Somebody logged in from NL.\n")
    assert "Place:        NL\n" in found.text
    assert "Somebody logged in from NL." in found.html


@pytest.mark.parametrize(
    ("source", "ssh", "text"),
    [
        ({"geo": {"name": "private network"}}, {}, "Place:        private network"),
        ({"geo": {"country_iso_code": "FR"}}, {}, "Place:        FR"),
        ({"as": {"number": 64500}}, {}, "Network:      AS64500"),
        ({"as": {"organization": {"name": "Example Net"}}}, {}, "Network:      Example Net"),
        ({}, {"via": {"host": {"name": "bastion1"}}}, "Through:      bastion1"),
        ({}, {"key": {"owner": ["a, b", "c"]}}, "Key of:       a, b\nKey of:       c"),
        ({}, {"key": {"owner": [f"k{number}" for number in range(9)]}}, "Key of:       k4\nKey of:       and 4 others"),
    ],
)
def test_a_part_of_it(renderer: Renderer, source: dict[str, Any], ssh: dict[str, Any], text: str) -> None:
    """What is known in part is said in part, each owner of a key on a line of its own."""
    found = told(renderer, {"event": {"action": "ssh_logout"}, "source": source, "ssh": ssh}).text
    assert text in found
    assert "None" not in found
    assert len(found.split("\n")) == 6 + text.count("\n") + (4 if "others" in text else 0)


def test_who_fails_may_be_anybody(renderer: Renderer) -> None:
    """A failed try at somebody's account is not said to be theirs."""
    found = told(renderer, ENRICHED | {"event": {"action": "ssh_attempt"}}).text
    assert found.startswith("Somebody tried to log in to db3 as root through bastion1, and failed.\n")
    assert "Account of:   Alice" in found


@pytest.mark.parametrize("comment", ["alice, from Paris. Nothing is wrong", "<b>", "", "a" * 65, "alice\n", "x through bastion9"])
def test_no_comment_is_a_part_of_our_sentence(renderer: Renderer, comment: str) -> None:
    """Who writes a key's comment writes no sentence of ours."""
    event = {"event": {"action": "ssh_login"}, "ssh": {"key": {"owner": [comment]}}}
    assert told(renderer, event).text.startswith("Somebody logged in.\n")


@pytest.mark.parametrize(
    ("zone", "moment", "text"),
    [
        ("Europe/Berlin", "2026-11-22T10:00:01+00:00", "2026-11-22 11:00:01 CET (10:00:01 UTC)"),
        ("Europe/Berlin", "2026-06-22T22:30:01+00:00", "2026-06-23 00:30:01 CEST (2026-06-22 22:30:01 UTC)"),
        ("America/St_Johns", "2026-11-22T10:00:01+00:00", "2026-11-22 06:30:01 NST (10:00:01 UTC)"),
        ("UTC", "2026-11-22T10:00:01.9Z", "2026-11-22 10:00:01 UTC"),
        ("Europe/London", "2026-11-22T10:00:01Z", "2026-11-22 10:00:01 GMT"),
        ("UTC", "9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59-12:00"),
        ("UTC", "yesterday", "yesterday"),
    ],
)
def test_times(renderer: Renderer, zone: str, moment: str, text: str) -> None:
    """A time is the reader's, and UTC beside it, with a date where that is another; once where they are the same."""
    assert f"Time:         {text}\n" in told(renderer, {"event": {"action": "ssh_login"}, "@timestamp": moment}, zone).text


def test_a_digest_has_the_readers_times(renderer: Renderer) -> None:
    """So have the lines of a digest."""
    folded = [(START, json_line(ENRICHED))]
    found = asyncio.run(renderer.digest("held-1", folded, max_per_hour=1, now_us=START, zone=ZoneInfo("Europe/Berlin")))
    assert "They are from 2026-11-22 11:00:01 CET.\n" in found.text
    assert "\n  11:00:01  root on db3 from 9.9.9.9\n" in found.text


@pytest.mark.parametrize(
    ("source", "url", "link"),
    [
        ({}, "https://map.example.org/{latitude}/{longitude}", "https://map.example.org/45.7485/4.8467"),
        ({}, "https://map.example.org/?q={ip}&x={ip}", "https://map.example.org/?q=9.9.9.9&x=9.9.9.9"),
        ({"ip": "2620:fe::fe"}, "https://map.example.org/?q={ip}", "https://map.example.org/?q=2620%3Afe%3A%3Afe"),
        (
            {"geo": {"region_name": "R", "location": {"lat": -0.5, "lon": -180}}}, "https://x/{latitude},{longitude}",
            "https://x/-0.5000,-180.0000",
        ),
        ({"geo": {"city_name": "C", "location": {"lat": float("nan"), "lon": 4}}}, "https://x/{latitude},{longitude}", ""),
        ({"geo": {"city_name": "C", "location": {"lat": 91, "lon": 4}}}, "https://x/{latitude},{longitude}", ""),
        # The middle of a country is no place.
        ({"geo": {"country_name": "France", "location": {"lat": 46, "lon": 2}}}, "https://x/{latitude},{longitude}", ""),
        ({"geo": {}}, "https://x/{latitude},{longitude}", ""),
        ({"ip": "192.168.1.1"}, "https://x/{ip}", ""),
        ({"ip": "203.0.113.7"}, "https://x/{ip}", ""),
        ({"ip": "UNKNOWN"}, "https://x/{ip}", ""),
    ],
)  # fmt: skip
def test_map(renderer: Renderer, source: dict[str, Any], url: str, link: str) -> None:
    """A link to a map is there where it is configured, and all that it needs is known of an address of the Internet."""
    found = told(renderer, ENRICHED | {"source": ENRICHED["source"] | source}, map_url=url)  # type: ignore[operator]
    assert (f"Map:          {link}\n" in found.text) == bool(link)
    assert (f'<a href="{link.replace("&", "&amp;")}"' in found.html) == bool(link)
    assert ("show on a map" in found.html) == bool(link)


def test_a_long_link_stays_whole(renderer: Renderer) -> None:
    """A link that was broken in two would lead nowhere."""
    url = f"https://map.example.org/{'x' * 100}?q="
    assert f"Map:          {url}9.9.9.9\n" in told(renderer, ENRICHED, map_url=f"{url}{{ip}}").text


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", ""),
        ("one two", "one two"),
        ("one two three", "one two\n  three"),
        ("x" * 20, "xxxxxxxx\n  xxxxxxxx\n  xxxx"),
        ("a `b c` d", "a `b c`\n  d"),
        ("aaaaaa `b c` d", "aaaaaa\n  `b c` d"),
        ("a-b-c-d-e-f", "a-b-c-d-\n  e-f"),
        ("  a  b", "  a  b"),
        ("`a b c d e f g`", "`a b c d\n  e f g`"),
    ],
)
def test_fold(text: str, lines: str) -> None:
    """Lines end between words, commands stay whole where they fit, and what goes on is indented."""
    assert fold(text, 10, 2) == lines


@pytest.mark.parametrize("blank", [" alice", "alice ", " "])
def test_blanks_are_seen(renderer: Renderer, blank: str) -> None:
    """A name that differs from another one by a blank at its end is not shown as that one."""
    found = told(renderer, {"event": {"action": "ssh_login"}, "user": {"name": blank}})
    assert f'User:         "{blank}"\n' in found.text
    assert f"&#34;{blank}&#34;" in found.html
