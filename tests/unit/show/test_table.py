"""The table for people: one row a login, an end, a forgery; columns that stay aligned; nothing in it that a terminal obeys."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from rich.cells import cell_len

from consumer.actions import EventAction
from consumer.commands.replay import summary_text
from consumer.config import Config
from consumer.detect.findings import finding_of
from consumer.events import Attempt, Canary, Event, Forged, Login, LoginCode, Logout, Probe
from consumer.logs.replay import Summary
from consumer.places.geoip import Places
from consumer.show.owner_names import Names
from consumer.show.table import EVENTS, OPEN_SESSIONS, SESSIONS, Table, short_duration, short_fingerprint
from tests.databases import ADDRESS, LYON, made
from tests.lines import line_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from consumer.records import Line, Trusted
    from consumer.show.columns import Column

SECOND = 1_000_000
START = int(datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC).timestamp()) * SECOND
FINGERPRINT = "SHA256:lj7ZkpHJrXEKLvBHm9iyVhHSZbIXMRVzPQZPPMTQX5Q"
KEY, SHORT_KEY = f"ED25519 {FINGERPRINT}", "ED25519 SHA256:lj7Zkp…"
HEAD = "time                 what    user              from                         host            who and how"
IPV6 = "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"
WIDTHS = [80, 99, 100, 120, 160, 240]
TABLES = {"events": EVENTS, "sessions": SESSIONS, "open sessions": OPEN_SESSIONS}


def logged(text: str) -> str:
    """Return a text as it stands in a log."""
    return text.encode().decode("latin-1")


def line(time_us: int | None = START, host: str = "web1", trusted: Trusted | None = None, *, ambiguous: bool = False) -> Line:
    """Return a line that decided; the host's name as people write it."""
    return line_of(time_us, host=logged(host), trusted=trusted, ambiguous=ambiguous)


def login(
    user: str | None = "alice", *, found: Line | None = None, method: str | None = "publickey", info: str | None = KEY,
    address: str = "192.0.2.7", factors: tuple[str, ...] = (), code: LoginCode | None = None,
) -> Login:  # fmt: skip
    """Return a login."""
    return Login("", found or line(), user, address, "4711", method, info, factors=factors, code=code)


def logout(seconds: float) -> Logout:
    """Return the end of a session of so many seconds."""
    return Logout("", line(), "alice", "192.0.2.7", "4711", login(), START + int(seconds * SECOND))


def row(event: Login | Logout | Forged | Canary, *, width: int | None = None, names: Names | None = None) -> str:
    """Return the row of one event, without the head."""
    table = Table(EVENTS, UTC, color=False, width=width, names=names)
    table.row(login())
    return table.row(event)


@pytest.fixture
def names(tmp_path: Path) -> Names:
    """Return names that know two people: one by a key, one by an account."""
    (tmp_path / "people.toml").write_text(
        f'[[person]]\nname = "Carol Danvers"\nkeys = ["{FINGERPRINT}"]\n[[person]]\nname = "山田太郎"\naccounts = ["yamada"]\n',
        encoding="utf-8",
    )
    return Names(Config(state_dir=str(tmp_path), people=str(tmp_path / "people.toml")), None)


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    """Return a database that knows one address."""
    made(tmp_path / "city.mmdb", LYON, kind="DBIP-City-Lite")
    found = Places([f"{tmp_path}/city.mmdb"], pytest.fail)
    yield found
    found.close()


# ---------------------------------------------------------------- in a file or a pipe: everything


def test_rows() -> None:
    """The head comes once; a login shows its key, a logout the duration."""
    table = Table(EVENTS, UTC, color=False, width=None)
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


def test_finding_at_80_columns() -> None:
    """A narrow terminal shows the name of the detector, uncut."""
    attempt = Attempt("", line(), "root", "6.6.6.6", "22", "password")
    finding = finding_of(attempt, EventAction.GUESSING, count=12, rule="12/10m")
    assert Table(EVENTS, UTC, color=False, width=80).row(finding).endswith(" guessing")
    assert Table(EVENTS, UTC, color=False, width=None).row(finding).endswith(" guessing of passwords, 12 times, rule 12/10m")


