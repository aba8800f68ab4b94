"""
Chooses the channels of an event, from the event and ``people.toml`` alone.

The event may have fields that ``route_facts.py`` looked up for this: its place, its key's owner and what is new about it.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from fnmatch import translate
from ipaddress import IPv6Network, ip_network

import msgspec

from consumer.actions import OwnAction
from consumer.addresses import Network, ip_of
from consumer.config import WINDOW, Choice, Route
from consumer.ecs import EcsEvent
from consumer.keys.fingerprints import canonical
from consumer.people.people import People

# sshbell's messages about itself go to all channels.
_OWN_ACTIONS = frozenset(OwnAction)
_MAPPED_BITS = 96
# The date that the index of imported keys adds to an old comment.
_AS_OF = re.compile(r" \(as of \d{4}-\d{2}-\d{2}\)\Z")
# The names of routes for the kinds of sessions that sshd logs.
_SESSIONS = {"shell": "interactive", "command": "command", "forced-command": "command", "subsystem": "subsystem"}


class RouteResult(msgspec.Struct, frozen=True):
    """Whether a route takes an event. ``reason`` says why not; "" if it takes the event."""

    number: int
    route: Route
    reason: str


class Lead(msgspec.Struct, frozen=True):
    """
    How an event goes to a channel. If several routes lead there, the soonest way counts.

    Attributes:
        channel: its name.
        is_urgent: in quiet hours, too.
        digest: the schedule of the digest that reports it; "" for at once.
        fold: what folded events have in common, and ``window``: for how long sshbell folds; () for not at all.
        route: the number of the route.
    """

    channel: str
    is_urgent: bool = False
    digest: str = ""
    fold: tuple[str, ...] = ()
    window: str = WINDOW
    route: int = 0


class Router:
    """
    Chooses the channels of an event.

    Args:
        channels: names, in the order of the configuration.
        routes: an event goes to the channels of each route that takes it, once to each.
        people: the owners of keys and accounts.
    """

    def __init__(self, channels: Iterable[str], routes: Iterable[Route], people: People | None = None) -> None:
        self._channels = list(channels)
        people = people or People()
        self._routes = [(route, _Chooser(route.include, people), _Chooser(route.exclude, people)) for route in routes]

    @property
    def keys(self) -> frozenset[str]:
        """The keys of ``include`` and ``exclude`` that a route uses."""
        choices = [choice for route, _, _ in self._routes for choice in (route.include, route.exclude)]
        return frozenset(key for choice in choices for key in choice.__struct_fields__ if getattr(choice, key))

    def leads(self, event: EcsEvent) -> list[Lead]:
        """Return the ways of an event, one for each of its channels, in the order of the configuration."""
        if event.event.action in _OWN_ACTIONS:
            return [Lead(name) for name in self._channels]
        taking = [(result.number, result.route) for result in self.results(event) if not result.reason]
        ways = ([(number, route) for number, route in taking if name in route.channels] for name in self._channels)
        return [_lead(name, routes) for name, routes in zip(self._channels, ways, strict=True) if routes]

    def leads_to_owners(self, channel: str) -> bool:
        """Return whether a route sends events through a channel to their owners."""
        return any(route.to_owner and channel in route.channels for route, _, _ in self._routes)

    def sides(self, channel: str, event: EcsEvent) -> tuple[bool, bool]:
        """Return whether an event goes to a channel's own recipients, and whether to its owner; two routes may want both."""
        found = {route.to_owner for route in self._taking(event) if channel in route.channels}
        return False in found, True in found

    def results(self, event: EcsEvent) -> Iterator[RouteResult]:
        """Yield the result of each route, in the order of the configuration."""
        stopped_by = 0
        for number, (route, include, exclude) in enumerate(self._routes, 1):
            if stopped_by:
                reason = f"route {stopped_by} has stop = true"
            elif event.event.action not in route.events:
                reason = f"{event.event.action or 'the event'} is not in events"
            elif misfits := include.misfits(event):
                reason = f"include: {' and '.join(misfits)} {'does' if len(misfits) == 1 else 'do'} not fit"
            elif not exclude.is_empty and not exclude.misfits(event):
                reason = "exclude: everything fits"
            else:
                reason = ""
                stopped_by = number if route.stop else 0
            yield RouteResult(number, route, reason)

    def _taking(self, event: EcsEvent) -> Iterator[Route]:
        return (result.route for result in self.results(event) if not result.reason)


