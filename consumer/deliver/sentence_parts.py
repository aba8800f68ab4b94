"""
Writes the parts of sentences that name somebody or something: who, on which host, from where.

People act on our sentences, so a text chosen by somebody else must never look like a part of them. A single word is used as it
is. Any other text is cut and put in quotes, with a dot for each character that prose needs: ``“root·from·Lyon”``.

A part has the blank before it. A part that is not known is "".
"""

import re

from consumer.addresses import ip_of
from consumer.deliver.facts import Facts
from consumer.deliver.language import Language
from consumer.text import N_

# Latin letters only: a Cyrillic o in "root" looks like a Latin one.
_WORD = re.compile(r"[0-9A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f_.@+-]{1,64}\Z")
_PROSE = re.compile(r"[^\w.@+/\\:$-]")
# The length of a quoted text, a place and a person's name, in characters. A telephone shows about 40 of a subject.
_QUOTE_LIMIT, PLACE_LIMIT, _PERSON_LIMIT = 32, 64, 64

# Addresses that have no place on a map, by ``source.geo.name``: alone, and as a part of a sentence.
_PRIVATE = N_("a private network"), N_(" from a private network")
_NEAR = {
    "private network": _PRIVATE,
    "unique local": _PRIVATE,
    "site-local": _PRIVATE,
    "carrier-grade NAT": (N_("a carrier-grade NAT"), N_(" from a carrier-grade NAT")),
    "link-local": (N_("the local network"), N_(" from the local network")),
    "loopback": (N_("the host itself"), N_(" from the host itself")),
}
# The ways in which an address hides its user, by ``source.anonymous``.
_HIDDEN = {
    "vpn": N_("VPN"),
    "tor": N_("Tor"),
    "proxy": N_("proxy"),
    "residential proxy": N_("residential proxy"),
    "relay": N_("relay"),
    "hosting": N_("data centre"),
    "anonymous": N_("anonymous network"),
}


def named(text: str, language: Language) -> str:
    """Return somebody else's text in a form that is safe within our sentences; "" for ""."""
    if not text or _WORD.match(text):
        return text
    shown = _PROSE.sub("·", text[:_QUOTE_LIMIT]) + ("…" if len(text) > _QUOTE_LIMIT else "")
    return language.gettext("“%(name)s”", name=shown)


def named_in(facts: Facts, text: str) -> str:
    """Return the same in the language of the facts."""
    return named(text, facts.language)


def who(facts: Facts) -> str:
    """Return who did it: the person if a known one has logged in, otherwise the account, otherwise ``Somebody``."""
    return person_name(facts) or (facts.is_in and named_in(facts, facts.user)) or facts.language.gettext("Somebody")


def person_name(facts: Facts) -> str:
    """Return the name of the person who has logged in, cut to a length."""
    name = facts.person if facts.is_in else ""
    return name if len(name) <= _PERSON_LIMIT else f"{name[: _PERSON_LIMIT - 1]}…"


def as_account(facts: Facts) -> str:
    """Return the account, unless ``who`` has named it already."""
    if not facts.user or (facts.is_in and not person_name(facts)):
        return ""
    return facts.language.gettext(" as %(account)s", account=named_in(facts, facts.user))


def with_credential(facts: Facts) -> str:
    """Return the key's comment, if no person is known. Users write the comments, so only a single word is safe."""
    _ = facts.language.gettext
    if person_name(facts):
        return ""
    if facts.certificate:
        name = facts.certificate
        return _(" with the certificate %(certificate)s", certificate=name) if _WORD.match(name) else ""
    owners = facts.owners
    return _(" with the key %(key)s", key=owners[0]) if len(owners) == 1 and _WORD.match(owners[0]) else ""


def from_where(facts: Facts) -> str:
    """Return where it came from, such as ``Lyon, France`` or ``a private network (10.1.2.3)``; "" if that is unknown."""
    address = address_text(facts)
    if near := _NEAR.get(facts.event.source.geo.name or ""):
        return _with_address(facts.language.gettext(near[0]), address)
    return _town(facts) or address


def _from(facts: Facts) -> str:
    """Return the same as a part of a sentence, with a blank before it; "" for ""."""
    _, address = facts.language.gettext, address_text(facts)
    if near := _NEAR.get(facts.event.source.geo.name or ""):
        return _with_address(_(near[1]), address)
    if town := _town(facts):
        return _(" from %(town)s", town=town)
    return _(" from %(address)s", address=address) if address else ""


def way_in(facts: Facts) -> str:
    """Return the way in. After a jump host, place and address are that host's own."""
    return _part(facts, N_(" through %(host)s"), facts.via_host) if facts.via_host else _from(facts)


def address_text(facts: Facts) -> str:
    """Return the address, or the name that the log has in its place."""
    ip = ip_of(facts.event.source.ip) or ip_of(facts.address)
    return str(ip) if ip else "" if facts.address == "UNKNOWN" else named_in(facts, facts.address)


def _with_address(area: str, address: str) -> str:
    return f"{area} ({address})" if address else area


def _town(facts: Facts) -> str:
    """Return the place of the address, and what hides its user; "" if it is unknown or too long."""
    if not facts.town or len(facts.town) > PLACE_LIMIT:
        return ""
    hidden = [facts.language.gettext(_HIDDEN[word]) for word in facts.event.source.anonymous if word in _HIDDEN]
    return f"{facts.town} ({', '.join(hidden)})" if hidden else facts.town


def on_hosts(facts: Facts) -> str:
    """Return the host of a finding, or the number of its hosts."""
    if len(facts.hosts) > 1:
        return facts.language.ngettext(" on %(num)s host", " on %(num)s hosts", len(facts.hosts))
    return on_host(facts)


def the_host(facts: Facts) -> str:
    """Return the host; ``the host`` if it is unknown."""
    return named_in(facts, facts.host) or facts.language.gettext("the host")


def to_host(facts: Facts) -> str:
    """Return to which host, such as `` to web1``."""
    return _part(facts, N_(" to %(host)s"), facts.host)


def on_host(facts: Facts) -> str:
    """Return on which host."""
    return _part(facts, N_(" on %(host)s"), facts.host)


def of_host(facts: Facts) -> str:
    """Return of which host."""
    return _part(facts, N_(" of %(host)s"), facts.host)


def _part(facts: Facts, text: str, host: str) -> str:
    """Return a part of a sentence that names a host; "" if the host is unknown."""
    return facts.language.gettext(text, host=named_in(facts, host)) if host else ""
