"""``consumer.deliver.hours``: times of the day, also where a clock is put forward or back."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from consumer.deliver.hours import next_us, quiet_until_us

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> int:
    """Return the microseconds of a time in Berlin."""
    return int(datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("schedule", "now", "then"),
    [
        ("daily 08:00", "2026-11-22 07:59:59", "2026-11-22 08:00"),
        ("daily 08:00", "2026-11-22 08:00", "2026-11-23 08:00"),
        ("daily 00:00", "2026-12-31 23:59", "2027-01-01 00:00"),
        ("weekly mon 08:00", "2026-11-22 12:00", "2026-11-23 08:00"),
        ("weekly sun 08:00", "2026-11-22 08:00", "2026-11-29 08:00"),
        # In the night of a change, the day has 23 or 25 hours.
        ("daily 08:00", "2026-03-28 08:00", "2026-03-29 08:00"),
        ("daily 08:00", "2026-10-24 08:00", "2026-10-25 08:00"),
        ("daily 02:30", "2026-03-28 12:00", "2026-03-29 03:30"),
    ],
)
def test_schedules(schedule: str, now: str, then: str) -> None:
    """The next time is later than now."""
    assert next_us(schedule, at(now), BERLIN) == at(then)


@pytest.mark.parametrize(
    ("quiet", "now", "end"),
    [
        ("22:00-07:00", "2026-11-22 21:59:59", None),
        ("22:00-07:00", "2026-11-22 22:00", "2026-11-23 07:00"),
        ("22:00-07:00", "2026-11-22 03:00", "2026-11-22 07:00"),
        ("22:00-07:00", "2026-11-22 07:00", None),
        ("12:00-13:00", "2026-11-22 12:30", "2026-11-22 13:00"),
        ("12:00-13:00", "2026-11-22 11:30", None),
        ("", "2026-11-22 11:30", None),
    ],
)
def test_quiet_hours(quiet: str, now: str, end: str | None) -> None:
    """Quiet hours include their begin, not their end, and may go over midnight."""
    assert quiet_until_us(quiet, at(now), BERLIN) == (None if end is None else at(end))


def test_the_zone_of_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a zone, the times are this host's."""
    import time  # noqa: PLC0415

    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert next_us("daily 08:00", at("2026-11-22 07:00"), None) == at("2026-11-22 08:00")
    finally:
        monkeypatch.undo()
        time.tzset()
