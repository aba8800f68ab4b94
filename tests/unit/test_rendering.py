"""``consumer.deliver.rendering``: what messages say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from consumer.deliver.rendering import DIGEST_LINES, Renderer, RenderingError, duration_text, plain_id
from consumer.ecs import json_line, of_event
from consumer.events import Attempt, Event, Forged, Login, Logout, Probe
from consumer.records import Line, Trusted

if TYPE_CHECKING:
    from pathlib import Path

    from consumer.deliver.channels import Message

SECOND = 1_000_000
START = int(datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC).timestamp()) * SECOND
KEY = "ED25519 SHA256:lj7ZkpHJrXEKLvBHm9iyVhHSZbIXMRVzPQZPPMTQX5Q"
ID, LOGIN_ID = "0" * 31 + "2", "0" * 31 + "1"


def line(time_us: int | None = START, trusted: Trusted | None = (0, "")) -> Line:
    """Return a line that decided."""
    return Line(0, time_us, 1, 1, "", trusted, False, "sshd", "web1", "1", None, None, None, None, None, None, None)  # noqa: FBT003


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
    return renderer.message(ID, body, queued_us=START, now_us=START + late_us)


def test_login(renderer: Renderer) -> None:
    """A login names user, host, address, port, method and key."""
    found = rendered(renderer, login())
    assert found.subject == "alice@web1 from 203.0.113.7 (publickey)"
    assert (found.id, found.thread, found.late) == (ID, "", "")
    for text in ("alice", "web1", "203.0.113.7 port 4711", "publickey", KEY, "the kernel vouches"):
        assert text in found.text
        assert text in found.html


@pytest.mark.parametrize(
    ("event", "subject"),
    [
        (Logout(ID, line(), "alice", "203.0.113.7", "4711", login(), START + 61 * SECOND), "logged out after 1 min 1 s"),
        (Attempt(ID, line(), "root", "203.0.113.7", "22", "password"), "Failed: root@web1 from 203.0.113.7 (password)"),
        (Probe(ID, line(), None, "203.0.113.7", "22", "x"), "Probe: unknown user@web1 from 203.0.113.7"),
        (Forged(ID, line(), "root", None, None, 1012, "accepted"), "FORGED: root@web1 from unknown address"),
        (b'{"event":{"action":"sshbell_notice"},"message":"nothing came"}', "sshbell on a host: nothing came"),
        (b'{"event":{"action":"sshbell_test"},"user":{"name":"alice"}}', "Test: alice@unknown host from unknown address"),
        (b"{}", "unknown user@unknown host from unknown address"),
    ],
)
def test_subjects(renderer: Renderer, event: Event | bytes, subject: str) -> None:
    """Each kind of event has a subject that tells it from the others."""
    assert rendered(renderer, event).subject.endswith(subject)


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
    assert not [row for row in found.text.split("\n") if row.endswith(":")]


def test_unverified(renderer: Renderer) -> None:
    """A login that any local user could have written says so."""
    found = rendered(renderer, login(found=line(trusted=None)))
    assert 'any user of web1 might have.\n"sshbell check" on web1 shows how' in found.text
    assert "<code>sshbell check</code> on web1" in found.html
    assert "any user of web1" not in rendered(renderer, login()).text


def test_a_test_says_so(renderer: Renderer) -> None:
    """Nobody takes a test for a login."""
    found = rendered(renderer, b'{"event":{"action":"sshbell_test"}}')
    assert found.text.startswith("THIS IS A TEST")
    assert "This is a test" in found.html


def test_late(renderer: Renderer) -> None:
    """What comes more than two minutes late says how late."""
    assert rendered(renderer, login(), late_us=120 * SECOND).late == ""
    found = rendered(renderer, login(), late_us=7500 * SECOND)
    assert found.late == "2 h 5 min"
    assert "This message is late: sent 2 h 5 min after sshbell knew." in found.text
    assert "sent 2 h 5 min after" in found.html


def test_broken_event(renderer: Renderer) -> None:
    """What is no event is an error of its own, never a traceback."""
    for body in (b"", b"[]", b"\xff", b"{", b"[" * 100_000):
        with pytest.raises(RenderingError):
            rendered(renderer, body)
    odd = rendered(renderer, b'{"event":"x","user":[1],"source":{"ip":{}},"ssh":7,"@timestamp":"never"}')
    assert odd.subject == "unknown user@unknown host from unknown address"


def test_own_template(renderer: Renderer, tmp_path: Path) -> None:
    """A template of the user's own goes before the built-in one, and what it makes is one subject all the same."""
    (tmp_path / "own" / "subject.txt.j2").write_text("{{ user }}\r\nBcc: x@example.org {{ event.source.ip }}{{ event.no.such }}")
    (tmp_path / "own" / "message.html.j2").write_text("<b>{{ user }}</b>")
    found = rendered(renderer, login("<i>"))
    assert found.subject == "<i> Bcc: x@example.org 203.0.113.7"
    assert found.html == "<b>&lt;i&gt;</b>"
    assert "user:         <i>" in found.text


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
        assert "user:         alice" in found.text
        assert len(faults) == 1
        assert "message.txt.j2" in faults[0]
    else:
        assert found.text == ""  # the sandbox has made nothing of it


def test_digest(renderer: Renderer) -> None:
    """A digest counts by action and by user, shows the first lines, and says how many there were."""
    bodies = [json_line(of_event(login("backup" if number % 2 else "ansible"), [])) for number in range(100)]
    folded = [(START + number, body) for number, body in enumerate([*bodies, b"broken"])]
    found = renderer.digest("held-1", folded, max_per_hour=60, now_us=START + 3600 * SECOND)
    assert found.subject == "101 messages held back: 100 ssh_login, 1 unreadable"
    assert found.text.startswith("101 messages were held back, because more than 60 within an hour")
    assert "     50  backup@web1" in found.text
    assert f"{DIGEST_LINES} of them, logins first" in found.text
    assert found.text.count("from 203.0.113.7") == DIGEST_LINES
    assert found.late == "1 h"
    assert found.html.count("<li>") == DIGEST_LINES


def test_digest_shows_logins_first(renderer: Renderer) -> None:
    """However much else was held back before it, a login is named."""
    noise = json_line(of_event(login("noise"), [])).replace(b'"ssh_login"', b'"ssh_forged"')
    folded = [(START, noise)] * (2 * DIGEST_LINES) + [(START, json_line(of_event(login("eve"), [])))]
    assert "eve@web1" in renderer.digest("held-1", folded, max_per_hour=60, now_us=START).text


def test_notice_shows_what_was_found(renderer: Renderer) -> None:
    """A notice names each event that it stands for, on a line of its own."""
    body = {
        "event": {"action": "sshbell_notice", "id": "n1"},
        "message": "2 events",
        "sshbell": {"found": ["mallory\n\x1b[2J", "bob"]},
    }
    found = renderer.message("n1", json_line(body), queued_us=START, now_us=START)
    assert "mallory\\x0a\\x1b[2J" in found.text
    assert "bob" in found.text
    assert "mallory" not in found.subject


def test_digest_of_many_names(renderer: Renderer) -> None:
    """A digest of many names shows some, and counts the others."""
    folded = [(START, json_line(of_event(login(f"u{number}"), []))) for number in range(30)]
    assert "and 10 others" in renderer.digest("held-1", folded, max_per_hour=1, now_us=START).text


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
