#!/usr/bin/env python3
"""
Measure the time from the last line of a login to the mail server's acceptance of the mail, through the real rsyslogd.

Logins come at a steady rate among noise: lines of scanners, or of a local user who writes in the name of sshd. All use loopback
and shares this machine::

    bench/latency.py --seconds 30 --logins 10 --noise 5000
    bench/latency.py --seconds 30 --logins 1 --noise 20000 --kind forged     # a flood; root, to become another user

Needs the Debian package ``rsyslog``, and the dependencies of the tests.
"""

import argparse
import asyncio
import multiprocessing
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import quantiles
from typing import Any

from aiosmtpd.smtp import SMTP
from measure import high_water, mebibytes
from run import SSHBELL, rsyslogd

CONFIG = """
state_dir = "{folder}/state"
user = ""
catch_up = ""
[[channel]]
name = "ops"
type = "email"
server = "127.0.0.1"
port = {port}
security = "none"
from = "sshbell@example.org"
to = ["ops@example.org"]
max_per_hour = 100000
[[route]]
channels = ["ops"]
"""
# The lines of one client, by kind of noise.
NOISE = {
    "failed": (
        "Invalid user {user} from {source}",
        "Failed password for invalid user {user} from {source} ssh2",
        "Connection closed by invalid user {user} {source} [preauth]",
    ),
    "probe": ("Connection closed by {source} [preauth]",),
    "unmatched": ("Failed something of {user} at {source}",),
    "forged": ("Accepted password for {user} from {source} ssh2",),
}
LINE = "<86>1 {now} web1 sshd {pid} - - {text}\n"
NOBODY = 65534


class Handler:
    """Sends each user whose mail it accepts, and the time, through a pipe."""

    def __init__(self, reports: Connection) -> None:
        self._reports = reports

    async def handle_DATA(self, _server: SMTP, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Accept a mail."""
        # A long subject begins on the next line.
        first, *_ = envelope.content.partition(b"Subject:")[2].split(None, 1)
        self._reports.send((first.decode(), time.monotonic()))
        return "250 OK"


def serve(reports: Connection) -> None:
    """Run the mail server for ever; first send its port through the pipe."""

    async def forever() -> None:
        handler = Handler(reports)
        server = await asyncio.get_running_loop().create_server(lambda: SMTP(handler), "127.0.0.1", 0)
        reports.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(forever())


@contextmanager
def mail_server() -> Iterator[tuple[Connection, int]]:
    """Run the mail server in a new process; yield the pipe on which it reports mails, and its port."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    theirs.close()  # or this process would not notice that the server ends
    try:
        yield ours, ours.recv()
    finally:
        server.terminate()
        server.join()


def stamp() -> str:
    """Return the time in the format of RFC 5424."""
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"


def noise(kind: str, numbers: Iterator[int]) -> Iterator[tuple[int, str]]:
    """Yield PID and text of the lines of noise."""
    texts = NOISE[kind]
    for number in numbers:
        client, step = divmod(number, len(texts))
        source = f"203.0.113.{client % 250} port {1024 + client % 60000}"
        yield 100_000 + client, texts[step].format(user="admin", source=source)


def forge(socket_path: Path, rate: int, seconds: int) -> None:
    """Write lines in sshd's name as another user, at a rate per second; the kernel tells rsyslogd who wrote them."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(str(socket_path))
        os.setuid(NOBODY)
        start, lines = time.monotonic(), noise("forged", count())
        sent = 0
        while (now := time.monotonic() - start) < seconds:
            while sent < now * rate:
                pid, text = next(lines)
                sender.send(f"<86>sshd[{pid}]: {text}".encode())
                sent += 1
            time.sleep(0.001)


def feed(sender: socket.socket, options: argparse.Namespace) -> dict[str, float]:
    """Send logins among noise, each at its time; return when it wrote the last line of each login."""
    written: dict[str, float] = {}
    start = time.monotonic()
    rate = 0 if options.kind == "forged" else options.noise
    lines = noise(options.kind, count())
    sent = logins = 0
    while (now := time.monotonic() - start) < options.seconds:
        batch = []
        while sent < now * rate:
            pid, text = next(lines)
            batch.append(LINE.format(now=stamp(), pid=pid, text=text))
            sent += 1
        if batch:
            sender.sendall("".join(batch).encode())
        if logins < now * options.logins:
            logins += 1
            user, pid = f"u{logins}", 10 + logins
            texts = [
                f"Accepted password for {user} from 192.0.2.7 port {10000 + logins} ssh2",
                f"pam_unix(sshd:session): session opened for user {user}(uid=1001) by (uid=0)",
            ]
            whole = "".join(LINE.format(now=stamp(), pid=pid, text=text) for text in texts).encode()
            written[user] = time.monotonic()
            sender.sendall(whole)
        time.sleep(0.001)
    return written


def collect(reports: Connection, accepted: dict[str, float]) -> None:
    """Record when the server accepts each user's mail, until it ends."""
    with suppress(EOFError, OSError):
        while True:
            user, at = reports.recv()
            accepted.setdefault(user, at)


def wait_for(what: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    while not what():
        time.sleep(0.02)


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--logins", type=int, default=10, help="per second")
    parser.add_argument("--noise", type=int, default=5000, help="lines per second")
    parser.add_argument("--kind", choices=NOISE, default="failed", help="of noise")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, mail_server() as (reports, port):
        folder = Path(name)
        run_lock, deliver_lock = folder / "state" / "run.lock", folder / "state" / "deliver.lock"
        with rsyslogd(folder / "rsyslogd", SSHBELL, CONFIG.format(folder=folder, port=port), is_shipped=True) as sender:
            sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sender.sendall(LINE.format(now=stamp(), pid=1, text="Server listening on 0.0.0.0 port 22.").encode())
            wait_for(lambda: deliver_lock.exists() and deliver_lock.read_text())
            time.sleep(2)  # until both have settled
            accepted: dict[str, float] = {}
            # Read them all the time: the pipe holds about 280, and then the mail server would block.
            threading.Thread(target=collect, args=(reports, accepted), daemon=True).start()
            forger = multiprocessing.get_context("spawn").Process(
                target=forge, args=(folder / "rsyslogd" / "log", options.noise, options.seconds)
            )
            if options.kind == "forged":
                forger.start()
            written = feed(sender, options)
            if options.kind == "forged":
                forger.join()
            end = time.monotonic() + 120
            while len(accepted) < len(written) and time.monotonic() < end:
                time.sleep(0.1)
            sizes = f"run {mebibytes(high_water(run_lock))}, deliver {mebibytes(high_water(deliver_lock))}"
    waits = sorted(1000 * (accepted[user] - written[user]) for user in written if user in accepted)
    cuts = quantiles(waits, n=100)
    print(f"{options.logins} logins and {options.noise:,} lines of kind {options.kind} per second for {options.seconds} s")
    print(
        f"{len(written)} logins, {len(accepted)} mails; milliseconds: p50 {cuts[49]:.1f}, p99 {cuts[98]:.1f}, max {waits[-1]:.1f}"
    )
    print(f"peak resident memory: {sizes}")


if __name__ == "__main__":
    main()
