"""Two network namespaces with a cable between them: a server and a client, each with an address of its own."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests import needs
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER, CLIENT = "198.18.7.1", "198.18.7.2"


class Network(NamedTuple):
    """The commands that run another command as the server, and as the client."""

    server: list[str]
    client: list[str]


@contextmanager
def network() -> Iterator[Network]:
    """Create the two namespaces, which end with the test."""
    needs.root("create network namespaces")
    ip = needs.program("ip", "iproute2")
    own = Path("/proc/self/ns/net").readlink()
    with ExitStack() as stack:
        holders = []
        for _ in range(2):
            holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])  # noqa: S607
            stack.callback(holder.wait)
            stack.callback(holder.kill)
            holders.append(holder.pid)
            wait_for(lambda: Path(f"/proc/{holders[-1]}/ns/net").readlink() != own, "the namespace exists")
        inside = [["nsenter", "-t", str(pid), "-n"] for pid in holders]
        cable = ["link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", str(holders[1])]
        subprocess.run([*inside[0], ip, *cable], check=True)
        for enter, address in zip(inside, (SERVER, CLIENT), strict=True):
            subprocess.run([*enter, ip, "address", "add", f"{address}/30", "dev", "cable"], check=True)
            for device in ("lo", "cable"):
                subprocess.run([*enter, ip, "link", "set", device, "up"], check=True)
        yield Network(*inside)
