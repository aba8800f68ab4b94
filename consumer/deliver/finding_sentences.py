"""Writes the sentence about a finding. Each is the first line of a message without a full stop, and also its subject."""

from collections.abc import Callable
from typing import NamedTuple

from consumer.actions import EventAction
from consumer.deliver.facts import Facts
from consumer.text import N_, NN_


class Parts(NamedTuple):
    """
    The parts of a sentence, each with the blank before it, or "": to which host, on which host or hosts, and from where.

    ``named`` makes somebody else's text safe within our sentences.
    """

    to_host: str
    on_host: str
    where: str
    way: str
    address: str
    named: Callable[[str], str]


_AFTER_FAILURES = {
    "address": NN_(
        "%(user)s logged in%(host)s%(way)s after %(num)s failed login from the same address",
        "%(user)s logged in%(host)s%(way)s after %(num)s failed logins from the same address",
    ),
    "prefix": NN_(
        "%(user)s logged in%(host)s%(way)s after %(num)s failed login from the same network",
        "%(user)s logged in%(host)s%(way)s after %(num)s failed logins from the same network",
    ),
    "account": NN_(
        "%(user)s logged in%(host)s%(way)s after %(num)s failed login at this account from elsewhere",
        "%(user)s logged in%(host)s%(way)s after %(num)s failed logins at this account from elsewhere",
    ),
}
# In which respect a login is new, the most telling first.
_NEW = {
    "country": N_("from this country"),
    "key": N_("with this key"),
    "certificate": N_("with this certificate"),
    "network": N_("from this network"),
    "prefix": N_("from this part of a network"),
    "address": N_("from this address"),
    "method": N_("by this method"),
    "host": N_("on this host"),
    "hour": N_("at this hour of the week"),
}
# The complaints of sshd, by rule.
_FAULTS = {
    "bad_modes": N_("others may change a file or directory of its keys"),
    "refused_for_modes": N_("others may change a file or directory of its keys"),
    "key_revoked": N_("somebody uses a revoked key"),
    "revoked_key_used": N_("somebody uses a revoked key"),
    "revoked_key_tried": N_("somebody uses a revoked key"),
    "key_not_checked": N_("sshd cannot read the list of revoked keys, and refuses all keys"),
    "revoked_keys_unreadable": N_("sshd cannot read the list of revoked keys, and refuses all keys"),
    "account_expired": N_("the account has expired"),
    "password_expired": N_("the password has expired"),
    "pam_password_expired": N_("the password has expired"),
    "command_failed": N_("the command that finds its keys has failed"),
    "command_failed_other": N_("the command that finds keys has failed"),
    "chroot_bad_modes": N_("others may change the directory of a chroot"),
    "broken_module": N_("PAM cannot load a module"),
    "penalty": N_("a client gets a penalty"),
}
_OTHER_FAULT = N_("something is broken")


def finding_sentence(facts: Facts, parts: Parts) -> str:  # noqa: C901, PLR0911 - a table of texts
    """Return the sentence about a finding; "" if its detector has none here."""
    _, labels, count = facts.language.gettext, facts.labels, int(facts.count or 1)
    user, host, way, where = parts.named(facts.user) or _("somebody"), parts.to_host, parts.way, parts.where
    match facts.action:
        case EventAction.MANY_ADDRESSES:
            return facts.language.ngettext(
                "Somebody guesses the password of %(user)s%(where)s from %(num)s address",
                "Somebody guesses the password of %(user)s%(where)s from %(num)s addresses",
                int(labels.get("addresses", 1)), user=user, where=where,
            )  # fmt: skip
        case EventAction.MANY_ACCOUNTS:
            guesser = _("Somebody%(way)s", way=way)
            if prefix := labels.get("prefix"):
                guesser = _("Somebody in %(network)s", network=prefix)
            return facts.language.ngettext(
                "%(guesser)s tries %(num)s account%(where)s", "%(guesser)s tries %(num)s accounts%(where)s", count,
                guesser=guesser, where=where,
            )  # fmt: skip
        case EventAction.SLOW_GUESSING:
            return facts.language.ngettext(
                "Somebody%(way)s guesses passwords slowly%(where)s: %(num)s failed login over days",
                "Somebody%(way)s guesses passwords slowly%(where)s: %(num)s failed logins over days",
                count, way=way, where=where,
            )  # fmt: skip
        case EventAction.SCANNING:
            return _scan(facts, parts, count)
        case EventAction.SUCCESS_AFTER_FAILURES:
            one, several = _AFTER_FAILURES.get(labels.get("from", ""), _AFTER_FAILURES["address"])
            return facts.language.ngettext(one, several, count, user=user, host=host, way=way)
        case EventAction.FIRST_SEEN:
            return _first_seen(facts, {"user": user, "host": host, "way": way})
        case EventAction.IMPOSSIBLE_TRAVEL:
            return _(
                "%(user)s logged in%(host)s%(way)s, %(km)s km from the login before and %(minutes)s min later",
                user=user, host=host, way=way, km=labels.get("km", "?"), minutes=labels.get("minutes", "?"),
            )  # fmt: skip
        case EventAction.PASSWORD_DESPITE_KEY:
            return facts.language.ngettext(
                "%(user)s logged in%(host)s%(way)s by password, after %(num)s login by key",
                "%(user)s logged in%(host)s%(way)s by password, after %(num)s logins by key",
                count, user=user, host=host, way=way,
            )  # fmt: skip
        case EventAction.KEY_IN_TWO_PLACES:
            return _(
                "A key of %(user)s is in use%(host)s%(way)s, and at the same time from %(other)s, %(km)s km away",
                user=user, host=parts.on_host, way=way, other=parts.named(labels.get("other", "?")), km=labels.get("km", "?"),
            )  # fmt: skip
        case EventAction.SSHD_PENALTY:
            return _penalty(facts, parts, count)
        case EventAction.SSHD_HEALTH | EventAction.TROUBLE:
            return fault_sentence(facts, parts, labels.get("what", ""))
    return ""


