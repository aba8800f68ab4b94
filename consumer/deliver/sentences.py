"""
Writes the first sentence of a message, its subject and its advice: who, on which host, from where, and what to do.

People act on these sentences, so a text chosen by somebody else must never look like a part of them. A single word is used as it
is. Any other text is cut and put in quotes, with a dot for each character that prose needs: ``“root·from·Lyon”``.

A sentence is one text of the catalogue, and so is each part that it may lack, with the blank before it. So a language can put the
parts in its own order.
"""

import re

import msgspec

from consumer.actions import EventAction, LineAction, OwnAction
from consumer.addresses import ip_of
from consumer.deliver.event_kinds import KINDS
from consumer.deliver.facts import NOVELTY_NAMES, Facts, duration_text
from consumer.deliver.finding_sentences import Parts, fault_sentence, finding_sentence
from consumer.deliver.language import Language
from consumer.text import N_

# Latin letters only: a Cyrillic o in "root" looks like a Latin one.
_WORD = re.compile(r"[0-9A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f_.@+-]{1,64}\Z")
_PROSE = re.compile(r"[^\w.@+/\\:$-]")
# The length of a quoted text, a place and a person's name, in characters. A telephone shows about 40 of a subject.
_QUOTE_LIMIT, _PLACE_LIMIT, _PERSON_LIMIT = 32, 64, 64

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
# The claim of a forged line, and the truth.
_CLAIMS: dict[str, tuple[str, str]] = {
    LineAction.ACCEPTED: (N_("a login%(user)s"), N_("nobody logged in")),
    LineAction.SESSION_OPENED: (N_("the start of a session%(user)s"), N_("nobody logged in")),
    LineAction.SESSION_CLOSED: (N_("the end of a session%(user)s"), N_("nobody logged out")),
    LineAction.FAILED: (N_("a failed login%(user)s"), N_("nobody tried to log in")),
    LineAction.INVALID_USER: (N_("a failed login%(user)s"), N_("nobody tried to log in")),
}
_OTHER_CLAIM = (N_("an event%(user)s"), N_("sshd did not write it"))
# Advice about the credential, by method: as a sentence, and in a list of steps.
_PASSWORD = N_("Change the password."), N_("change the password")
_CREDENTIALS = {
    "certificate": (N_("Revoke the certificate."), N_("revoke the certificate")),
    "publickey": (N_("Remove the key."), N_("remove the key")),
    "password": _PASSWORD,
    "keyboard-interactive": _PASSWORD,
}
_OTHER_CREDENTIAL = N_("Change its password and keys."), N_("change its password and keys")
# What is new about a login, in its subject.
_NEWS = {
    "country": N_(" (new country)"),
    "address": N_(" (new address)"),
    "key": N_(" (new key)"),
    "network": N_(" (new network)"),
    "host": N_(" (new host)"),
}


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
    """Return the sentences about an event, in the language of the facts."""
    return Sentences(
        kind=facts.language.gettext(KINDS.get(facts.action, KINDS[""]).name),
        who=_who(facts),
        from_where=_from_where(facts),
        title=_title(facts),
        headline=_headline(facts),
        path=_path(facts),
        remedy=_remedy(facts),
        notes=tuple(_notes(facts)),
        advice=tuple(_advice(facts)),
    )


def named(text: str, language: Language) -> str:
    """Return somebody else's text in a form that is safe within our sentences; "" for ""."""
    if not text or _WORD.match(text):
        return text
    shown = _PROSE.sub("·", text[:_QUOTE_LIMIT]) + ("…" if len(text) > _QUOTE_LIMIT else "")
    return language.gettext("“%(name)s”", name=shown)


def _who(facts: Facts) -> str:
    """Return who did it: the person if a known one has logged in, otherwise the account, otherwise ``Somebody``."""
    return _person(facts) or (facts.is_in and _named(facts, facts.user)) or facts.language.gettext("Somebody")


