"""Events as rows for people; a replay may be long, so each row is written when it is known."""

from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

import click

from consumer.events import Attempt, Event, Forged, Login, Logout, Probe
from consumer.matching.messages import METHODS, method_info, sshd_name
from consumer.records import AMBIGUOUS
from consumer.text import harmless, readable

if TYPE_CHECKING:
    from consumer.places.geoip import Places
    from consumer.show.owner_names import Names

_USER_WIDTH, _FROM_WIDTH, _PLACE_WIDTH, _HOST_WIDTH = 16, 27, 22, 14


class Table:
    """
    Rows of logins, logouts and forged lines. Tries and probes are counted in a replay's summary; a row for each would hide the
    rest.

    Args:
        zone: of the times shown.
        color: use it.
        width: of the terminal, in characters; what does not fit goes to a second line. None, for a file or a pipe: nothing is
            cut.
        noise: give tries and probes rows as well.
        names: of the people, which stand behind how they came.
        places: of the addresses, which get a column where there is a database.
    """

    def __init__(
        self, zone: tzinfo, *, color: bool, width: int | None, noise: bool = False,
        names: "Names | None" = None, places: "Places | None" = None,
    ) -> None:  # fmt: skip
        self._names = names
        self._places = places if places is not None and places.databases else None
        self._zone = zone
        self._noise = noise
        self._color = color
        self._width = width
        self._has_head = False

    def row(self, event: Event) -> str:
        """Return the text for one event, with the head of the table before the first; "" for one that is only counted."""
        match event:
            case Login():
                word, last, color = "login", _how(event), "green"
            case Logout():
                word, last, color = "logout", _duration(event), ""
            case Forged():
                word, last, color = "FORGED", _claimed(event), "red"
            case Attempt() if self._noise:
                word, last, color = "try", _tried(event), ""
            case Probe() if self._noise:
                word, last, color = "probe", sshd_name(event.reason) if event.reason else "", ""
            case Attempt() | Probe():
                return ""
        return self._text(f"{'time':<19}  {'what':<6}", f"{self._time(event.time_us)}  {word:<6}", event, last, color)

    def session(self, login: Login, lasted: str | None) -> str:
        """Return the text for one session, with the head of the table before the first. ``lasted``: None for no such column."""
        head, start = f"{'since':<19}", self._time(login.time_us)
        if lasted is not None:
            head, start = f"{head}  {'lasted':<15}", f"{start}  {lasted:<15}"
        return self._text(head, start, login, _how(login), "")

    def _time(self, time_us: int) -> str:
        when = datetime.fromtimestamp(time_us // 1_000_000, self._zone) if time_us else None
        return f"{f'{when:%Y-%m-%d %H:%M:%S}' if when is not None else 'unknown':<19}"

    def _text(self, head: str, start: str, event: Event, last: str, color: str) -> str:
        name = "" if self._names is None else harmless(self._names.text(event))
        marks = f", {name}" if name else ""
        marks += ", verified" if event.origin == "verified" else ""
        marks += ", ambiguous" if event.line[AMBIGUOUS] else ""
        where = f"{event.address or 'address unknown'}{'' if event.port is None else f' port {event.port}'}"
        text = self._fitted(
            start, event.user or "-", harmless(readable(where)), self._place(event), readable(event.host), harmless(last) + marks
        )
        if self._color and color:
            text = click.style(text, fg=color)
        if not self._has_head:
            self._has_head = True
            head = self._fitted(head, "user", "from", "place" if self._places else None, "host", "how")
            return f"{click.style(head, bold=True) if self._color else head}\n{text}"
        return text

    def _place(self, event: Event) -> str | None:
        return None if self._places is None else harmless(self._places.text(event.address))

    def _fitted(self, start: str, user: str, where: str, place: str | None, host: str, how: str) -> str:
        """Return the text of a row, on two lines where one is too narrow. Only the user's name is cut there, with a mark."""
        placed = "" if place is None else f"{place:<{_PLACE_WIDTH}}  "
        begin = f"{start}  {harmless(user):<{_USER_WIDTH}}  {where:<{_FROM_WIDTH}}  {placed}"
        text = f"{begin}{harmless(host):<{_HOST_WIDTH}}  {how}".rstrip()
        if self._width is None or len(text) <= self._width:
            return text
        room = max(4, min(_USER_WIDTH, self._width - len(start) - 4 - max(len(where), _FROM_WIDTH)))
        return (
            f"{start}  {_cut(harmless(user), room):<{room}}  {where}\n    {f'{place}  ' if place else ''}{harmless(host)}  {how}"
        )


def _how(event: Login) -> str:
    parts = [METHODS.get(event.method or "", event.method) or "no Accepted line"]
    info = method_info(event.info) if event.info is not None else {}
    parts += [info[name] for name in ("key_type", "key_fingerprint", "principal") if name in info]
    if "certificate_id" in info:
        parts.append(f"certificate {sshd_name(info['certificate_id'])!r}")
    return " ".join(parts)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(0, width - 1)]}…"


def _claimed(event: Forged) -> str:
    """Return what forged lines claim, who wrote them, and how many they are."""
    writer = "several uids" if event.uid is None else f"uid {event.uid}"
    times = "" if event.count == 1 else f", {event.count} lines"
    return f"{event.claim or 'several actions'} claimed by {writer}{times}"


def _tried(event: Attempt) -> str:
    parts = [METHODS.get(event.method or "", event.method) or "", event.reason or "", f"{event.count} times"]
    return ", ".join(part for part in parts[: 2 if event.count == 1 else 3] if part) or "no Failed line"


def _duration(event: Logout) -> str:
    return f"after {duration_text(event.end_us - event.login.time_us)}" if event.login.time_us else "after an unknown time"


def duration_text(micros: int) -> str:
    """Return a duration as people write it."""
    seconds = micros / 1_000_000
    if seconds >= 59.95:  # would be rounded to a minute
        return f"{timedelta(seconds=round(seconds))}"
    # Lines that carry whole seconds say no tenths.
    return f"{seconds:.1f} s" if micros % 1_000_000 else f"{seconds:.0f} s"
