"""Messages with one-time codes, and whether a login is new enough for one, without a process."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest

from consumer.codes.messages import CodeRequest
from consumer.config_values import LANGUAGES
from consumer.deliver.channels import Medium
from consumer.deliver.channels.payloads import discord, ntfy, slack, teams, telegram
from consumer.deliver.codes import _event_of, _without
from consumer.deliver.language import language_of
from consumer.deliver.rendering import Renderer
from tests.service_limits import JUDGES

if TYPE_CHECKING:
    from consumer.deliver.channels import Message

CODE, SESSION = "00120975", "482913"
REQUEST = CodeRequest(
    SESSION, CODE, "alice", "web1", "203.0.113.7", destination="198.51.100.4", method="publickey", emergency_left=1, valid_s=90
)
MEDIA: tuple[Medium, ...] = get_args(Medium)
RENDERER = Renderer(Path("/nonexistent"), pytest.fail)
HOSTILES = [
    "alice\r\nBcc: eve@example.org", "</td><script>alert(1)</script>", "{{ code }}{% raw %}", "\x1b[2J\u202e",
    "12345678 is the code",
    "@everyone <!channel> [x](http://evil.example)", "=?utf-8?q?x?=", "x" * 5000, " ", "'\"\\", "\U0001f514",
]  # fmt: skip


def rendered(request: CodeRequest = REQUEST, *, language: str = "en", medium: Medium = "mail") -> Message:
    """Return the message of a request."""
    return RENDERER.code(
        "code-1", _event_of(request, 1_790_000_000_000_000), request, medium=medium, language=language_of(language)
    )


def test_a_code() -> None:
    """The first line has the code, the subject only the session, and the table all else."""
    found = rendered(medium="chat")
    assert found.subject == f"Code for session {SESSION}: alice on web1"
    lead, _, table = found.text.partition("\n\n")
    assert lead == (
        f"{CODE} is the code for session {SESSION}.\n"
        "alice wants to log in to web1 from 203.0.113.7. Not you? Pass it on to nobody."
    )
    assert table.splitlines()[:3] == [f"Code: {CODE}", f"Session: {SESSION}", "Valid for: 1 min 30 s"]
    assert {"Emergency codes: 1 left", "Connected to: 198.51.100.4", "Method: publickey"} <= set(table.splitlines())
    assert found.closing[0] == f"Type it only if the prompt shows session {SESSION}."


@pytest.mark.parametrize("medium", MEDIA)
def test_a_trial(medium: Medium) -> None:
    """The message of ``sshbell pam try`` tells its reader that nobody is logging in; others do not, also for programs."""
    note = "This is a trial with `sshbell pam try`: nobody is logging in."
    for is_trial in (True, False):
        found = rendered(REQUEST._replace(trial=is_trial), medium=medium)
        assert (note in " ".join(found.text.split()), found.code["trial"]) == (is_trial, is_trial)


def test_at_a_console() -> None:
    """Without an address, and for another service, there is nothing about either where it is not known."""
    found = rendered(REQUEST._replace(address="", destination="", method="", service="sudo", emergency_left=0), medium="chat")
    assert found.text.splitlines()[1].startswith("alice wants to use sudo on web1. ")
    assert [detail.name for detail in found.details] == ["code", "session number", "valid for", "time", "user", "host", "service"]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("medium", MEDIA)
@pytest.mark.parametrize("field", ["user", "host", "address", "service", "destination", "method", "key"])
def test_hostile_texts(field: str, medium: Medium, language: str) -> None:
    """Whatever a text is, the message has the code, one first line, and no other code; and each service accepts it."""
    for hostile in HOSTILES:
        texts: dict[str, Any] = {field: hostile}
        found = rendered(REQUEST._replace(**texts), language=language, medium=medium)
        assert CODE in found.text.split("\n")[0]
        assert "\n" not in found.subject
        assert CODE not in found.subject
        for text in (found.subject, found.text, found.html):
            assert "\x1b" not in text
            assert "\u202e" not in text
            assert "\r" not in text
            assert "<script>" not in found.html
        # A name that looks like one of our sentences stands in quotes, with dots.
        assert not re.match("12345678 is the code", found.text)
        payloads: dict[str, Any] = {"slack": slack(found), "teams": teams(found), "discord": discord(found)}
        payloads |= {"telegram": telegram(found, -1), "ntfy": ntfy(found, "x")}
        for name, payload in payloads.items():
            assert JUDGES[name](payload) == "", name
            assert CODE in str(payload)


@pytest.mark.parametrize("language", LANGUAGES)
def test_many_codes(language: str) -> None:
    """The report has no code, and no number of a session."""
    found = rendered(REQUEST._replace(code="", prompts=6), language=language)
    assert "6" in found.title
    for text in (found.text, found.html, found.subject):
        assert SESSION not in text
        assert CODE not in text
    assert found.code["code"] == ""


@pytest.mark.parametrize("own", ["{{ user }}", "{{ 1 / 0 }}", "{% include 'missing' %}", "", "{{ title"])
def test_a_template_of_ones_own(tmp_path: Path, own: str) -> None:
    """One that does not show the code does not count, in any medium, and is reported; one that does counts."""
    faults: list[str] = []
    for name in ("message.txt.j2", "message.html.j2", "message.chat.j2"):
        (tmp_path / name).write_text(own)
    event = _event_of(REQUEST, 1_790_000_000_000_000)
    for medium in MEDIA:
        found = Renderer(tmp_path, faults.append).code("code-1", event, REQUEST, medium=medium)
        assert CODE in found.text
        assert (CODE in found.html) == (medium == "mail")
    assert len(faults) == 3
    assert CODE not in str(faults)
    (tmp_path / "message.chat.j2").write_text("{{ title }} Mine.")
    assert Renderer(tmp_path, pytest.fail).code("code-1", event, REQUEST, medium="chat").text.endswith("Mine.")


@pytest.mark.parametrize(
    ("fault", "shown"),
    [
        (f"400 {CODE}", "400 ***"), (f"{CODE}{CODE}", "******"), (f"x {CODE[:7]}…", "x ***…"), (f"x {CODE[:3]}…", "x ***…"),
        (f"x {CODE[:2]}…", f"x {CODE[:2]}…"), ("no answer within 0.5 s", "no answer within 0.5 s"),
    ],
)  # fmt: skip
def test_faults(fault: str, shown: str) -> None:
    """A service that repeats the code does not get it into a log, nor the most of it where the text is cut."""
    assert _without(CODE, fault) == shown
    assert _without("", fault) == fault
