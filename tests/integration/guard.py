"""A ``guard`` alone: the test plays the part of ``run``, and of root at a terminal."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from consumer.guard.messages import Order
from consumer.state_dir import GUARD_SOCKET
from tests.waiting import DEADLINE_S, wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.integration.site import Site

PROJECT_DIR = Path(__file__).parents[2]
HOUR_US = 3600 * 1_000_000


def now_us() -> int:
    """Return the wall clock."""
    return time.time_ns() // 1000


def order(target: str, number: int = 0, *, for_us: int = HOUR_US, **more: Any) -> Order:
    """Return an order to block; its id depends on the target and the number."""
    return Order(f"{target}-{number}"[:64], target, now_us() + for_us, **more)


class GuardProcess:
    """
    A running ``guard`` of a site.

    Attributes:
        access: the file for pam_access.
    """

    def __init__(self, site: Site, *, prefix: Sequence[str] = (), env: Mapping[str, str] | None = None, **block: Any) -> None:
        self.site = site
        folder = site.folder / "block"
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        self.access = folder / "access.conf"
        self.block = {"mode": "on", "access_file": str(self.access)} | block
        site.configure(block=self.block)
        self._prefix, self._env = prefix, site.env | dict(env or {})
        self.log = site.folder / "guard.log"
        self.start()
        site.stack.callback(self.kill)

    def start(self) -> None:
        """Start it, and wait until it takes commands."""
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [*self._prefix, *self.site.python, "-m", "consumer.guard.process", str(theirs.fileno()), str(self.site.config)]
        with theirs, self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, cwd=PROJECT_DIR, env=self._env,
                pass_fds=[theirs.fileno()],
            )  # fmt: skip
        wait_for(self.answers, "guard answers")

    def answers(self) -> bool:
        """Return whether it takes commands."""
        assert self.process.poll() is None, self.log.read_text()
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.site.state_dir / GUARD_SOCKET)) == 0

    def send(self, *orders: Order) -> None:
        """Send orders as ``run`` does."""
        self._socket.send(msgspec.json.encode(list(orders)))

    def say(self, message: bytes) -> None:
        """Send anything as ``run`` could."""
        self._socket.send(message)

    def text(self) -> str:
        """Return the file for pam_access, without its comments; "" if there is none."""
        if not self.access.exists():
            return ""
        return "".join(line for line in self.access.read_text().splitlines(keepends=True) if not line.startswith("#"))

    def denied(self) -> list[str]:
        """Return what the file denies, without its grammar."""
        return [line.removeprefix("- : ").strip() for line in self.text().splitlines() if line.startswith("-")]

    def until(self, *denied: str) -> None:
        """Wait until the file denies exactly these."""
        wait_for(lambda: self.denied() == list(denied), f"{self.denied()} becomes {denied}")

    def reload(self, **block: Any) -> None:
        """Change the configuration under ``[block]``, and make it read that."""
        self.block |= block
        self.site.configure(block=self.block)
        self.process.send_signal(signal.SIGHUP)

    def said(self, event: str) -> list[dict[str, Any]]:
        """Return its log lines about one kind of event."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def end(self) -> int:
        """Close its socket, as the end of ``run`` does; return its exit code."""
        self._socket.close()
        return self.process.wait(DEADLINE_S)

    def kill(self) -> None:
        """Kill it with signal 9."""
        self._socket.close()
        self.process.kill()
        self.process.wait()
