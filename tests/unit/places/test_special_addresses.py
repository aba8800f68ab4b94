"""Addresses that are no place are named as what they are."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.places.special_addresses import _IPV4, _IPV6, inner, special_name


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("127.0.0.1", "loopback"), ("127.255.255.255", "loopback"), ("::1", "loopback"),
        ("10.0.0.0", "private network"), ("10.255.255.255", "private network"), ("172.16.0.1", "private network"),
        ("172.31.255.255", "private network"), ("192.168.1.1", "private network"),
        ("169.254.1.1", "link-local"), ("fe80::1", "link-local"), ("febf::1", "link-local"),
        ("100.64.0.0", "carrier-grade NAT"), ("100.127.255.255", "carrier-grade NAT"),
        ("192.0.2.1", "documentation"), ("198.51.100.1", "documentation"), ("203.0.113.255", "documentation"),
        ("2001:db8::1", "documentation"), ("3fff:fff::1", "documentation"),
        ("fc00::1", "unique local"), ("fdff::1", "unique local"), ("fec0::1", "site-local"),
        ("64:ff9b:1::1", "local NAT64"), ("198.18.0.1", "benchmarking"), ("2001:2::1", "benchmarking"),
        ("0.1.2.3", "this network"), ("::", "unspecified"), ("224.0.0.1", "multicast"), ("ff02::1", "multicast"),
        ("240.0.0.1", "reserved"), ("255.255.255.255", "reserved"), ("100::1", "discard-only"), ("2001:20::1", "ORCHIDv2"),
        # Their neighbours are somebody's.
        ("9.255.255.255", ""), ("11.0.0.0", ""), ("100.63.255.255", ""), ("100.128.0.0", ""), ("172.15.255.255", ""),
        ("172.32.0.0", ""), ("192.0.3.0", ""), ("192.167.255.255", ""), ("223.255.255.255", ""), ("8.8.8.8", ""),
        ("2001:4860:4860::8888", ""), ("2001:db9::1", ""), ("2001:db7:ffff::1", ""), ("4000::1", ""), ("::2", ""),
        ("fbff::1", ""),
    ],
)  # fmt: skip
def test_names(address: str, name: str) -> None:
    """First and last address of a range, and its neighbours."""
    ip = ip_address(address)
    assert special_name(int(ip), ip.max_prefixlen) == name


@given(st.integers(0, 2**32 - 1).map(IPv4Address) | st.integers(0, 2**128 - 1).map(IPv6Address))
def test_names_are_those_of_the_networks(address: IPv4Address | IPv6Address) -> None:
    """The search finds what looking at one network after the other finds."""
    networks = _IPV4 if address.version == 4 else _IPV6
    assert special_name(int(address), address.max_prefixlen) == next(
        (name for text, name in networks if address in ip_network(text)), ""
    )


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("::ffff:8.8.8.8", ("", "8.8.8.8")), ("64:ff9b::808:808", ("NAT64", "8.8.8.8")), ("2002:808:808::1", ("6to4", "8.8.8.8")),
        ("64:ff9b:0:1::808:808", None), ("64:ff9b:1::808:808", None), ("2003:808:808::1", None), ("::8.8.8.8", None),
    ],
)  # fmt: skip
def test_inner(address: str, found: tuple[str, str] | None) -> None:
    """An IPv4 address within an IPv6 address is found, and only there."""
    assert inner(int(ip_address(address))) == (found and (found[0], int(IPv4Address(found[1]))))
