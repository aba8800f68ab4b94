"""
One address, or one prefix, tries many accounts: it sprays one password over them, or looks for names that exist.

Guessers who try few passwords for each account stay below any limit for one account.
"""

from collections.abc import Iterable
from typing import ClassVar

from consumer.actions import EventAction
from consumer.detect.entries import OfAddress, OfPrefix
from consumer.detect.findings import Kinds, Stateless, finding_of
from consumer.detect.networks import KnownNetworks, prefix_of
from consumer.detect.tries import Tries, drop_older, may_report, origin_of
from consumer.detect_settings import ManyAccountsSettings, rate_of
from consumer.events import Attempt, Finding
from consumer.records import TIME

_ACTION = EventAction.MANY_ACCOUNTS


class ManyAccounts(Stateless):
    """Finds addresses and prefixes that try many accounts, each at most once a day. Its memory is that of ``Tries``."""

    # It follows ``Tries``.
    takes: ClassVar[Kinds] = ()

    def __init__(self, settings: ManyAccountsSettings, tries: Tries, known: KnownNetworks) -> None:
        self._settings = settings
        self._tries = tries
        tries.followers.append(self.take)
        self._known = known
        self._count, self._span_us = rate_of(settings.address)
        self._prefix_count, self._prefix_span_us = rate_of(settings.prefix)

    def take(self, event: Attempt) -> Iterable[Finding]:
        """Return the finding about a failed login, which is the first at one account more."""
        source, prefix = self._tries.source, self._tries.prefix
        if prefix is None:
            return ()
        if self._count and len(source.users) >= self._count:
            found = self._found(event, source, self._settings.address, self._count, self._span_us)
            if found:
                return found
        if self._prefix_count and len(prefix.users) >= self._prefix_count and len(prefix.addresses) > 1:
            return self._found(event, prefix, self._settings.prefix, self._prefix_count, self._prefix_span_us)
        return ()

    def _found(self, event: Attempt, entry: OfAddress | OfPrefix, rule: str, count: int, span_us: int) -> Iterable[Finding]:
        time_us = event.line[TIME] or 0
        drop_older(entry.users, time_us - span_us)
        address = event.address or ""
        if len(entry.users) < count or self._known.has(address) or not may_report(entry.told_us, _ACTION, time_us):
            return ()
        addresses: dict[str, int] = {}
        labels = {"by": "address"}
        if isinstance(entry, OfPrefix):
            addresses, labels = entry.addresses, {"by": "prefix", "prefix": prefix_of(address)}
            drop_older(addresses, time_us - span_us)
        return (
            finding_of(
                event, _ACTION, labels.get("prefix", address), rule=rule, origin=origin_of(is_verified=entry.is_verified),
                count=len(entry.users), since_us=min(entry.users.values()), users=reversed(entry.users),
                addresses=reversed(addresses), hosts=entry.hosts, event_ids=entry.event_ids,
                labels=labels,
            ),
        )  # fmt: skip
