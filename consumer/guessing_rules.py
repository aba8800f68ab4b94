"""
Rules against guessing, in the language of pam_abl: ``*:10/1h,30/1d``. ``grammars/pam_abl.py`` has the grammar.

Where pam_abl is lenient, this is strict: it reads no rule that could never fire, and names what is wrong with one.
"""

from collections.abc import Iterable
from ipaddress import ip_network
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from consumer.addresses import Network, ip_of

if TYPE_CHECKING:
    import pyparsing as pp

# A detector remembers as many tries of each address and user as the largest count of its rule.
COUNT_LIMIT = 1_000
# Any longer, and a rule would look further back than sshbell keeps events by default.
PERIOD_LIMIT_S = 366 * 86_400
# What the configuration has unless somebody sets another rule.
USUAL_RULE = "*:12/10m,30/1h"
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class Trigger(msgspec.Struct, frozen=True):
    """So many tries within a period, in seconds; ``text`` is the trigger as it was written."""

    count: int
    period_s: int
    text: str


class Whitelist:
    """
    A whitelist: names, addresses and networks. An empty one has nothing.

    Raises:
        ValueError: an entry looks like a network, but is none.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._names: set[str] = set()
        self._networks: list[Network] = []
        for entry in entries:
            if "/" in entry or ip_of(entry) is not None:
                self._networks.append(ip_network(entry, strict=False))
            else:
                self._names.add(entry)

    def has(self, name: str) -> bool:
        """Return whether a name or an address is in it."""
        if name in self._names:
            return True
        ip = ip_of(name) if self._networks else None
        return ip is not None and any(ip in network for network in self._networks)


def limits_of(text: str) -> tuple[int, int] | None:
    """
    Return LOW and HIGH of ``1000-1200``; None for "" or a HIGH of 0, which is no limit.

    Raises:
        ValueError: LOW is greater.
    """
    if not text:
        return None
    low, high = map(int, text.split("-"))
    if low > high:
        raise ValueError(f"the first number of {text} is greater than the second")
    return (low, high) if high else None


class _Name(NamedTuple):
    text: str  # "" if it is a network; "*" for all
    network: Network | None
    service: str  # "" for all

    def fits(self, name: str, service: str) -> bool:
        if self.service not in {"", "*", service}:
            return False
        if self.network is None:
            return self.text in {"*", name}
        ip = ip_of(name)
        return ip is not None and ip in self.network


class _Clause(NamedTuple):
    is_negated: bool
    names: tuple[_Name, ...]
    triggers: tuple[Trigger, ...]


_USUAL_CLAUSES = (
    _Clause(is_negated=False, names=(_Name("*", None, ""),), triggers=(Trigger(12, 600, "12/10m"), Trigger(30, 3600, "30/1h"))),
)


class GuessingRule:
    """
    A rule: clauses, any of which may fire.

    Args:
        text: as in the configuration; "" for the rule that never fires.

    Attributes:
        counts: the largest count of all triggers; 0 for the rule that never fires.
        period_s: the longest period of all triggers, in seconds.
        has_services: the triggers of a name depend on the service.

    Raises:
        ValueError: the text is no rule.
    """

    def __init__(self, text: str) -> None:
        # Most hosts have the usual rule, and to import pyparsing takes a third of the start of a command.
        self._clauses = _USUAL_CLAUSES if text == USUAL_RULE else _clauses_of(text) if text.strip() else ()
        triggers = [trigger for clause in self._clauses for trigger in clause.triggers]
        self.counts = max((trigger.count for trigger in triggers), default=0)
        self.period_s = max((trigger.period_s for trigger in triggers), default=0)
        self.has_services = any(name.service not in {"", "*"} for clause in self._clauses for name in clause.names)
        # Of a rule that applies to everybody, as the usual one: a flood comes from ever new addresses.
        self._of_all = tuple(triggers) if all(map(_is_for_all, self._clauses)) else None

    def triggers(self, name: str, service: str) -> tuple[Trigger, ...]:
        """Return the triggers that apply to tries of a host or a user at a service, in order."""
        if self._of_all is not None:
            return self._of_all
        return tuple(
            trigger
            for clause in self._clauses
            if any(each.fits(name, service) for each in clause.names) != clause.is_negated
            for trigger in clause.triggers
        )


def _is_for_all(clause: _Clause) -> bool:
    return not clause.is_negated and any(name.text == "*" and name.service in {"", "*"} for name in clause.names)


def _clauses_of(text: str) -> tuple[_Clause, ...]:
    import pyparsing as pp  # noqa: PLC0415 - see GuessingRule

    from grammars.pam_abl import RULE  # noqa: PLC0415 - as above

    try:
        found = RULE.parse_string(text.strip())
    except pp.ParseException as error:
        expected = error.msg.removeprefix("Expected ")
        raise ValueError(f"expected {expected} at character {error.loc + 1}: {text[: error.loc]} <- here") from None
    return tuple(
        _Clause("negated" in clause, tuple(map(_name, clause["names"])), tuple(map(_trigger, clause["triggers"])))
        for clause in found
    )


def _name(found: "pp.ParseResults") -> _Name:
    service = str(found.get("service", ""))  # type: ignore[no-untyped-call]
    if "network" not in found:
        return _Name(found["text"], None, service)
    return _Name("", ip_network(found["network"]), service)


def _trigger(found: "pp.ParseResults") -> Trigger:
    count, period, unit = found["count"], found["period"], str(found.get("unit", ""))  # type: ignore[no-untyped-call]
    text = f"{count}/{period}{unit}"
    # Python converts no number of more than 4,300 digits.
    if len(count) > 9 or not 1 <= int(count) <= COUNT_LIMIT:
        raise ValueError(f"the count of {text[:40]} is not between 1 and {COUNT_LIMIT:,}")
    if len(period) > 9 or not 1 <= (period_s := int(period) * _UNITS[unit]) <= PERIOD_LIMIT_S:
        raise ValueError(f"the period of {text[:40]} is not between a second and {PERIOD_LIMIT_S // 86_400} days")
    return Trigger(int(count), period_s, text)