def _from_where(facts: Facts) -> str:
    """Return where it came from, such as ``Lyon, France`` or ``a private network (10.1.2.3)``; "" if that is unknown."""
    address = _address(facts)
    if near := _NEAR.get(facts.event.source.geo.name or ""):
        return _with_address(facts.language.gettext(near[0]), address)
    return _town(facts) or address


def _from(facts: Facts) -> str:
    """Return the same as a part of a sentence, with a blank before it; "" for ""."""
    _, address = facts.language.gettext, _address(facts)
    if near := _NEAR.get(facts.event.source.geo.name or ""):
        return _with_address(_(near[1]), address)
    if town := _town(facts):
        return _(" from %(town)s", town=town)
    return _(" from %(address)s", address=address) if address else ""


def _with_address(area: str, address: str) -> str:
    return f"{area} ({address})" if address else area


def _town(facts: Facts) -> str:
    """Return the place of the address, and what hides its user; "" if it is unknown or too long."""
    if not facts.town or len(facts.town) > _PLACE_LIMIT:
        return ""
    hidden = [facts.language.gettext(_HIDDEN[word]) for word in facts.event.source.anonymous if word in _HIDDEN]
    return f"{facts.town} ({', '.join(hidden)})" if hidden else facts.town


def _title(facts: Facts) -> str:
    """Return the first sentence of a message."""
    _ = facts.language.gettext
    match facts.action:
        case EventAction.LOGIN | OwnAction.TEST:
            return _(
                "%(who)s logged in%(host)s%(account)s%(credential)s%(way)s.",
                who=_who(facts), host=_to_host(facts), account=_as_account(facts), credential=_credential(facts), way=_way(facts),
            )  # fmt: skip
        case EventAction.LOGOUT:
            return f"{_logout(facts)}."
        case EventAction.ATTEMPT:
            tries = {"host": _to_host(facts), "account": _as_account(facts), "way": _way(facts)}
            if not facts.count:
                return _("Somebody tried to log in%(host)s%(account)s%(way)s, and failed.", **tries)
            return facts.language.ngettext(
                "Somebody tried %(num)s time to log in%(host)s%(account)s%(way)s, and failed.",
                "Somebody tried %(num)s times to log in%(host)s%(account)s%(way)s, and failed.",
                int(facts.count), **tries,
            )  # fmt: skip
        case EventAction.PROBE:
            host = _(" to %(server)s", server=_named(facts, facts.host)) if facts.host else ""
            return _("Somebody connected%(host)s%(way)s without trying to log in.", host=host, way=_way(facts))
        case EventAction.TROUBLE:
            return f"{_trouble(facts)}."
        case EventAction.CANARY:
            return _("The canary%(host)s arrived: sshbell gets the lines of sshd.", host=_on_host(facts))
        case EventAction.FORGED:
            claim, truth = _CLAIMS.get(facts.claim, _OTHER_CLAIM)
            parts = {
                "writer": _writer(facts), "host": _on_host(facts), "claim": _claim(facts, claim), "truth": _(truth),
            }  # fmt: skip
            if not facts.count:
                return _("A process%(writer)s%(host)s forged a log line: it claims %(claim)s, but %(truth)s.", **parts)
            return facts.language.ngettext(
                "A process%(writer)s%(host)s forged %(num)s log line: the first claims %(claim)s, but %(truth)s.",
                "A process%(writer)s%(host)s forged %(num)s log lines: the first claims %(claim)s, but %(truth)s.",
                int(facts.count), **parts,
            )  # fmt: skip
        case EventAction.GUESSING:
            return facts.language.ngettext(
                "%(guesser)s %(guesses)s%(where)s: %(num)s failed login matches %(rule)s.",
                "%(guesser)s %(guesses)s%(where)s: %(num)s failed logins match %(rule)s.",
                int(facts.count or 1), guesser=_guesser(facts), guesses=_guesses(facts), where=_where(facts), rule=_rule(facts),
            )  # fmt: skip
        case EventAction.ROOT_BY_PASSWORD:
            return _("root logged in%(host)s with nothing but a password%(way)s.", host=_to_host(facts), way=_way(facts))
        case EventAction.BLOCK:
            target, until = _named(facts, facts.target), _(" until %(time)s", time=facts.until) if facts.until else ""
            if facts.dry_run:
                return _("sshbell%(host)s would block %(target)s%(until)s.", host=_on_host(facts), target=target, until=until)
            return _("sshbell%(host)s blocks %(target)s%(until)s.", host=_on_host(facts), target=target, until=until)
        case EventAction.HOST_SILENT:
            return _(
                "%(host)s has sent no line for %(duration)s, more than %(factor)s times its longest pause of the last two weeks.",
                host=_the_host(facts), duration=_label_time(facts, "silent_s"), factor=facts.labels.get("factor", ""),
            )  # fmt: skip
        case EventAction.HOST_CHANGED_WORDING:
            return _(
                "sshbell has no rule for %(share)s of the last lines of sshd%(host)s; before, it was %(usual)s.",
                share=facts.labels.get("share", ""), usual=facts.labels.get("usual", ""), host=_on_host(facts),
            )  # fmt: skip
        case EventAction.CLOCK_SKEW if facts.labels.get("direction") == "ahead":
            return _("The clock%(host)s is %(duration)s ahead.", host=_of_host(facts), duration=_label_time(facts, "skew_s"))
        case EventAction.CLOCK_SKEW:
            return _(
                "The clock%(host)s is %(duration)s behind, or its lines come so late.",
                host=_of_host(facts), duration=_label_time(facts, "skew_s"),
            )  # fmt: skip
        case action if facts.is_finding:
            return f"{_finding(facts, action)}."
        case OwnAction.NOTICE:
            return _("sshbell%(host)s reports: %(message)s", host=_on_host(facts), message=facts.message)
    return f"{_unknown(facts)}."


