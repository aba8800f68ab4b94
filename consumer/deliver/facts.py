"""
The facts about an event: each one by its name, "" if it is unknown, and the details of a message in order.

Templates know them by these names, which docs/configuration.md explains. The event is harmless by now: its texts contain nothing
that a terminal would obey.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from urllib.parse import quote

import msgspec

from consumer.actions import SESSION_ACTIONS, SEVERITIES, EventAction, OwnAction
from consumer.addresses import ip_of
from consumer.ecs import AsFields, EcsEvent, GeoFields, LocationFields, SourceFields

_ORIGINS = {"verified": "verified: a process of root wrote the log line", "unverified": "", "forged": ""}
# What may be new about a login, the most telling first.
_NOVELTIES = ("country", "address", "key", "network", "host")
# The actions of events whose user has logged in.
_IN = frozenset({*SESSION_ACTIONS, OwnAction.TEST})
_FINDINGS = frozenset(action for action in EventAction if action.is_finding)
_SEVERITIES = {number: word for word, number in SEVERITIES.items()}
# The most owners of one key that a message names.
_OWNERS_LIMIT = 5


class Detail(msgspec.Struct, frozen=True):
    """A line in the table of a message."""

    name: str
    value: str


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts about one event."""

    event: EcsEvent
    id: str
    action: str
    test: bool
    user: str
    person: str
    host: str
    address: str
    port: str
    domain: str
    place: str
    town: str
    network: str
    anonymous: str
    via: str
    via_host: str
    map: str
    method: str
    key: str
    owners: tuple[str, ...]
    options: str
    certificate: str
    serial: str
    authority: str
    principal: str
    session: str
    origin: str
    count: str
    reason: str
    ambiguous: bool
    invalid_user: bool
    claim: str
    claimed_by_uid: str
    claimed_by_user: str
    original: str
    message: str
    local: str
    when: str
    start: str
    until: str
    duration: str
    login_id: str
    new: tuple[str, ...]
    severity: str
    rule: str
    users: tuple[str, ...]
    addresses: tuple[str, ...]
    hosts: tuple[str, ...]
    labels: dict[str, str]
    target: str
    dry_run: bool

    @property
    def is_finding(self) -> bool:
        """Whether a detector reports it."""
        return self.action in _FINDINGS

    @property
    def is_in(self) -> bool:
        """Whether the user has logged in, so that the person did it, and not somebody else with the account's name."""
        return self.action in _IN

    @property
    def is_root(self) -> bool:
        """Whether the account has uid 0, under any name."""
        return self.user == "root" or self.event.user.id == "0"


def facts_of(event: EcsEvent, zone: tzinfo | None, map_url: str = "") -> Facts:
    """
    Return the facts about an event.

    Args:
        event: made harmless.
        zone: the reader's; None for this host's.
        map_url: as configured; "" for no link.
    """
    happened, source, ssh = event.event, event.source, event.ssh
    key, certificate, via, block = ssh.key, ssh.certificate, ssh.via, event.sshbell.block
    action = happened.action or ""
    # Some databases have only codes.
    country = source.geo.country_name or source.geo.country_iso_code
    return Facts(
        event=event,
        id=happened.id or "",
        action=action,
        test=action == OwnAction.TEST,
        user=event.user.name or "",
        person=event.user.full_name or "",
        host=event.host.name or "",
        address=source.address or source.ip or "",
        port=_text(source.port),
        domain=source.domain or "",
        place=_place(source.geo),
        town=", ".join(filter(None, (source.geo.city_name, country))),
        network=_network(source.as_),
        anonymous=", ".join(filter(None, source.anonymous)),
        via="@".join(filter(None, (via.user.name, via.host.name))),
        via_host=via.host.name or "",
        map=_map_link(map_url, source) if map_url else "",
        method=" + ".join(filter(None, ssh.factors)) or "/".join(filter(None, (ssh.method, ssh.submethod))),
        key=" ".join(filter(None, (key.type, key.fingerprint))),
        owners=tuple(filter(None, key.owner)),
        options=",".join(filter(None, key.options)),
        certificate=certificate.id or "",
        serial=_text(certificate.serial),
        authority=certificate.ca_owner or "",
        principal=ssh.principal or "",
        session=ssh.session.kind or "",
        origin=ssh.origin or "",
        count=_text(ssh.count),
        reason=ssh.reason or "",
        ambiguous=ssh.ambiguous,
        invalid_user=ssh.invalid_user,
        claim=ssh.claim or "",
        claimed_by_uid=_text(ssh.claimed_by_uid),
        claimed_by_user=ssh.claimed_by_user or "",
        # The text of a forged line, as its writer wants it to be read.
        original=(happened.original or "") if action == EventAction.FORGED else "",
        message=event.message or "",
        local=_local(event.timestamp or "", zone),
        when=_moment(event.timestamp or "", zone),
        start=_moment(happened.start or "", zone) if action == EventAction.LOGOUT or action in _FINDINGS else "",
        until=_moment(happened.end if action == EventAction.FORGED and happened.end else block.until or "", zone),
        duration="" if happened.duration is None else duration_text(happened.duration / 1e9),
        login_id=ssh.login_id or "",
        new=tuple(what for what in _NOVELTIES if what in event.sshbell.new),
        severity=_SEVERITIES.get(happened.severity or 0, ""),
        rule=(event.rule.description or "") if action in _FINDINGS else "",
        users=event.related.user,
        addresses=event.related.ip,
        hosts=event.related.hosts,
        labels=event.labels or {},
        target=block.target or "",
        dry_run=block.dry_run,
    )


