"""
Addresses that are no place on a map, named as what they are (IANA's special-purpose registries), and IPv4 inside IPv6.

An address is its number, and how many bits it has: 32 or 128.
"""

from bisect import bisect_right
from collections.abc import Iterable
from ipaddress import ip_network
from typing import NamedTuple

# No network contains another, so the last that begins at or before an address is the only one that can hold it.
_IPV4 = (
    ("0.0.0.0/8", "this network"),
    ("10.0.0.0/8", "private network"),
    ("100.64.0.0/10", "carrier-grade NAT"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private network"),
    ("192.0.2.0/24", "documentation"),
    ("192.168.0.0/16", "private network"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
)
_IPV6 = (
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("64:ff9b:1::/48", "local NAT64"),
    ("100::/64", "discard-only"),
    ("2001:2::/48", "benchmarking"),
    ("2001:20::/28", "ORCHIDv2"),
    ("2001:db8::/32", "documentation"),
    ("3fff::/20", "documentation"),
    ("fc00::/7", "unique local"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
)
_NAT64 = 0x0064_FF9B << 64  # 64:ff9b::/96 without its last 32 bits
_6TO4 = 0x2002  # 2002::/16


def _ranges(named: Iterable[tuple[str, str]]) -> tuple[list[int], list[tuple[int, str]]]:
    networks = [(ip_network(text), name) for text, name in named]
    return (
        [int(network.network_address) for network, _ in networks],
        [(int(network.broadcast_address), name) for network, name in networks],
    )


_RANGES = {32: _ranges(_IPV4), 128: _ranges(_IPV6)}


def special_name(number: int, bits: int) -> str:
    """Return what an address is where it is no public one, such as ``private network``; otherwise ""."""
    starts, ends = _RANGES[bits]
    index = bisect_right(starts, number) - 1
    return ends[index][1] if index >= 0 and number <= ends[index][0] else ""


def inner(number: int) -> tuple[str, int] | None:
    """Return the IPv4 address that an IPv6 address stands for, and how: ``NAT64``, ``6to4``; "" for an IPv4-mapped one."""
    if number >> 32 == 0xFFFF:
        return "", number & 0xFFFF_FFFF
    if number >> 32 == _NAT64:
        return "NAT64", number & 0xFFFF_FFFF
    if number >> 112 == _6TO4:
        return "6to4", number >> 80 & 0xFFFF_FFFF
    return None


class Meaning(NamedTuple):
    """
    The address to look up in place of another one.

    Attributes:
        name: of a special address, or of the way in which it holds an IPv4 address: ``loopback``, ``6to4``; "" for any other.
        number, bits: the address to look up: the IPv4 address inside, or the address itself.
        is_public: that address is on the Internet.
    """

    name: str
    number: int
    bits: int
    is_public: bool


def meaning_of(number: int, bits: int) -> Meaning:
    """Return the meaning of an address of 32 or 128 bits."""
    tunnel = ""
    if bits == 128 and (within := inner(number)):
        (tunnel, number), bits = within, 32
    special = special_name(number, bits)
    return Meaning(f"{tunnel}, {special}" if tunnel and special else tunnel or special, number, bits, not special)
