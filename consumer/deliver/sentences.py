"""
Writes the sentences of a message: its first one, its subject, its notes and its advice.

``sentence_parts.py`` has who, on which host and from where; ``finding_sentences.py`` what is particular to findings.

A sentence is one text of the catalogue, and so is each part that it may lack, with the blank before it. So a language can put the
parts in its own order.
"""

import msgspec

from consumer.actions import EventAction, LineAction, OwnAction
from consumer.deliver.event_kinds import KINDS
from consumer.deliver.facts import NOVELTY_NAMES, Facts
from consumer.deliver.finding_sentences import fault_sentence, finding_subject, finding_title
from consumer.deliver.sentence_parts import (
    PLACE_LIMIT,
    address_text,
    as_account,
    from_where,
    named_in,
    of_host,
    on_host,
    the_host,
    to_host,
    way_in,
    who,
    with_credential,
)
from consumer.text import N_

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
        who=who(facts),
        from_where=from_where(facts),
        title=_title(facts),
        headline=_headline(facts),
        path=_path(facts),
        remedy=_remedy(facts),
        notes=tuple(_notes(facts)),
        advice=tuple(_advice(facts)),
    )


def _title(facts: Facts) -> str:
    """Return the first sentence of a message."""
    _ = facts.language.gettext
    match facts.action:
        case EventAction.LOGIN | OwnAction.TEST:
            return _(
                "%(who)s logged in%(host)s%(account)s%(credential)s%(way)s.",
                who=who(facts), host=to_host(facts), account=as_account(facts), credential=with_credential(facts),
                way=way_in(facts),
            )  # fmt: skip
        case EventAction.LOGOUT:
            return f"{_logout(facts)}."
        case EventAction.ATTEMPT:
            tries = {"host": to_host(facts), "account": as_account(facts), "way": way_in(facts)}
            if not facts.count:
                return _("Somebody tried to log in%(host)s%(account)s%(way)s, and failed.", **tries)
            return facts.language.ngettext(
                "Somebody tried %(num)s time to log in%(host)s%(account)s%(way)s, and failed.",
                "Somebody tried %(num)s times to log in%(host)s%(account)s%(way)s, and failed.",
                int(facts.count), **tries,
            )  # fmt: skip
        case EventAction.PROBE:
            host = _(" to %(server)s", server=named_in(facts, facts.host)) if facts.host else ""
            return _("Somebody connected%(host)s%(way)s without trying to log in.", host=host, way=way_in(facts))
        case EventAction.TROUBLE:
            return f"{_trouble(facts)}."
        case EventAction.CANARY:
            return _("The canary%(host)s arrived: sshbell gets the lines of sshd.", host=on_host(facts))
        case EventAction.FORGED:
            claim, truth = _CLAIMS.get(facts.claim, _OTHER_CLAIM)
            parts = {
                "writer": _writer(facts), "host": on_host(facts), "claim": _claim(facts, claim), "truth": _(truth),
            }  # fmt: skip
            if not facts.count:
                return _("A process%(writer)s%(host)s forged a log line: it claims %(claim)s, but %(truth)s.", **parts)
            return facts.language.ngettext(
                "A process%(writer)s%(host)s forged %(num)s log line: the first claims %(claim)s, but %(truth)s.",
                "A process%(writer)s%(host)s forged %(num)s log lines: the first claims %(claim)s, but %(truth)s.",
                int(facts.count), **parts,
            )  # fmt: skip
        case EventAction.BLOCK:
            target, until = named_in(facts, facts.target), _(" until %(time)s", time=facts.until) if facts.until else ""
            if facts.dry_run:
                return _("sshbell%(host)s would block %(target)s%(until)s.", host=on_host(facts), target=target, until=until)
            return _("sshbell%(host)s blocks %(target)s%(until)s.", host=on_host(facts), target=target, until=until)
        case _action if facts.is_finding:
            return finding_title(facts)
        case OwnAction.NOTICE:
            return _("sshbell%(host)s reports: %(message)s", host=on_host(facts), message=facts.message)
    return f"{_unknown(facts)}."


