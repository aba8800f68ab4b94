"""Chooses the channels of an event."""

import re
from collections.abc import Iterable, Iterator
from fnmatch import translate
from ipaddress import IPv6Network, ip_network

from consumer.actions import OwnAction
from consumer.addresses import Network, ip_of
from consumer.config import Choice, Route
from consumer.ecs import EcsEvent

# sshbell's messages about itself go to all channels.
_OWN_ACTIONS = frozenset(OwnAction)
_MAPPED_BITS = 96


class Router:
    """
    Chooses the channels of an event.

    Args:
        channels: names, in the order of the configuration.
        routes: an event goes to the channels of each route that takes it, once to each.
    """

    def __init__(self, channels: Iterable[str], routes: Iterable[Route]) -> None:
        self._channels = list(channels)
        self._routes = [(route, _Chooser(route.include), _Chooser(route.exclude)) for route in routes]

    def channels_of(self, event: EcsEvent) -> list[str]:
        """Return the names of an event's channels."""
        action = event.event.action
        if action in _OWN_ACTIONS:
            return list(self._channels)
        wanted = {name for route in self._taking(event) for name in route.channels}
        return [name for name in self._channels if name in wanted]

    def leads_to_owners(self, channel: str) -> bool:
        """Return whether a route sends events through a channel to their owners."""
        return any(route.to_owner and channel in route.channels for route, _, _ in self._routes)

    def sides(self, channel: str, event: EcsEvent) -> tuple[bool, bool]:
        """Return whether an event goes to a channel's own recipients, and whether to its owner; two routes may want both."""
        found = {route.to_owner for route in self._taking(event) if channel in route.channels}
        return False in found, True in found

    def _taking(self, event: EcsEvent) -> Iterator[Route]:
        action = event.event.action
        for route, include, exclude in self._routes:
            if action in route.events and include.takes(event) and (exclude.is_empty or not exclude.takes(event)):
                yield route


class _Chooser:
    """Chooses events by user, address and method. An unknown value fits no list; an empty list takes every event."""

    def __init__(self, choice: Choice) -> None:
        self._users = [re.compile(translate(pattern)) for pattern in choice.user]
        self._networks = [_network(text) for text in choice.address]
        self._methods = frozenset(choice.method)
        self.is_empty = not (choice.user or choice.address or choice.method)

    def takes(self, event: EcsEvent) -> bool:
        return (
            (not self._users or self._takes_user(event))
            and (not self._networks or self._takes_address(event))
            and (not self._methods or self._takes_method(event))
        )

    def _takes_user(self, event: EcsEvent) -> bool:
        name = event.user.name
        return name is not None and any(pattern.match(name) for pattern in self._users)

    def _takes_address(self, event: EcsEvent) -> bool:
        ip = ip_of(event.source.ip)
        return ip is not None and any(ip in network for network in self._networks)

    def _takes_method(self, event: EcsEvent) -> bool:
        method, submethod = event.ssh.method, event.ssh.submethod
        return method in self._methods or (submethod is not None and f"{method}/{submethod}" in self._methods)


def _network(text: str) -> Network:
    """Return a network; an IPv4-mapped one as IPv4, like the addresses of events."""
    network = ip_network(text)
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is None or network.prefixlen < _MAPPED_BITS:
        return network
    return ip_network(f"{mapped}/{network.prefixlen - _MAPPED_BITS}")
