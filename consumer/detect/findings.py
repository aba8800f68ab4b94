"""The common parts of all detectors: their protocol, and what a finding is made of."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from consumer.actions import EventAction
from consumer.detect.bounded_table import BoundedTable
from consumer.events import EXAMPLES_LIMIT, AuthEvent, Block, Event, Finding
from consumer.records import TRUSTED
from consumer.story.event_ids import derived


class Place(NamedTuple):
    """The place of an address; None for what is unknown. Latitude and longitude are in degrees."""

    as_number: int | None
    country: str | None
    latitude: float | None
    longitude: float | None


# Returns the place of an address, or None; it comes from outside, because databases are files.
PlaceOf = Callable[[str], Place | None]


# Kinds of events.
Kinds = tuple[type[AuthEvent], ...]


class Detector(Protocol):
    """
    Looks for one kind of finding.

    Its memory consists of parts: a name, and bytes. A part is written again only if it has changed.

    Attributes:
        takes: the kinds of events that it looks at. A flood is mostly tries: a detector that does not need them leaves them.
    """

    @property
    def takes(self) -> Kinds:
        """See above."""

    def take(self, event: Any) -> Iterable[Finding | Block]:
        """Return what an event of these kinds shows, together with those before it. They may come slightly out of order."""

    def changed(self) -> Iterator[tuple[str, bytes]]:
        """Yield the parts of the memory that have changed since ``kept``; b"" for one that is gone."""

    def kept(self) -> None:
        """Record that the parts which ``changed`` yielded last are safe, and that no event has come since."""

    def forget_snapshot(self) -> None:
        """Count every part as changed."""

    def restore(self, name: str, body: bytes) -> None:
        """
        Take over a part from an earlier process.

        Raises:
            DAMAGE: of ``consumer.story.snapshot``; the part cannot be read.
        """


class Stateless:
    """The memory of a detector that has none."""

    def changed(self) -> Iterator[tuple[str, bytes]]:
        """Yield nothing."""
        return iter(())

    def kept(self) -> None:
        """Do nothing."""

    def forget_snapshot(self) -> None:
        """Do nothing."""

    def restore(self, name: str, body: bytes) -> None:
        """Refuse a part: another version has written it."""
        raise ValueError(f"{name} has no memory of {len(body)} bytes")


class OneTable:
    """The memory of a detector that consists of one table."""

    def __init__(self, value: Any, limit: int) -> None:
        self._table: BoundedTable[str, Any] = BoundedTable(str, value, limit)

    def changed(self) -> Iterator[tuple[str, bytes]]:
        """Yield the buckets that have changed."""
        return self._table.changed()

    def kept(self) -> None:
        """Record that the buckets are safe."""
        self._table.kept()

    def forget_snapshot(self) -> None:
        """Count all buckets as changed."""
        self._table.forget_snapshot()

    def restore(self, name: str, body: bytes) -> None:
        """Take over a bucket."""
        if not name.isdecimal():
            raise ValueError(f"there is no bucket {name}")
        self._table.restore(body)


def is_verified(event: AuthEvent) -> bool:
    """Return whether the origin of an event is ``verified``. For most kinds this is faster than to ask for the origin."""
    trusted = event.line[TRUSTED]
    return trusted is not None and trusted[0] == 0


# From the strongest to the weakest.
_ORIGINS = ("verified", "unverified", "forged")


def weakest(origins: Iterable[str]) -> str:
    """Return the weakest of some origins. A finding is no more certain than the least certain of its events."""
    return max(origins, key=_ORIGINS.index)


def finding_of(
    event: Event,
    action: EventAction,
    key: str = "",
    *,
    rule: str = "",
    severity: str = "",
    origin: str = "",
    count: int = 1,
    since_us: int = 0,
    users: Iterable[str] = (),
    addresses: Iterable[str] = (),
    hosts: Iterable[str] = (),
    event_ids: Iterable[str] = (),
    labels: dict[str, str] | None = None,
) -> Finding:
    """
    Return a finding about an event, which decides it.

    The id depends on the event, the detector and the key alone, so that a replay finds the same again.

    Args:
        event: the deciding one; the finding names its user, address and host, besides those given.
        action: the detector.
        key: distinguishes findings of one detector about one event.
        rule: the rule or threshold, as it stands in the configuration.
        severity: if it differs from the detector's own.
        origin: the weakest of the other events, if it may be weaker than that of this one.
        count: how many tries, logins or lines it rests on.
        since_us: the time of the first of them; 0 for the event's own.
        users: further ones, the most telling first.
        addresses: likewise.
        hosts: likewise.
        event_ids: of the other events, oldest first.
        labels: further values for the sentence.
    """
    known_ids = [each for each in event_ids if each and each != event.id]
    if event.id:
        known_ids.append(event.id)
    return Finding(
        derived(event.id, f"{action}\0{key}") if event.id else "",
        event.line,
        event.user,
        event.address,
        event.port,
        action,
        severity or action.severity,
        rule,
        weakest((origin or event.origin, event.origin)),
        count,
        min(since_us or event.time_us, event.time_us),
        event.time_us,
        _examples(users, event.user),
        _examples(addresses, event.address),
        _examples(hosts, event.host),
        tuple(known_ids[-EXAMPLES_LIMIT:]),
        labels or {},
    )


def _examples(texts: Iterable[str], own: str | None) -> tuple[str, ...]:
    """Return distinct texts, the event's own first."""
    found: dict[str, None] = {} if own is None else {own: None}
    for text in texts:
        if len(found) >= EXAMPLES_LIMIT:
            break
        found[text] = None
    return tuple(found)
