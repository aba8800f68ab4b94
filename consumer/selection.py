"""The selection of events by time, user and host."""

import re
from datetime import UTC, datetime, timedelta, tzinfo

import msgspec

from consumer.config import seconds_of
from consumer.events import Event
from consumer.text import readable

_AGO = re.compile(r"[0-9]{1,6}[smhdw]\Z")


class Selection(msgspec.Struct, frozen=True):
    """Bounds in microseconds, ``since_us`` included and ``until_us`` not; None: no bound."""

    since_us: int | None
    until_us: int | None
    user: str | None
    host: str | None

    @classmethod
    def of(cls, since: str | None, until: str | None, user: str | None, host: str | None, zone: tzinfo) -> "Selection":
        """
        Return the selection for the options of a command.

        Raises:
            ValueError: a time is invalid, or the span is empty.
        """
        found = cls(_time("--since", since, zone), _time("--until", until, zone), user, host)
        if found.since_us is not None and found.until_us is not None and found.since_us >= found.until_us:
            raise ValueError("--since is not before --until, so nothing can be between them")
        return found

    @property
    def is_all(self) -> bool:
        """Whether it selects everything."""
        return self == Selection(None, None, None, None)

    def takes(self, event: Event) -> bool:
        """Return whether it selects ``event``."""
        return (
            (self.since_us is None or event.time_us >= self.since_us)
            and (self.until_us is None or event.time_us < self.until_us)
            and (self.user is None or event.user == self.user)
            and (self.host is None or readable(event.host) == self.host)
        )


def _time(option: str, text: str | None, zone: tzinfo) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.now(UTC) - timedelta(seconds=seconds_of(text)) if _AGO.match(text) else datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp() * 1_000_000)
    except (ValueError, OverflowError):
        raise ValueError(f"{option}: {text!r} is not a time; give 2026-11-22, 2026-11-22T10:00+01:00, 36h or 7d") from None