def test_tries_and_probes_have_no_row() -> None:
    """Tries and probes are counted, not shown, and do not bring the head."""
    table = Table(EVENTS, UTC, color=False, width=None)
    assert table.row(Attempt("", line(), "root", "6.6.6.6", "22", "password")) == ""
    assert table.row(Probe("", line(), None, "6.6.6.6", "22", "x")) == ""
    assert table.row(login()).startswith(HEAD)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (0.04, "0.0 s"), (0.25, "0.2 s"), (59.94, "59.9 s"), (60, "0:01:00"), (86399, "23:59:59"), (86399.9, "1 d"),
        (90_000, "1 d 1 h"), (86400 * 29 + 86399, "29 d 23 h"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    """Short sessions have tenths of a second, long ones hours and days; each fits the column of ``history``."""
    assert row(logout(seconds)).endswith(f"after {text}")
    assert len(short_duration(int(seconds * SECOND))) <= next(column.least for column in SESSIONS if column.key == "lasted")


def test_duration_just_under_a_minute() -> None:
    """No duration is shown as sixty seconds."""
    assert "60.0 s" not in row(logout(59.99))


def test_zone() -> None:
    """Times are those of the zone that was asked for."""
    table = Table(EVENTS, ZoneInfo("Asia/Tokyo"), color=False, width=None)
    assert table.row(login()).split("\n")[1].startswith("2026-11-22 19:00:00")


def test_what_is_known_about_the_origin() -> None:
    """Rows say what the kernel vouches for, and first of all what is ambiguous."""
    assert row(login(found=line(trusted=(0, "")))).endswith(", verified")
    assert row(login(found=line(ambiguous=True))).endswith(f"  ambiguous, publickey {KEY}")
    assert "  ambiguous" in row(login(found=line(ambiguous=True)), width=80)


def test_what_is_not_known() -> None:
    """Where no line gave them, user and address are said to be unknown."""
    unknown = Login("", line(), None, None, None)
    assert "address unknown" in row(unknown)
    assert "no Accepted line" in row(unknown)


def test_no_time() -> None:
    """A row of a line without a time shows none."""
    assert row(login(found=line(None))).startswith("unknown   ")


def test_certificate() -> None:
    """A certificate shows its id."""
    info = "ED25519-CERT SHA256:abc ID alice@laptop (serial 7) CA RSA SHA256:def"
    assert "certificate alice@laptop" in row(login(info=info))


def test_factors() -> None:
    """A login with several factors shows all of them, and the key of the first."""
    both = login(method="keyboard-interactive/pam", factors=("publickey", "keyboard-interactive/pam"))
    assert row(both).endswith(f"  publickey + keyboard-interactive {KEY}")
    assert row(both, width=160).endswith(f"  publickey + keyboard-interactive {SHORT_KEY}")
    assert row(both, width=120).endswith("  publickey + keyboard-interactive")


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        (LoginCode("accepted", "ops", "482913", 14), "second factor by #ops, after 14 s"),
        (LoginCode("emergency", left=7), "emergency code, 7 left"),
        (LoginCode("not_needed"), "no code needed"),
        (LoginCode("let_in"), "no code: no channel took it"),
    ],
)
def test_codes(code: LoginCode, shown: str) -> None:
    """A login shows its one-time code, or why it has none, as far as there is room."""
    both = login(method="keyboard-interactive/pam", factors=("publickey", "keyboard-interactive/pam"), code=code)
    assert row(both).endswith(f"  publickey + keyboard-interactive {KEY}, {shown}")
    assert row(both, width=120).endswith("  publickey + keyboard-interactive")


@pytest.mark.parametrize(
    ("method", "reason", "how"),
    [(None, None, "no Failed line"), ("password", None, "password"), (None, "not in AllowUsers", "not in AllowUsers")],
)
def test_tries(method: str | None, reason: str | None, how: str) -> None:
    """A try says what is known of it, and that no line told how it was tried where nothing is."""
    tried = Attempt("", line(), "mallory", "192.0.2.7", "4711", method, reason=reason)
    assert Table(EVENTS, UTC, color=False, width=None, noise=True).row(tried).endswith(f"web1            {how}")


