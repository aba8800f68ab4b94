"""``consumer.deliver.digest``: one message in place of many."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from consumer.actions import EventAction
from consumer.deliver.digest import DIGEST_LINES, LOGIN_LINES
from consumer.deliver.rendering import Renderer
from consumer.ecs import NOTHING, json_line
from tests.ecs_events import ecs

if TYPE_CHECKING:
    from pathlib import Path

    from consumer.deliver.channels import Message


@pytest.fixture
def renderer(tmp_path: Path) -> Renderer:
    """Return one with the built-in templates."""
    return Renderer(tmp_path / "none", pytest.fail)


def row(
    action: str = "ssh_login", *, at: str = "10:00:00", user: str = "deploy", address: str = "203.0.113.7", **ssh: Any
) -> bytes:
    """Return an event as the outbox has it."""
    return json_line(
        ecs({
            "@timestamp": f"2026-11-22T{at}Z", "event": {"action": action}, "host": {"name": "web1"}, "user": {"name": user},
            "source": {"ip": address, "address": address}, "ssh": ssh,
        })
    )  # fmt: skip


def digest(renderer: Renderer, *rows: bytes) -> Message:
    """Return the message of many."""
    folded = [(0, body) for body in rows]
    return asyncio.run(renderer.digest("held-1", folded, max_per_hour=60, now_us=0, zone=ZoneInfo("Europe/Berlin")))


def test_all_kinds(renderer: Renderer) -> None:
    """Each kind has its heading, and within it what happened stands in the log's order, in words."""
    found = digest(
        renderer,
        row("ssh_attempt", at="10:00:01", user="root", count=3),
        row(at="10:00:02"),
        row("ssh_forged", at="10:00:03", user="root", claim="accepted", claimed_by_uid=1012),
        row(at="10:00:04", user="alice"),
        row("ssh_probe", at="10:00:05", user=""),
        json_line(ecs({"event": {"action": "ssh_logout", "duration": 61_000_000_000}, "user": {"name": "alice"}})),
        json_line(ecs({"event": {"action": "sshbell_notice"}, "message": "All is well."})),
        row("ssh_new"),
        b"broken",
    )
    assert found.subject == (
        "9 messages held back: 2 logins, 1 logout, 3 failed logins, 1 connection without a login, 1 forged line, "
        "1 notice of sshbell, 1 unreadable event and 1 event of another kind"
    )
    assert (
        found.text
        == """\
sshbell held back 9 messages: 2 logins, 1 logout, 3 failed logins, 1
connection without a login, 1 forged line, 1 notice of sshbell, 1
unreadable event and 1 event of another kind.

This channel sends at most 60 messages an hour about one account on one
host, and as many about all else (max_per_hour).
They are from 2026-11-22 11:00:00 CET to 11:00:05 CET.

Logins (2)
  11:00:02  deploy on web1 from 203.0.113.7
  11:00:04  alice on web1 from 203.0.113.7

Logouts (1)
            alice on unknown host after 1 min 1 s

Failed logins (3)
  11:00:01  root on web1 from 203.0.113.7
            3 times

Connections without a login (1)
  11:00:05  web1 from 203.0.113.7

Forged lines (1)
  11:00:03  a login of root on web1 by uid 1012

Notices of sshbell (1)
            All is well.

Unreadable events (1)

Events of other kinds (1)
  11:00:00  deploy on web1 from 203.0.113.7

sshbell
"""
    )
    for text in ("deploy on web1 from 203.0.113.7", "a login of root on web1 by uid 1012", "Failed logins (3)"):
        assert text in found.html
    assert "ssh_" not in found.text + found.html


def test_every_distinct_login_is_named(renderer: Renderer) -> None:
    """Equal logins share a line; each other account, host and address has its own, however many equal ones came before."""
    noise = [row(at=f"10:{number:02}:00") for number in range(60)]
    found = digest(renderer, *noise, row(user="root"), row(address="198.51.100.9"), *noise)
    assert "\n  11:00:00  deploy on web1 from 203.0.113.7\n" in found.text
    assert f"\n{' ' * 12}120 times, last at 11:59:00\n" in found.text
    assert "root on web1 from 203.0.113.7\n" in found.text
    assert "deploy on web1 from 198.51.100.9\n" in found.text
    assert "more" not in found.text


