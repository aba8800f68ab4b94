"""The table for people: one row a login, an end, a forgery; nothing in it that a terminal obeys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from consumer.commands.replay import summary_text
from consumer.events import Attempt, Forged, Login, Logout, Probe
from consumer.logs.replay import Summary
from consumer.show.table import Table
from tests.lines import line_of

if TYPE_CHECKING:
    from consumer.records import Line, Trusted

SECOND = 1_000_000
START = int(datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC).timestamp()) * SECOND
KEY = "ED25519 SHA256:lj7ZkpHJrXEKLvBHm9iyVhHSZbIXMRVzPQZPPMTQX5Q"
HEAD = "time                 what    user              from                         host            how"


def line(time_us: int | None = START, host: str = "web1", trusted: Trusted | None = None, *, ambiguous: bool = False) -> Line:
    """Return a line that decided."""
    return line_of(time_us, host=host, trusted=trusted, ambiguous=ambiguous)


def login(
    user: str | None = "alice", *, found: Line | None = None, method: str | None = "publickey", info: str | None = KEY
) -> Login:
    """Return a login."""
    return Login("", found or line(), user, "192.0.2.7", "4711", method, info)


def logout(seconds: float) -> Logout:
    """Return the end of a session of so many seconds."""
    return Logout("", line(), "alice", "192.0.2.7", "4711", login(), START + int(seconds * SECOND))


def row(event: Login | Logout | Forged, *, width: int | None = None) -> str:
    """Return the row of one event, without the head."""
    table = Table(UTC, color=False, width=width)
    table.row(login())
    return table.row(event)


def test_rows() -> None:
    """The head comes once; a login shows its key, a logout the duration."""
    table = Table(UTC, color=False, width=None)
    assert table.row(login()) == (
        f"{HEAD}\n2026-11-22 10:00:00  login   alice             192.0.2.7 port 4711          web1            publickey {KEY}"
    )
    assert table.row(logout(61)) == (
        "2026-11-22 10:01:01  logout  alice             192.0.2.7 port 4711          web1            after 0:01:01"
    )


def test_forged_row() -> None:
    """A forgery says what was claimed, and by whom."""
    forged = Forged("", line(trusted=(1012, "/usr/bin/logger")), "root", "6.6.6.6", "22", 1012, "accepted")
    assert row(forged) == (
        "2026-11-22 10:00:00  FORGED  root              6.6.6.6 port 22              web1            accepted claimed by uid 1012"
    )
    many = Forged("", line(trusted=(1012, "/usr/bin/logger")), "root", "6.6.6.6", "22", None, "", 1399)
    assert row(many).endswith("several actions claimed by several uids, 1399 lines")


def test_tries_and_probes_have_no_row() -> None:
    """Tries and probes are counted, not shown, and do not bring the head."""
    table = Table(UTC, color=False, width=None)
    assert table.row(Attempt("", line(), "root", "6.6.6.6", "22", "password")) == ""
    assert table.row(Probe("", line(), None, "6.6.6.6", "22", "x")) == ""
    assert table.row(login()).startswith(HEAD)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.04, "0.0 s"), (0.25, "0.2 s"), (59.94, "59.9 s"), (60, "0:01:00"), (3600 * 30, "1 day, 6:00:00")],
)
def test_durations(seconds: float, text: str) -> None:
    """Short sessions have tenths of a second, long ones hours and days."""
    assert row(logout(seconds)).endswith(f"after {text}")


def test_duration_just_under_a_minute() -> None:
    """No duration is shown as sixty seconds."""
    assert "60.0 s" not in row(logout(59.99))


def test_zone() -> None:
    """Times are those of the zone that was asked for."""
    assert Table(ZoneInfo("Asia/Tokyo"), color=False, width=None).row(login()).split("\n")[1].startswith("2026-11-22 19:00:00")


def test_what_is_known_about_the_origin() -> None:
    """Rows say what the kernel vouches for, and what is ambiguous."""
    assert row(login(found=line(trusted=(0, "")))).endswith(", verified")
    assert row(login(found=line(ambiguous=True))).endswith(", ambiguous")


def test_what_is_not_known() -> None:
    """Where no line gave them, user and address are said to be unknown."""
    unknown = Login("", line(), None, None, None)
    assert "address unknown" in row(unknown)
    assert "no Accepted line" in row(unknown)


def test_no_time() -> None:
    """A row of a line without a time shows none."""
    assert "1970" not in row(login(found=line(None)))


def test_certificate() -> None:
    """A certificate shows its id."""
    info = "ED25519-CERT SHA256:abc ID alice@laptop (serial 7) CA RSA SHA256:def"
    assert "certificate 'alice@laptop'" in row(login(info=info))


@pytest.mark.parametrize("width", [0, 60, 80, 100])
def test_width(width: int) -> None:
    """No row is wider than the terminal, but for a terminal that is too narrow for anything."""
    long_name = login(
        "a" * 300, found=line(host="h" * 300), info=f"ED25519-CERT SHA256:abc ID {'i' * 300} (serial 7) CA RSA SHA256:d"
    )
    assert len(row(long_name, width=width).split("\n")[0]) <= max(width, 62)


def test_width_leaves_the_address() -> None:
    """Whatever the user is called, the address is whole."""
    ipv6 = "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"
    assert ipv6 in row(Login("", line(), "u" * 300, ipv6, "65535", "password"))


@pytest.mark.parametrize(
    "evil", ["\x1b[2J", "a\rb", "a\nb", "\u202ex", "\x9bx", "\t", "\u200b", "\ufeff", "\u2028", "\U000e0041"]
)
def test_no_row_holds_what_a_terminal_obeys(evil: str) -> None:
    """Text from the network is shown as escapes where it is not plain text."""
    raw = evil.encode().decode("latin-1")
    bad = Login("", line(host=raw), evil, evil, evil, evil, f"ED25519-CERT SHA256:abc ID {evil} (serial 7) CA RSA SHA256:d")
    shown = row(bad)
    assert shown.isprintable()


def test_color() -> None:
    """Color frames a row, and nothing of it is inside."""
    table = Table(UTC, color=True, width=None)
    head, first = table.row(login("\x1b[0m")).split("\n")
    assert head == f"\x1b[1m{HEAD}\x1b[0m"
    assert first.startswith("\x1b[32m2026")
    assert first.endswith("\x1b[0m")
    assert first[5:-4].isprintable()


def test_summary() -> None:
    """The summary says what was read, understood and told, and what the bounds have cost."""
    summary = Summary(
        lines=12345, understood=12000, unmatched=300, unframed=45, cut=2, actions={"accepted": 1000}, events={"ssh_login": 1000},
        notes={"hosts_dropped_total": 3},
    )  # fmt: skip
    assert summary_text(summary).split("\n") == [
        "12,345 lines read, 12,000 understood, 300 unmatched, 45 in no known framing, 2 cut at 64 KiB",
        "lines:  accepted 1,000",
        "events: ssh_login 1,000",
        """what is unmatched: sshbell parse FILE | jq 'select(.event.action == "unmatched")'""",
        "what is in no known framing: sshbell explain - < FILE | grep -A 1 'none fits'",
        "limits: hosts_dropped_total 3",
    ]
    assert summary_text(Summary()) == "0 lines read, 0 understood, 0 unmatched"


def test_summary_says_what_to_do() -> None:
    """Other programs' lines and unverified logins are counted; a log that is hardly read gets advice."""
    said = summary_text(Summary(lines=100, understood=10, unframed=60, unverified=3)).split("\n")
    assert said[0].endswith("60 in no known framing, 30 of other programs or empty")
    assert said[1].startswith("unverified logins: 3 ")
    assert "none fits" in said[2]
    assert "journalctl -o json" in said[3]


