"""
What templates know of an event: each fact by its name, "" where it is not known, and the lines of a message in order.

An event comes here harmless: no text of it holds what a terminal would obey.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from typing import Any
from urllib.parse import quote

import msgspec

from consumer.actions import SESSION_ACTIONS, EventAction, OwnAction
from consumer.addresses import ip_of
from consumer.ecs import AsFields, EcsEvent, GeoFields, SourceFields

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

# What a template knows, by name.
Facts = dict[str, Any]


def facts_of(fields: dict[str, Any], zone: tzinfo | None, map_url: str = "") -> Facts:
    """
    Return what templates know of an event, and the whole event beside it.

    Args:
        fields: the event as nested mappings, made harmless; templates see them as ``event``.
        zone: the reader's; None for this host's.
        map_url: as configured; "" for no link.
    """
    event = msgspec.convert(fields, EcsEvent)
    happened, source, ssh = event.event, event.source, event.ssh
    key, certificate, via = ssh.key, ssh.certificate, ssh.via
    action = happened.action or ""
    # Some databases have codes alone.
    country = source.geo.country_name or source.geo.country_iso_code
    facts: Facts = {
        "event": fields,
        "id": happened.id or "",
        "action": action,
        "test": action == OwnAction.TEST,
        "user": event.user.name or "",
        "person": event.user.full_name or "",
        "host": event.host.name or "",
        "address": source.address or source.ip or "",
        "port": _text(source.port),
        "domain": source.domain or "",
        "place": _place(source.geo),
        "town": ", ".join(filter(None, (source.geo.city_name, country))),
        "network": _network(source.as_),
        "anonymous": ", ".join(filter(None, source.anonymous)),
        "via": "@".join(filter(None, (via.user.name, via.host.name))),
        "via_host": via.host.name or "",
        "map": _map_link(map_url, source) if map_url else "",
        "method": f"{ssh.method or ''}/{ssh.submethod}" if ssh.submethod else ssh.method or "",
        "key": " ".join(filter(None, (key.type, key.fingerprint))),
        "owners": [owner for owner in key.owner if owner],
        "options": ",".join(filter(None, key.options)),
        "certificate": certificate.id or "",
        "serial": _text(certificate.serial),
        "authority": certificate.ca_owner or "",
        "principal": ssh.principal or "",
        "session": ssh.session.kind or "",
        "origin": ssh.origin or "",
        "count": _text(ssh.count),
        "reason": ssh.reason or "",
        "ambiguous": ssh.ambiguous,
        "claim": ssh.claim or "",
        "claimed_by_uid": _text(ssh.claimed_by_uid),
        "message": event.message or "",
        "local": _local(event.timestamp or "", zone),
        "when": _moment(event.timestamp or "", zone),
        "start": _moment(happened.start or "", zone) if action == EventAction.LOGOUT else "",
        "duration": "" if happened.duration is None else duration_text(happened.duration / 1e9),
        "login_id": ssh.login_id or "",
    }
    facts["title"] = _title(facts)
    facts["lines"] = [{"name": name, "value": value} for name, value in _lines(facts) if value]
    facts["lines"] += [{"name": "found", "value": each} for each in event.sshbell.found if each]
    return facts


def duration_text(seconds: float) -> str:
    """Return how long something took, as people say it: ``2 h 5 min``."""
    whole = max(0, int(seconds))
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def _title(facts: Facts) -> str:
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


def _lines(facts: Facts) -> Iterator[tuple[str, Any]]:
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


def _text(number: int | None) -> str:
    return "" if number is None else str(number)


def _place(geo: GeoFields) -> str:
    """Return a place as people write it, the smallest part first: ``Lyon, Auvergne-Rhône-Alpes, France``."""
    country = geo.country_name or geo.country_iso_code or geo.continent_code
    return ", ".join(dict.fromkeys(filter(None, (geo.name, geo.city_name, geo.region_name, country))))


def _network(network: AsFields) -> str:
    number = None if network.number is None else f"AS{network.number}"
    return " ".join(filter(None, (number, network.organization.name)))


def _map_link(map_url: str, source: SourceFields) -> str:
    """Return where a map shows an address; "" where it cannot, or where the address is nobody's on the Internet."""
    ip = ip_of(source.ip)
    if ip is None or not ip.is_global:
        return ""
    place = source.geo.location
    known = {"{ip}": str(ip), "{latitude}": _degrees(place.lat, 90), "{longitude}": _degrees(place.lon, 180)}
    if any(name in map_url and not value for name, value in known.items()):
        return ""
    for name, value in known.items():
        map_url = map_url.replace(name, quote(value, safe=""))
    return map_url


def _degrees(value: float | None, limit: int) -> str:
    return f"{value:.4f}" if value is not None and abs(value) <= limit else ""


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