def _headline(facts: Facts) -> str:
    """Return the subject, a shorter title. Mail filters rely on its words; docs/configuration.md lists them."""
    _ = facts.language.gettext
    match facts.action:
        case EventAction.LOGIN | OwnAction.TEST:
            return _(
                "%(who)s logged in%(host)s%(account)s%(way)s%(news)s",
                who=who(facts), host=to_host(facts), account=as_account(facts), way=way_in(facts),
                news=_(_NEWS[facts.new[0]]) if facts.new else "",
            )  # fmt: skip
        case EventAction.LOGOUT:
            return _logout(facts)
        case EventAction.ATTEMPT:
            times = facts.language.ngettext(" (%(num)s time)", " (%(num)s times)", int(facts.count)) if facts.count else ""
            return _(
                "Failed login%(host)s%(account)s%(way)s%(times)s",
                host=to_host(facts), account=as_account(facts), way=way_in(facts), times=times,
            )  # fmt: skip
        case EventAction.PROBE:
            host = _(" to %(server)s", server=named_in(facts, facts.host)) if facts.host else ""
            return _("Connection%(host)s%(way)s without a login", host=host, way=way_in(facts))
        case EventAction.TROUBLE:
            return _trouble(facts)
        case EventAction.CANARY:
            return _("The canary%(host)s arrived", host=on_host(facts))
        case EventAction.FORGED:
            claim, _truth = _CLAIMS.get(facts.claim, _OTHER_CLAIM)
            more = (
                facts.language.ngettext(", and %(num)s more", ", and %(num)s more", int(facts.count) - 1) if facts.count else ""
            )
            return _(
                "FORGED line claims %(claim)s%(host)s%(more)s", claim=_claim(facts, claim), host=on_host(facts), more=more,
            )  # fmt: skip
        case EventAction.BLOCK:
            target = named_in(facts, facts.target)
            if facts.dry_run:
                return _("sshbell%(host)s would block %(target)s", host=on_host(facts), target=target)
            return _("sshbell%(host)s blocks %(target)s", host=on_host(facts), target=target)
        case _action if facts.is_finding:
            return finding_subject(facts)
        case OwnAction.NOTICE:
            return _("sshbell%(host)s: %(message)s", host=on_host(facts), message=facts.message)
    return _unknown(facts)


def _trouble(facts: Facts) -> str:
    return fault_sentence(facts, facts.event.rule.name or "")


def _logout(facts: Facts) -> str:
    _ = facts.language.gettext
    host = of_host(facts)
    duration = _(" after %(duration)s", duration=facts.duration) if facts.duration else ""
    return _("%(who)s logged out%(host)s%(duration)s", who=who(facts), host=host, duration=duration)


def _unknown(facts: Facts) -> str:
    _ = facts.language.gettext
    action = _(": %(action)s", action=named_in(facts, facts.action)) if facts.action else ""
    return _(
        "sshbell%(host)s reports an event that this version does not know%(action)s", host=on_host(facts), action=action,
    )  # fmt: skip


def _path(facts: Facts) -> str:
    """Return the way in, in short: ``From 203.0.113.7, AS3215 Orange, through bastion1.``; "" if nothing is known of it."""
    _, address = facts.language.gettext, address_text(facts)
    network = facts.network if len(facts.network) <= PLACE_LIMIT else f"{facts.network[: PLACE_LIMIT - 1]}…"
    # The place of a jump host stands here, because the title names the host in its stead.
    place = facts.town if facts.via_host and len(facts.town) <= PLACE_LIMIT else ""
    through = ""
    if facts.via:
        host, user = named_in(facts, facts.via_host), named_in(facts, facts.event.ssh.via.user.name or "")
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
    host = the_host(facts)
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
    _, address = facts.language.gettext, address_text(facts)
    host = named_in(facts, facts.host) or _("unknown host")
    origin = _(" from %(address)s", address=address) if address else ""
    match facts.action:
        case EventAction.FORGED:
            claim, _truth = _CLAIMS.get(facts.claim, _OTHER_CLAIM)
            writer = _(" by uid %(uid)s", uid=facts.claimed_by_uid) if facts.claimed_by_uid else ""
            return f"{_claim(facts, claim)}{on_host(facts)}{writer}"
        case OwnAction.NOTICE:
            return facts.message
        case EventAction.BLOCK:
            return _("%(target)s on %(host)s", target=named_in(facts, facts.target), host=host)
        case EventAction.PROBE if not facts.user:
            return f"{host}{origin}"
    account = named_in(facts, facts.user) or _("unknown user")
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
                host=the_host(facts),
            )
        )
    if facts.action == EventAction.LOGIN and facts.new:
        new = ", ".join(_(NOVELTY_NAMES[what]) for what in facts.new)
        found.append(_("This is new for %(who)s: %(new)s. sshbell knows no earlier login like it.", who=who(facts), new=new))
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
    host = the_host(facts)
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


def _claim(facts: Facts, claim: str) -> str:
    user = facts.language.gettext(" of %(user)s", user=named_in(facts, facts.user)) if facts.user else ""
    return facts.language.gettext(claim, user=user)


def _writer(facts: Facts) -> str:
    _, user, uid = facts.language.gettext, named_in(facts, facts.claimed_by_user), facts.claimed_by_uid
    return _(" of %(user)s (uid %(uid)s)", user=user, uid=uid) if user else _(" with uid %(uid)s", uid=uid) if uid else ""
