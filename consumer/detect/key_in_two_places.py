"""
One key has sessions from two distant places at the same time: it has probably been copied.

It takes databases of places. An address from which several keys log in is a jump host, a VPN or an office, and counts as no
place; nor does one of ``known_networks``.
"""

from collections.abc import Iterable, Iterator
from typing import ClassVar

from consumer.actions import EventAction
from consumer.detect.bounded_table import BoundedTable
from consumer.detect.entries import OpenKey, SessionsOfKey
from consumer.detect.findings import Kinds, PlaceOf, finding_of
from consumer.detect.logins import credential_of
from consumer.detect.networks import KnownNetworks, distance_km, prefix_of
from consumer.detect.tries import DAY_US
from consumer.events import Event, Finding, Login, Logout

# Keys in memory, and addresses with the keys that log in from them. An entry has some 300 bytes, a key's 3 kB at most.
OPEN_KEYS_LIMIT = 10_000
KEY_ADDRESSES_LIMIT = 20_000
# Addresses with open sessions that a key remembers, and pairs of prefixes that sshbell has reported.
_ADDRESSES_LIMIT, _PAIRS_LIMIT = 16, 16
# A session whose end sshd has not logged is over by then.
_SESSION_US = DAY_US
# The same two prefixes are no news for so long.
_AGAIN_US = 30 * DAY_US
# So many keys from one address belong to several people.
_SHARED_BY = 3


class KeyInTwoPlaces:
    """
    Finds keys with sessions from two places at once.

    Args:
        least_km: the distance of the places.
        known: networks that are no places.
    """

    takes: ClassVar[Kinds] = (Login, Logout)

    def __init__(self, least_km: int, place_of: PlaceOf, known: KnownNetworks) -> None:
        self._least_km = least_km
        self._place_of = place_of
        self._known = known
        self._keys = BoundedTable(str, OpenKey, OPEN_KEYS_LIMIT)
        self._users: BoundedTable[str, list[str]] = BoundedTable(str, list[str], KEY_ADDRESSES_LIMIT)

    def take(self, event: Event) -> Iterable[Finding]:
        """Return the finding about a login, and remember its session until it ends."""
        login = event.login if isinstance(event, Logout) else event
        address = event.address
        if not isinstance(login, Login) or address is None or not login.time_us:
            return ()
        name = credential_of(login.info).key
        if not name:
            return ()
        key = self._keys.renewed(name)
        if isinstance(event, Logout):
            if key is not None and address in key.sessions:
                sessions = key.sessions[address]
                sessions.count -= 1
                if sessions.count <= 0:
                    del key.sessions[address]
            return ()
        if key is None:
            key = OpenKey({}, {})
            self._keys.put(name, key)
        self._note_user(address, name)
        found = self._found(event, address, key)
        before = key.sessions.pop(address, None)
        key.sessions[address] = SessionsOfKey(
            1 + (before.count if before else 0), event.time_us, event.host, event.id, event.origin
        )
        if len(key.sessions) > _ADDRESSES_LIMIT:
            del key.sessions[next(iter(key.sessions))]
        return found

    def _note_user(self, address: str, key: str) -> None:
        keys = self._users.get(address) or []
        if key not in keys and len(keys) < _SHARED_BY:
            self._users.put(address, [*keys, key])

    def _is_place(self, address: str) -> bool:
        return len(self._users.get(address) or ()) < _SHARED_BY and not self._known.has(address)

    def _found(self, event: Event, address: str, key: OpenKey) -> Iterable[Finding]:
        others = [
            other
            for other, sessions in key.sessions.items()
            if abs(event.time_us - sessions.since_us) < _SESSION_US and prefix_of(other) != prefix_of(address)
        ]
        place = self._place_of(address) if others and self._is_place(address) else None
        if place is None:
            return ()
        for other in others:
            there = self._place_of(other) if self._is_place(other) else None
            km = None if there is None else distance_km(place, there)
            if km is None or km < self._least_km:
                continue
            pair = " ".join(sorted((prefix_of(address), prefix_of(other))))
            told_us = key.told_us.pop(pair, -_AGAIN_US)
            key.told_us[pair] = event.time_us
            if len(key.told_us) > _PAIRS_LIMIT:
                del key.told_us[next(iter(key.told_us))]
            if abs(event.time_us - told_us) < _AGAIN_US:
                continue
            sessions = key.sessions[other]
            return (
                finding_of(
                    event, EventAction.KEY_IN_TWO_PLACES, pair, rule=f"{self._least_km} km", origin=sessions.origin,
                    count=2, since_us=sessions.since_us, addresses=(other,), hosts=(sessions.host,),
                    event_ids=(sessions.event_id,), labels={"km": str(round(km)), "other": other},
                ),
            )  # fmt: skip
        return ()

    def changed(self) -> Iterator[tuple[str, bytes]]:
        """Yield the buckets that have changed."""
        yield from self._keys.changed("key ")
        yield from self._users.changed("address ")

    def kept(self) -> None:
        """Record that the buckets are safe."""
        self._keys.kept()
        self._users.kept()

    def forget_snapshot(self) -> None:
        """Count all buckets as changed."""
        self._keys.forget_snapshot()
        self._users.forget_snapshot()

    def restore(self, name: str, body: bytes) -> None:
        """Take over a bucket; KeyError and MsgspecError as in ``Detector``."""
        {"key": self._keys.restore, "address": self._users.restore}[name.partition(" ")[0]](body)
