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
from consumer.deliver.channels import Detail
from consumer.deliver.event_kinds import KINDS
from consumer.deliver.language import ENGLISH, Language
from consumer.ecs import AsFields, CodeFields, EcsEvent, FoundFields, GeoFields, LocationFields, SourceFields
from consumer.notices import NOTICE_LABEL, Notice
from consumer.text import N_

_ORIGINS = {"verified": N_("verified: a process of root wrote the log line"), "unverified": "", "forged": ""}
# The actions of events whose user has logged in.
_IN = frozenset({*SESSION_ACTIONS, OwnAction.TEST})
_FINDINGS = frozenset(action for action in EventAction if action.is_finding)
_SEVERITIES = {
    SEVERITIES["low"]: N_("low"),
    SEVERITIES["medium"]: N_("medium"),
    SEVERITIES["high"]: N_("high"),
    SEVERITIES["critical"]: N_("critical"),
}
_NOTICES = {notice.name.lower(): notice.value for notice in Notice}
# The most owners of one key that a message names.
_OWNERS_LIMIT = 5


# The labels of details, by name.
_LABELS = {
    "time": N_("Time"),
    "until": N_("Until"),
    "severity": N_("Severity"),
    "rule": N_("Rule"),
    "blocked": N_("Blocked"),
    "written by": N_("Written by"),
    "user": N_("User"),
    "claimed user": N_("Claimed user"),
    "caution": N_("Caution"),
    "person": N_("Person"),
    "account of": N_("Account of"),
    "host": N_("Host"),
    "from": N_("From"),
    "claimed from": N_("Claimed from"),
    "reverse name": N_("Reverse name"),
    "place": N_("Place"),
    "map": N_("Map"),
    "network": N_("Network"),
    "new": N_("New"),
    "anonymous": N_("Anonymous"),
    "through": N_("Through"),
    "method": N_("Method"),
    "second factor": N_("Second factor"),
    "key": N_("Key"),
    "key of": N_("Key of"),
    "key options": N_("Key options"),
    "certificate": N_("Certificate"),
    "signed by": N_("Signed by"),
    "principal": N_("Principal"),
    "session": N_("Session"),
    "since": N_("Since"),
    "users": N_("Users"),
    "addresses": N_("Addresses"),
    "hosts": N_("Hosts"),
    "duration": N_("Duration"),
    "lines": N_("Lines"),
    "tries": N_("Tries"),
    "reason": N_("Reason"),
    "origin": N_("Origin"),
    "found": N_("Found"),
}
# Names of addresses that have no place on a map, for the details; the others are terms of the protocols.
_AREAS = {
    "private network": N_("private network"),
    "loopback": N_("loopback"),
    "documentation": N_("documentation"),
    "this network": N_("this network"),
    "reserved": N_("reserved"),
    "unspecified": N_("unspecified"),
}
# What may be new about a login, the most telling first.
NOVELTY_NAMES = {
    "country": N_("country"),
    "address": N_("address"),
    "key": N_("key"),
    "network": N_("network"),
    "host": N_("host"),
}
# Why a code was refused: see ``consumer.story.login_codes``.
_CODE_REASONS = {
    "wrong code": N_("wrong code"),
    "expired code": N_("expired code"),
    "used code": N_("used code"),
    "code of another connection": N_("code of another connection"),
    "too many codes tried": N_("too many codes tried"),
    "too many codes asked for": N_("too many codes asked for"),
    "no channel took the code": N_("no channel took the code"),
    "code not given": N_("code not given"),
}
# A duration is in units of the SI, which have no cases and no dots: "nach 2 Std.." would have one dot too many, and "nach 3 Tage"
# would be wrong.
_UNITS = {"d": N_("%(num)s d"), "h": N_("%(num)s h"), "min": N_("%(num)s min"), "s": N_("%(num)s s")}


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts about one event. ``moment`` is its time in the reader's zone; None if it is unknown."""

    event: EcsEvent
    language: Language
    moment: datetime | None
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
    second_factor: str
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


