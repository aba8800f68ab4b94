"""
A login is the first of its kind for its account: from a country, with a key, by a method, at an hour.

Routes ask the same of persons, from the history in ``state.db``: ``deliver/route_facts.py``. Both learn for a while in which
nothing is new, and both forget what is older than a time. Detectors know accounts only, so that a log of any age gives the same
findings.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar

import msgspec

from consumer.actions import EventAction
from consumer.detect.bounded_table import BoundedTable
from consumer.detect.entries import Habits
from consumer.detect.findings import Kinds, Place, PlaceOf, finding_of
from consumer.detect.logins import credential_of, learner_of, methods_of
from consumer.detect.networks import prefix_of
from consumer.detect.tries import DAY_US
from consumer.detect_settings import FirstSeenSettings, Respect
from consumer.events import Finding, Login
from consumer.records import TIME
from consumer.spans import seconds_of

# Accounts in memory, and the values that each remembers in one respect. A usual entry has 2 kB, and 50 kB at most.
HABITS_LIMIT = 5_000
_VALUES_LIMIT = 100
_SECOND_US = 1_000_000
_HOUR_US = 3600 * _SECOND_US
# The hours of a week. 1970 began on a Thursday, and the week begins on a Monday.
_HOURS, _FIRST_HOUR = 168, 72
# With fewer logins, most hours of the week are new.
_LOGINS_FOR_HOURS = 100
_OF_PLACES = frozenset({"network", "country"})
_SINCE = "since"


class FirstSeen:
    """Finds logins that are new for their account."""

    takes: ClassVar[Kinds] = (Login,)

    def __init__(self, settings: FirstSeenSettings, place_of: PlaceOf | None) -> None:
        # Without databases, a login has no network and no country.
        whats = [what for what in settings.what if place_of is not None or what not in _OF_PLACES]
        self._what = [(what, _VALUES[what]) for what in whats]
        self._learning_us = round(seconds_of(settings.learning) * _SECOND_US)
        self._expiry_us = round(seconds_of(settings.expiry) * _SECOND_US)
        self._rule = f"{settings.learning}, {settings.expiry}"
        self._place_of = place_of if _OF_PLACES & set(settings.what) else None
        self._accounts = BoundedTable(str, Habits, HABITS_LIMIT)
        # The time of the first login of all.
        self._since_us = 0
        self._is_since_kept = True

    def take(self, event: Login) -> Iterable[Finding]:
        """Return the finding about a login, and remember it."""
        at_us = event.line[TIME]
        if not event.user or not at_us:
            return ()
        if not self._since_us or at_us < self._since_us:
            self._since_us, self._is_since_kept = at_us, False
        key = learner_of(event)
        account = self._accounts.renewed(key)
        is_known = account is not None
        if account is None:
            account = Habits({}, {})
            self._accounts.put(key, account)
        new = self._noted(account, event, at_us)
        logins = 0
        if new:
            logins = self._logins(account, at_us)
            if "hour" in new and not _is_new_hour(account.seen["hour"], at_us, logins):
                new.remove("hour")
        day = at_us // DAY_US
        if day not in account.days:
            self._logins(account, at_us)
        account.days[day] = account.days.get(day, 0) + 1
        if not new or at_us - self._since_us < self._learning_us:
            return ()
        labels = {"new": ", ".join(new) if is_known and logins else "account", "logins": str(logins)}
        labels["days"] = str(self._expiry_us // DAY_US)
        return (finding_of(event, EventAction.FIRST_SEEN, rule=self._rule, labels=labels),)

    def _noted(self, account: Habits, event: Login, at_us: int) -> list[str]:
        """Note the values of a login, and return the respects in which it is new."""
        new: list[str] = []
        address = event.address or ""
        place = self._place_of(address) if address and self._place_of is not None else None
        for what, value_of in self._what:
            value = value_of(event, address, place)
            if not value:
                continue
            values = account.seen.get(what)
            if values is None:
                values = account.seen[what] = {}
            last_us = values.get(value)
            if last_us is not None:
                del values[value]
            if last_us is None or at_us - last_us > self._expiry_us:
                new.append(what)
            values[value] = at_us
            if len(values) > _VALUES_LIMIT:
                del values[next(iter(values))]
        return new

    def _logins(self, account: Habits, at_us: int) -> int:
        """Return the number of logins of an account that have not expired, and forget the others."""
        oldest = (at_us - self._expiry_us) // DAY_US
        for day in [day for day in account.days if day < oldest]:
            del account.days[day]
        return sum(account.days.values())

    def changed(self) -> Iterator[tuple[str, bytes]]:
        """Yield the buckets that have changed, and the time of the first login."""
        yield from self._accounts.changed()
        if not self._is_since_kept:
            yield _SINCE, msgspec.msgpack.encode(self._since_us)

    def kept(self) -> None:
        """Record that the parts are safe."""
        self._accounts.kept()
        self._is_since_kept = True

    def forget_snapshot(self) -> None:
        """Count all parts as changed."""
        self._accounts.forget_snapshot()
        self._is_since_kept = not self._since_us

    def restore(self, name: str, body: bytes) -> None:
        """Take over a part; MsgspecError as in ``Detector``."""
        if name == _SINCE:
            self._since_us = msgspec.msgpack.decode(body, type=int)
        else:
            self._accounts.restore(body)


def _hour_of(time_us: int) -> int:
    return (time_us // _HOUR_US + _FIRST_HOUR) % _HOURS


def _is_new_hour(hours: dict[str, int], time_us: int, logins: int) -> bool:
    """Return whether an hour of the week is new for an account: those beside it are unknown, too."""
    hour = _hour_of(time_us)
    return logins >= _LOGINS_FOR_HOURS and not any(str((hour + step) % _HOURS) in hours for step in (-1, 1))


def _prefix(_event: Login, address: str, _place: Place | None) -> str:
    return prefix_of(address) if address else ""


def _network(_event: Login, _address: str, place: Place | None) -> str:
    return "" if place is None or place.as_number is None else str(place.as_number)


def _key(event: Login, _address: str, _place: Place | None) -> str:
    return credential_of(event.info).key


def _certificate(event: Login, _address: str, _place: Place | None) -> str:
    return credential_of(event.info).certificate


def _method(event: Login, _address: str, _place: Place | None) -> str:
    return "+".join(methods_of(event))


# The value of a login in each respect; "" if it has none. mypyc calls a function faster than a lambda.
_VALUES: dict[Respect, Callable[[Login, str, Place | None], str]] = {
    "address": lambda _event, address, _place: address,
    "prefix": _prefix,
    "network": _network,
    "country": lambda _event, _address, place: "" if place is None else place.country or "",
    "key": _key,
    "certificate": _certificate,
    "method": _method,
    "host": lambda event, _address, _place: event.host,
    "hour": lambda event, _address, _place: str(_hour_of(event.time_us)),
}
