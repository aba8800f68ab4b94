"""
What templates know of an event: each fact by its name, "" where it is not known, and the lines of a message in order.

An event comes here harmless: no text of it holds what a terminal would obey.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from math import isfinite
from typing import Any
from urllib.parse import quote

from consumer.actions import SESSION_ACTIONS, EventAction, OwnAction
from consumer.addresses import ip_of

_TITLES = {
    EventAction.LOGIN: "has logged in",
    EventAction.LOGOUT: "has logged out",
    EventAction.ATTEMPT: "has tried to log in, and failed",
    EventAction.PROBE: "has connected, and not tried to log in",
    OwnAction.TEST: "has logged in",
}
_OTHER_TITLES = {
    EventAction.FORGED: "A process that is not sshd has written a line that claims to be sshd's.",
    OwnAction.NOTICE: "sshbell has something to say about itself.",
}
_ORIGINS = {"verified": "verified: the kernel vouches for the process that logged it", "unverified": "", "forged": "forged"}
# Texts of others that may stand in a sentence of ours: one word, which cannot seem to be a part of the sentence.
_WORD = re.compile(r"[\w.@+-]{1,64}\Z")
# Owners of one key that are named.
_OWNERS_LIMIT = 5

Object = dict[str, Any]


def facts_of(event: Object, zone: tzinfo | None, map_url: str = "") -> Object:
    """
    Return what templates know of an event, and the whole event beside it.

    Args:
        event: whatever the outbox held, made harmless.
        zone: the reader's; None for this host's.
        map_url: as configured; "" for no link.
    """

    def found(*path: str) -> Any:
        value: Any = event
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    def of(*path: str) -> str:
        value = found(*path)
        return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""

    def all_of(*path: str) -> list[str]:
        value = found(*path)
        return [each for each in value if isinstance(each, str) and each] if isinstance(value, list) else []

    action = of("event", "action")
    method, submethod = of("ssh", "method"), of("ssh", "submethod")
    # Some databases have codes alone.
    country = of("source", "geo", "country_name") or of("source", "geo", "country_iso_code")
    facts: Object = {
        "event": event,
        "id": of("event", "id"),
        "action": action,
        "test": action == OwnAction.TEST,
        "user": of("user", "name"),
        "person": of("user", "full_name"),
        "host": of("host", "name"),
        "address": of("source", "address") or of("source", "ip"),
        "port": of("source", "port"),
        "domain": of("source", "domain"),
        "place": _place(found("source", "geo")),
        "town": ", ".join(filter(None, (of("source", "geo", "city_name"), country))),
        "network": _network(of("source", "as", "number"), of("source", "as", "organization", "name")),
        "anonymous": ", ".join(all_of("source", "anonymous")),
        "via": "@".join(filter(None, (of("ssh", "via", "user", "name"), of("ssh", "via", "host", "name")))),
        "via_host": of("ssh", "via", "host", "name"),
        "map": _map_link(map_url, of("source", "ip"), found("source", "geo", "location")) if map_url else "",
        "method": f"{method}/{submethod}" if submethod else method,
        "key": " ".join(filter(None, (of("ssh", "key", "type"), of("ssh", "key", "fingerprint")))),
        "owners": all_of("ssh", "key", "owner"),
        "options": ",".join(all_of("ssh", "key", "options")),
        "certificate": of("ssh", "certificate", "id"),
        "serial": of("ssh", "certificate", "serial"),
        "authority": of("ssh", "certificate", "ca_owner"),
        "principal": of("ssh", "principal"),
        "session": of("ssh", "session", "kind"),
        "origin": of("ssh", "origin"),
        "count": of("ssh", "count"),
        "reason": of("ssh", "reason"),
        "ambiguous": found("ssh", "ambiguous") is True,
        "claim": of("ssh", "claim"),
        "claimed_by_uid": of("ssh", "claimed_by_uid"),
        "message": of("message"),
        "local": _local(of("@timestamp"), zone),
        "when": _moment(of("@timestamp"), zone),
        "start": _moment(of("event", "start"), zone) if action == EventAction.LOGOUT else "",
        "duration": _duration(found("event", "duration")),
        "login_id": of("ssh", "login_id"),
    }
    facts["title"] = _title(facts)
    facts["lines"] = [{"name": name, "value": value} for name, value in _lines(facts) if value]
    facts["lines"] += [{"name": "found", "value": each} for each in all_of("sshbell", "found")]
    return facts


def duration_text(seconds: float) -> str:
    """Return how long something took, as people say it: ``2 h 5 min``."""
    whole = max(0, int(seconds))
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def _title(facts: Object) -> str:
    """Return the first sentence, of which a telephone shows the beginning beside the subject: who, with whose key, from where."""
    done = _TITLES.get(facts["action"])
    if done is None:
        return _OTHER_TITLES.get(facts["action"], str(facts["action"]))
    is_proved = facts["action"] in SESSION_ACTIONS
    sentence = f"{(is_proved and facts['person']) or 'Somebody'} {done}"
    if is_proved and len(facts["owners"]) == 1 and _WORD.match(facts["owners"][0]):
        sentence += f", with the key {facts['owners'][0]}"
    if facts["town"] and len(facts["town"]) <= 64:
        sentence += f", from {facts['town']}"
    if _WORD.match(facts["via_host"]):
        sentence += f", through {facts['via_host']}"
    return f"{sentence}."


def _lines(facts: Object) -> Iterator[tuple[str, Any]]:
    """Yield what a message says, in order."""
    yield "message", facts["message"]
    yield "user", facts["user"]
    yield "person" if facts["action"] in SESSION_ACTIONS else "account of", facts["person"]
    yield "host", facts["host"]
    yield "from", f"{facts['address']} port {facts['port']}" if facts["address"] and facts["port"] else facts["address"]
    yield "reverse name", facts["domain"]
    yield "place", facts["place"]
    yield "map", facts["map"]
    yield "network", facts["network"]
    yield "anonymous", facts["anonymous"]
    yield "through", facts["via"]
    yield "method", facts["method"]
    yield "key", facts["key"]
    yield from _owners(facts["owners"])
    yield "key options", facts["options"]
    yield "certificate", f"{facts['certificate']} serial {facts['serial']}" if facts["serial"] else facts["certificate"]
    yield "signed by", facts["authority"]
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


def _owners(owners: list[str]) -> Iterator[tuple[str, str]]:
    """Yield a line for each, since a comment may hold whatever would stand between two."""
    for owner in owners[:_OWNERS_LIMIT]:
        yield "key of", owner
    if len(owners) > _OWNERS_LIMIT:
        yield "key of", f"and {len(owners) - _OWNERS_LIMIT} others"


def _place(geo: object) -> str:
    """Return a place as people write it, the smallest part first: ``Lyon, Auvergne-Rhône-Alpes, France``."""
    if not isinstance(geo, dict):
        return ""
    parts = [geo.get("name"), geo.get("city_name"), geo.get("region_name")]
    parts.append(geo.get("country_name") or geo.get("country_iso_code") or geo.get("continent_code"))
    known = [part for part in parts if isinstance(part, str) and part]
    return ", ".join(dict.fromkeys(known))


def _network(number: str, name: str) -> str:
    return " ".join(filter(None, (f"AS{number}" if number else "", name)))


def _map_link(map_url: str, address: str, location: object) -> str:
    """Return where a map shows an address; "" where it cannot, or where the address is nobody's on the Internet."""
    ip = ip_of(address)
    if ip is None or not ip.is_global:
        return ""
    place = location if isinstance(location, dict) else {}
    known = {"{ip}": str(ip), "{latitude}": _degrees(place.get("lat"), 90), "{longitude}": _degrees(place.get("lon"), 180)}
    if any(name in map_url and not value for name, value in known.items()):
        return ""
    for name, value in known.items():
        map_url = map_url.replace(name, quote(value, safe=""))
    return map_url


def _degrees(value: object, limit: int) -> str:
    if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value) or abs(value) > limit:
        return ""
    return f"{value:.4f}"


def _zoned(text: str, zone: tzinfo | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone(zone)
    except (ValueError, OverflowError):
        return None


def _local(text: str, zone: tzinfo | None) -> str:
    """Return a time of an event as its reader's clock shows it."""
    moment = _zoned(text, zone)
    return text if moment is None else f"{moment:%Y-%m-%d %H:%M:%S %Z}"


def _moment(text: str, zone: tzinfo | None) -> str:
    """Return the same, and UTC beside it: ``2026-11-22 11:00:00 CET (10:00:00 UTC)``."""
    moment = _zoned(text, zone)
    if moment is None or not moment.utcoffset():
        return _local(text, zone)
    there = moment.astimezone(UTC)
    return f"{_local(text, zone)} ({there:{'%H:%M:%S' if there.date() == moment.date() else '%Y-%m-%d %H:%M:%S'}} UTC)"


def _duration(nanoseconds: object) -> str:
    return duration_text(nanoseconds / 1e9) if isinstance(nanoseconds, int | float) else ""