def details_of(facts: Facts) -> tuple[Detail, ...]:
    """Return the known details of a message, in order."""
    lines = (*_lines(facts), *(("found", each) for each in facts.event.sshbell.found))
    return tuple(Detail(name, _distinct(value)) for name, value in lines if value)


def duration_text(seconds: float) -> str:
    """Return a duration in the form that people write: ``2 h 5 min``."""
    whole = max(0, int(seconds))
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def _lines(facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield the details of a message, in order: the name and the value of each, "" if it is unknown."""
    # The writer of a forged line chose all of its text.
    claimed = "claimed " if facts.action == EventAction.FORGED else ""
    yield "time", facts.when
    yield "until", facts.until
    yield "severity", facts.severity
    yield "rule", facts.rule
    yield "blocked", facts.target
    yield "written by", _writer(facts)
    yield f"{claimed}user", facts.user
    yield "caution", "this account does not exist, or may not log in" if facts.invalid_user else ""
    yield "person" if facts.is_in else "account of", facts.person
    yield "host", facts.host
    yield f"{claimed}from", f"{facts.address} port {facts.port}" if facts.address and facts.port else facts.address
    yield "reverse name", facts.domain
    yield "place", facts.place
    yield "map", facts.map
    yield "network", facts.network
    yield "new", ", ".join(facts.new)
    yield "anonymous", facts.anonymous
    yield "through", facts.via
    yield "method", facts.method
    yield "key", facts.key
    yield from _owners(facts.owners)
    yield "key options", facts.options
    yield "certificate", f"{facts.certificate} serial {facts.serial}" if facts.serial else facts.certificate
    yield "signed by", facts.authority
    yield "principal", facts.principal
    yield "session", facts.session
    yield "since", facts.start
    yield "users", ", ".join(map(_distinct, facts.users)) if len(facts.users) > 1 else ""
    yield "addresses", ", ".join(facts.addresses) if len(facts.addresses) > 1 else ""
    yield "hosts", ", ".join(facts.hosts) if len(facts.hosts) > 1 else ""
    yield "duration", facts.duration
    yield "lines" if claimed else "tries", facts.count
    yield "reason", facts.reason
    yield "origin", str(_ORIGINS.get(facts.origin, facts.origin))


def _writer(facts: Facts) -> str:
    """Return the writer of a forged line, as the kernel reports it."""
    uid, user = facts.claimed_by_uid, facts.claimed_by_user
    return f"{user} (uid {uid})" if user else f"uid {uid}" if uid else ""


def _distinct(value: str) -> str:
    """Return a text, in quotes if it begins or ends with a blank, which a reader would not see."""
    return f'"{value}"' if value != value.strip(" ") else value


def _owners(owners: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield a line for each, because a comment may contain any separator."""
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
    """Return a link to a map of an address; "" if its place is unknown, or the address is not a public one."""
    ip = ip_of(source.ip)
    if ip is None or not ip.is_global:
        return ""
    # For a country without a city, a database gives only its middle, so a pin would be wrong.
    place = source.geo.location if source.geo.city_name or source.geo.region_name else LocationFields()
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
    """Return a time of an event in its reader's zone."""
    moment = _zoned(text, zone)
    return text if moment is None else f"{moment:%Y-%m-%d %H:%M:%S %Z}"


def _moment(text: str, zone: tzinfo | None) -> str:
    """Return a time in the reader's zone, and in UTC: ``2026-11-22 11:00:00 CET (10:00:00 UTC)``."""
    moment = _zoned(text, zone)
    if moment is None or not moment.utcoffset():
        return _local(text, zone)
    there = moment.astimezone(UTC)
    return f"{_local(text, zone)} ({there:{'%H:%M:%S' if there.date() == moment.date() else '%Y-%m-%d %H:%M:%S'}} UTC)"
