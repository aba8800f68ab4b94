"""
Writes the first sentence of a message, its subject and its advice: who, on which host, from where, and what to do.

People act on these sentences, so a text chosen by somebody else must never look like a part of them. A single word is used as it
is. Any other text is cut and put in quotes, with a dot for each character that prose needs: ``“root·from·Lyon”``.
"""

import re

import msgspec

from consumer.actions import EventAction, LineAction, OwnAction
from consumer.addresses import ip_of
from consumer.deliver.facts import Facts

# Latin letters only: a Cyrillic o in "root" looks like a Latin one.
_WORD = re.compile(r"[0-9A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f_.@+-]{1,64}\Z")
_PROSE = re.compile(r"[^\w.@+/\\:$-]")
# The length of a quoted text, a place and a person's name, in characters. A telephone shows about 40 of a subject.
_QUOTE_LIMIT, _PLACE_LIMIT, _PERSON_LIMIT = 32, 64, 64

# Addresses that have no place on a map, by ``source.geo.name``.
_NEAR = {
    "private network": "a private network",
    "unique local": "a private network",
    "site-local": "a private network",
    "carrier-grade NAT": "a carrier-grade NAT",
    "link-local": "the local network",
    "loopback": "the host itself",
}
# The ways in which an address hides its user, by ``source.anonymous``.
_HIDDEN = {
    "vpn": "VPN",
    "tor": "Tor",
    "proxy": "proxy",
    "residential proxy": "residential proxy",
    "relay": "relay",
    "hosting": "data centre",
    "anonymous": "anonymous network",
}
# The claim of a forged line, and the truth.
_CLAIMS: dict[str, tuple[str, str]] = {
    LineAction.ACCEPTED: ("a login", "nobody logged in"),
    LineAction.SESSION_OPENED: ("the start of a session", "nobody logged in"),
    LineAction.SESSION_CLOSED: ("the end of a session", "nobody logged out"),
    LineAction.FAILED: ("a failed login", "nobody tried to log in"),
    LineAction.INVALID_USER: ("a failed login", "nobody tried to log in"),
}
# Advice about the credential, by method.
_CREDENTIALS = {
    "certificate": "Revoke the certificate.",
    "publickey": "Remove the key.",
    "password": "Change the password.",
    "keyboard-interactive": "Change the password.",
}
_OTHER_CREDENTIAL = "Change its password and keys."
_OTHER_CLAIM = ("an event", "sshd did not write it")


class Sentences(msgspec.Struct, frozen=True, kw_only=True):
    """The sentences about one event, for templates."""

    kind: str
    who: str
    from_where: str
    title: str
    headline: str
    path: str
    remedy: str
    notes: tuple[str, ...]
    advice: tuple[str, ...]


def sentences_of(facts: Facts) -> Sentences:
    """Return the sentences about an event."""
    return Sentences(
        kind=_kind(facts),
        who=_who(facts),
        from_where=_from_where(facts),
        title=_title(facts),
        headline=_headline(facts),
        path=_path(facts),
        remedy=_remedy(facts),
        notes=tuple(_notes(facts)),
        advice=tuple(_advice(facts)),
    )


def named(text: str) -> str:
    """Return somebody else's text in a form that is safe within our sentences; "" for ""."""
    if not text or _WORD.match(text):
        return text
    quoted = _PROSE.sub("·", text[:_QUOTE_LIMIT])
    return f"“{quoted}{'…' if len(text) > _QUOTE_LIMIT else ''}”"


def _kind(facts: Facts) -> str:
    """Return the kind of an event in a word or two, such as ``Login``."""
    match facts.action:
        case OwnAction.TEST:
            return "Test"
        case OwnAction.NOTICE:
            return "Notice"
        case action if action in tuple(EventAction):
            return EventAction(action).noun.capitalize()
    return "Event"


def _who(facts: Facts) -> str:
    """Return who did it: the person if a known one has logged in, otherwise the account, otherwise ``Somebody``."""
    return _person(facts) or (facts.is_in and named(facts.user)) or "Somebody"


