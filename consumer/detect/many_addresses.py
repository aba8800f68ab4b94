"""
One account is tried from many addresses: a botnet, or a guesser with many proxies, stays below the limits of each address.

Only accounts that exist count: the whole Internet tries names such as ``admin``.
"""

from collections.abc import Iterable
from typing import ClassVar

from consumer.actions import EventAction
from consumer.detect.entries import OfAccount
from consumer.detect.findings import Kinds, PlaceOf, Stateless, finding_of
from consumer.detect.networks import prefix_of
from consumer.detect.tries import DAY_US, Tries, may_report, origin_of
from consumer.detect_settings import ManyAddressesSettings, rate_of
from consumer.events import Attempt, Finding
from consumer.records import TIME

_ACTION = EventAction.MANY_ADDRESSES


class ManyAddresses(Stateless):
    """Finds accounts that are tried from many addresses, prefixes or networks, each at most once a day."""

    # It follows ``Tries``.
    takes: ClassVar[Kinds] = ()

    def __init__(self, settings: ManyAddressesSettings, tries: Tries, place_of: PlaceOf) -> None:
        self._settings = settings
        self._tries = tries
        tries.followers.append(self.take)
        self._place_of = place_of
        self._rates = {name: rate_of(getattr(settings, name)) for name in ("address", "prefix", "network")}
        # Fewer addresses than that fulfil no rule.
        self._least = min((count for count, _ in self._rates.values() if count), default=0)

    def take(self, event: Attempt) -> Iterable[Finding]:
        """Return the finding about a failed login at an account."""
        account = self._tries.account
        if account is None or len(account.addresses) < self._least:
            return ()
        told_us, time_us = account.told_us.get(_ACTION), event.line[TIME] or 0
        return () if told_us is not None and abs(time_us - told_us) < DAY_US else self._found(event, account, time_us)

    def _found(self, event: Attempt, account: OfAccount, time_us: int) -> Iterable[Finding]:
        for name, (count, span_us) in self._rates.items():
            if not count or len(account.addresses) < count:
                continue
            since_us = time_us - span_us
            recent = {address: tries for address, (at_us, tries) in account.addresses.items() if at_us > since_us}
            if len(recent) < count:
                continue
            groups: set[object] = set(recent)
            if name == "prefix":
                groups = {prefix_of(address) for address in recent}
            elif name == "network":
                places = map(self._place_of, recent)
                groups = {place.as_number for place in places if place is not None and place.as_number is not None}
            if len(groups) >= count and may_report(account.told_us, _ACTION, time_us):
                first_us = min(account.addresses[address][0] for address in recent)
                labels = {"by": name, "addresses": str(len(recent)), "prefixes": str(len(set(map(prefix_of, recent))))}
                if name == "network":
                    labels["networks"] = str(len(groups))
                return (
                    finding_of(
                        event, _ACTION, event.user or "", rule=getattr(self._settings, name),
                        origin=origin_of(is_verified=account.is_verified), count=sum(recent.values()), since_us=first_us,
                        addresses=reversed(list(recent)), hosts=account.hosts, event_ids=account.event_ids, labels=labels,
                    ),
                )  # fmt: skip
        return ()
