"""CSV: a short set of columns that stays, times of the zone, seconds, and nothing that a spreadsheet or a terminal obeys."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from consumer.events import Attempt, Login
from consumer.events_as_ecs import of_event, of_session
from consumer.records import USER
from consumer.show.spreadsheet import Spreadsheet
from consumer.text import text_of_bytes
from tests.lines import line_of

SECOND = 1_000_000
START = int(datetime(2026, 11, 22, 23, 0, 0, tzinfo=UTC).timestamp()) * SECOND + 789_000
KEY = "ED25519 SHA256:lj7ZkpHJrXEKLvBHm9iyVhHSZbIXMRVzPQZPPMTQX5Q"
LOGIN = Login(
    "a1", line_of(START), "alice", "192.0.2.7", "4711", "keyboard-interactive/pam", KEY, 0,
    factors=("publickey", "keyboard-interactive/pam"),
)  # fmt: skip
# What those who import it rely on.
ALWAYS = [
    "timestamp", "event.action", "user.name", "user.full_name", "source.address", "source.geo.city_name",
    "source.geo.country_iso_code", "host.name", "ssh.method", "ssh.key.fingerprint", "ssh.key.owner", "ssh.count", "ssh.reason",
    "event.end", "duration_s",
]  # fmt: skip


def read(sheet: Spreadsheet, *rows: bytes) -> list[dict[str, str]]:
    """Read rows as a spreadsheet does."""
    return list(csv.DictReader(io.StringIO((sheet.head() + b"".join(rows)).decode(), newline="")))


def test_columns_stay() -> None:
    """The short set is the beginning of the long one."""
    short, long = (next(csv.reader([Spreadsheet(UTC, all_columns=more).head().decode()])) for more in (False, True))
    assert short == ALWAYS
    assert long[: len(short)] == short
    assert len(long) == len(set(long)) > len(short)


def test_row() -> None:
    """A session: times in the zone, whole seconds; how long it was, in seconds with what is known below one."""
    sheet = Spreadsheet(ZoneInfo("Europe/Paris"), all_columns=True)
    (row,) = read(sheet, sheet.row(of_session(LOGIN, START + 61_500_000)))
    known = {name: value for name, value in row.items() if value}
    assert known == {
        "timestamp": "2026-11-23 00:00:00", "event.action": "ssh_login", "event.outcome": "success", "event.id": "a1",
        "event.start": "2026-11-23 00:00:00", "event.end": "2026-11-23 00:01:02", "duration_s": "61.5", "user.name": "alice",
        "source.address": "192.0.2.7", "source.port": "4711", "host.name": "web1", "ssh.method": "keyboard-interactive",
        "ssh.submethod": "pam", "ssh.factors": "publickey; keyboard-interactive", "ssh.key.type": "ED25519",
        "ssh.key.fingerprint": KEY.partition(" ")[2], "ssh.origin": "unverified",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("micros", "text"), [(0, "0"), (40_000, "0.04"), (600_000_000, "600"), (10**12, "1000000"), (1_234_567, "1.235")]
)
def test_durations(micros: int, text: str) -> None:
    """They are plain numbers, to the thousandth."""
    sheet = Spreadsheet(UTC, all_columns=False)
    assert read(sheet, sheet.row(of_session(LOGIN, START + micros)))[0]["duration_s"] == text


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_no_formula(text: str) -> None:
    """A text that would be a formula is one no longer, and a control character is shown."""
    sheet = Spreadsheet(UTC, all_columns=False)
    line = line_of(START, host=text, user=text)
    (row,) = read(sheet, sheet.row(of_event(Attempt("a", line, text, text, None, text, reason=text), [])))
    for name in ("user.name", "source.address", "host.name", "ssh.method", "ssh.reason"):
        assert row[name].startswith("'")
        assert row[name].isprintable()


@pytest.mark.parametrize("text", ["x;=1+1;", "x; =1", "x,=1", "x\t@SUM(A1)", "x;\uff1d1", "a;-1;+1"])
@pytest.mark.parametrize("separator", ",;\t")
def test_no_formula_behind_another_separator(text: str, separator: str) -> None:
    """A spreadsheet that splits at another character, with or without regard to quotes, finds no formula either."""
    sheet = Spreadsheet(UTC, all_columns=False)
    line = line_of(START, host="web1", user=text_of_bytes(text.encode()))
    written = sheet.row(of_event(Attempt("a", line, line[USER], "192.0.2.7", None, "password"), [])).decode()
    quoted = next(csv.reader([written], delimiter=separator))
    for cell in [*quoted, *written.split(separator)]:
        assert not cell.strip().strip('"').strip().startswith(("=", "+", "-", "@", "\uff1d"))