def test_no_blanks_at_the_end() -> None:
    """A probe of which nothing is known ends with its host."""
    table = Table(EVENTS, UTC, color=False, width=None, noise=True)
    assert table.row(Probe("", line(), None, "192.0.2.7", "4711", None)).endswith("web1")


def test_whole_seconds() -> None:
    """A log of whole seconds gives whole seconds."""
    assert row(logout(7)).endswith("after 7 s")
    assert row(logout(7.25)).endswith("after 7.2 s")


# ---------------------------------------------------------------- in a terminal


def hard_rows() -> list[Event]:
    """Return logins and others with all that makes columns hard to keep."""
    return [
        login(),
        login("a" * 300, found=line(host="h" * 300)),
        login("山田太郎" * 9, found=line(host="サーバー" * 9)),
        login("e\u0301" * 40, found=line(host="u\u0308" * 40)),
        login("❤️🎉" * 20, info=f"ED25519-CERT SHA256:abc ID {logged('🎉' * 99)} (serial 7) CA RSA SHA256:d"),
        login("z" + "\u0301" * 2_000),
        login("[bold red]x[/]", method="[link=file:///]y[/link]", info=None, found=line(host="[/]")),
        login("yamada", method="password", info=None, address=IPV6),
        login(address="a" * 300),
        login(address=ADDRESS, factors=("publickey", "keyboard-interactive/pam")),
        logout(90_000),
        Forged("", line(), "root", "6.6.6.6", "22", 1012, "accepted"),
        Attempt("", line(), "yamada", "203.0.113.113", "65535", "password", reason="r" * 300, count=99),
        Probe("", line(None), None, None, None, "p" * 300),
    ]


def rows_of(columns: Sequence[Column], width: int, names: Names | None, places: Places | None) -> list[str]:
    """Return the lines of a table with all of them."""
    table = Table(columns, UTC, color=False, width=width, noise=True, names=names, places=places)
    if columns is EVENTS:
        texts = [table.row(event) for event in hard_rows()]
    else:
        texts = [table.session(event, "29 d 23 h") for event in hard_rows() if isinstance(event, Login)]
    return "\n".join(texts).split("\n")


def cell(text: str, position: int) -> str:
    """Return what a line has in a cell of the terminal; a blank where it ends before."""
    at = 0
    for char in text:
        at += cell_len(char)
        if at > position:
            return char
    return " "


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("with_more", [False, True])
def test_columns_are_aligned(names: Names, places: Places, kind: str, width: int, *, with_more: bool) -> None:
    """
    Whatever rows hold, each column begins in the same cell, with a blank before it, and no row is wider than the terminal.

    A long address alone goes on over the columns behind it; these follow in the next line, in their own cells.
    """
    columns = TABLES[kind]
    head, *lines = rows_of(columns, width, *((names, places) if with_more else (None, None)))
    by_name = {found[0]: found.start() for found in re.finditer(r"who and how|\S+", head)}
    starts = list(by_name.values())
    assert len(starts) == len(columns) + with_more
    for text in lines:
        assert cell_len(text) <= width, text
        spilled = IPV6 in text or "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" in text[by_name["from"] :]
        for start in starts[1:]:
            if not (spilled and start > by_name["from"]):
                assert cell(text, start - 1) == " ", (text, start)
    assert any(IPV6 in text for text in lines)


@pytest.mark.parametrize("width", [0, 1, 20, 40, 46, 60, 79])
def test_narrow_terminals(width: int) -> None:
    """A terminal that is too narrow for all columns does without some; one that is too narrow for anything still ends."""
    lines = rows_of(EVENTS, width, None, None)
    assert "from" in lines[0]
    limit = max(width, 55)
    assert all(cell_len(text) <= limit or IPV6 in text for text in lines)


@pytest.mark.parametrize("width", [40, *WIDTHS])
def test_an_address_is_never_cut(width: int) -> None:
    """Whatever the user is called; one that needs more cells than its column has the rest of its line."""
    for address in (IPV6, "203.0.113.113"):
        event = Login("", line(), "u" * 300, address, "65535", "password")
        assert re.search(rf"\s{re.escape(address)}(\s|$)", row(event, width=width))