def _headline(facts: Facts) -> str:
    """Return the subject, a shorter title. Mail filters rely on its words; docs/configuration.md lists them."""
    _ = facts.language.gettext
    match facts.action:
        case EventAction.LOGIN | OwnAction.TEST:
            return _(
                "%(who)s logged in%(host)s%(account)s%(way)s%(news)s",
                who=_who(facts), host=_to_host(facts), account=_as_account(facts), way=_way(facts),
                news=_(_NEWS[facts.new[0]]) if facts.new else "",
            )  # fmt: skip
        case EventAction.LOGOUT:
            return _logout(facts)
        case EventAction.ATTEMPT:
            times = facts.language.ngettext(" (%(num)s time)", " (%(num)s times)", int(facts.count)) if facts.count else ""
            return _(
                "Failed login%(host)s%(account)s%(way)s%(times)s",
                host=_to_host(facts), account=_as_account(facts), way=_way(facts), times=times,
            )  # fmt: skip
        case EventAction.PROBE:
            host = _(" to %(server)s", server=_named(facts, facts.host)) if facts.host else ""
            return _("Connection%(host)s%(way)s without a login", host=host, way=_way(facts))
        case EventAction.TROUBLE:
            return _trouble(facts)
        case EventAction.CANARY:
            return _("The canary%(host)s arrived", host=_on_host(facts))
        case EventAction.FORGED:
            claim, _truth = _CLAIMS.get(facts.claim, _OTHER_CLAIM)
            more = (
                facts.language.ngettext(", and %(num)s more", ", and %(num)s more", int(facts.count) - 1) if facts.count else ""
            )
            return _(
                "FORGED line claims %(claim)s%(host)s%(more)s", claim=_claim(facts, claim), host=_on_host(facts), more=more,
            )  # fmt: skip
        case EventAction.GUESSING:
            return f"{_guesser(facts)} {_guesses(facts)}{_where(facts)}"
        case EventAction.ROOT_BY_PASSWORD:
            return _("root logged in%(host)s by password%(way)s", host=_to_host(facts), way=_way(facts))
        case EventAction.BLOCK:
            target = _named(facts, facts.target)
            if facts.dry_run:
                return _("sshbell%(host)s would block %(target)s", host=_on_host(facts), target=target)
            return _("sshbell%(host)s blocks %(target)s", host=_on_host(facts), target=target)
        case EventAction.HOST_SILENT:
            return _("%(host)s is silent", host=_the_host(facts))
        case EventAction.HOST_CHANGED_WORDING:
            return _("sshd%(host)s has changed its wording", host=_on_host(facts))
        case EventAction.CLOCK_SKEW:
            return _("The clock%(host)s is wrong", host=_of_host(facts))
        case action if facts.is_finding:
            return _finding(facts, action)
        case OwnAction.NOTICE:
            return _("sshbell%(host)s: %(message)s", host=_on_host(facts), message=facts.message)
    return _unknown(facts)


