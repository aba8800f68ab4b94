"""
Writes the sentences about findings: the first line of a message, and its subject.

For most findings both are the same, without the full stop.
"""

from consumer.actions import EventAction
from consumer.deliver.event_kinds import KINDS
from consumer.deliver.facts import Facts, duration_text
from consumer.deliver.sentence_parts import (
    address_text,
    as_account,
    named_in,
    of_host,
    on_host,
    on_hosts,
    the_host,
    to_host,
    way_in,
)
from consumer.text import N_, NN_

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


def finding_title(facts: Facts) -> str:
    """Return the first sentence of a message about a finding."""
    _ = facts.language.gettext
    match facts.action:
        case EventAction.GUESSING:
            return facts.language.ngettext(
                "%(guesser)s %(guesses)s%(where)s: %(num)s failed login matches %(rule)s.",
                "%(guesser)s %(guesses)s%(where)s: %(num)s failed logins match %(rule)s.",
                int(facts.count or 1), guesser=_guesser(facts), guesses=_guesses(facts), where=on_hosts(facts), rule=_rule(facts),
            )  # fmt: skip
        case EventAction.ROOT_BY_PASSWORD:
            return _("root logged in%(host)s with nothing but a password%(way)s.", host=to_host(facts), way=way_in(facts))
        case EventAction.HOST_SILENT:
            return _(
                "%(host)s has sent no line for %(duration)s, more than %(factor)s times its longest pause of the last two weeks.",
                host=the_host(facts), duration=_label_time(facts, "silent_s"), factor=facts.labels.get("factor", ""),
            )  # fmt: skip
        case EventAction.HOST_CHANGED_WORDING:
            return _(
                "sshbell has no rule for %(share)s of the last lines of sshd%(host)s; before, it was %(usual)s.",
                share=facts.labels.get("share", ""), usual=facts.labels.get("usual", ""), host=on_host(facts),
            )  # fmt: skip
        case EventAction.CLOCK_SKEW if facts.labels.get("direction") == "ahead":
            return _("The clock%(host)s is %(duration)s ahead.", host=of_host(facts), duration=_label_time(facts, "skew_s"))
        case EventAction.CLOCK_SKEW:
            return _(
                "The clock%(host)s is %(duration)s behind, or its lines come so late.",
                host=of_host(facts), duration=_label_time(facts, "skew_s"),
            )  # fmt: skip
    return f"{finding_subject(facts)}."


def finding_subject(facts: Facts) -> str:
    """Return the subject of a message about a finding. Mail filters rely on its words."""
    _ = facts.language.gettext
    match facts.action:
        case EventAction.GUESSING:
            return f"{_guesser(facts)} {_guesses(facts)}{on_hosts(facts)}"
        case EventAction.ROOT_BY_PASSWORD:
            return _("root logged in%(host)s by password%(way)s", host=to_host(facts), way=way_in(facts))
        case EventAction.HOST_SILENT:
            return _("%(host)s is silent", host=the_host(facts))
        case EventAction.HOST_CHANGED_WORDING:
            return _("sshd%(host)s has changed its wording", host=on_host(facts))
        case EventAction.CLOCK_SKEW:
            return _("The clock%(host)s is wrong", host=of_host(facts))
    return _same_for_both(facts) or f"{_(KINDS[facts.action].name)}{on_host(facts)}{as_account(facts)}{way_in(facts)}"


def _same_for_both(facts: Facts) -> str:
    """Return the sentence that is both title and subject; "" if its detector has none here."""
    _, labels, count = facts.language.gettext, facts.labels, int(facts.count or 1)
    user, host, way, where = named_in(facts, facts.user) or _("somebody"), to_host(facts), way_in(facts), on_hosts(facts)
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
            return _scan(facts, count)
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
                user=user, host=on_host(facts), way=way, other=named_in(facts, labels.get("other", "?")),
                km=labels.get("km", "?"),
            )  # fmt: skip
        case EventAction.SSHD_PENALTY:
            return _penalty(facts, count)
        case EventAction.SSHD_HEALTH | EventAction.TROUBLE:
            return fault_sentence(facts, labels.get("what", ""))
    return ""


def _scan(facts: Facts, count: int) -> str:
    if facts.labels.get("by") == "hosts":
        return facts.language.ngettext(
            "Somebody%(way)s scans %(num)s host", "Somebody%(way)s scans %(num)s hosts", count, way=way_in(facts)
        )
    return facts.language.ngettext(
        "Somebody%(way)s scans: %(num)s connection%(host)s that does not speak SSH properly",
        "Somebody%(way)s scans: %(num)s connections%(host)s that do not speak SSH properly",
        count, way=way_in(facts), host=to_host(facts),
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


def _penalty(facts: Facts, count: int) -> str:
    _, case = facts.language.gettext, facts.labels.get("case", "")
    if case == "crash":
        return _("A client%(way)s crashed a process of sshd%(host)s", way=way_in(facts), host=on_host(facts))
    address = address_text(facts) or _("an address")
    if case == "user":
        users = [user for user in facts.users if user]
        user = named_in(facts, users[-1]) if users else _("somebody")
        return _(
            "sshd%(host)s refuses %(address)s, from where %(user)s logs in", host=on_host(facts), address=address, user=user,
        )  # fmt: skip
    return facts.language.ngettext(
        "sshd%(host)s has refused %(address)s %(num)s time", "sshd%(host)s has refused %(address)s %(num)s times", count,
        host=on_host(facts), address=address,
    )  # fmt: skip


def fault_sentence(facts: Facts, what: str) -> str:
    """Return the sentence about a complaint of sshd, or about one-time codes."""
    _ = facts.language.gettext
    user = named_in(facts, facts.user) or _("somebody")
    match what:
        case "prompt_burst":
            return _(
                "Somebody%(way)s causes one prompt for a code after another%(host)s, as %(user)s",
                way=way_in(facts), host=on_host(facts), user=user,
            )  # fmt: skip
        case "code_not_delivered":
            return _("No channel takes the one-time codes%(host)s", host=on_host(facts))
        case "let_in_without_code":
            return _(
                "%(user)s got in%(host)s without a one-time code, because no channel took it", user=user, host=on_host(facts)
            )
    account = _(" about %(user)s", user=named_in(facts, facts.user)) if facts.user else ""
    fault = _(_FAULTS.get(what, _OTHER_FAULT))
    return _("sshd%(host)s complains%(account)s: %(fault)s", host=on_host(facts), account=account, fault=fault)


def _guesser(facts: Facts) -> str:
    """Return who guesses: at an address, in a network, or anybody if the tries at one account count."""
    _ = facts.language.gettext
    if facts.labels.get("by") == "user":
        return _("Somebody")
    if network := facts.labels.get("network"):
        return _("Somebody in %(network)s", network=network)
    return _("Somebody%(way)s", way=way_in(facts))


def _guesses(facts: Facts) -> str:
    _ = facts.language.gettext
    if facts.labels.get("by") == "user":
        return _("guesses the password of %(user)s", user=named_in(facts, facts.user))
    return _("guesses passwords")


def _rule(facts: Facts) -> str:
    _ = facts.language.gettext
    return _("the rule %(rule)s", rule=facts.rule) if facts.rule else _("a rule")


def _label_time(facts: Facts, name: str) -> str:
    """Return a number of seconds among the labels as a duration."""
    text = facts.labels.get(name, "")
    return duration_text(float(text) if text.isdecimal() else 0.0, facts.language)
