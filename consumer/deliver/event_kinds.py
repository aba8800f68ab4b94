"""The words of messages for each kind of event: alone, with a number, and as a heading over several."""

from typing import NamedTuple

from consumer.actions import EventAction, OwnAction
from consumer.text import N_, NN_


class KindWords(NamedTuple):
    """What people read for one kind of event; ``number`` is for ``ngettext``."""

    name: str
    number: tuple[str, str]
    heading: str


UNREADABLE = "unreadable"

# In the order of a digest.
KINDS: dict[str, KindWords] = {
    EventAction.LOGIN: KindWords(N_("Login"), NN_("%(num)s login", "%(num)s logins"), N_("Logins")),
    EventAction.LOGOUT: KindWords(N_("Logout"), NN_("%(num)s logout", "%(num)s logouts"), N_("Logouts")),
    EventAction.ROOT_BY_PASSWORD: KindWords(
        N_("Login of root by password"),
        NN_("%(num)s login of root by password", "%(num)s logins of root by password"), N_("Logins of root by password"),
    ),
    EventAction.GUESSING: KindWords(
        N_("Guessing of passwords"), NN_("%(num)s case of guessing", "%(num)s cases of guessing"), N_("Guessing of passwords"),
    ),
    EventAction.SUCCESS_AFTER_FAILURES: KindWords(
        N_("Login after many failed ones"),
        NN_("%(num)s login after many failed ones", "%(num)s logins after many failed ones"), N_("Logins after many failed ones"),
    ),
    EventAction.KEY_IN_TWO_PLACES: KindWords(
        N_("Key in two places"), NN_("%(num)s key in two places", "%(num)s keys in two places"), N_("Keys in two places"),
    ),
    EventAction.IMPOSSIBLE_TRAVEL: KindWords(
        N_("Impossible journey"), NN_("%(num)s impossible journey", "%(num)s impossible journeys"), N_("Impossible journeys"),
    ),
    EventAction.PASSWORD_DESPITE_KEY: KindWords(
        N_("Password of a user of keys"),
        NN_("%(num)s password of a user of keys", "%(num)s passwords of users of keys"), N_("Passwords of users of keys"),
    ),
    EventAction.MANY_ADDRESSES: KindWords(
        N_("Guessing from many addresses"),
        NN_("%(num)s case of guessing from many addresses", "%(num)s cases of guessing from many addresses"),
        N_("Guessing from many addresses"),
    ),
    EventAction.MANY_ACCOUNTS: KindWords(
        N_("Tries at many accounts"),
        NN_("%(num)s case of tries at many accounts", "%(num)s cases of tries at many accounts"), N_("Tries at many accounts"),
    ),
    EventAction.SLOW_GUESSING: KindWords(
        N_("Slow guessing"), NN_("%(num)s case of slow guessing", "%(num)s cases of slow guessing"), N_("Slow guessing"),
    ),
    EventAction.SCANNING: KindWords(N_("Scan"), NN_("%(num)s scan", "%(num)s scans"), N_("Scans")),
    EventAction.FIRST_SEEN: KindWords(
        N_("Login of a new kind"), NN_("%(num)s login of a new kind", "%(num)s logins of a new kind"), N_("Logins of a new kind"),
    ),
    EventAction.SSHD_PENALTY: KindWords(
        N_("Penalty of sshd"), NN_("%(num)s penalty of sshd", "%(num)s penalties of sshd"), N_("Penalties of sshd"),
    ),
    EventAction.SSHD_HEALTH: KindWords(
        N_("Fault of sshd"), NN_("%(num)s fault of sshd", "%(num)s faults of sshd"), N_("Faults of sshd"),
    ),
    EventAction.TROUBLE: KindWords(
        N_("Trouble of sshd"), NN_("%(num)s trouble of sshd", "%(num)s troubles of sshd"), N_("Troubles of sshd"),
    ),
    EventAction.HOST_SILENT: KindWords(
        N_("Silent host"), NN_("%(num)s silent host", "%(num)s silent hosts"), N_("Silent hosts"),
    ),
    EventAction.HOST_CHANGED_WORDING: KindWords(
        N_("New wording of a host"), NN_("%(num)s host with a new wording", "%(num)s hosts with a new wording"),
        N_("New wordings of hosts"),
    ),
    EventAction.CLOCK_SKEW: KindWords(
        N_("Wrong clock"), NN_("%(num)s wrong clock", "%(num)s wrong clocks"), N_("Wrong clocks"),
    ),
    EventAction.BLOCK: KindWords(N_("Block"), NN_("%(num)s block", "%(num)s blocks"), N_("Blocks")),
    EventAction.ATTEMPT: KindWords(
        N_("Failed login"), NN_("%(num)s failed login", "%(num)s failed logins"), N_("Failed logins")
    ),
    EventAction.PROBE: KindWords(
        N_("Connection without a login"),
        NN_("%(num)s connection without a login", "%(num)s connections without a login"), N_("Connections without a login"),
    ),
    EventAction.CANARY: KindWords(N_("Canary"), NN_("%(num)s canary", "%(num)s canaries"), N_("Canaries")),
    EventAction.FORGED: KindWords(N_("Forged line"), NN_("%(num)s forged line", "%(num)s forged lines"), N_("Forged lines")),
    OwnAction.TEST: KindWords(N_("Test"), NN_("%(num)s test", "%(num)s tests"), N_("Tests")),
    OwnAction.NOTICE: KindWords(
        N_("Notice"), NN_("%(num)s notice of sshbell", "%(num)s notices of sshbell"), N_("Notices of sshbell")
    ),
    UNREADABLE: KindWords(
        N_("Event"), NN_("%(num)s unreadable event", "%(num)s unreadable events"), N_("Unreadable events")
    ),
    "": KindWords(
        N_("Event"), NN_("%(num)s event of another kind", "%(num)s events of other kinds"), N_("Events of other kinds")
    ),
}  # fmt: skip
