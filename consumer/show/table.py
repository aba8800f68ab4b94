"""Events and sessions as rows for people, one at a time, because a replay may be long."""

from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

from consumer.addresses import ip_of
from consumer.events import Attempt, Block, Canary, Event, Finding, Forged, Login, LoginCode, Logout, Probe, Trouble
from consumer.events_as_ecs import factor_names
from consumer.matching.messages import METHODS, method_info, sshd_name
from consumer.records import AMBIGUOUS
from consumer.show.columns import LAST, Column, cells_of, cut, filled, painted, unbounded, widths_of
from consumer.text import harmless, quoted, readable

if TYPE_CHECKING:
    from consumer.places.geoip import Places
    from consumer.show.owner_names import Names

_WHERE = (
    Column("user", "user", 9, 16),
    Column("from", "from", 15, 27),
    Column("place", "place", 2, 22),
    Column("host", "host", 8, 14),
)
# The first column of each table is a time, whose key is "time".
EVENTS = (Column("time", "time", 16, 19), Column("what", "what", 6, 6), *_WHERE)
SESSIONS = (Column("time", "since", 16, 19), Column("lasted", "lasted", 9, 9), *_WHERE)
OPEN_SESSIONS = (Column("time", "since", 16, 19), *_WHERE)

# The width of the longest IPv4 address with a port.
_WITH_PORT = 26
# The last column says who and how. A short fingerprint takes 14 cells, with the key's type 20, with a person's name 30.
_LAST_LEAST = 10
_GROWTH = (
    (LAST, 14), ("time", 19), (LAST, 20), ("place", 8), (LAST, 30), ("user", 12), ("host", 12), ("place", 13), ("place", 16),
    (LAST, 38), ("from", _WITH_PORT), (LAST, 48), ("user", 16), ("place", 24), ("host", 20), (LAST, 60), ("user", 32),
    ("host", 32),
)  # fmt: skip
# Terminals of less than 80 columns leave these out, in turn.
_DROPPED = ("place", "host", "what", "lasted")
# A narrower column of places shows country codes.
_PLACE_LEAST = 8
# With less room than this after a name, the row has only the name.
_HOW_LEAST = 6
# The width of a time with seconds, and without.
_FULL_TIME, _SHORT_TIME = 19, 16
# Characters of a shortened fingerprint.
_SHOWN_DIGITS, _SHOWN_HEX = 6, 8