def test_rows_at_80_columns(names: Names, places: Places) -> None:
    """A login's person stands before the key, which gives way first; a logout's duration stays."""
    table = Table(EVENTS, UTC, color=False, width=80, noise=True, names=names, places=places)
    texts = [
        table.row(event)
        for event in (
            login(address=ADDRESS),
            logout(61),
            login("yamada", method="password", info=None, address=IPV6),
            Attempt("", line(), "yamada", "192.0.2.7", "4711", "password"),
            Forged("", line(), "root", "6.6.6.6", "22", 1012, "accepted"),
        )
    ]
    assert "\n".join(texts).split("\n") == [
        "time                what   user      from            in host     who and how",
        "2026-11-22 10:00:00 login  alice     193.252.1.1     FR web1     Carol Danvers",
        "2026-11-22 10:01:01 logout alice     192.0.2.7          web1     after 0:01:01",
        "2026-11-22 10:00:00 login  yamada    2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
        "                                                        web1     山田太郎",
        "2026-11-22 10:00:00 try    yamada    192.0.2.7          web1     password",
        "2026-11-22 10:00:00 FORGED root      6.6.6.6            web1     by uid 1012",
    ]


def test_rows_at_120_columns(names: Names, places: Places) -> None:
    """There is room for the key's beginning, and for the town."""
    table = Table(SESSIONS, UTC, color=False, width=120, names=names, places=places)
    assert table.session(login(address=ADDRESS), "29 d 23 h").split("\n") == [
        "since                lasted     user          from             place     host          who and how",
        "2026-11-22 10:00:00  29 d 23 h  alice         193.252.1.1      Lyon, FR  web1          Carol Danvers, SHA256:lj7Zkp…",
    ]


def test_rows_at_160_columns(names: Names) -> None:
    """There is room for everything but the whole fingerprint."""
    table = Table(OPEN_SESSIONS, UTC, color=False, width=160, names=names)
    head, found = table.session(login(found=line(trusted=(0, "")))).split("\n")
    assert head == "since                user              from                        host                  who and how"
    assert found == (
        "2026-11-22 10:00:00  alice             192.0.2.7 port 4711         web1                  "
        f"Carol Danvers, publickey {SHORT_KEY}, verified"
    )


def test_names(names: Names) -> None:
    """In a file the person stands before the key, too; of a try it is said whose account it was."""
    assert row(login(), names=names).endswith(f"  Carol Danvers, publickey {KEY}")
    assert row(logout(61), names=names).endswith("  after 0:01:01, Carol Danvers")
    table = Table(EVENTS, UTC, color=False, width=None, noise=True, names=names)
    assert table.row(Attempt("", line(), "yamada", "6.6.6.6", "22", "password")).endswith("  password, account of 山田太郎")


@pytest.mark.parametrize(
    ("fingerprint", "short"),
    [
        (FINGERPRINT, "SHA256:lj7Zkp…"),
        ("SHA256:abc", "SHA256:abc"),
        ("MD5:16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48", "MD5:16:27:ac…"),
        ("16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48", "16:27:ac…"),
        ("", ""),
    ],
)
def test_short_fingerprint(fingerprint: str, short: str) -> None:
    """Its beginning, of each kind that sshd logs; a mark says that there is more."""
    assert short_fingerprint(fingerprint) == short


@pytest.mark.parametrize("width", [None, 80, 160])
@pytest.mark.parametrize(
    "evil", ["\x1b[2J", "a\rb", "a\nb", "\u202ex", "\x9bx", "\t", "\u200b", "\ufeff", "\u2028", "\U000e0041"]
)
def test_no_row_holds_what_a_terminal_obeys(evil: str, width: int | None) -> None:
    """Text from the network is shown as escapes where it is not plain text."""
    raw = logged(evil)
    info = f"ED25519-CERT SHA256:abc ID {evil} (serial 7) CA RSA SHA256:d"
    bad = Login("", line_of(START, host=raw), evil, evil, evil, evil, info, factors=(evil, evil))
    assert row(bad, width=width).replace("\n", "").isprintable()


