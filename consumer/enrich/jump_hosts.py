"""
The jump host of a login, and the user on it: ``ssh.via``.

sshbell reports that a login came through a host if its source address belongs to that host and a session on that host was open
at the time. The configuration's ``hosts`` lists addresses by host. For other addresses, a relay knows from rsyslog which address
sent a host's lines. An address that several hosts share (a relay in between, a NAT) counts for none of them.
"""

import socket
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Address

from consumer.actions import EventAction
from consumer.addresses import Address, ip_of
from consumer.ecs import NOTHING, EcsEvent, HostFields, SshFields, UserFields, ViaFields, known
from consumer.process.threads import Threads
from consumer.records import OURS
from consumer.store.jump_hosts import HostSessions
from consumer.store.queries import OPEN_LIMIT_US
from consumer.store.reader import Store

# How long an address counts for a host after the last line from it, since hosts change addresses.
SENDER_US = 7 * 86400 * 1_000_000
# The clocks of two hosts differ: a session may seem to begin this much later than a login through it.
SKEW_US = 2_000_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class JumpHosts:
    """
    Finds jump hosts in the store.

    Args:
        store: where it is.
        hosts: addresses by host name, from the configuration.
    """

    def __init__(self, store: Store, hosts: Mapping[str, Sequence[str]]) -> None:
        self._sessions = HostSessions(store)
        # One call at a time: they share a connection.
        self._reader = Threads()
        self._hosts: dict[Address, set[str]] = {}
        for host, addresses in hosts.items():
            for address in addresses:
                if (ip := ip_of(address)) is not None:
                    self._hosts.setdefault(ip, set()).add(host)

    async def of(self, event: EcsEvent) -> EcsEvent:
        """
        Return ``ssh.via.host.name`` and, if only one user was on that host, ``ssh.via.user.name``.

        Raises:
            StoreError: ``state.db`` cannot be read.
        """
        # A disk may hang, but the other channels must not.
        return await self._reader.run(self._of, event)

    def _of(self, event: EcsEvent) -> EcsEvent:
        ip, at_us = ip_of(event.source.ip), login_us(event)
        # A connection from a loopback address may come through any tunnel.
        if ip is None or at_us is None or ip.is_loopback or ip.is_link_local:
            return NOTHING
        own = event.ssh.login_id or event.event.id or None
        hosts = self._hosts.get(ip) or self._sessions.senders(OURS if _is_ours(ip) else str(ip), at_us - SENDER_US)
        if len(hosts) != 1:
            return NOTHING
        (host,) = hosts
        users = self._sessions.users(host, at_us, at_us - OPEN_LIMIT_US, at_us + SKEW_US, own)
        if not users:
            return NOTHING
        user = known(UserFields(name=users[0] if len(users) == 1 else None))
        return EcsEvent(ssh=SshFields(via=ViaFields(host=HostFields(name=host), user=user)))


def _is_ours(ip: Address) -> bool:
    """Return whether an address belongs to this machine: would it connect to that address from itself? This sends nothing."""
    family = socket.AF_INET6 if isinstance(ip, IPv6Address) else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(ip), 9))
            return ip_of(probe.getsockname()[0]) == ip
    except OSError:
        return False


def login_us(event: EcsEvent) -> int | None:
    """Return the time of the login, in microseconds since 1970 UTC; for a logout, the start of its session. None: unknown."""
    text = event.event.start if event.event.action == EventAction.LOGOUT else event.timestamp
    try:
        moment = datetime.fromisoformat(text or "")
        return (moment - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, TypeError):
        return None
