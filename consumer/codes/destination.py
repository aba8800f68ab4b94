"""The address of this host that a client of sshd has connected to."""

import os
import socket
import sys
from contextlib import suppress

# Of /proc/net/tcp, which has 150 bytes for each connection; a message can do without this address.
_TABLE_LIMIT_BYTES = 1 << 20
_ESTABLISHED = "01"


def destination_of(pid: int) -> str:
    """Return the local address of the TCP connection that a process has open; "" if it has none."""
    with suppress(OSError, ValueError, IndexError):
        sockets = set(_sockets_of(pid))
        for name in ("tcp", "tcp6"):
            with open(f"/proc/{pid}/net/{name}", encoding="ascii") as table:  # noqa: PTH123 - not worth loading pathlib for
                rows = [line.split() for line in table.read(_TABLE_LIMIT_BYTES).splitlines()[1:]]
            for row in rows:
                if row[3] == _ESTABLISHED and f"socket:[{row[9]}]" in sockets:
                    return _address(row[1].partition(":")[0])
    return ""


def _sockets_of(pid: int) -> list[str]:
    found = []
    for number in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - names
        with suppress(OSError):
            found.append(os.readlink(f"/proc/{pid}/fd/{number}"))  # noqa: PTH115
    return found


def _address(text: str) -> str:
    """Return an address as text; the kernel writes it as hexadecimal words in its own order of bytes."""
    raw = b"".join(int(text[begin : begin + 8], 16).to_bytes(4, sys.byteorder) for begin in range(0, len(text), 8))
    mapped = raw[12:] if raw.startswith(b"\0" * 10 + b"\xff\xff") else raw
    return socket.inet_ntop(socket.AF_INET if len(mapped) == 4 else socket.AF_INET6, mapped)
