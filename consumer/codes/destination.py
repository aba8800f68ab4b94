"""Finds the address of this host that a user has connected to. PAM does not know it, so it comes from ``/proc``."""

import os
import sys
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address

from consumer.addresses import ip_of

_ESTABLISHED = b"01"  # TCP_ESTABLISHED of net/tcp_states.h
# Of ``/proc/net/tcp``, proc(5): local address, state, inode.
_LOCAL, _STATE, _INODE = 1, 3, 9


def destination_of(pid: int) -> str:
    """Return the address at which the TCP connection of a process has arrived; "" if it has none, or is gone."""
    inodes = set()
    with suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - names
            with suppress(OSError):  # closed in the meantime
                link = os.readlink(f"/proc/{pid}/fd/{name}")  # noqa: PTH115 - a text
                if link.startswith("socket:["):
                    inodes.add(link[len("socket:[") : -1].encode())
    for table in ("tcp", "tcp6") if inodes else ():
        with suppress(OSError, ValueError), open(f"/proc/{pid}/net/{table}", "rb") as file:  # noqa: PTH123 - pathlib loads slowly
            for line in file:
                fields = line.split()
                if len(fields) > _INODE and fields[_INODE] in inodes and fields[_STATE] == _ESTABLISHED:
                    return _address(fields[_LOCAL])
    return ""


def _address(text: bytes) -> str:
    """Return an address out of "HEX:PORT": words of 32 bits in the order of this machine."""
    raw = bytes.fromhex(text.partition(b":")[0].decode())
    if sys.byteorder == "little":
        raw = b"".join(raw[start : start + 4][::-1] for start in range(0, len(raw), 4))
    address = IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw)
    return str(ip_of(str(address)) or address)
