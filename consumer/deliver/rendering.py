"""
Messages out of events: subject, text and HTML, by Jinja2 templates.

Whatever came from the network is made harmless before a template sees it, and is never a template itself.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import ChainableUndefined, FileSystemLoader, TemplateError, TemplateNotFound
from jinja2.sandbox import SandboxedEnvironment

from consumer.deliver.channels import Message
from consumer.records import harmless

TEMPLATES = ("subject.txt.j2", "message.txt.j2", "message.html.j2", "digest.txt.j2", "digest.html.j2")

# A message that is told later than this after it became known says so.
LATE_US = 2 * 60 * 1_000_000
# Lines of a digest, and users and hosts that it names; the rest is counted.
DIGEST_LINES, _DIGEST_USERS = 50, 20
# A digest counts at most so many different users and hosts by name: they are chosen by peers.
_COUNTED_USERS = 10_000
_TEXT_LIMIT, _SUBJECT_LIMIT = 500, 200
# Of a message that a template has made; the largest built-in one is about 60 kB.
_BODY_LIMIT = 1 << 20

_TITLES = {
    "ssh_login": "Somebody has logged in.",
    "ssh_logout": "Somebody has logged out.",
    "ssh_attempt": "Somebody has tried to log in, and failed.",
    "ssh_probe": "Somebody has connected, and not tried to log in.",
    "ssh_forged": "A process that is not sshd has written a line that claims to be sshd's.",
    "sshbell_test": "Somebody has logged in.",
    "sshbell_notice": "sshbell has something to say about itself.",
}
_ORIGINS = {"verified": "verified: the kernel vouches for the process that logged it", "unverified": "", "forged": "forged"}
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,100}\Z")

Object = dict[str, Any]
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class RenderingError(Exception):
    """What stands in the outbox is no event."""


class Renderer:
    """
    Makes messages.

    Args:
        own: the folder with the user's own templates, which go before the built-in ones; it need not exist.
        report: is told in one line, once for each cause, where one of them is broken and the built-in one is used.
    """

    def __init__(self, own: Path, report: Callable[[str], None]) -> None:
        self._report = report
        self._reported: set[str] = set()
        self._own_path = own
        self._own = _environment(own)
        self._built_in = _environment(Path(__file__).with_name("templates"))
        for name in TEMPLATES:  # compiled now, not when somebody is in
            self._built_in.get_template(name)

    def message(self, event_id: str, body: bytes, *, queued_us: int, now_us: int) -> Message:
        """
        Make the message of one event.

        Raises:
            RenderingError: ``body`` is no event.
        """
        facts = _facts(_event_of(body)) | {"late": _late(queued_us, now_us)}
        facts["subject"] = self._subject(facts)
        return Message(
            id=plain_id(event_id),
            subject=facts["subject"],
            text=self._rendered("message.txt.j2", facts),
            html=self._rendered("message.html.j2", facts),
            thread=plain_id(facts["login_id"]) if facts["login_id"] else "",
            late=facts["late"],
        )

    def digest(self, digest_id: str, folded: Iterable[tuple[int, bytes]], *, max_per_hour: int, now_us: int) -> Message:
        """Make one message of many, given as when each became known, and the event as JSON."""
        actions: Counter[str] = Counter()
        users: Counter[str] = Counter()
        count = 0
        first_us = now_us
        logins: list[str] = []
        others: list[str] = []
        for queued_us, body in folded:
            count += 1
            first_us = min(first_us, queued_us)
            try:
                facts = _facts(_event_of(body))
            except RenderingError:
                facts = {"action": "unreadable"}
            actions[facts["action"]] += 1
            who = f"{facts.get('user') or 'unknown user'}@{facts.get('host') or 'unknown host'}"
            if who in users or len(users) < _COUNTED_USERS:
                users[who] += 1
            # Logins first: whoever floods us must not hide one.
            lines = logins if facts["action"] == "ssh_login" else others
            if len(lines) < DIGEST_LINES:
                lines.append(f"{facts.get('when', '')}  {self._subject(facts)}".strip())
        named = users.most_common(_DIGEST_USERS)
        held = {
            "count": count,
            "max_per_hour": max_per_hour,
            "actions": _entries(actions.most_common()),
            "users": _entries(named),
            "more_users": count - sum(number for _, number in named),
            "lines": [*logins, *others][:DIGEST_LINES],
        }
        facts = {"held": held, "late": _late(first_us, now_us)}
        facts["subject"] = self._subject(facts)
        return Message(
            id=plain_id(digest_id),
            subject=facts["subject"],
            text=self._rendered("digest.txt.j2", facts),
            html=self._rendered("digest.html.j2", facts),
            late=facts["late"],
        )

    def _subject(self, facts: Object) -> str:
        """One line, whatever the template made of it."""
        return _cut(harmless(" ".join(self._rendered("subject.txt.j2", facts).split())), _SUBJECT_LIMIT)

    def _rendered(self, name: str, facts: Object) -> str:
        try:
            return self._own.get_template(name).render(facts)[:_BODY_LIMIT]
        except TemplateNotFound as error:
            if error.name != name:
                self._complain(name, error)
        except Exception as error:  # noqa: BLE001 - a template can raise anything, and a login is told all the same
            self._complain(name, error)
        return self._built_in.get_template(name).render(facts)[:_BODY_LIMIT]

    def _complain(self, name: str, error: Exception) -> None:
        line = getattr(error, "lineno", None) if isinstance(error, TemplateError) else None
        place = f"{self._own_path / name}{'' if line is None else f' line {line}'}"
        fault = harmless(f"{place}: {type(error).__name__}: {error}; the built-in template is used")
        if fault not in self._reported and len(self._reported) < 100:
            self._reported.add(fault)
            self._report(fault)


def plain_id(text: str) -> str:
    """Return an id as it is, or a hash of it where it holds what an id of ours does not."""
    return text if _PLAIN_ID.match(text) else sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


def duration_text(seconds: float) -> str:
    """Return how long something took, as people say it: ``2 h 5 min``."""
    whole = max(0, int(seconds))
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def _environment(folder: Path) -> SandboxedEnvironment:
    return SandboxedEnvironment(
        loader=FileSystemLoader(folder),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=ChainableUndefined,
        finalize=lambda value: "" if value is None else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _event_of(body: bytes) -> Object:
    try:
        event: Object = _harmless(_decode(body))
    except (msgspec.DecodeError, RecursionError) as error:
        raise RenderingError(f"not the JSON of an event: {error}") from error
    return event


def _harmless(value: Any) -> Any:
    match value:
        case str():
            return _cut(harmless(value), _TEXT_LIMIT)
        case dict():
            return {_cut(harmless(key), _TEXT_LIMIT): _harmless(inner) for key, inner in value.items()}
        case list():
            return [_harmless(inner) for inner in value]
    return value


def _facts(event: Object) -> Object:
    """Return what templates know, flat, with "" for what is not known; the whole event beside it."""

    def of(*path: str) -> str:
        found: Any = event
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return str(found) if isinstance(found, str | int | float) and not isinstance(found, bool) else ""

    action = of("event", "action")
    method, submethod = of("ssh", "method"), of("ssh", "submethod")
    facts: Object = {
        "event": event,
        "id": of("event", "id"),
        "action": action,
        "test": action == "sshbell_test",
        "title": _TITLES.get(action, action),
        "user": of("user", "name"),
        "host": of("host", "name"),
        "address": of("source", "address") or of("source", "ip"),
        "port": of("source", "port"),
        "method": f"{method}/{submethod}" if submethod else method,
        "key": " ".join(filter(None, (of("ssh", "key", "type"), of("ssh", "key", "fingerprint"), of("ssh", "key", "owner")))),
        "certificate": of("ssh", "certificate", "id"),
        "serial": of("ssh", "certificate", "serial"),
        "principal": of("ssh", "principal"),
        "session": of("ssh", "session", "kind"),
        "origin": of("ssh", "origin"),
        "count": of("ssh", "count"),
        "reason": of("ssh", "reason"),
        "ambiguous": event.get("ssh", {}).get("ambiguous") is True if isinstance(event.get("ssh"), dict) else False,
        "claim": of("ssh", "claim"),
        "claimed_by_uid": of("ssh", "claimed_by_uid"),
        "message": of("message"),
        "when": _moment(of("@timestamp")),
        "start": _moment(of("event", "start")) if action == "ssh_logout" else "",
        "duration": _duration(event),
        "login_id": of("ssh", "login_id"),
    }
    facts["lines"] = [{"name": name, "value": value} for name, value in _lines(facts) if value]
    found = event.get("sshbell", {}).get("found") if isinstance(event.get("sshbell"), dict) else None
    facts["lines"] += [{"name": "found", "value": str(each)} for each in found or []]
    return facts


def _lines(facts: Object) -> Iterable[tuple[str, Any]]:
    """Yield what a message says, in order."""
    yield "message", facts["message"]
    yield "user", facts["user"]
    yield "host", facts["host"]
    yield "from", f"{facts['address']} port {facts['port']}" if facts["address"] and facts["port"] else facts["address"]
    yield "method", facts["method"]
    yield "key", facts["key"]
    yield "certificate", f"{facts['certificate']} serial {facts['serial']}" if facts["serial"] else facts["certificate"]
    yield "principal", facts["principal"]
    yield "session", facts["session"]
    yield "time", facts["when"]
    yield "since", facts["start"]
    yield "duration", facts["duration"]
    yield "tries", facts["count"]
    yield "reason", facts["reason"]
    yield "claim", facts["claim"]
    yield "written by", f"uid {facts['claimed_by_uid']}" if facts["claimed_by_uid"] else ""
    yield "care", "the line could be read in several ways; what the peer chose is not to be trusted" if facts["ambiguous"] else ""
    yield "origin", _ORIGINS.get(facts["origin"], facts["origin"])


def _moment(text: str) -> str:
    """Return a time of an event as people here write it."""
    try:
        return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S %Z}"
    except (ValueError, OverflowError):
        return text


def _duration(event: Object) -> str:
    found = event.get("event")
    nanoseconds = found.get("duration") if isinstance(found, dict) else None
    return duration_text(nanoseconds / 1e9) if isinstance(nanoseconds, int | float) else ""


def _late(queued_us: int, now_us: int) -> str:
    return duration_text((now_us - queued_us) / 1e6) if now_us - queued_us > LATE_US else ""


def _entries(counted: Iterable[tuple[str, int]]) -> list[Object]:
    return [{"name": name, "count": number} for name, number in counted]


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
