"""``consumer.codes.destination``: the address that a client has connected to, of real connections."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import closing

import pytest

from consumer.codes.destination import destination_of

HOLD = "import sys; sys.stdin.read()"


def of_holder(held: socket.socket) -> tuple[str, int]:
    """Return the destination of a process that has a socket alone, as sshd's monitor does, and its PID, once it has ended."""
    with subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, pass_fds=[held.fileno()]) as process:
        found = destination_of(process.pid)
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
    return found, process.pid


@pytest.mark.parametrize(
    ("listen", "connect", "wanted"),
    [("127.0.0.1", "127.0.0.1", "127.0.0.1"), ("::1", "::1", "::1"), ("::", "127.0.0.2", "127.0.0.2")],
    ids=["IPv4", "IPv6", "mapped"],
)
def test_a_connection(listen: str, connect: str, wanted: str) -> None:
    """Of a process with a connection, it is that of this host: of IPv4 over a socket of IPv6 as IPv4."""
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    with (
        closing(socket.create_server((listen, 0), family=family, dualstack_ipv6=listen == "::")) as server,
        closing(socket.create_connection((connect, server.getsockname()[1]))),
        closing(server.accept()[0]) as accepted,
    ):
        assert of_holder(accepted)[0] == wanted


def test_no_connection() -> None:
    """A listening socket is no connection; nor has a process that is gone one."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        found, pid = of_holder(server)
    assert found == ""
    assert destination_of(pid) == ""