class Table:
    """
    Rows of events, or of sessions.

    Rows fit the terminal: "…" marks where text is cut. An address is never cut. A long one runs over the columns after it, and
    these follow in the next line. A file or a pipe gets everything.

    Args:
        columns: ``EVENTS``, ``SESSIONS`` or ``OPEN_SESSIONS``; "who and how" follows them.
        zone: of the times shown.
        color: use colours.
        width: of the terminal, in cells. None cuts nothing, for a file or a pipe.
        noise: also show tries and probes. There may be so many that they hide the rest.
        names: finds the names of people and key owners, which the row shows before the key.
        places: finds the places of addresses; they get a column if a database is installed.
    """

    def __init__(
        self, columns: Sequence[Column], zone: tzinfo, *, color: bool, width: int | None, noise: bool = False,
        names: "Names | None" = None, places: "Places | None" = None,
    ) -> None:  # fmt: skip
        self._names = names
        self._places = places if places is not None and places.databases else None
        self._zone = zone
        self._noise = noise
        self._color = color
        self._width = width
        shown = [column for column in columns if column.key != "place" or self._places]
        self._widths = unbounded(shown) if width is None else widths_of(shown, _LAST_LEAST, _GROWTH, _DROPPED, width)
        cells = {column.key: cells for column, cells in zip(self._widths.columns, self._widths.cells, strict=True)}
        self._cells = cells
        self._place_cells = cells.get("place", 0)
        self._from_cells = cells["from"]
        self._time_cells = _FULL_TIME if cells["time"] >= _FULL_TIME else _SHORT_TIME
        self._has_head = False

    def row(self, event: Event) -> str:
        """Return the text for one event, with the head of the table before the first; "" for one that the table does not show."""
        match event:
            case Login():
                return self._text(event, {"what": "login"}, self._last(event, self._how(event)), "green")
            case Logout():
                word, how, color = "logout", [_duration(event)], ""
            case Forged():
                word, how, color = "FORGED", _claimed(event), "red"
            case Finding():
                word, how, color = "ALERT", _found(event), "red" if event.severity in {"high", "critical"} else "yellow"
            case Block():
                word, how, color = "BLOCK", [_blocked(event)], "red"
            case Attempt() | Probe() | Canary() | Trouble():
                if not self._noise:
                    return ""
                word, how, color = *_noise(event), ""
        return self._text(event, {"what": word}, self._last(event, how, is_who_first=False), color)

    def session(self, login: Login, lasted: str = "") -> str:
        """Return the text for one session, with the head of the table before the first; ``lasted`` is for ``SESSIONS``."""
        return self._text(login, {"lasted": lasted}, self._last(login, self._how(login)), "")

    def _text(self, event: Event, own: dict[str, str], last: str, color: str) -> str:
        texts = {
            "time": self._time(event.time_us), "user": event.user or "-", "from": self._from(event),
            "host": readable(event.host), **own,
        }  # fmt: skip
        if self._places is not None:
            texts["place"] = self._place(event.address)
        text = self._fitted(texts, last, color)
        if self._has_head:
            return text
        self._has_head = True
        heads = {column.key: column.head for column in self._widths.columns}
        if 0 < self._place_cells < _PLACE_LEAST:
            heads["place"] = "in"
        last = "who and how" if self._width is None else cut("who and how", self._widths.last)
        return f"{self._fitted(heads, last, '', is_bold=True)}\n{text}"

    def _fitted(self, texts: dict[str, str], last: str, color: str, *, is_bold: bool = False) -> str:
        """Return a row of texts; on two lines if the address does not fit its column."""
        gap = self._widths.gap
        if self._width is None:
            parts = [filled(harmless(texts[key]), cells) for key, cells in self._cells.items()]
            lines = [gap.join([*parts, last]).rstrip()]
        else:
            lines = self._fitted_lines(texts, last, self._width)
        return "\n".join([painted(line, color, bold=is_bold, on=self._color) for line in lines])

    def _fitted_lines(self, texts: dict[str, str], last: str, width: int) -> list[str]:
        lines: list[str] = []
        parts: list[str] = []
        taken = 0
        gap = self._widths.gap
        for key, cells in self._cells.items():
            text = harmless(texts[key])
            if key == "from" and cells_of(text) > cells:
                # A host name instead of an address may have any length, so it is cut.
                lines.append(gap.join([*parts, text if ip_of(text) is not None else cut(text, width - taken)]))
                parts = [" " * (taken + cells)]
            else:
                parts.append(filled(cut(text, cells), cells))
            taken += cells + len(gap)
        return [*lines, gap.join([*parts, last]).rstrip()]

    def _time(self, time_us: int) -> str:
        if not time_us:
            return "unknown"
        # Twice as fast as strftime.
        return datetime.fromtimestamp(time_us // 1_000_000, self._zone).replace(tzinfo=None).isoformat(" ")[: self._time_cells]

    def _from(self, event: Event) -> str:
        """Return the address, with its port if the column has room for it."""
        address = "address unknown" if event.address is None else readable(event.address)
        if event.port is None or self._from_cells < _WITH_PORT:
            return address
        text = f"{address} port {event.port}"
        return text if self._width is None or cells_of(text) <= self._from_cells else address

    def _place(self, address: str | None) -> str:
        if self._places is None:
            return ""
        if 0 < self._place_cells < _PLACE_LEAST:
            return self._places.of(address).geo.country_iso_code or ""
        text = self._places.text(address)
        # Town and country alone are better than part of the network's number.
        while self._width is not None and ", " in text and cells_of(text) > self._place_cells:
            text = text.rpartition(", ")[0]
        return text

    def _last(self, event: Event, how: Sequence[str], *, is_who_first: bool = True) -> str:
        """
        Return the last column: a warning, who it was, how they logged in, and whether the kernel vouches for the line.

        Args:
            event: the event of the row.
            how: texts for how they logged in, the longest first. The first one that fits counts.
            is_who_first: put the names before ``how``, not after it.
        """
        marks = ("ambiguous",) if event.line[AMBIGUOUS] else ()
        names = () if self._names is None else self._names.for_row(event)
        after = ("verified",) if event.origin == "verified" else ()

        def joined(names: Sequence[str], how: str, after: Sequence[str]) -> str:
            parts = (*marks, *names, how, *after) if is_who_first else (*marks, how, *names, *after)
            return harmless(", ".join(filter(None, parts)))

        whole = joined(names, how[0], after) if marks or names or after else harmless(how[0])
        cells = self._widths.last
        if self._width is None or cells_of(whole) <= cells:
            return whole
        # To save room, drop the origin first, then words of ``how``, then all names but the first.
        fewer = (names, names[:1]) if is_who_first else (names, names[:1], ())
        shorter = [joined(some, text, ()) for some in dict.fromkeys(fewer) for text in how]
        for text in shorter:
            if cells_of(text) <= cells:
                return text
        name = joined(names[:1], "", ())
        is_enough = bool(names) and is_who_first and cells_of(name) <= cells < cells_of(name) + len(", ") + _HOW_LEAST
        return name if is_enough else cut(shorter[-1], cells)

    def _how(self, event: Login) -> list[str]:
        """Return texts for how a user logged in, the longest first. A terminal gets a short fingerprint."""
        method = " + ".join(factor_names(event.factors)) or METHODS.get(event.method or "", event.method) or "no Accepted line"
        info = method_info(event.info) if event.info is not None else {}
        fingerprint = info.get("key_fingerprint", "")
        if self._width is not None and fingerprint:
            fingerprint = short_fingerprint(fingerprint)
        key = " ".join(filter(None, (info.get("key_type"), fingerprint)))
        parts = [method, key, info.get("principal", "")]
        if "certificate_id" in info:
            certificate = f"certificate {quoted(sshd_name(info['certificate_id']))}"
            return [" ".join(filter(None, (*parts, certificate))), certificate]
        whole = " ".join(filter(None, parts))
        if event.code is not None:
            second = _second_factor(event.code)
            return [f"{whole}, {second}", f"{method}, {second}", method]
        if event.factors:
            return [whole, method]
        return [whole, key, fingerprint] if fingerprint else [whole]


def _second_factor(code: LoginCode) -> str:
    match code.outcome:
        case "accepted":
            return f"second factor by #{code.channel}, after {code.after_s} s"
        case "emergency":
            return f"emergency code, {code.left} left"
        case "not_needed":
            return "no code needed"
    return "no code: no channel took it"


def short_fingerprint(fingerprint: str) -> str:
    """Return the beginning of a fingerprint, enough to distinguish keys: ``SHA256:T3h21v…``."""
    start = 7 if fingerprint.startswith("SHA256:") else 4 if fingerprint.startswith("MD5:") else 0
    end = start + (_SHOWN_DIGITS if start == 7 else _SHOWN_HEX)
    return fingerprint if len(fingerprint) <= end else f"{fingerprint[:end]}…"


def _claimed(event: Forged) -> list[str]:
    """Return ways to say what forged lines claim, who wrote them, and how many there are, the longest first."""
    writer = "several uids" if event.uid is None else f"uid {event.uid}"
    times = "" if event.count == 1 else f", {event.count} lines"
    return [f"{event.claim or 'several actions'} claimed by {writer}{times}", f"by {writer}{times}"]


def _found(event: Finding) -> list[str]:
    """Return ways to say what a detector has found, the longest first."""
    noun = event.action.noun
    times = "" if event.count == 1 else f", {event.count} times"
    # The last one is the detector's name in the configuration, which fits 80 columns.
    return [
        f"{noun}{times}{f', rule {event.rule}' if event.rule else ''}",
        f"{noun}{times}",
        noun,
        event.action.replace("_", " "),
    ]


def _blocked(event: Block) -> str:
    return f"{'would block' if event.is_dry_run else 'blocks'} {readable(event.target)}"


def _noise(event: Attempt | Probe | Canary | Trouble) -> tuple[str, list[str]]:
    """Return the kind of an event that strangers cause, and what is known of it."""
    match event:
        case Attempt():
            return "try", [_tried(event)]
        case Probe():
            return "probe", [sshd_name(event.reason) if event.reason else ""]
        case Trouble():
            return "trouble", [": ".join(filter(None, (event.what.replace("_", " "), readable(event.reason or ""))))]
        case Canary():
            return "canary", [""]


def _tried(event: Attempt) -> str:
    parts = [METHODS.get(event.method or "", event.method) or "", event.reason or "", f"{event.count} times"]
    return ", ".join(part for part in parts[: 2 if event.count == 1 else 3] if part) or "no Failed line"


def _duration(event: Logout) -> str:
    if not event.login.time_us or not event.end_us:
        return "after an unknown time"
    return f"after {short_duration(event.end_us - event.login.time_us)}"


def short_duration(micros: int) -> str:
    """Return a duration for a column of a table: ``12.5 s``, ``1:02:03``, ``3 d 4 h``."""
    seconds = micros / 1_000_000
    whole = round(seconds)
    if whole >= 86400:
        days, hours = divmod(whole // 3600, 24)
        return f"{days} d {hours} h" if hours else f"{days} d"
    if seconds >= 59.95:  # rounding would make it a minute
        return f"{timedelta(seconds=whole)}"
    # Between times in whole seconds, tenths would mean nothing.
    return f"{seconds:.1f} s" if micros % 1_000_000 else f"{seconds:.0f} s"
