"""The wall clock, time zones, and the text form of times."""

import re
import time
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

SECOND_US = 1_000_000
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - of UTC; without a zone it is written without one


def now_us() -> int:
    """Return the wall clock, in microseconds since 1970 UTC."""
    return time.time_ns() // 1000


def utc(moment_us: int) -> datetime:
    """Return a time as a ``datetime`` in UTC."""
    return datetime.fromtimestamp(moment_us / SECOND_US, UTC)


def zone_of(name: str) -> tzinfo:
    """
    Return a time zone by its tz database name, ``UTC``, or an offset such as ``+02:00``.

    Raises:
        ValueError: there is no zone of this name.
    """
    if name in {"UTC", "Z"}:
        return UTC
    if re.fullmatch(r"[+-]\d\d:?\d\d", name):
        return datetime.fromisoformat(f"1970-01-01T00:00{name}").tzinfo or UTC
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - it loads slowly, and a login waits for the clock

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"no time zone {name!r}") from error


def isoformat(moment_us: int) -> str:
    """Return a time in RFC 3339, in UTC with microseconds, the form of every ``@timestamp``."""
    minutes, rest_us = divmod(moment_us, 60 * SECOND_US)
    seconds, micros = divmod(rest_us, SECOND_US)
    return f"{_minute(minutes)}:{seconds:02d}.{micros:06d}Z"


@lru_cache(64)  # most lines of a log have the minute of the line before
def _minute(minutes: int) -> str:
    return (_EPOCH + timedelta(minutes=minutes)).isoformat(timespec="minutes")


def local_zone() -> tzinfo:
    """Return this machine's time zone."""
    return _Local()


class _Local(tzinfo):
    """This machine's time zone, with daylight saving time; the standard library has no class for it."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        if moment is None:
            return None
        return moment.replace(tzinfo=None).astimezone().utcoffset()

    def fromutc(self, moment: datetime) -> datetime:
        return moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=self)

    def dst(self, _moment: datetime | None) -> timedelta | None:
        return None

    def tzname(self, moment: datetime | None) -> str | None:
        return moment.replace(tzinfo=None).astimezone().tzname() if moment else None
