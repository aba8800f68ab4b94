"""The selection of events by time, user and host."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo

import msgspec

from consumer.clock import SECOND_US
from consumer.events import Event
from consumer.spans import seconds_of
from consumer.text import readable

_SPAN = re.compile(r"[0-9]{1,6}[smhdw]\Z")
_AGO = re.compile(r"(an?|[0-9]{1,6}) (second|sec|minute|min|hour|day|week)s? ago\Z")
_OF_DAY = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?\Z")
# Days and months of one or two digits: which of them is which depends on where somebody lives.
_TWO_WAYS = re.compile(r"(?<![0-9/.-])[0-9]{1,2}[/.-][0-9]{1,2}(?![0-9:])")
# The library makes a time of single letters, too; each word that it is to read has a name of a day, a month or a unit.
_WORDED = re.compile(r"[a-z]{3}|[0-9] ?[ap]m\b")
_TEXT_LIMIT = 60
_EXAMPLES = """write yesterday, monday, 07:46, "2 hours ago", 7d, 2026-11-22 or "2026-11-22 10:00\""""


class Selection(msgspec.Struct, frozen=True):
    """Bounds in microseconds, ``since_us`` included and ``until_us`` not; None: no bound."""

    since_us: int | None
    until_us: int | None
    user: str | None
    host: str | None

    @classmethod
    def of(
        cls, since: str | None, until: str | None, user: str | None, host: str | None, zone: tzinfo, now_us: int
    ) -> "Selection":
        """
        Return the selection for the options of a command; ``moment_us`` reads the times, at the wall clock ``now_us``.

        Raises:
            ValueError: a time is invalid, or the span is empty.
        """
        found = cls(_bound("--since", since, zone, now_us), _bound("--until", until, zone, now_us), user, host)
        if found.since_us is not None and found.until_us is not None and found.since_us >= found.until_us:
            times = f"{_shown(found.since_us, zone)} and {_shown(found.until_us, zone)}"
            raise ValueError(f"--since is not before --until, so nothing can be between them: {times}")
        return found

    @property
    def is_all(self) -> bool:
        """Whether it selects everything."""
        return self == Selection(None, None, None, None)

    @property
    def options(self) -> list[str]:
        """The options by which it selects."""
        values = {"--since": self.since_us, "--until": self.until_us, "--user": self.user, "--host": self.host}
        return [option for option, value in values.items() if value is not None]

    def takes(self, event: Event) -> bool:
        """Return whether it selects ``event``. An event without a time may be within any bounds, so it is selected."""
        return (
            (self.since_us is None or event.time_us >= self.since_us or not event.time_us)
            and (self.until_us is None or event.time_us < self.until_us)
            and (self.user is None or event.user == self.user)
            and (self.host is None or readable(event.host) == self.host)
        )

    def fault_of_future(self, zone: tzinfo, now_us: int) -> str:
        """Return the message for a ``since_us`` in the future; "" if it is past."""
        if self.since_us is None or self.since_us <= now_us:
            return ""
        return f"--since: {_shown(self.since_us, zone)} is in the future; it is {_shown(now_us, zone)} now"


def _bound(option: str, text: str | None, zone: tzinfo, now_us: int) -> int | None:
    if text is None:
        return None
    try:
        return moment_us(text, zone, now_us)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None


def _shown(time_us: int, zone: tzinfo) -> str:
    return f"{datetime.fromtimestamp(time_us // SECOND_US, zone):%Y-%m-%d %H:%M:%S}"


def moment_us(text: str, zone: tzinfo, now_us: int) -> int:
    """
    Return the time that a text means, in microseconds since 1970 UTC.

    ISO 8601 (``2026-11-22``, ``2026-11-22 10:00``); a span before now (``7d``, ``2 hours ago``); a time of day (``07:46``), the
    last one that has been; ``now``, ``today``, ``yesterday``; and other English words: ``monday`` is the last one before today,
    ``22 nov`` the last one that has been. A day without a time is its midnight.

    Raises:
        ValueError: it is not a time, or has two readings.
    """
    now = datetime.fromtimestamp(now_us / SECOND_US, zone)
    try:
        moment = _moment(text.strip(), now)
        found_us = int((moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp() * SECOND_US)
        _shown(found_us, zone)  # in this zone it may be in the year 10000, which no message can show
    except (ValueError, OverflowError) as error:
        fault = error if isinstance(error, _UnclearError) else f"is not a time that sshbell understands; {_EXAMPLES}"
        raise ValueError(f"{text!r} {fault}") from None
    return found_us


class _UnclearError(ValueError):
    """A time with two readings; the text follows it."""


def _moment(text: str, now: datetime) -> datetime:
    """Return a time, in the zone of ``now`` if it names none; the forms that need no library come first."""
    here = now.replace(tzinfo=None)
    if _SPAN.match(text):
        return now.astimezone(UTC) - timedelta(seconds=seconds_of(text))
    with suppress(ValueError):
        return datetime.fromisoformat(text)
    text = text.lower()
    if found := _AGO.match(text):
        count = 1 if found[1].startswith("a") else int(found[1])
        return now.astimezone(UTC) - timedelta(seconds=seconds_of(f"{count}{found[2][0]}"))
    if found := _OF_DAY.match(text):
        at = here.replace(hour=int(found[1]), minute=int(found[2]), second=int(found[3] or 0), microsecond=0)
        return at if at <= here else at - timedelta(days=1)
    if text in {"now", "today", "yesterday"}:
        return here if text == "now" else _midnight(here) - timedelta(days=text == "yesterday")
    return _in_words(text, here)


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _in_words(text: str, here: datetime) -> datetime:
    if _TWO_WAYS.search(text):
        raise _UnclearError("can be read in two ways; write the year first, then the month: 2026-02-01")
    if not _WORDED.search(text) or len(text) > _TEXT_LIMIT or not text.isascii() or not text.isprintable():
        raise ValueError(text)
    # dateparser takes 0.4 s to import and to read its first words, so it comes last.
    from dateparser.date import DateDataParser  # type: ignore[import-untyped]  # noqa: PLC0415

    settings = {
        "RELATIVE_BASE": here, "PREFER_DATES_FROM": "past", "PREFER_DAY_OF_MONTH": "first", "RETURN_TIME_AS_PERIOD": True,
        "PARSERS": ["relative-time", "absolute-time"],
    }  # fmt: skip
    found = DateDataParser(languages=["en"], settings=settings).get_date_data(text)
    moment, has_time = found.date_obj, found.period in {"time", "part_of_day"}
    # dateparser ignores an hour that does not exist.
    if not isinstance(moment, datetime) or (":" in text and not has_time):
        raise ValueError(text)
    return moment if has_time else _midnight(moment)
