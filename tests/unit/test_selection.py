"""Which events ``replay`` is asked for."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from consumer.events import Probe
from consumer.selection import Selection
from tests.lines import line_of

SECOND = 1_000_000
PARIS, TOKYO = ZoneInfo("Europe/Paris"), ZoneInfo("Asia/Tokyo")
PROJECT_DIR = Path(__file__).parents[2]


def at(*date: int, zone: tzinfo = UTC) -> int:
    """Return a moment in microseconds."""
    return int(datetime(*date, tzinfo=zone).timestamp()) * SECOND  # type: ignore[arg-type,misc]


def event(time_us: int = 0, user: str | None = "alice", host: str = "web1") -> Probe:
    """Return an event at a time."""
    line = line_of(time_us, host=host, user=user)
    return Probe("", line, user, None, None)


# A Monday afternoon.
NOW_US = at(2026, 11, 23, 15, 30, 12)


def selection(since: str | None = None, until: str | None = None, user: str | None = None, host: str | None = None,
              zone: tzinfo = UTC, now_us: int = NOW_US) -> Selection:  # fmt: skip
    """Return the selection that was typed."""
    return Selection.of(since, until, user, host, zone, now_us)


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("2026-11-22", UTC, at(2026, 11, 22)),
        ("2026-11-22", PARIS, at(2026, 11, 22, zone=PARIS)),
        ("2026-07-22", PARIS, at(2026, 7, 22, zone=PARIS)),
        ("2026-11-22T10:00", UTC, at(2026, 11, 22, 10)),
        ("2026-11-22 10:00:30", UTC, at(2026, 11, 22, 10, 0, 30)),
        ("2026-11-22T10:00Z", PARIS, at(2026, 11, 22, 10)),
        ("2026-11-22T10:00+02:00", PARIS, at(2026, 11, 22, 10, zone=timezone(timedelta(hours=2)))),
        ("now", PARIS, NOW_US),
        ("today", UTC, at(2026, 11, 23)),
        ("today", TOKYO, at(2026, 11, 24, zone=TOKYO)),
        ("Yesterday", UTC, at(2026, 11, 22)),
        ("yesterday", PARIS, at(2026, 11, 22, zone=PARIS)),
        ("yesterday 14:00", PARIS, at(2026, 11, 22, 14, zone=PARIS)),
        ("07:46", UTC, at(2026, 11, 23, 7, 46)),
        ("7:46:09", PARIS, at(2026, 11, 23, 7, 46, 9, zone=PARIS)),
        ("15:30:12", UTC, NOW_US),
        ("22:00", UTC, at(2026, 11, 22, 22)),
        ("sunday", UTC, at(2026, 11, 22)),
        ("monday", UTC, at(2026, 11, 16)),
        ("friday 10:00", PARIS, at(2026, 11, 20, 10, zone=PARIS)),
        ("22 nov", PARIS, at(2026, 11, 22, zone=PARIS)),
        ("nov 24", UTC, at(2025, 11, 24)),
        ("Nov 22 10:00:14", UTC, at(2026, 11, 22, 10, 0, 14)),
        ("22 Nov 2026 10:00", PARIS, at(2026, 11, 22, 10, zone=PARIS)),
        ("Sun, 22 Nov 2026 10:00:00 +0100", UTC, at(2026, 11, 22, 9)),
        ("november", UTC, at(2026, 11, 1)),
        ("10 am", UTC, at(2026, 11, 23, 10)),
        ("3 days ago at 10:00", UTC, at(2026, 11, 20, 10)),
    ],
)
def test_times(text: str, zone: tzinfo, expected: int) -> None:
    """A time without a zone is one of the zone that is shown; what has no year, day or date is the last one that has been."""
    assert selection(since=text, zone=zone) == Selection(expected, None, None, None)
    assert selection(until=text, zone=zone) == Selection(None, expected, None, None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90), ("5m", 300), ("36h", 129_600), ("7d", 604_800), ("2w", 1_209_600), ("2 hours ago", 7200),
        ("an hour ago", 3600), ("1 minute ago", 60), ("30 min ago", 1800), ("10 secs ago", 10), ("a week ago", 604_800),
    ],
)  # fmt: skip
def test_times_ago(text: str, seconds: int) -> None:
    """``36h`` is that long before now, whatever clocks are turned meanwhile."""
    after_winter_began = at(2026, 10, 25, 12, zone=PARIS)
    for now_us, zone in ((NOW_US, UTC), (after_winter_began, PARIS)):
        assert selection(since=text, zone=zone, now_us=now_us).since_us == now_us - seconds * SECOND


def test_common_times_are_read_at_once() -> None:
    """The library for words is not loaded for forms that need none: it takes 0.4 s."""
    code = (
        "import sys; from datetime import UTC; from consumer.selection import moment_us\n"
        "for text in ('2026-11-22', '7d', '2 hours ago', 'yesterday', '07:46'): moment_us(text, UTC, 10**15)\n"
        "assert 'dateparser' not in sys.modules\n"
        "moment_us('monday', UTC, 10**15)\n"
        "assert 'dateparser' in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT_DIR, check=False).returncode == 0


@pytest.mark.parametrize(
    "text",
    [
        "", "7", "7y", "-7d", "7 d", "2026-13-01", "2026-11-22T25:00", "999999w", "999999 weeks ago", "a", "noonish", "24:00",
        "07:60", "yesterday 25:00", "hier", "22 novembre", "monday\x1b[2J", "monday" * 20, "lundi \u202e",
        "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59",
    ],
)  # fmt: skip
@pytest.mark.parametrize("option", ["since", "until"])
def test_times_that_cannot_be_meant(option: str, text: str) -> None:
    """Anything else is a ValueError that names the option and shows what can be given."""
    with pytest.raises(ValueError, match=f"--{option}: .* is not a time that sshbell understands; write .*2026-11-22"):
        selection(since=text) if option == "since" else selection(until=text)


@pytest.mark.parametrize("text", ["01/02/2026", "1.2.2026", "11/22", "22-11-2026", "02-01", "01/02/2026 10:00", "mon 01/02"])
def test_times_that_could_be_two(text: str) -> None:
    """A date that is another one in another country is not guessed."""
    with pytest.raises(ValueError, match=r"--since: .* can be read in two ways; write the year first"):
        selection(since=text)


def test_bounds_in_the_wrong_order() -> None:
    """Both are shown as they were understood."""
    with pytest.raises(ValueError, match=r"not before --until.*: 2026-11-23 07:46:00 and 2026-11-22 22:00:00$"):
        selection(since="07:46", until="22:00")


def test_future() -> None:
    """A beginning that has not come yet is said, with both times; an end may be in the future."""
    assert selection(since="now", until="tomorrow").fault_of_future(UTC, NOW_US) == ""
    assert selection(since="tomorrow", zone=PARIS).fault_of_future(PARIS, NOW_US) == (
        "--since: 2026-11-24 00:00:00 is in the future; it is 2026-11-23 16:30:12 now"
    )


def test_bounds() -> None:
    """``since`` is included, ``until`` is not."""
    chosen = selection(since="2026-11-22T10:00", until="2026-11-22T11:00")
    start, end = at(2026, 11, 22, 10), at(2026, 11, 22, 11)
    assert [chosen.takes(event(moment)) for moment in (start - 1, start, end - 1, end)] == [False, True, True, False]


def test_no_bounds() -> None:
    """Without options everything is taken, also what has no time, user or host."""
    assert selection().takes(event(0, None, ""))


def test_user_and_host() -> None:
    """User and host are whole names, as people write them; an unknown user is nobody."""
    assert selection(user="alice").takes(event())
    assert not selection(user="ali").takes(event())
    assert not selection(user="alice").takes(event(user=None))
    assert selection(user="").takes(event(user=""))
    assert selection(host="web1", user="alice").takes(event())
    assert not selection(host="web1", user="bob").takes(event())
    assert selection(host="b\xfcro").takes(event(host="b\xc3\xbcro"))