def _scan(facts: Facts, parts: Parts, count: int) -> str:
    if facts.labels.get("by") == "hosts":
        return facts.language.ngettext(
            "Somebody%(way)s scans %(num)s host", "Somebody%(way)s scans %(num)s hosts", count, way=parts.way
        )
    return facts.language.ngettext(
        "Somebody%(way)s scans: %(num)s connection%(host)s that does not speak SSH properly",
        "Somebody%(way)s scans: %(num)s connections%(host)s that do not speak SSH properly",
        count, way=parts.way, host=parts.to_host,
    )  # fmt: skip


def _first_seen(facts: Facts, values: dict[str, str]) -> str:
    _, labels = facts.language.gettext, facts.labels
    words = labels.get("new", "").split(", ")
    news = [_(text) for what, text in _NEW.items() if what in words]
    if not news:
        return _("%(user)s logged in%(host)s%(way)s for the first time", **values)
    return facts.language.ngettext(
        "%(user)s logged in%(host)s%(way)s, for the first time %(news)s: %(num)s other login in %(days)s days",
        "%(user)s logged in%(host)s%(way)s, for the first time %(news)s: %(num)s other logins in %(days)s days",
        int(labels.get("logins", 0)), news=", ".join(news), days=labels.get("days", "?"), **values,
    )  # fmt: skip


def _penalty(facts: Facts, parts: Parts, count: int) -> str:
    _, case = facts.language.gettext, facts.labels.get("case", "")
    if case == "crash":
        return _("A client%(way)s crashed a process of sshd%(host)s", way=parts.way, host=parts.on_host)
    address = parts.address or _("an address")
    if case == "user":
        users = [user for user in facts.users if user]
        user = parts.named(users[-1]) if users else _("somebody")
        return _(
            "sshd%(host)s refuses %(address)s, from where %(user)s logs in", host=parts.on_host, address=address, user=user,
        )  # fmt: skip
    return facts.language.ngettext(
        "sshd%(host)s has refused %(address)s %(num)s time", "sshd%(host)s has refused %(address)s %(num)s times", count,
        host=parts.on_host, address=address,
    )  # fmt: skip


def fault_sentence(facts: Facts, parts: Parts, what: str) -> str:
    """Return the sentence about a complaint of sshd, or about one-time codes."""
    _ = facts.language.gettext
    user = parts.named(facts.user) or _("somebody")
    match what:
        case "prompt_burst":
            return _(
                "Somebody%(way)s causes one prompt for a code after another%(host)s, as %(user)s",
                way=parts.way, host=parts.on_host, user=user,
            )  # fmt: skip
        case "code_not_delivered":
            return _("No channel takes the one-time codes%(host)s", host=parts.on_host)
        case "let_in_without_code":
            return _("%(user)s got in%(host)s without a one-time code, because no channel took it", user=user, host=parts.on_host)
    account = _(" about %(user)s", user=parts.named(facts.user)) if facts.user else ""
    fault = _(_FAULTS.get(what, _OTHER_FAULT))
    return _("sshd%(host)s complains%(account)s: %(fault)s", host=parts.on_host, account=account, fault=fault)