def _trouble(facts: Facts) -> str:
    return fault_sentence(facts, sentence_parts(facts), facts.event.rule.name or "")


def _logout(facts: Facts) -> str:
    _ = facts.language.gettext
    host = _of_host(facts)
    duration = _(" after %(duration)s", duration=facts.duration) if facts.duration else ""
    return _("%(who)s logged out%(host)s%(duration)s", who=_who(facts), host=host, duration=duration)


def _unknown(facts: Facts) -> str:
    _ = facts.language.gettext
    action = _(": %(action)s", action=_named(facts, facts.action)) if facts.action else ""
    return _(
        "sshbell%(host)s reports an event that this version does not know%(action)s", host=_on_host(facts), action=action,
    )  # fmt: skip


def _path(facts: Facts) -> str:
    """Return the way in, in short: ``From 203.0.113.7, AS3215 Orange, through bastion1.``; "" if nothing is known of it."""
    _, address = facts.language.gettext, _address(facts)
    network = facts.network if len(facts.network) <= _PLACE_LIMIT else f"{facts.network[: _PLACE_LIMIT - 1]}…"
    # The place of a jump host stands here, because the title names the host in its stead.
    place = facts.town if facts.via_host and len(facts.town) <= _PLACE_LIMIT else ""
    through = ""
    if facts.via:
        host, user = _named(facts, facts.via_host), _named(facts, facts.event.ssh.via.user.name or "")
        through = _("through %(host)s as %(user)s", host=host, user=user) if user else _("through %(host)s", host=host)
    known = ", ".join(filter(None, [address, place, network, through]))
    if not known:
        return ""
    if facts.action == EventAction.FORGED:
        return _("The line claims the address %(known)s.", known=known)
    return _("From %(known)s.", known=known) if address else f"{known}."


def _remedy(facts: Facts) -> str:
    """Return the advice in one sentence, for a chat; "" if there is nothing to do."""
    _ = facts.language.gettext
    host = _the_host(facts)
    if facts.action == EventAction.FORGED:
        if facts.claimed_by_uid:
            return _("Not a test of yours? See what uid %(uid)s runs on %(host)s.", uid=facts.claimed_by_uid, host=host)
        return _("Not a test of yours? Find out who can log in to %(host)s.", host=host)
    if facts.action != EventAction.LOGIN:
        return ""
    first = _("end the session") if facts.is_root else _("lock the account, end its processes")
    return _(
        "Not you, and nobody you know? Act on %(host)s now: %(first)s, %(last)s.",
        host=host, first=first, last=_(_credential_steps(facts)[1]),
    )  # fmt: skip


