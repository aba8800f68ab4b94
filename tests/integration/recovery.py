"""
Measures how late a channel is while another one recovers from an outage.

    python tests/integration/recovery.py --waiting 500

Two channels go to web services on loopback. One service refuses everything until many messages wait for it; then it accepts them.
Before, and while it does, the other channel gets a message now and then. The real ``deliver`` sends all of them; this program
plays the part of ``run``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from consumer.events import Login
from tests.integration.http_server import HttpServer
from tests.integration.site import Site
from tests.lines import line_of
from tests.waiting import wait_for

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from consumer.store.state import State

# Messages of the other channel before the recovery.
BEFORE = 20
PATIENCE_S = 120.0


class Turn(NamedTuple):
    """
    A message of the other channel.

    Attributes:
        seconds: from its record in the outbox to the service's receipt.
        overtaken_by: the messages of the recovering channel that arrived after ``deliver`` heard of this one, and before it.
    """

    seconds: float
    overtaken_by: int


class Recovery(NamedTuple):
    """The other channel's messages before and while the first one recovers, the users of the first one in order, and its time."""

    before: list[Turn]
    meanwhile: list[Turn]
    arrived: list[str]
    seconds: float


class _Service:
    """Both services: the paths ``/down`` and ``/up``."""

    def __init__(self) -> None:
        self.is_down = True
        # Each accepted message: its path, and its text.
        self.accepted: list[tuple[str, str]] = []

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Refuse or accept a message."""
        if request.path_qs == "/down" and self.is_down:
            return web.Response(status=503)
        self.accepted.append((request.path_qs, (await request.json())["title"]))
        return web.Response()

    def count(self, path: str) -> int:
        """Return how many messages a service has accepted."""
        return sum(1 for found, _ in self.accepted if found == path)


def recovery(folder: Path, waiting: int) -> Recovery:
    """Let a channel recover in a folder."""
    service = _Service()
    with Site(folder) as site, HttpServer() as server:
        server.handler = service.answer
        site.configure(
            channel=[_channel(folder, name, server.url(f"/{name}")) for name in ("down", "up")],
            route=[{"channels": ["down"], "include": {"user": ["u*"]}}, {"channels": ["up"], "include": {"user": ["v*"]}}],
        )
        process, wake = site.start_deliver()
        with wake, site.state() as state:
            turns = _turns(state, wake, service)
            before = [next(turns) for _ in range(BEFORE)]
            _record(state, *(_login(f"u{number}", number) for number in range(waiting)))
            wake.send(b"x")
            wait_for(lambda: site.said("retry_later"), "the outage is noticed", PATIENCE_S)
            wait_for(lambda: len(site.objects("outbox", "--channel", "down")) == waiting, "all of them wait", PATIENCE_S)
            service.is_down = False
            site.ask("outbox", "retry", "--all")
            started_s = time.monotonic()
            meanwhile = []
            while service.count("/down") < waiting:
                meanwhile.append(next(turns))
                assert time.monotonic() - started_s < PATIENCE_S, "the channel does not recover"
            seconds = time.monotonic() - started_s
        process.wait()
    arrived = [text.partition(" ")[0] for path, text in service.accepted if path == "/down"]
    return Recovery(before, meanwhile, arrived, seconds)


def _turns(state: State, wake: socket.socket, service: _Service) -> Iterator[Turn]:
    """Send a message to the other channel, and wait for it, again and again."""
    number = 0
    while True:
        number += 1
        started_s = time.monotonic()
        _record(state, _login(f"v{number}", 100_000 + number))
        wake.send(b"x")
        earlier = service.count("/down")
        expected = number
        wait_for(lambda: service.count("/up") == expected, "the other channel's message arrives")  # noqa: B023 - used at once
        seconds = time.monotonic() - started_s
        place = [path for path, _ in service.accepted]
        until = [at for at, path in enumerate(place) if path == "/up"][number - 1]
        yield Turn(seconds, max(0, place[:until].count("/down") - earlier))


def _channel(folder: Path, name: str, url: str) -> dict[str, Any]:
    path = folder / f"{name}.url"
    path.write_text(url)
    path.chmod(0o600)
    return {"name": name, "type": "webhook", "url": {"file": str(path)}, "max_per_hour": 100_000}


def _login(user: str, number: int) -> Login:
    line = line_of(time.time_ns() // 1000, trusted=(0, ""))
    return Login(f"{number:032x}", line, user, "192.0.2.7", "4711", "publickey", None)


def _record(state: State, *logins: Login) -> None:
    state.record(list(logins), frozenset({"ssh_login"}), time.time_ns() // 1000)


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waiting", type=int, default=500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = recovery(Path(name), options.waiting)
    rows = [f"{len(found.arrived)} messages arrived in {found.seconds:.2f} s"]
    for title, turns in (("before", found.before), ("meanwhile", found.meanwhile)):
        waits = [turn.seconds for turn in turns]
        overtaken = max(turn.overtaken_by for turn in turns)
        rows.append(
            f"the other channel {title}: {len(waits)} messages, median {median(waits) * 1000:.0f} ms, "
            f"worst {max(waits) * 1000:.0f} ms; overtaken by at most {overtaken}"
        )
    sys.stdout.write("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
