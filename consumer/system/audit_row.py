"""The rows of ``sshbell audit``, and what a piece of advice looks at."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from consumer.keys.sshd_config import Values
from consumer.store.recent_logins import LoginKind
from consumer.system.outcome import CheckState
from consumer.system.pam_stack import PamEntry

# Accounts that a row names; an attacker who has taken many accounts must not fill the screen.
ACCOUNT_ROW_LIMIT = 100
# sshd's defaults, for a configuration that only its files tell. OpenSSH servconf.c (fill_default_server_options), 8.7 to 10.2.
_DEFAULTS = {
    "allowagentforwarding": "yes", "allowtcpforwarding": "yes", "authenticationmethods": "any", "disableforwarding": "no",
    "gatewayports": "no", "kbdinteractiveauthentication": "yes", "logingracetime": "120", "loglevel": "INFO",
    "maxauthtries": "6", "maxstartups": "10:30:100", "passwordauthentication": "yes", "permitemptypasswords": "no",
    "permitrootlogin": "prohibit-password", "permittunnel": "no", "permituserenvironment": "no", "permituserrc": "yes",
    "requiredrsasize": "1024", "strictmodes": "yes", "usepam": "no", "x11forwarding": "no",
}  # fmt: skip
# Up to OpenSSH 8.6, and still an alias.
_ALIASES = {"kbdinteractiveauthentication": ("challengeresponseauthentication", "skeyauthentication")}
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PASSWORD_METHODS = frozenset({"password", "keyboard-interactive", "none"})


class Mend(msgspec.Struct, frozen=True):
    """The line that mends a fault, and where it belongs."""

    line: str
    place: str


class AuditRow(msgspec.Struct, frozen=True):
    """
    One row.

    Attributes:
        name: of the advice.
        state: as in ``sshbell check``.
        text: what is set.
        why: one sentence; "" if all is well.
        mend: the lines to write; several belong together.
        logins: how many logins of the last 30 days these lines would have prevented; None: the log does not show it.
        accounts: whose logins, the most frequent first.
    """

    name: str
    state: CheckState
    text: str
    why: str = ""
    mend: list[Mend] = []
    logins: int | None = None
    accounts: list[str] = []


class Judged(NamedTuple):
    """
    The judgement of a piece of advice about some settings.

    Attributes:
        lines: for sshd_config.
        prevents: whether these lines would prevent a login; None: the log does not show it.
        place: where the lines belong, if not in sshd_config.
    """

    state: CheckState
    text: str
    lines: tuple[str, ...] = ()
    prevents: Callable[[LoginKind], bool] | None = None
    place: str = ""


class Site(NamedTuple):
    """
    What a piece of advice judges.

    Attributes:
        values: sshd's settings.
        logins: the recent logins to which they applied.
        pam: PAM's stack of sshd; None if sshbell cannot read it.
    """

    values: Values
    logins: list[LoginKind]
    pam: list[PamEntry] | None

    def value(self, keyword: str) -> str:
        """Return a setting in lower case, as ``sshd -T`` spells it."""
        for name in (keyword, *_ALIASES.get(keyword, ())):
            if found := self.values.get(name):
                return found[0].strip().lower()
        return _DEFAULTS.get(keyword, "").lower()

    def number(self, keyword: str) -> int:
        """Return a setting as a number, or as a time in seconds; 0 if it is neither."""
        parts = re.findall(r"([0-9]{1,9})([a-z]?)", self.value(keyword))
        return sum(int(count) * _UNITS.get(unit, 0) for count, unit in parts)

    def modules(self, *names: str) -> list[PamEntry]:
        """Return the lines of PAM's stack that run one of some modules to authenticate; none if PAM is off."""
        entries = self.pam if self.pam is not None and self.value("usepam") == "yes" else []
        return [entry for entry in entries if entry.type == "auth" and entry.module in names]

    def lets_in_by_password(self) -> bool:
        """Return whether a password, or an answer to PAM, is enough to log in."""
        enabled = {
            "password": self.value("passwordauthentication") == "yes",
            "keyboard-interactive": self.value("kbdinteractiveauthentication") == "yes",
        }
        ways = self.values.get("authenticationmethods", ["any"])
        chains = [chain for way in ways for chain in way.lower().split()]
        if chains in ([], ["any"]):
            return any(enabled.values())
        return any(all(enabled.get(method.partition(":")[0]) for method in chain.split(",")) for chain in chains)


class SettingAdvice(NamedTuple):
    """
    A piece of advice about sshd's settings.

    Attributes:
        name: of its row.
        keywords: the settings that it depends on, in lower case.
        why: why it matters, in one sentence.
        judge: judges the settings; None if it does not apply here.
    """

    name: str
    keywords: tuple[str, ...]
    why: str
    judge: Callable[[Site], Judged | None]


def is_by_password(login: LoginKind) -> bool:
    """Return whether a login used no key, ticket or host key."""
    return bool(login.methods) and _PASSWORD_METHODS.issuperset(login.methods)


def no_login(_login: LoginKind) -> bool:
    """Return False, for lines that prevent no login."""
    return False


def affected(logins: Iterable[LoginKind], prevents: Callable[[LoginKind], bool]) -> Counter[str]:
    """Return how many logins of each account lines would have prevented."""
    found: Counter[str] = Counter()
    for login in logins:
        if prevents(login):
            found[login.user or "(unknown)"] += login.count
    return found


def some_accounts(accounts: Counter[str]) -> list[str]:
    """Return the accounts with the most logins."""
    return [account for account, _ in sorted(accounts.items(), key=lambda one: (-one[1], one[0]))[:ACCOUNT_ROW_LIMIT]]