def in_a_list(facts: Facts) -> str:
    """Return a line about an event, for a list under the heading of its kind. It names account, host and address."""
    _, address = facts.language.gettext, _address(facts)
    host = _named(facts, facts.host) or _("unknown host")
    origin = _(" from %(address)s", address=address) if address else ""
    match facts.action:
        case EventAction.FORGED:
            claim, _truth = _CLAIMS.get(facts.claim, _OTHER_CLAIM)
            writer = _(" by uid %(uid)s", uid=facts.claimed_by_uid) if facts.claimed_by_uid else ""
            return f"{_claim(facts, claim)}{_on_host(facts)}{writer}"
        case OwnAction.NOTICE:
            return facts.message
        case EventAction.BLOCK:
            return _("%(target)s on %(host)s", target=_named(facts, facts.target), host=host)
        case EventAction.PROBE if not facts.user:
            return f"{host}{origin}"
    account = _named(facts, facts.user) or _("unknown user")
    duration = _(" after %(duration)s", duration=facts.duration) if facts.duration else ""
    return _("%(account)s on %(host)s%(from)s%(duration)s", **{
        "account": account, "host": host, "from": origin, "duration": duration,
    })  # fmt: skip


def _notes(facts: Facts) -> list[str]:
    """Return the reasons why a message is less certain than it sounds, a paragraph for each."""
    _ = facts.language.gettext
    found = []
    if facts.action == EventAction.LOGIN and facts.origin == "unverified":
        found.append(
            _(
                "The log does not show which process wrote this: any user of %(host)s could have. "
                "Run `sshbell check` there to see how to change that.",
                host=_the_host(facts),
            )
        )
    if facts.action == EventAction.LOGIN and facts.new:
        new = ", ".join(_(NOVELTY_NAMES[what]) for what in facts.new)
        found.append(_("This is new for %(who)s: %(new)s. sshbell knows no earlier login like it.", who=_who(facts), new=new))
    if facts.action == EventAction.LOGIN and facts.event.ssh.code.outcome == "let_in":
        found.append(_("No channel took the one-time code, and `on_failure` let this login in without one."))
    if facts.ambiguous:
        found.append(_("The log line can be read in several ways. Do not rely on what the client could choose."))
    return found


def _advice(facts: Facts) -> list[str]:
    """
    Return the steps to take if something is wrong, one per line, with commands in backticks; nothing if there is nothing to do.

    People in a hurry paste the commands, so these contain no text of an event except a uid. Locking root, or killing all of its
    processes, would do more harm than good.
    """
    _ = facts.language.gettext
    host = _the_host(facts)
    if facts.action == EventAction.FORGED:
        uid = facts.claimed_by_uid
        look = _("See what uid %(uid)s runs there: `ps -fu %(uid)s`", uid=uid)
        warning = _("If this was not a test of yours, somebody with access to %(host)s may be trying to mislead you.", host=host)
        return [warning, look] if uid else [warning]
    if facts.action != EventAction.LOGIN:
        return []
    if facts.is_root:
        steps = [_("End the session. This lists it: `pgrep -a sshd`")]
    else:
        steps = [_("Lock the account: `usermod --expiredate 1 ACCOUNT`"), _("End its processes: `pkill -KILL -u ACCOUNT`")]
    steps.append(_(_credential_steps(facts)[0]))
    return [
        _("If this was not you or somebody you know, act on %(host)s now:", host=host),
        *(f"{number}. {step}" for number, step in enumerate(steps, 1)),
        _("If you do not administer %(host)s, call somebody who does.", host=host),
    ]


def _credential_steps(facts: Facts) -> tuple[str, str]:
    return _CREDENTIALS.get("certificate" if facts.certificate else facts.method.partition("/")[0], _OTHER_CREDENTIAL)


def _person(facts: Facts) -> str:
    name = facts.person if facts.is_in else ""
    return name if len(name) <= _PERSON_LIMIT else f"{name[: _PERSON_LIMIT - 1]}…"


def _as_account(facts: Facts) -> str:
    """Return the account, unless ``who`` has named it already."""
    if not facts.user or (facts.is_in and not _person(facts)):
        return ""
    return facts.language.gettext(" as %(account)s", account=_named(facts, facts.user))


