"""Events as rows for people; a replay may be long, so each row is written when it is known."""

from datetime import datetime, timedelta, tzinfo

import click

from consumer.events import Attempt, Event, Forged, Login, Logout, Probe
from consumer.messages import METHODS, method_info, sshd_name
from consumer.records import AMBIGUOUS, readable
from consumer.replay import Summary

_MIN_WIDTH = 60


class Table:
    """
    Rows of logins, logouts and forged lines. Tries and probes are counted in the summary; a row for each would hide the rest.

    Args:
        zone: of the times shown.
        color: use it.
        width: of the terminal, in characters; what a row has beyond is cut.
    """

    def __init__(self, zone: tzinfo, *, color: bool, width: int) -> None:
        self._zone = zone
        self._color = color
        self._width = max(width, _MIN_WIDTH)
        self._has_head = False

    def row(self, event: Event) -> str:
        """Return the text for one event, with the head of the table before the first; "" for one that is only counted."""
        match event:
            case Login():
                word, last, color = "login", _how(event), "green"
            case Logout():
                word, last, color = "logout", f"after {_duration(event.end_us - event.login.time_us)}", ""
            case Forged():
                word, last, color = "FORGED", f"{event.claim} claimed by uid {event.uid}", "red"
            case Attempt() | Probe():
                return ""
        marks = ", verified" if event.origin == "verified" else ""
        marks += ", ambiguous" if event.line[AMBIGUOUS] else ""
        when = datetime.fromtimestamp(event.time_us // 1_000_000, self._zone) if event.time_us else None
        time = f"{when:%Y-%m-%d %H:%M:%S}" if when is not None else "unknown"
        where = f"{event.address or 'address unknown'}{'' if event.port is None else f' port {event.port}'}"
        # An address is never cut.
        cells = (_cell(event.user or "-", 16), f"{_plain(where):<27}", _cell(readable(event.host), 14))
        text = "  ".join((f"{time:<19}", f"{word:<6}", *cells, ""))
        text = (text + _plain(last)[: max(0, self._width - len(text) - len(marks))] + marks)[: self._width]
        if self._color and color:
            text = click.style(text, fg=color)
        if not self._has_head:
            self._has_head = True
            head = f"{'time':<19}  {'what':<6}  {'user':<16}  {'from':<27}  {'host':<14}  how"
            return f"{click.style(head, bold=True) if self._color else head}\n{text}"
        return text


def _how(event: Login) -> str:
    parts = [METHODS.get(event.method or "", event.method) or "no Accepted line"]
    info = method_info(event.info) if event.info is not None else {}
    parts += [info[name] for name in ("key_type", "key_fingerprint", "principal") if name in info]
    if "certificate_id" in info:
        parts.append(f"certificate {sshd_name(info['certificate_id'])!r}")
    return " ".join(parts)


def _cell(text: str, width: int) -> str:
    text = _plain(text)
    return f"{text:<{width}}" if len(text) <= width else f"{text[: width - 1]}…"


def _plain(text: str) -> str:
    """Text from the network, fit for a terminal."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def _duration(micros: int) -> str:
    seconds = micros / 1_000_000
    return f"{seconds:.1f} s" if seconds < 59.95 else str(timedelta(seconds=round(seconds)))


def summary_text(summary: Summary) -> str:
    """What a replay has met, in a few lines."""
    lines = [
        f"{summary.lines:,} lines read, {summary.understood:,} understood, {summary.unmatched:,} unmatched"
        + (f", {summary.unframed:,} in no known framing" if summary.unframed else "")
        + (f", {summary.cut:,} cut at 64 KiB" if summary.cut else "")
    ]
    if summary.actions:
        lines.append("lines:  " + ", ".join(f"{action} {count:,}" for action, count in summary.actions.items()))
    if summary.events:
        lines.append("events: " + ", ".join(f"{action} {count:,}" for action, count in summary.events.items()))
    if summary.notes:
        lines.append("limits: " + ", ".join(f"{name} {count:,}" for name, count in summary.notes.items()))
    return "\n".join(lines)