def _lead(channel: str, routes: list[tuple[int, Route]]) -> Lead:
    is_urgent = any(route.urgent for _, route in routes)
    soonest = [(number, route) for number, route in routes if not route.digest] or routes
    # A route that reports each event alone needs no help from one that folds.
    number, route = next(((number, route) for number, route in soonest if not route.fold), soonest[0])
    return Lead(channel, is_urgent, route.digest, tuple(route.fold), route.window, number)


class _Chooser:
    """Chooses events by the lists of a ``Choice``. An unknown value fits no list; a choice without lists takes every event."""

    def __init__(self, choice: Choice, people: People) -> None:
        fits: dict[str, Callable[[EcsEvent], bool]] = {
            "user": _named(choice.user, lambda event: (event.user.name,)),
            "host": _named(
                [name.casefold() for name in choice.host], lambda event: ((event.host.name or "").casefold() or None,)
            ),
            "address": _within([_network(text) for text in choice.address]),
            "method": _listed(choice.method, _methods_of),
            "person": _named(choice.person, lambda event: (person.name for person in people.persons_of(event))),
            "group": _named(choice.group, lambda event: (name for one in people.persons_of(event) for name in one.groups)),
            "country": _listed(choice.country, lambda event: (event.source.geo.country_iso_code,)),
            "asn": _listed(choice.asn, lambda event: (event.source.as_.number,)),
            "key": _owned(choice.key, people),
            "session": _listed(choice.session, lambda event: (_SESSIONS.get(event.ssh.session.kind or ""),)),
            "origin": _listed(choice.origin, lambda event: (event.ssh.origin,)),
            "new": _listed(choice.new, lambda event: event.sshbell.new),
        }
        self._fits = {key: fit for key, fit in fits.items() if getattr(choice, key)}
        self.is_empty = not self._fits

    def misfits(self, event: EcsEvent) -> list[str]:
        """Return the keys of the lists that an event does not fit."""
        return [key for key, fit in self._fits.items() if not fit(event)]


def _named(patterns: Iterable[str], names_of: Callable[[EcsEvent], Iterable[str | None]]) -> Callable[[EcsEvent], bool]:
    """Return a function that tests whether one of an event's names fits a pattern."""
    matches = [re.compile(translate(pattern)).match for pattern in patterns]
    return lambda event: any(name is not None and match(name) for name in names_of(event) for match in matches)


def _listed(values: Iterable[object], values_of: Callable[[EcsEvent], Iterable[object]]) -> Callable[[EcsEvent], bool]:
    """Return a function that tests whether one of an event's values is in a list."""
    known = frozenset(values)
    return lambda event: not known.isdisjoint(values_of(event))


def _within(networks: list[Network]) -> Callable[[EcsEvent], bool]:
    def fits(event: EcsEvent) -> bool:
        ip = ip_of(event.source.ip)
        return ip is not None and any(ip in network for network in networks)

    return fits


def _owned(keys: Iterable[str], people: People) -> Callable[[EcsEvent], bool]:
    """Return a function that tests whether an event's key has one of the fingerprints, or an owner of one of the names."""
    texts = list(keys)
    fingerprints = frozenset(filter(None, map(canonical, texts)))

    def owners_of(event: EcsEvent) -> Iterable[str]:
        fingerprint = event.ssh.key.fingerprint
        comments = (_AS_OF.sub("", comment) for comment in event.ssh.key.owner)
        return (*(person.name for person in people.owners_of(fingerprint)), *comments) if fingerprint else ()

    is_owned = _named([text for text in texts if not canonical(text)], owners_of)
    return lambda event: canonical(event.ssh.key.fingerprint or "") in fingerprints or is_owned(event)


def _methods_of(event: EcsEvent) -> Iterator[str | None]:
    """Yield the method alone, and with its submethod."""
    method, submethod = event.ssh.method, event.ssh.submethod
    yield method
    if submethod is not None:
        yield f"{method}/{submethod}"


def _network(text: str) -> Network:
    """Return a network; an IPv4-mapped one as IPv4, like the addresses of events."""
    network = ip_network(text)
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is None or network.prefixlen < _MAPPED_BITS:
        return network
    return ip_network(f"{mapped}/{network.prefixlen - _MAPPED_BITS}")