def test_many_logins_hide_no_other(renderer: Renderer) -> None:
    """51 logins of a user's own, from as many addresses, and 21 names in forged lines: root is named, and where it came from."""
    own = [row(user="mallory", address=f"127.0.0.{number}") for number in range(1, 52)]
    forged = [row("ssh_forged", user=f"name{number}", claim="accepted", claimed_by_uid=1012) for number in range(21)]
    found = digest(renderer, *own, *forged, row(user="root", address="198.51.100.9"))
    for text in (found.text, found.html):
        assert "root on web1 from 198.51.100.9" in text
        assert "mallory on web1 from 127.0.0.51" in text
    assert found.text.count("on web1 from") == 52


def test_who_is_shown_where_there_is_no_room_for_all(renderer: Renderer) -> None:
    """Root comes first, then each account's first login, then each address; the digest says how many more there were."""
    own = [row(user="mallory", address=f"10.0.{number // 250}.{number % 250}") for number in range(2 * LOGIN_LINES)]
    others = [row(user=f"u{number}", address="10.0.0.1") for number in range(LOGIN_LINES // 2)]
    root = [row(user="root", address=f"198.51.100.{number}") for number in range(9)]
    toor = json_line(ecs({"event": {"action": "ssh_login"}, "host": {"name": "web1"}, "user": {"name": "toor", "id": "0"}}))
    found = digest(renderer, *own, *others, toor, *root)
    assert all(f"u{number} on web1 from 10.0.0.1\n" in found.text for number in range(LOGIN_LINES // 2))
    assert all(f"root on web1 from 198.51.100.{number}\n" in found.text for number in range(9))
    assert "toor on web1" in found.text
    assert "mallory on web1 from 10.0.0.0\n" in found.text
    shown = len(re.findall(r"\S+ on web1", found.text))
    assert shown == LOGIN_LINES
    assert f"and {2 * LOGIN_LINES + LOGIN_LINES // 2 + 10 - LOGIN_LINES} more\n" in found.text


@pytest.mark.parametrize("action", [action for action in EventAction if action is not EventAction.LOGIN])
def test_noise_hides_no_login(renderer: Renderer, action: str) -> None:
    """However much else was held back before them, as many logins are named as there are lines."""
    noise = [row(action, user=f"u{number}") for number in range(2 * DIGEST_LINES)]
    found = digest(renderer, *noise, *(row(user=f"login{number}") for number in range(DIGEST_LINES)))
    for number in range(DIGEST_LINES):
        assert f"login{number} on web1" in found.text
        assert f"login{number} on web1" in found.html


def test_noise_hides_no_other_noise(renderer: Renderer) -> None:
    """A flood of one kind leaves room for the others."""
    flood = [row("ssh_attempt", user=f"u{number}") for number in range(10 * DIGEST_LINES)]
    found = digest(renderer, row(), *flood, row("ssh_forged", user="root", claim="accepted"))
    assert "a login of root on web1" in found.text
    assert found.text.count("\n  11:00:00  ") == 1 + (DIGEST_LINES - 1) // 2 + 1
    assert f"and {10 * DIGEST_LINES - (DIGEST_LINES - 1) // 2} more\n" in found.text


def test_of_what_is_not_shown_users_are_counted(renderer: Renderer) -> None:
    """Where not all is shown, the users and hosts of most messages are, and the others are counted."""
    rows = [row(user=f"u{number}") for number in range(LOGIN_LINES + 1)]
    found = digest(renderer, *rows, row(user="u7"), row(user="an odd name"), row(user="an odd name"))
    assert "and 3 more\n" in found.text
    assert "\n      2  u7@web1\n" in found.text
    assert "\n      2  “an·odd·name”@web1\n" in found.text
    assert f"\n{LOGIN_LINES + 4 - 22:7}  of others\n" in found.text
    assert "by user and host" in found.text
    assert "of others" in found.html
    assert "by user and host" not in digest(renderer, *rows[:-1]).text


def test_days(renderer: Renderer) -> None:
    """Where a digest spans several days, each line has its date."""
    found = digest(renderer, row(at="22:59:59"), row(at="23:00:01"), row(at="10:00:00", user="bob"))
    assert "They are from 2026-11-22 11:00:00 CET to 2026-11-23 00:00:01 CET.\n" in found.text
    assert "\n  2026-11-22 23:59:59  deploy on web1 from 203.0.113.7\n" in found.text
    assert f"\n{' ' * 23}2 times, last at 2026-11-23 00:00:01\n" in found.text
    assert "\n  2026-11-22 11:00:00  bob on web1 from 203.0.113.7\n" in found.text


def test_odd_names(renderer: Renderer) -> None:
    """A name that others chose is no part of our words."""
    text = digest(
        renderer, row(user="root on db1 from Lyon"), row("ssh_attempt", user="\n  2026-11-22 11:00:00  bob on web1")
    ).text
    assert "“root·on·db1·from·Lyon” on web1 from 203.0.113.7" in text
    assert "bob on web1" not in text


def test_nothing(renderer: Renderer) -> None:
    """All may have been dropped meanwhile."""
    assert digest(renderer).text.startswith("sshbell held back 0 messages")


def test_a_report_by_person_and_host(renderer: Renderer) -> None:
    """A scheduled digest says first who was where, from where and what was new, logins before guesses."""
    rows = [
        *(row("ssh_attempt", user=f"guess{number}", address="198.51.100.1", count=2) for number in range(60)),
        *(row(user="carol", address=f"203.0.113.{number}") for number in range(7)),
        row("ssh_attempt", user="carol", address="203.0.113.1"),
        row(user="root"),
    ]
    named = ecs({"user": {"full_name": "Carol Example"}, "sshbell": {"new": ["address"]}})
    found = asyncio.run(
        renderer.digest(
            "weekly-1", [(0, body) for body in rows], max_per_hour=60, now_us=0, zone=ZoneInfo("UTC"),
            named=lambda event: named if event.user.name == "carol" else NOTHING, health=("All is well.",),
        )
    )  # fmt: skip
    assert found.subject == "Weekly report: 8 logins and 121 failed logins"
    assert (
        """\
By person and host
  Carol Example on web1: 7 logins from 203.0.113.0, 203.0.113.1,
    203.0.113.2, 203.0.113.3, 203.0.113.4 and 2 others, new: address
  root on web1: 1 login from 203.0.113.7
  guess0 on web1: 0 logins, 2 failed
"""
        in found.text
    )
    # Carol's failed try may have been by anybody, so it has the name of the account.
    assert "  and 13 more\n" in found.text
    assert "\nsshbell itself\n  All is well.\n" in found.text
    assert "max_per_hour" not in found.text + found.html
    assert "Carol Example on web1" in found.html


@pytest.mark.parametrize(
    ("cause", "subject", "says"),
    [
        ("fold", "5 more messages: 2 failed logins and 3 more", "They name 2 users, and come from 1 address."),
        ("quiet", "5 messages held back: 2 failed logins and 3 more", "sshbell held back 5 messages in the quiet hours"),
        ("held", "5 messages held back: 2 failed logins and 3 more", "This channel sends at most 60 messages an hour"),
    ],
)
def test_causes(renderer: Renderer, cause: str, subject: str, says: str) -> None:
    """A digest says why it is one, and counts what it knows no more of."""
    rows = [(0, row("ssh_attempt", user=user)) for user in ("root", "admin")]
    found = asyncio.run(renderer.digest(f"{cause}-1", rows, max_per_hour=60, now_us=0, zone=ZoneInfo("UTC"), omitted=3))
    assert found.subject == subject
    text = " ".join(found.text.split())
    assert says in text
    assert "sshbell has counted 3 of them" in text
