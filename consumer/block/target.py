"""The target of a block: an address, a network, or a user."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

USER_PREFIX = "user:"
# Wider networks are a mistake: they hold a large part of the world.
LEAST_LENGTH_V4, LEAST_LENGTH_V6 = 8, 16
# sshd cuts names at 100 bytes, and its escapes take up to four characters each.
USER_NAME_LIMIT = 400
_BITS = {4: 32, 6: 128}


class Target(NamedTuple):
    """
    An address, a network or a user. Targets sort by version and address; a network comes before those within it.

    Attributes:
        version: 4 or 6; 0 for a user.
        first: the first address of the network, as a number.
        length: the bits of the prefix: 32 or 128 for one address.
        text: the only form of this target: ``192.0.2.7``, ``2001:db8::/64``, ``user:alice``.
    """

    version: int
    first: int
    length: int
    text: str

    @property
    def user(self) -> str:
        """The name of the user; "" for an address or a network."""
        return "" if self.version else self.text.removeprefix(USER_PREFIX)

    @property
    def last(self) -> int:
        """The last address of the network, as a number."""
        return self.first | ((1 << (_BITS[self.version] - self.length)) - 1)

    @property
    def is_network(self) -> bool:
        """Whether this is a network of more than one address."""
        return self.version != 0 and self.length < _BITS[self.version]

    def covers(self, other: "Target") -> bool:
        """Return whether each address of another target belongs to this one; of users, whether they are the same."""
        if self.version != other.version:
            return False
        return self.text == other.text if not self.version else self.first <= other.first and other.last <= self.last


def user_target(name: str) -> Target:
    """
    Return a user as a target.

    Raises:
        ValueError: nobody has such a name.
    """
    if not name or len(name) > USER_NAME_LIMIT:
        raise ValueError(f"a user's name has 1 to {USER_NAME_LIMIT} characters")
    return Target(0, 0, 0, USER_PREFIX + name)


def network_target(text: str) -> Target:
    """
    Return an address or a network as a target: an IPv4-mapped one as IPv4, without a zone, and without the bits of the host.

    Raises:
        ValueError: the text is neither.
    """
    address, slash, length = text.partition("/")
    if not slash:
        ip = ip_address(address.partition("%")[0])
        ip = (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip
        return Target(ip.version, int(ip), ip.max_prefixlen, str(ip))
    if not re.fullmatch(r"[0-9]{1,3}", length):
        raise ValueError(f"{text!r} is not a network: the prefix length is a number of bits")
    network = ip_network(text, strict=False)
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None and network.prefixlen >= 96:
        network = ip_network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    if network.prefixlen == network.max_prefixlen:
        return network_target(str(network.network_address))
    return Target(network.version, int(network.network_address), network.prefixlen, str(network))


def target_of(text: str) -> Target:
    """
    Return the target that a text names; see ``Target.text``.

    Raises:
        ValueError: the text names none.
    """
    return user_target(text.removeprefix(USER_PREFIX)) if text.startswith(USER_PREFIX) else network_target(text)


def is_too_wide(target: Target) -> bool:
    """Return whether a network is so large that blocking it must be a mistake."""
    return target.version != 0 and target.length < (LEAST_LENGTH_V4 if target.version == 4 else LEAST_LENGTH_V6)


def outermost(networks: Iterable[Target]) -> list[Target]:
    """Return networks in order, without those that lie within another one."""
    found: list[Target] = []
    for target in sorted(networks):
        if not found or not found[-1].covers(target):
            found.append(target)
    return found


def covering(target: Target, outer: Sequence[Target]) -> Target | None:
    """Return the network of ``outermost`` that covers a target, or None."""
    at = bisect_right(outer, (target.version, target.first, target.length, target.text))
    return outer[at - 1] if at and outer[at - 1].covers(target) else None