def _from_where(facts: Facts) -> str:
    """Return where it came from, such as ``Lyon, France`` or ``a private network (10.1.2.3)``; "" if that is unknown."""
    source = facts.event.source
    address = _address(facts)
    if near := _NEAR.get(source.geo.name or ""):
        return f"{near} ({address})" if address else near
    if not facts.town or len(facts.town) > _PLACE_LIMIT:
        return address
    hidden = [_HIDDEN[word] for word in source.anonymous if word in _HIDDEN]
    return f"{facts.town} ({', '.join(hidden)})" if hidden else facts.town


def _title(facts: Facts) -> str:
    """Return the first sentence of a message."""
    host = named(facts.host)
    match facts.action:
        case EventAction.LOGIN | OwnAction.TEST:
            return f"{_who(facts)} logged in{_after(' to ', host)}{_as_account(facts)}{_credential(facts)}{_way(facts)}."
        case EventAction.LOGOUT:
            return f"{_who(facts)} logged out{_after(' of ', host)}{_after(' after ', facts.duration)}."
        case EventAction.ATTEMPT:
            times = f" {facts.count} times" if facts.count else ""
            return f"Somebody tried{times} to log in{_after(' to ', host)}{_as_account(facts)}{_way(facts)}, and failed."
        case EventAction.PROBE:
            return f"Somebody connected{_after(' to ', host)}{_way(facts)} without trying to log in."
        case EventAction.CANARY:
            return f"The canary of sshbell{_after(' on ', host)} arrived: lines of sshd get through."
        case EventAction.FORGED:
            claim, truth = _CLAIMS.get(facts.claim, _OTHER_CLAIM)
            claimed = f"{claim}{_after(' of ', named(facts.user))}"
            lines, it = (f"{facts.count} log lines", "the first") if facts.count else ("a log line", "it")
            return f"A process{_writer(facts)}{_after(' on ', host)} forged {lines}: {it} claims {claimed}, but {truth}."
        case EventAction.GUESSING:
            return f"{_guesser(facts)} {_guesses(facts)}{_where(facts)}: {facts.count} failed logins match {_rule(facts)}."
        case EventAction.ROOT_BY_PASSWORD:
            return f"root logged in{_after(' to ', host)} with nothing but a password{_way(facts)}."
        case EventAction.BLOCK:
            would = "would block" if facts.dry_run else "blocks"
            return f"sshbell{_after(' on ', host)} {would} {named(facts.target)}{_after(' until ', facts.until)}."
        case _ if facts.is_finding:
            return f"{_headline(facts)}."
        case OwnAction.NOTICE:
            return f"sshbell{_after(' on ', host)} reports: {facts.message}"
    return f"sshbell{_after(' on ', host)} reports an event that this version does not know{_after(': ', named(facts.action))}."


def _headline(facts: Facts) -> str:
    """Return the subject, a shorter title. Mail filters rely on its words; docs/configuration.md lists them."""
    host = named(facts.host)
    match facts.action:
        case EventAction.LOGIN | OwnAction.TEST:
            return f"{_who(facts)} logged in{_after(' to ', host)}{_as_account(facts)}{_way(facts)}{_news(facts)}"
        case EventAction.LOGOUT:
            return _title(facts).removesuffix(".")
        case EventAction.ATTEMPT:
            times = f" ({facts.count} times)" if facts.count else ""
            return f"Failed login{_after(' to ', host)}{_as_account(facts)}{_way(facts)}{times}"
        case EventAction.PROBE:
            return f"Connection{_after(' to ', host)}{_way(facts)} without a login"
        case EventAction.CANARY:
            return f"Canary{_after(' on ', host)} arrived"
        case EventAction.FORGED:
            claim, _ = _CLAIMS.get(facts.claim, _OTHER_CLAIM)
            more = f", and {int(facts.count) - 1} more" if facts.count else ""
            return f"FORGED line claims {claim}{_after(' of ', named(facts.user))}{_after(' on ', host)}{more}"
        case EventAction.GUESSING:
            return f"{_guesser(facts)} {_guesses(facts)}{_where(facts)}"
        case EventAction.ROOT_BY_PASSWORD:
            return f"root logged in{_after(' to ', host)} by password{_way(facts)}"
        case EventAction.BLOCK:
            return f"sshbell{_after(' on ', host)} {'would block' if facts.dry_run else 'blocks'} {named(facts.target)}"
        case action if facts.is_finding:
            return f"{EventAction(action).noun.capitalize()}{_after(' on ', host)}{_as_account(facts)}{_way(facts)}"
        case OwnAction.NOTICE:
            return f"sshbell{_after(' on ', host)}: {facts.message}"
    return _title(facts).removesuffix(".")