def facts_of(event: EcsEvent, zone: tzinfo | None, map_url: str = "", language: Language = ENGLISH) -> Facts:
    """
    Return the facts about an event.

    Args:
        event: made harmless.
        zone: the reader's; None for this host's.
        map_url: as configured; "" for no link.
        language: the reader's.
    """
    happened, source, ssh = event.event, event.source, event.ssh
    key, certificate, via, block = ssh.key, ssh.certificate, ssh.via, event.sshbell.block
    action = happened.action or ""
    country = _country(source.geo, language)
    return Facts(
        event=event,
        language=language,
        moment=_zoned(event.timestamp or "", zone),
        id=happened.id or "",
        action=action,
        test=action == OwnAction.TEST,
        user=event.user.name or "",
        person=event.user.full_name or "",
        host=event.host.name or "",
        address=source.address or source.ip or "",
        port=_text(source.port),
        domain=source.domain or "",
        place=_place(source.geo, language),
        town=", ".join(filter(None, (source.geo.city_name, country))),
        network=_network(source.as_),
        anonymous=", ".join(filter(None, source.anonymous)),
        via="@".join(filter(None, (via.user.name, via.host.name))),
        via_host=via.host.name or "",
        map=_map_link(map_url, source) if map_url else "",
        method=" + ".join(filter(None, ssh.factors)) or "/".join(filter(None, (ssh.method, ssh.submethod))),
        second_factor=_second_factor(ssh.code, language),
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
        message=_own_message(event, language),
        local=_local(event.timestamp or "", zone, language),
        when=_moment(event.timestamp or "", zone, language),
        start=(_moment(happened.start or "", zone, language) if action == EventAction.LOGOUT or action in _FINDINGS else ""),
        until=_moment(happened.end if action == EventAction.FORGED and happened.end else block.until or "", zone, language),
        duration="" if happened.duration is None else duration_text(happened.duration / 1e9, language),
        login_id=ssh.login_id or "",
        new=tuple(what for what in NOVELTY_NAMES if what in event.sshbell.new),
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
    lines = (*_lines(facts), *(("found", _found(each, facts)) for each in facts.event.sshbell.found))
    return tuple(Detail(name, _distinct(value), facts.language.gettext(_LABELS[name])) for name, value in lines if value)


def _found(found: FoundFields | str, facts: Facts) -> str:
    """Return one event of several that a notice reports together."""
    if isinstance(found, str):
        return found
    _, language = facts.language.gettext, facts.language
    user = found.user or _("unknown user")
    return _("%(time)s: %(kind)s of %(user)s%(from)s%(times)s", **{
        "time": _moment(found.timestamp or "", facts.moment.tzinfo if facts.moment else None, language),
        "kind": _(KINDS.get(found.action or "", KINDS[""]).name),
        # With a blank, the name of an account could look like the rest of the line.
        "user": f'"{user}"' if found.user and " " in user else user,
        "from": _(" from %(address)s", address=found.ip) if found.ip else "",
        "times": language.ngettext(" (%(num)s time)", " (%(num)s times)", found.count) if found.count else "",
    })  # fmt: skip


def duration_text(seconds: float, language: Language = ENGLISH) -> str:
    """Return a duration in the form that people write: ``2 h 5 min``."""
    whole = max(0, int(seconds))
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            parts = [(unit, whole // size), *([(smaller, rest)] if rest else [])]
            return " ".join(language.gettext(_UNITS[name], num=language.number(number)) for name, number in parts)
    return language.gettext(_UNITS["s"], num=whole)


def _lines(facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield the details of a message, in order: the name and the value of each, "" if it is unknown."""
    _ = facts.language.gettext
    # The writer of a forged line chose all of its text.
    claimed = "claimed " if facts.action == EventAction.FORGED else ""
    yield "time", facts.when
    yield "until", facts.until
    yield "severity", _(facts.severity) if facts.severity else ""
    yield "rule", facts.rule
    yield "blocked", facts.target
    yield "written by", _writer(facts)
    yield f"{claimed}user", facts.user
    yield "caution", _("this account does not exist, or may not log in") if facts.invalid_user else ""
    yield "person" if facts.is_in else "account of", facts.person
    yield "host", facts.host
    address, port = facts.address, facts.port
    yield f"{claimed}from", _("%(address)s port %(port)s", address=address, port=port) if address and port else address
    yield "reverse name", facts.domain
    yield "place", facts.place
    yield "map", facts.map
    yield "network", facts.network
    yield "new", ", ".join(_(NOVELTY_NAMES[what]) for what in facts.new)
    yield "anonymous", facts.anonymous
    yield "through", facts.via
    yield "method", facts.method
    yield "second factor", facts.second_factor
    yield "key", facts.key
    yield from _owners(facts.owners, facts.language)
    yield "key options", facts.options
    certificate, serial = facts.certificate, facts.serial
    yield "certificate", _("%(certificate)s serial %(serial)s", certificate=certificate, serial=serial) if serial else certificate
    yield "signed by", facts.authority
    yield "principal", facts.principal
    yield "session", facts.session
    yield "since", facts.start
    yield "users", ", ".join(map(_distinct, facts.users)) if len(facts.users) > 1 else ""
    yield "addresses", ", ".join(facts.addresses) if len(facts.addresses) > 1 else ""
    yield "hosts", ", ".join(facts.hosts) if len(facts.hosts) > 1 else ""
    yield "duration", facts.duration
    yield "lines" if claimed else "tries", facts.language.number(int(facts.count)) if facts.count else ""
    reason = _CODE_REASONS.get(facts.reason)
    yield "reason", facts.reason if reason is None else _(reason)
    origin = _ORIGINS.get(facts.origin)
    yield "origin", facts.origin if origin is None else origin and _(origin)


def _own_message(event: EcsEvent, language: Language) -> str:
    """Return what sshbell reports about itself, in the reader's language if this version knows the notice."""
    labels = event.labels or {}
    text = _NOTICES.get(labels.get(NOTICE_LABEL, ""))
    if text is None or event.event.action != OwnAction.NOTICE:
        return event.message or ""
    try:
        return language.gettext(text, **labels)
    except KeyError:  # a value is missing
        return event.message or ""


def _second_factor(code: CodeFields, language: Language) -> str:
    """Return the one-time code of a login in a few words; "" if sshbell has asked for none."""
    _ = language.gettext
    match code.outcome:
        case "accepted":
            return _(
                "by #%(channel)s, after %(time)s", channel=code.channel or "?", time=duration_text(code.after_s or 0, language)
            )
        case "emergency":
            return language.ngettext("emergency code, %(num)s left", "emergency code, %(num)s left", code.left or 0)
        case "not_needed":
            return _("not needed")
        case "let_in":
            return _("none, because no channel took the code")
    return ""


def _writer(facts: Facts) -> str:
    """Return the writer of a forged line, as the kernel reports it."""
    _, uid, user = facts.language.gettext, facts.claimed_by_uid, facts.claimed_by_user
    return _("%(user)s (uid %(uid)s)", user=user, uid=uid) if user else _("uid %(uid)s", uid=uid) if uid else ""


def _distinct(value: str) -> str:
    """Return a text, in quotes if it begins or ends with a blank, which a reader would not see."""
    return f'"{value}"' if value != value.strip(" ") else value


def _owners(owners: tuple[str, ...], language: Language) -> Iterator[tuple[str, str]]:
    """Yield a line for each, because a comment may contain any separator."""
    for owner in owners[:_OWNERS_LIMIT]:
        yield "key of", owner
    if len(owners) > _OWNERS_LIMIT:
        more = len(owners) - _OWNERS_LIMIT
        yield "key of", language.ngettext("and %(num)s other", "and %(num)s others", more)


def _text(number: int | None) -> str:
    return "" if number is None else str(number)


def _country(geo: GeoFields, language: Language) -> str | None:
    # Some databases have only codes.
    return language.country(geo.country_iso_code or "") or geo.country_name or geo.country_iso_code


def _place(geo: GeoFields, language: Language) -> str:
    """Return a place as people write it, the smallest part first: ``Lyon, Auvergne-Rhône-Alpes, France``."""
    country = _country(geo, language) or geo.continent_code
    name = language.gettext(_AREAS[geo.name]) if geo.name in _AREAS else geo.name
    return ", ".join(dict.fromkeys(filter(None, (name, geo.city_name, geo.region_name, country))))


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


def _local(text: str, zone: tzinfo | None, language: Language) -> str:
    """Return a time of an event in its reader's zone."""
    moment = _zoned(text, zone)
    # The zone's abbreviation is the one of log files and of the system's programs.
    return text if moment is None else f"{language.moment(moment)} {moment:%Z}"


def _moment(text: str, zone: tzinfo | None, language: Language) -> str:
    """Return a time in the reader's zone, and in UTC: ``2026-11-22 11:00:00 CET (10:00:00 UTC)``."""
    moment = _zoned(text, zone)
    if moment is None or not moment.utcoffset():
        return _local(text, zone, language)
    there = moment.astimezone(UTC)
    shown = language.clock(there) if there.date() == moment.date() else language.moment(there)
    return f"{_local(text, zone, language)} ({shown} UTC)"