@pytest.mark.parametrize("width", [None, 80, 160])
def test_markup_is_text(width: int | None) -> None:
    """What rich would take for markup or an emoji is shown as it is."""
    evil = login("[red]x[/]", found=line(host=":boom:"), method="[b]y[/b]", info=None)
    for text in ("[red]x[/]", ":boom:", "[b]y[/b]"):
        assert text in row(evil, width=width)


def test_marks_upon_marks() -> None:
    """A name of combining marks is not written over the rows around it."""
    assert row(login("z" + "\u0301" * 2_000), width=80).count("\u0301") == 0
    assert "e\u0301" in row(login("e\u0301"), width=80)


def test_color() -> None:
    """Color frames a row, also one of two lines, and nothing of it is inside."""
    table = Table(EVENTS, UTC, color=True, width=None)
    head, first = table.row(login("\x1b[0m")).split("\n")
    assert head == f"\x1b[1m{HEAD}\x1b[0m"
    assert first.startswith("\x1b[32m2026")
    assert first.endswith("\x1b[0m")
    assert first[5:-4].isprintable()
    two = Table(EVENTS, UTC, color=True, width=80).row(login(address=IPV6)).split("\n")[1:]
    assert [(text[:5], text[-4:], text[5:-4].isprintable()) for text in two] == [("\x1b[32m", "\x1b[0m", True)] * 2


# ---------------------------------------------------------------- the summary


def test_summary() -> None:
    """The summary says what was read, understood and told, and what the bounds have cost."""
    summary = Summary(
        lines=12345, understood=12000, unmatched=300, unframed=45, cut=2, actions={"accepted": 1000},
        events={"ssh_login": 1000}, notes={"hosts_dropped_total": 3},
    )  # fmt: skip
    assert summary_text(summary).split("\n") == [
        "12,345 lines read, 12,000 understood, 300 unmatched, 45 in no known framing, 2 cut at 64 KiB",
        "lines:  accepted 1,000",
        "events: ssh_login 1,000",
        """to see unmatched lines: sshbell parse FILE | jq 'select(.event.action == "unmatched")'""",
        "to see lines in no known framing: sshbell explain - < FILE | grep -A 1 'none fits'",
        "limits: hosts_dropped_total 3",
    ]
    nothing, *hints = summary_text(Summary()).split("\n")
    assert (nothing, len(hints)) == ("0 lines read, 0 understood, 0 unmatched", 2)


def test_summary_says_what_to_do() -> None:
    """Other programs' lines and unverified logins are counted; a log that is hardly read gets advice."""
    said = summary_text(Summary(lines=100, understood=10, unframed=60, unverified=3)).split("\n")
    assert said[0].endswith("60 in no known framing, 30 of other programs or empty")
    assert said[1].startswith("unverified logins: 3 ")
    assert "none fits" in said[2]
    assert "journalctl -o json" in said[3]
    said = summary_text(Summary(lines=100)).split("\n")
    assert said[1].startswith("no lines of sshd, dropbear or PAM; ")
    assert said[1].count("journalctl") == 1
    said = summary_text(Summary(lines=100, understood=100, timeless=7)).split("\n")
    assert said[1].startswith("lines without a usable time: 7 ")


def test_summary_of_another_programs_log() -> None:
    """Where most lines are of other programs, sshd may have another name; half of them are no reason to think so."""
    advice = "most lines are of other programs; if your sshd logs under another name, add that to sshd_programs"
    assert summary_text(Summary(lines=100, understood=49)).split("\n")[1:] == [advice]
    assert advice not in summary_text(Summary(lines=100, understood=50))


def test_canary_row() -> None:
    """The login of ``sshbell canary`` has a row among tries and probes only."""
    canary = Canary("3" * 32, line(), "sshbell-canary-0", "127.0.0.1", "4000")
    assert row(canary) == ""
    shown = Table(EVENTS, UTC, color=False, width=None, noise=True).row(canary)
    assert shown.splitlines()[1].split()[2:] == ["canary", "sshbell-canary-0", "127.0.0.1", "port", "4000", "web1"]