def _path(facts: Facts) -> str:
    """Return the way in, in short: ``From 203.0.113.7, AS3215 Orange, through bastion1.``; "" if nothing is known of it."""
    network = facts.network if len(facts.network) <= _PLACE_LIMIT else f"{facts.network[: _PLACE_LIMIT - 1]}…"
    # The place of a jump host stands here, because the title names the host in its stead.
    place = facts.town if facts.via_host and len(facts.town) <= _PLACE_LIMIT else ""
    parts = [_address(facts), place, network]
    if facts.via:
        parts.append(f"through {named(facts.via_host)}{_after(' as ', named(facts.event.ssh.via.user.name or ''))}")
    known = ", ".join(filter(None, parts))
    if facts.action == EventAction.FORGED:
        return f"The line claims the address {known}." if known else ""
    return f"{'From ' if parts[0] else ''}{known}." if known else ""


def _remedy(facts: Facts) -> str:
    """Return the advice in one sentence, for a chat; "" if there is nothing to do."""
    host = named(facts.host) or "the host"
    if facts.action == EventAction.FORGED:
        look = (
            f"See what uid {facts.claimed_by_uid} runs on {host}"
            if facts.claimed_by_uid
            else f"Find out who can log in to {host}"
        )
        return f"Not a test of yours? {look}."
    if facts.action != EventAction.LOGIN:
        return ""
    method = "certificate" if facts.certificate else facts.method.partition("/")[0]
    credential = _CREDENTIALS.get(method, _OTHER_CREDENTIAL).removesuffix(".").lower()
    first = "end the session" if facts.is_root else "lock the account, end its processes"
    return f"Not you, and nobody you know? Act on {host} now: {first}, {credential}."


def in_a_list(facts: Facts) -> str:
    """Return a line about an event, for a list under the heading of its kind. It names account, host and address."""
    account, host, address = named(facts.user), named(facts.host), _after(" from ", _address(facts))
    match facts.action:
        case EventAction.FORGED:
            claim, _ = _CLAIMS.get(facts.claim, _OTHER_CLAIM)
            writer = f" by uid {facts.claimed_by_uid}" if facts.claimed_by_uid else ""
            return f"{claim}{_after(' of ', account)}{_after(' on ', host)}{writer}"
        case OwnAction.NOTICE:
            return facts.message
        case EventAction.BLOCK:
            return f"{named(facts.target)} on {host or 'unknown host'}"
        case EventAction.PROBE if not account:
            return f"{host or 'unknown host'}{address}"
    return f"{account or 'unknown user'} on {host or 'unknown host'}{address}{_after(' after ', facts.duration)}"


def _notes(facts: Facts) -> list[str]:
    """Return the reasons why a message is less certain than it sounds, a paragraph for each."""
    found = []
    host = named(facts.host) or "the host"
    if facts.action == EventAction.LOGIN and facts.origin == "unverified":
        found.append(
            f"The log does not show which process wrote this: any user of {host} could have. "
            f"Run `sshbell check` there to see how to change that."
        )
    if facts.action == EventAction.LOGIN and facts.new:
        found.append(f"This is new for {_who(facts)}: {', '.join(facts.new)}. sshbell knows no earlier login like it.")
    if facts.ambiguous:
        found.append("The log line can be read in several ways. Do not rely on what the client could choose.")
    return found


