"""
The reverse name of an address, if that name resolves back to the address: ``source.domain``.

The owner of an address chooses its PTR record. So a name counts only if its A or AAAA record has the address, and if it has only
characters of host names.
"""

import asyncio
import re
import time
from collections import OrderedDict
from contextlib import suppress
from ipaddress import IPv4Address
from typing import NamedTuple

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import dns.resolver
import dns.reversename

from consumer.addresses import Address, ip_of
from consumer.ecs import NOTHING, EcsEvent, SourceFields
from consumer.places.special_addresses import special_name
from consumer.stamp import Stamp

# For both queries together. A notice waits less (enricher.py); a name that comes later is ready for the next notice.
LOOKUP_LIMIT_S = 5.0
# Time for one name server before the next one is asked.
_SERVER_S = 1.0
# Look-ups at the same time, and look-ups in all, with those that wait their turn. Further addresses get no name.
AT_ONCE_LIMIT, PENDING_LIMIT = 16, 200
# Addresses to remember, and for how long at most: a name, the lack of a name, and the lack of an answer.
CACHE_LIMIT = 4096
NAME_S, NO_NAME_S, NO_ANSWER_S = 3600.0, 600.0, 60.0
# The least time to remember a record, even if its TTL is one second.
_SHORTEST_S = 60.0
# An address may have many names; this many are tried.
_NAMES_LIMIT = 3
_RESOLV_CONF = "/etc/resolv.conf"

_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
# A last label of digits would look like an address.
_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*(?![0-9]+\Z){_LABEL}\Z")
# The kinds of private addresses that a site's name server may have names for.
_OWN = frozenset({"private network", "carrier-grade NAT", "unique local", "site-local"})


class _Known(NamedTuple):
    """A name, or None, and how long it is valid, on the monotonic clock."""

    name: str | None
    until_s: float


class ReverseNames:
    """
    Looks up addresses, and remembers the answers.

    Args:
        resolver: None: the name servers of ``/etc/resolv.conf``, which sshbell reads again when it changes.
    """

    def __init__(self, resolver: dns.asyncresolver.Resolver | None = None) -> None:
        self._given = resolver
        self._resolver: tuple[dns.asyncresolver.Resolver, Stamp | None] | None = None
        self._known: OrderedDict[Address, _Known] = OrderedDict()
        self._asked: dict[Address, asyncio.Task[str | None]] = {}
        self._places = asyncio.Semaphore(AT_ONCE_LIMIT)

    async def of(self, event: EcsEvent) -> EcsEvent:
        """
        Return ``source.domain`` for an event, if there is such a name.

        Raises:
            dns.exception.DNSException: ``/etc/resolv.conf`` names no name server.
        """
        ip = ip_of(event.source.ip)
        if ip is None or not is_asked_for(ip):
            return NOTHING
        name = await self._name_of(ip)
        return NOTHING if name is None else EcsEvent(source=SourceFields(domain=name))

    async def _name_of(self, ip: Address) -> str | None:
        known = self._known.get(ip)
        if known is not None and time.monotonic() < known.until_s:
            return known.name
        task = self._asked.get(ip)
        if task is None:
            if len(self._asked) >= PENDING_LIMIT:
                return None
            resolver = self._current()
            task = self._asked[ip] = asyncio.create_task(self._looked_up(ip, resolver))
            task.add_done_callback(lambda _task: self._asked.pop(ip, None))
        # A caller that gives up must not cancel the look-up for the others.
        return await asyncio.shield(task)

    def _current(self) -> dns.asyncresolver.Resolver:
        """Return the resolver; a new one if its configuration file has changed."""
        if self._given is not None:
            return self._given
        stamp = Stamp.of(_RESOLV_CONF)
        if self._resolver is None or self._resolver[1] != stamp:
            resolver = dns.asyncresolver.Resolver(_RESOLV_CONF)
            resolver.timeout = _SERVER_S
            self._resolver = resolver, stamp
        return self._resolver[0]

    async def _looked_up(self, ip: Address, resolver: dns.asyncresolver.Resolver) -> str | None:
        name, keep_s = None, NO_ANSWER_S
        with suppress(TimeoutError, OSError, dns.exception.DNSException):
            async with asyncio.timeout(LOOKUP_LIMIT_S), self._places:
                name, keep_s = await _confirmed(ip, resolver)
        self._known[ip] = _Known(name, time.monotonic() + keep_s)
        self._known.move_to_end(ip)
        if len(self._known) > CACHE_LIMIT:
            self._known.popitem(last=False)
        return name


def is_asked_for(ip: Address) -> bool:
    """Return whether an address can have a meaningful name: it is public, or of a kind that a site's name server may know."""
    special = special_name(int(ip), ip.max_prefixlen)
    return special in _OWN or not (special or ip.is_reserved)


async def _confirmed(ip: Address, resolver: dns.asyncresolver.Resolver) -> tuple[str | None, float]:
    """Return the name, or None, and how long to remember it."""
    try:
        pointers = await resolver.resolve(
            dns.reversename.from_address(str(ip)), dns.rdatatype.PTR, search=False, lifetime=LOOKUP_LIMIT_S
        )
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return None, NO_NAME_S
    kind = dns.rdatatype.A if isinstance(ip, IPv4Address) else dns.rdatatype.AAAA
    for pointer in list(pointers)[:_NAMES_LIMIT]:
        name = pointer.target.to_text(omit_final_dot=True).lower()
        if not _NAME.match(name):
            continue
        with suppress(dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            addresses = await resolver.resolve(f"{name}.", kind, search=False, lifetime=LOOKUP_LIMIT_S)
            if any(ip_of(found.address) == ip for found in addresses):
                ttl_s = min(pointers.rrset.ttl, addresses.rrset.ttl) if pointers.rrset and addresses.rrset else 0
                return name, min(NAME_S, max(_SHORTEST_S, ttl_s))
    return None, NO_NAME_S