def test_whole_seconds() -> None:
    """A log of whole seconds gives whole seconds."""
    assert row(logout(7)).endswith("after 7 s")
    assert row(logout(7.25)).endswith("after 7.2 s")


def test_narrow_terminal_keeps_all_of_the_address() -> None:
    """What is too long for one line goes to a second; address and key stand whole, and what is cut has a mark."""
    first, second = row(login("averyverylongusername"), width=60).split("\n")
    assert first.endswith("  192.0.2.7 port 4711")
    assert "…" in first
    assert second == f"    web1  publickey {KEY}"


@pytest.mark.parametrize(
    ("method", "reason", "how"),
    [(None, None, "no Failed line"), ("password", None, "password"), (None, "not in AllowUsers", "not in AllowUsers")],
)
def test_tries(method: str | None, reason: str | None, how: str) -> None:
    """A try says what is known of it, and that no line told how it was tried where nothing is."""
    tried = Attempt("", line(), "mallory", "192.0.2.7", "4711", method, reason=reason)
    assert Table(UTC, color=False, width=None, noise=True).row(tried).endswith(f"web1            {how}")


def test_no_blanks_at_the_end() -> None:
    """A probe of which nothing is known ends with its host."""
    assert (
        Table(UTC, color=False, width=None, noise=True).row(Probe("", line(), None, "192.0.2.7", "4711", None)).endswith("web1")
    )
