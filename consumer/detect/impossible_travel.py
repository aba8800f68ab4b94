"""
One key, or one account that logs in without a key, logs in from two places that nobody can travel between in that time.

It takes databases of places. They err by hundreds of kilometres, so nearer places are the same. A network from which the same key
or account has logged in before is no journey, such as a VPN's; nor is one of ``known_networks``.
"""

from collections.abc import Iterable
from typing import ClassVar

from consumer.actions import EventAction
from consumer.detect.entries import Traveller
from consumer.detect.findings import Kinds, OneTable, Place, PlaceOf, finding_of
from consumer.detect.logins import credential_of
from consumer.detect.networks import KnownNetworks, distance_km, prefix_of
from consumer.detect.tries import DAY_US
from consumer.events import Event, Finding, Login

# Keys and accounts in memory. An entry has some 500 bytes, 2 kB at most.
TRAVELLERS_LIMIT = 10_000
# Prefixes that an entry remembers, and for how long.
_PREFIXES_LIMIT = 30
_KEPT_US = 90 * DAY_US
# Two places that are nearer than this may be the same: so far are databases wrong.
_RADIUS_KM = 300
_HOUR_US = 3_600_000_000


class ImpossibleTravel(OneTable):
    """
    Finds logins from places that are too far from those of the login before.

    Args:
        speed_kmh: of the fastest journey.
        known: networks that are no places.
    """

    takes: ClassVar[Kinds] = (Login,)

    def __init__(self, speed_kmh: int, place_of: PlaceOf, known: KnownNetworks) -> None:
        super().__init__(Traveller, TRAVELLERS_LIMIT)
        self._speed_kmh = speed_kmh
        self._place_of = place_of
        self._known = known

    def take(self, event: Event) -> Iterable[Finding]:
        """Return the finding about a login, and remember its place."""
        address, at_us = event.address, event.time_us
        if not isinstance(event, Login) or address is None or not at_us:
            return ()
        place = self._place_of(address)
        if place is None or place.latitude is None or place.longitude is None or self._known.has(address):
            return ()
        key = credential_of(event.info).key or f"\0{event.user}"
        if event.origin != "verified":
            key += f"\0{event.origin}"  # see learner_of
        before: Traveller | None = self._table.get(key)
        prefix = prefix_of(address)
        prefixes = {} if before is None else before.prefixes
        is_known = at_us - prefixes.pop(prefix, -_KEPT_US) < _KEPT_US
        prefixes[prefix] = at_us
        if len(prefixes) > _PREFIXES_LIMIT:
            del prefixes[next(iter(prefixes))]
        now = Traveller(at_us, address, place.latitude, place.longitude, event.id, event.origin, prefixes)
        self._table.put(key, now)
        return () if before is None or is_known else self._found(event, before, place)

    def _found(self, event: Login, before: Traveller, place: Place) -> Iterable[Finding]:
        km = distance_km(Place(None, None, before.latitude, before.longitude), place) or 0.0
        hours = abs(event.time_us - before.at_us) / _HOUR_US
        if km < _RADIUS_KM or km <= hours * self._speed_kmh:
            return ()
        return (
            finding_of(
                event, EventAction.IMPOSSIBLE_TRAVEL, before.address, rule=f"{self._speed_kmh} km/h", origin=before.origin,
                since_us=before.at_us, count=2, addresses=(before.address,), event_ids=(before.event_id,),
                labels={"km": str(round(km)), "minutes": str(round(hours * 60)), "before": before.address},
            ),
        )  # fmt: skip