def _credential(facts: Facts) -> str:
    """Return the key's comment, if no person is known. Users write the comments, so only a single word is safe."""
    _ = facts.language.gettext
    if _person(facts):
        return ""
    if facts.certificate:
        name = facts.certificate
        return _(" with the certificate %(certificate)s", certificate=name) if _WORD.match(name) else ""
    owners = facts.owners
    return _(" with the key %(key)s", key=owners[0]) if len(owners) == 1 and _WORD.match(owners[0]) else ""


def _way(facts: Facts) -> str:
    """Return the way in. After a jump host, place and address are that host's own."""
    return _part(facts, N_(" through %(host)s"), facts.via_host) if facts.via_host else _from(facts)


def _address(facts: Facts) -> str:
    """Return the address, or the name that the log has in its place."""
    ip = ip_of(facts.event.source.ip) or ip_of(facts.address)
    return str(ip) if ip else "" if facts.address == "UNKNOWN" else _named(facts, facts.address)


def _claim(facts: Facts, claim: str) -> str:
    user = facts.language.gettext(" of %(user)s", user=_named(facts, facts.user)) if facts.user else ""
    return facts.language.gettext(claim, user=user)


def _writer(facts: Facts) -> str:
    _, user, uid = facts.language.gettext, _named(facts, facts.claimed_by_user), facts.claimed_by_uid
    return _(" of %(user)s (uid %(uid)s)", user=user, uid=uid) if user else _(" with uid %(uid)s", uid=uid) if uid else ""


def _finding(facts: Facts, action: str) -> str:
    """Return the sentence about a finding, which is both title and subject, without a full stop."""
    return finding_sentence(facts, sentence_parts(facts)) or (
        f"{facts.language.gettext(KINDS[action].name)}{_on_host(facts)}{_as_account(facts)}{_way(facts)}"
    )


def sentence_parts(facts: Facts) -> Parts:
    """Return the parts that sentences of other modules take."""
    return Parts(
        _to_host(facts), _on_host(facts), _where(facts), _way(facts), _address(facts), lambda text: _named(facts, text)
    )  # fmt: skip


def _guesser(facts: Facts) -> str:
    """Return who guesses: at an address, in a network, or anybody if the tries at one account count."""
    _ = facts.language.gettext
    if facts.labels.get("by") == "user":
        return _("Somebody")
    if network := facts.labels.get("network"):
        return _("Somebody in %(network)s", network=network)
    return _("Somebody%(way)s", way=_way(facts))


def _guesses(facts: Facts) -> str:
    _ = facts.language.gettext
    if facts.labels.get("by") == "user":
        return _("guesses the password of %(user)s", user=_named(facts, facts.user))
    return _("guesses passwords")


def _where(facts: Facts) -> str:
    """Return the host of a finding, or the number of its hosts."""
    if len(facts.hosts) > 1:
        return facts.language.ngettext(" on %(num)s host", " on %(num)s hosts", len(facts.hosts))
    return _on_host(facts)


def _rule(facts: Facts) -> str:
    _ = facts.language.gettext
    return _("the rule %(rule)s", rule=facts.rule) if facts.rule else _("a rule")


def _label_time(facts: Facts, name: str) -> str:
    """Return a number of seconds among the labels as a duration."""
    text = facts.labels.get(name, "")
    return duration_text(float(text) if text.isdecimal() else 0.0, facts.language)


def _the_host(facts: Facts) -> str:
    return _named(facts, facts.host) or facts.language.gettext("the host")


def _to_host(facts: Facts) -> str:
    return _part(facts, N_(" to %(host)s"), facts.host)


def _on_host(facts: Facts) -> str:
    return _part(facts, N_(" on %(host)s"), facts.host)


def _of_host(facts: Facts) -> str:
    return _part(facts, N_(" of %(host)s"), facts.host)


def _part(facts: Facts, text: str, host: str) -> str:
    """Return a part of a sentence that names a host; "" if the host is unknown."""
    return facts.language.gettext(text, host=_named(facts, host)) if host else ""


def _named(facts: Facts, text: str) -> str:
    return named(text, facts.language)
