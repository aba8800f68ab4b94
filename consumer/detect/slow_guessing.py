"""
One address guesses slowly: too few tries an hour for the rules of ``guessing``, but it does not stop for days.

People mistype their passwords, too, but then they log in.
"""

from collections.abc import Iterable
from typing import ClassVar

from consumer.actions import EventAction
from consumer.detect.findings import Kinds, Stateless, finding_of
from consumer.detect.networks import KnownNetworks
from consumer.detect.tries import Tries, may_report, origin_of
from consumer.detect_settings import rate_of
from consumer.events import Attempt, Finding

_ACTION = EventAction.SLOW_GUESSING


class SlowGuessing(Stateless):
    """Finds addresses that try again and again over days, each at most once a day. Its memory is that of ``Tries``."""

    # It follows ``Tries``.
    takes: ClassVar[Kinds] = ()

    def __init__(self, rate: str, tries: Tries, known: KnownNetworks) -> None:
        self._rate = rate
        self._tries = tries
        tries.followers.append(self.take)
        self._known = known
        self._count, self._span_us = rate_of(rate)

    def take(self, event: Attempt) -> Iterable[Finding]:
        """Return the finding about a failed login."""
        source = self._tries.source
        if source.calm_count < self._count or source.last_us - source.since_us < self._span_us:
            return ()
        address = event.address or ""
        if self._known.has(address) or not may_report(source.told_us, _ACTION, event.time_us):
            return ()
        return (
            finding_of(
                event, _ACTION, address, rule=self._rate, origin=origin_of(is_verified=source.is_verified),
                count=source.calm_count, since_us=source.since_us, users=reversed(source.users), hosts=source.hosts,
                event_ids=source.event_ids,
            ),
        )  # fmt: skip
