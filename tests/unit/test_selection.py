"""Which events ``replay`` is asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest

from consumer.events import Probe
from consumer.selection import Selection
from tests.lines import line_of

SECOND = 1_000_000
PARIS = ZoneInfo("Europe/Paris")


def at(*date: int, zone: tzinfo = UTC) -> int:
    """Return a moment in microseconds."""
    return int(datetime(*date, tzinfo=zone).timestamp()) * SECOND  # type: ignore[arg-type,misc]


def event(time_us: int = 0, user: str | None = "alice", host: str = "web1") -> Probe:
    """Return an event at a time."""
    line = line_of(time_us, host=host, user=user)
    return Probe("", line, user, None, None)


def selection(since: str | None = None, until: str | None = None, user: str | None = None, host: str | None = None,
              zone: tzinfo = UTC) -> Selection:  # fmt: skip
    """Return the selection that was typed."""
    return Selection.of(since, until, user, host, zone)


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
    ],
)
def test_times(text: str, zone: tzinfo, expected: int) -> None:
    """A time without a zone is one of the zone that is shown."""
    assert selection(since=text, zone=zone) == Selection(expected, None, None, None)
    assert selection(until=text, zone=zone) == Selection(None, expected, None, None)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("5m", 300), ("36h", 129_600), ("7d", 604_800), ("2w", 1_209_600)])
def test_times_ago(text: str, seconds: int) -> None:
    """``36h`` is that long before now."""
    before = datetime.now(UTC).timestamp() - seconds
    since_us = selection(since=text).since_us
    after = datetime.now(UTC).timestamp() - seconds
    assert since_us is not None
    assert before * SECOND - 1 <= since_us <= after * SECOND + 1


@pytest.mark.parametrize("text", ["yesterday", "", "7", "7y", "-7d", "7 d", "2026-13-01", "2026-11-22T25:00", "999999w", "7d\n"])
@pytest.mark.parametrize("option", ["since", "until"])
def test_times_that_cannot_be_meant(option: str, text: str) -> None:
    """Anything else is a ValueError that names the option and shows what can be given."""
    with pytest.raises(ValueError, match=f"--{option}: .*2026-11-22"):
        selection(since=text) if option == "since" else selection(until=text)


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