def _advice(facts: Facts) -> list[str]:
    """
    Return the steps to take if something is wrong, one per line, with commands in backticks; nothing if there is nothing to do.

    People in a hurry paste the commands, so these contain no text of an event except a uid. Locking root, or killing all of its
    processes, would do more harm than good.
    """
    host = named(facts.host) or "the host"
    if facts.action == EventAction.FORGED:
        look = f"See what uid {facts.claimed_by_uid} runs there: `ps -fu {facts.claimed_by_uid}`"
        warning = f"If this was not a test of yours, somebody with access to {host} may be trying to mislead you."
        return [warning, look] if facts.claimed_by_uid else [warning]
    if facts.action != EventAction.LOGIN:
        return []
    method = "certificate" if facts.certificate else facts.method.partition("/")[0]
    if facts.is_root:
        steps = ["End the session. This lists it: `pgrep -a sshd`"]
    else:
        steps = ["Lock the account: `usermod --expiredate 1 ACCOUNT`", "End its processes: `pkill -KILL -u ACCOUNT`"]
    steps.append(_CREDENTIALS.get(method, _OTHER_CREDENTIAL))
    return [
        f"If this was not you or somebody you know, act on {host} now:",
        *(f"{number}. {step}" for number, step in enumerate(steps, 1)),
        f"If you do not administer {host}, call somebody who does.",
    ]


def _person(facts: Facts) -> str:
    name = facts.person if facts.is_in else ""
    return name if len(name) <= _PERSON_LIMIT else f"{name[: _PERSON_LIMIT - 1]}…"


def _as_account(facts: Facts) -> str:
    """Return the account, unless ``who`` has named it already."""
    return "" if facts.is_in and not _person(facts) else _after(" as ", named(facts.user))


def _credential(facts: Facts) -> str:
    """Return the key's comment, if no person is known. Users write the comments, so only a single word is safe."""
    if _person(facts):
        return ""
    if facts.certificate:
        return f" with the certificate {facts.certificate}" if _WORD.match(facts.certificate) else ""
    owners = facts.owners
    return f" with the key {owners[0]}" if len(owners) == 1 and _WORD.match(owners[0]) else ""


def _way(facts: Facts) -> str:
    """Return the way in. After a jump host, place and address are that host's own."""
    if facts.via_host:
        return f" through {named(facts.via_host)}"
    return _after(" from ", _from_where(facts))


def _news(facts: Facts) -> str:
    """Return the respect in which a login is new that says the most."""
    return f" (new {facts.new[0]})" if facts.new else ""


def _address(facts: Facts) -> str:
    """Return the address, or the name that the log has in its place."""
    ip = ip_of(facts.event.source.ip) or ip_of(facts.address)
    return str(ip) if ip else "" if facts.address == "UNKNOWN" else named(facts.address)


def _writer(facts: Facts) -> str:
    user, uid = named(facts.claimed_by_user), facts.claimed_by_uid
    return f" of {user} (uid {uid})" if user else f" with uid {uid}" if uid else ""


def _guesser(facts: Facts) -> str:
    """Return who guesses: at an address, in a network, or anybody if the tries at one account count."""
    if facts.labels.get("by") == "user":
        return "Somebody"
    return f"Somebody{_after(' in ', facts.labels.get('network', '')) or _way(facts)}"


def _guesses(facts: Facts) -> str:
    return f"guesses the password of {named(facts.user)}" if facts.labels.get("by") == "user" else "guesses passwords"


def _where(facts: Facts) -> str:
    """Return the host of a finding, or the number of its hosts."""
    return f" on {len(facts.hosts)} hosts" if len(facts.hosts) > 1 else _after(" on ", named(facts.host))


def _rule(facts: Facts) -> str:
    return f"the rule {facts.rule}" if facts.rule else "a rule"


def _after(before: str, text: str) -> str:
    """Return a text with ``before`` in front of it; "" for ""."""
    return f"{before}{text}" if text else ""
