"""Times of the day in a reader's zone: when the next digest is due, and until when it is quiet. Pure: the time is an argument."""

from datetime import UTC, datetime, time, timedelta, tzinfo

_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WEEK_DAYS = 7


def next_us(schedule: str, after_us: int, zone: tzinfo | None) -> int:
    """
    Return the next time of a schedule, later than ``after_us``; both in microseconds since 1970 UTC.

    Args:
        schedule: ``daily 08:00`` or ``weekly mon 08:00``.
        after_us: the time to start from.
        zone: the reader's; None for this host's.
    """
    *which, text = schedule.split()
    day = _local(after_us, zone).date()
    # Today's time may be over, and where a clock is put forward, a day may be short.
    for days in range(_WEEK_DAYS + 2):
        date = day + timedelta(days=days)
        if which[0] == "daily" or _WEEKDAYS[date.weekday()] == which[1]:
            moment = datetime.combine(date, time.fromisoformat(text), zone)
            at_us = int(moment.timestamp()) * 1_000_000
            if at_us > after_us:
                return at_us
    raise AssertionError(schedule)


def quiet_until_us(quiet: str, now_us: int, zone: tzinfo | None) -> int | None:
    """
    Return until when it is quiet, in microseconds since 1970 UTC; None if it is not quiet now.

    Args:
        quiet: ``22:00-07:00``, also over midnight; "": never.
        now_us: the wall clock.
        zone: the reader's; None for this host's.
    """
    if not quiet:
        return None
    begin, end = map(time.fromisoformat, quiet.split("-"))
    now = _local(now_us, zone).time()
    is_quiet = begin <= now < end if begin < end else now >= begin or now < end
    return next_us(f"daily {end:%H:%M}", now_us, zone) if is_quiet else None


def _local(at_us: int, zone: tzinfo | None) -> datetime:
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).astimezone(zone)
