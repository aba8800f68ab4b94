#!/usr/bin/env python3
"""
Flood ``sshbell replay`` with entries for its tables: connections, hosts, sessions, names.

Every table has a limit, so four times as many lines must take four times as long, and no more memory. This replays each flood at
two lengths, each in a new process, and compares time and memory::

    bench/flood.py --only hosts
"""

import argparse
import random
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from measure import mebibytes, run_timed, run_watched
from replay import replay_command

FIRST_TIME = datetime(2026, 1, 5, tzinfo=UTC)
# If four times as many lines take more than this, something grows.
ALLOWED_SECONDS, ALLOWED_MEMORY = 6.0, 1.5
_PAM_OPENED = "pam_unix(sshd:session): session opened for user root(uid=0) by (uid=0)"


def _connection(host: str, pid: int, source: random.Random) -> str:
    return f'{host} sshd[{pid}]: Connection from {_address(source)} port 4711 on 192.0.2.1 port 22 rdomain ""'


def _address(source: random.Random) -> str:
    return f"{source.randint(1, 223)}.{source.randint(0, 255)}.{source.randint(0, 255)}.{source.randint(1, 254)}"


def _guess(number: int, source: random.Random) -> list[str]:
    client = f"{_address(source)} port {source.randint(1024, 65535)}"
    return [
        f"web1 sshd[{number}]: Failed password for root from {client} ssh2",
        f"web1 sshd[{number}]: Connection closed by authenticating user root {client} [preauth]",
    ]


def _login(number: int, source: random.Random, tag: str = "sshd[{}]") -> list[str]:
    program = tag.format(number)
    accepted = f"web1 {program}: Accepted password for root from {_address(source)} port 4711 ssh2"
    return [accepted, f"web1 {program}: {_PAM_OPENED}"]


# For each flood: entries per second, entries in the shorter run, and a function that makes the lines of one entry, without time.
FLOODS: dict[str, tuple[int, int, Callable[[int, random.Random], list[str]]]] = {
    "connections": (10_000, 100_000, lambda n, source: [_connection("web1", n, source)]),
    "guesses": (1_000, 100_000, _guess),
    "PIDs used again": (1_000, 100_000, lambda n, source: [_connection("web1", n % 100 + 1, source)]),
    "sessions that stay": (100, 50_000, _login),
    "sessions that end": (
        100,
        50_000,
        lambda n, source: [*_login(n, source), f"web1 sshd[{n}]: pam_unix(sshd:session): session closed for user root"],
    ),
    "logins without a PID": (100, 2_000, lambda n, source: _login(n, source, "sshd")),
    "ends of unknown sessions": (
        100,
        2_000,
        lambda n, source: [
            f"web1 sshd: Accepted password for a{n} from {_address(source)} port {n % 60000 + 1} ssh2",
            f"web1 sshd: pam_unix(sshd:session): session closed for user b{n}",
        ],
    ),
    "hosts": (1_000, 15_000, lambda n, source: [_connection(f"web{n}", n, source)]),
    "long host names": (1_000, 1_000, lambda n, source: [_connection(f"web{n}{'x' * 60_000}", n, source)]),
    "long program names": (1_000, 1_000, lambda n, _source: [f"web1 prog{n}{'x' * 60_000}[{n}]: hello"]),
    "unknown texts": (1_000, 20_000, lambda n, source: [f"web1 sshd[{n}]: {source.getrandbits(64):016x} hello"]),
    "other programs": (1_000, 200_000, lambda n, source: [f"web1 smtpd[{n}]: connect from unknown[{_address(source)}]"]),
    "overlong lines": (1_000, 50, lambda _n, _source: ["web1 sshd[1]: " + "x" * 200_000, "web1 sshd[1]: " + "y" * 60_000]),
}


def lines(name: str, count: int) -> Iterator[str]:
    """Yield the lines of a flood."""
    rate, _, lines_of = FLOODS[name]
    source = random.Random(1)
    for number in range(1, count + 1):
        time = FIRST_TIME + timedelta(seconds=number / rate)
        for line in lines_of(number, source):
            yield f"{time.isoformat(timespec='microseconds')} {line}\n"


def run(name: str, count: int) -> tuple[float, int, int]:
    """Replay a flood; return seconds, bytes of memory, and the number of lines."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "auth.log")
        with log.open("w") as file:
            total = sum(1 for line in lines(name, count) if file.write(line))
        command = replay_command(log, jobs=1)
        return run_timed(command).clock, run_watched(command).largest_process, total


def main() -> None:
    """Read the command line and print a row for each flood."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="only floods with TEXT in their name")
    options = parser.parse_args()
    bad = []
    print(f"{'':<26}{'lines':>10}{'us/line':>11}{'memory':>12}{'4 times as many: time':>23}{'memory':>9}")
    for name in (name for name in FLOODS if options.only in name):
        count = FLOODS[name][1]
        seconds, memory, _ = run(name, count)
        seconds_4, memory_4, total = run(name, 4 * count)
        slower, larger = seconds_4 / seconds, memory_4 / memory
        if slower > ALLOWED_SECONDS or larger > ALLOWED_MEMORY:
            bad.append(name)
        each = f"{total:>10,}{seconds_4 / total * 1e6:>11.1f}{mebibytes(memory_4):>12}"
        print(f"{name:<26}{each}{f'x{slower:.1f}':>23}{f'x{larger:.1f}':>9}")
    if bad:
        raise SystemExit(f"these grow: {', '.join(bad)}")


if __name__ == "__main__":
    main()
