"""Addresses, host names, and URLs."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def ip_of(address: str | None) -> Address | None:
    """Return the IP address of a text, without a zone, and as IPv4 if IPv4-mapped; None for a name, ``UNKNOWN`` or nothing."""
    if not address:
        return None
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return ip.ipv4_mapped or ip if isinstance(ip, IPv6Address) else ip


@lru_cache(1024)  # a peer that tries again comes from the same address; a line holds at most some 500 bytes of one
def ip_text(address: str | None) -> str | None:
    """Return an address as ``ip_of`` takes it, as text."""
    ip = ip_of(address)
    return None if ip is None else str(ip)


def is_in(network: Network | None, address: str | None) -> bool:
    """Return whether an address is in a network; None has every address, and those that are none."""
    if network is None:
        return True
    ip = ip_of(address)
    return ip is not None and ip in network


def is_same_host(one: str, other: str) -> bool:
    """Return whether two names may belong to the same host: they are equal, or one is the first label of the other."""
    one, other = one.casefold(), other.casefold()
    return one == other or one == other.partition(".")[0] or other == one.partition(".")[0]


def is_https_or_local(url: str) -> bool:
    """Return whether requests to a URL are encrypted, or stay on this machine; False for text that is no URL."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        is_url = bool(host) and parts.port != 0
    except ValueError:  # brackets without an address, or a port that is not a number
        return False
    return is_url and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)))


def is_loopback(server: str) -> bool:
    """Return whether a server is on this machine, by its name or address; this looks up nothing."""
    try:
        return ip_address(server).is_loopback
    except ValueError:
        return server == "localhost"
