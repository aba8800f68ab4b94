#!/usr/bin/env python3
"""
Measure what a line costs beside all that stays open.

The same lines are read twice: by a correlator that holds nothing, and by one that holds 20,000 sessions, thousands of hosts, or
both. A line must cost the same. CPU time is taken in turns, and the best round counts::

    bench/held.py --only leaps

Ends with status 1 where lines take more than ALLOWED times as long.
"""

import argparse
import gc
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # the tree this file stands in, installed or not

from consumer.framing.timestamps import Timestamps
from consumer.matching.matcher import Matcher
from consumer.pipeline import LineReader
from consumer.story.correlate import Correlator

FIRST_TIME = datetime(2026, 1, 5, tzinfo=UTC)
# With 20,000 sessions, CONNECTION_LIMIT, one connection is let go for each that begins.
SESSIONS, LIMIT, HOSTS, HOST_LIMIT = 19_500, 20_000, 5_000, 10_000
ALLOWED = 1.1
MATCHER = Matcher()

# Seconds since FIRST_TIME, host, tag, message.
Entry = tuple[float, str, str, str]


def _login(at: float, host: str, tag: str, user: str, number: int) -> Iterator[Entry]:
    yield (
        at,
        host,
        tag,
        f"Accepted password for {user} from 198.51.{number // 250 % 250}.{number % 250} port {number + 1024} ssh2",
    )
    yield at, host, tag, f"pam_unix(sshd:session): session opened for user {user}(uid=1001) by (uid=0)"


def sessions(count: int, *, hosts: int = 1, pid: bool = True, user: str = "alice") -> Iterator[Entry]:
    """Yield logins whose sessions stay open; ``user`` may hold a place for the number."""
    for number in range(count):
        tag = f"sshd[{100_000 + number}]" if pid else "sshd"
        yield from _login(number / 100, f"web{number % hosts}", tag, user.format(number), number)


def idle(count: int) -> Iterator[Entry]:
    """Yield hosts that hold nothing."""
    for number in range(count):
        yield (
            number / 100,
            f"idle{number}",
            "sshd[1]",
            "drop connection #11 from [192.0.2.1]:4711 on [10.0.0.1]:22 past MaxStartups",
        )


def _guesses(lines: int, step: Callable[[int], float], host: str = "web0") -> Iterator[Entry]:
    for number in range(lines // 2):
        at = f"203.0.113.{number % 250} port {number + 1024}"
        yield step(2 * number), host, f"sshd[{number + 300}]", f"Failed password for root from {at} ssh2"
        yield step(2 * number + 1), host, f"sshd[{number + 300}]", f"Connection closed by authenticating user root {at} [preauth]"


def _logins(lines: int, tag: str, user: str = "bob") -> Iterator[Entry]:
    for number in range(lines // 3):
        name, own = user.format(number % 100), tag.format(number + 300)
        yield from _login(1000 + number / 10, "web0", own, name, 70_000 + number)
        yield 1000 + number / 10, "web0", own, f"pam_unix(sshd:session): session closed for user {name}"


def _unknown_ends(lines: int) -> Iterator[Entry]:
    for number in range(lines):
        yield 1000 + number / 100, "web0", "sshd", f"pam_unix(sshd:session): session closed for user nobody{number}"


def _hosts(lines: int) -> Iterator[Entry]:
    for number in range(lines):
        yield 1000 + number / 100, f"new{number}", "sshd[9]", "Connection from 192.0.2.1 port 4711 on 192.0.2.9 port 22"


def _connections(lines: int) -> Iterator[Entry]:
    for number in range(lines):
        yield (
            1000 + number / 10_000,
            "web0",
            f"sshd[{number + 300}]",
            f"Connection from 192.0.2.1 port {number} on 192.0.2.9 port 22",
        )


def _at_limit() -> Iterator[Entry]:
    for number in range(LIMIT):
        yield (
            900 + number / 1000,
            "web0",
            f"sshd[{number + 100_000}]",
            f"Connection from 192.0.2.1 port {number} on 192.0.2.9 port 22",
        )


@dataclass
class Case:
    """Lines to be timed, what is held beside them, and what is held where the same lines are timed for comparison."""

    name: str
    lines: Callable[[int], Iterator[Entry]]
    held: Callable[[], Iterator[Entry]]
    alone: Callable[[], Iterator[Entry]] = lambda: iter(())


def _steadily(number: int) -> float:
    return 1000 + number / 10


CASES = [
    Case("guesses beside sessions", lambda count: _guesses(count, _steadily), lambda: sessions(SESSIONS)),
    Case("logins beside sessions", lambda count: _logins(count, "sshd[{}]"), lambda: sessions(SESSIONS)),
    Case("guesses on another host", lambda count: _guesses(count, _steadily, "web1"), lambda: sessions(SESSIONS)),
    Case("logins without a PID", lambda count: _logins(count, "sshd"), lambda: sessions(SESSIONS, pid=False, user="u{}")),
    Case("logins without a PID, one user", lambda count: _logins(count, "sshd", "alice"), lambda: sessions(SESSIONS, pid=False)),
    Case("ends of unknown sessions without a PID", _unknown_ends, lambda: sessions(SESSIONS, pid=False, user="u{}")),
    Case(
        "a clock that steps by 3,599 s",
        lambda count: _guesses(min(count, 700), lambda n: 1000 + 3599 * n),
        lambda: sessions(SESSIONS),
    ),
    Case(
        "a clock that leaps back and forth",
        lambda count: _guesses(count, lambda n: 1000 + 7200 * (n // 500 % 2)),
        lambda: sessions(SESSIONS - HOSTS),
    ),
    Case(
        "leaps of 31 days back and forth",
        lambda count: _guesses(count, lambda n: 1000 + 2_678_400 * (n // 500 % 2)),
        lambda: sessions(SESSIONS - HOSTS),
    ),
    Case("guesses beside hosts with sessions", lambda count: _guesses(count, _steadily), lambda: sessions(SESSIONS, hosts=HOSTS)),
    Case("guesses beside idle hosts", lambda count: _guesses(count, _steadily), lambda: idle(HOSTS)),
    Case("hosts beside idle hosts", _hosts, lambda: idle(HOSTS)),
    Case("20,000 hosts before, beside 10,000", _hosts, lambda: idle(2 * HOST_LIMIT), lambda: idle(HOST_LIMIT)),
    Case(
        "guesses at the limit, of sessions or guesses",
        lambda count: _guesses(count, _steadily),
        lambda: sessions(LIMIT),
        _at_limit,
    ),
    Case(
        "connections at the limit beside idle hosts",
        _connections,
        lambda: chain(idle(HOST_LIMIT - 1), sessions(LIMIT)),
        lambda: sessions(LIMIT),
    ),
]


def read(entries: Iterator[Entry]) -> bytes:
    """Return the lines of a log."""
    found = []
    for at, host, tag, message in entries:
        stamp = (FIRST_TIME + timedelta(seconds=at)).isoformat(timespec="microseconds")
        found.append(f"{stamp} {host} {tag}: {message}\n")
    return "".join(found).encode()


class Reader:
    """A correlator, and what it holds."""

    def __init__(self, held: bytes, before: bytes) -> None:
        self._lines = LineReader(MATCHER, Timestamps(FIRST_TIME + timedelta(days=3650), UTC), keep_text=True)
        self._total = 0
        self._correlator = Correlator(MATCHER.rules, lambda name: MATCHER.program(name).family, self._count)
        self._feed(held)
        self._feed(before)
        self.held_total = sum(
            len(host.connections) for host in map(self._correlator.held.host_of, self._correlator.held.keys()) if host
        )

    def _count(self, _event: object) -> None:
        self._total += 1

    def _feed(self, block: bytes) -> None:
        if block:
            self._correlator.feed(self._lines.lines(block, 1))

    def seconds(self, block: bytes) -> float:
        """Return the CPU time for a log."""
        gc.disable()
        start = time.process_time()
        self._feed(block)
        end = time.process_time()
        gc.enable()
        return end - start

    def seconds_of_ticks(self, count: int) -> float:
        """Return the CPU time for a tick, while no line comes."""
        start = time.process_time()
        for _ in range(count):
            self._correlator.tick(1_000_000)
        return (time.process_time() - start) / count


def main() -> None:
    """Read the command line and print a row for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases with TEXT in their name")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lines", type=int, default=4_000)
    options = parser.parse_args()
    # What each connection costs once, when it is no longer new, is not what is asked here.
    before = read(
        iter([(990.0, "web0", f"sshd[{pid}]", "Connection from 192.0.2.1 port 1 on 192.0.2.9 port 22") for pid in (1, 2)])
    )
    bad = []
    print(f"{'':<46}{'held':>8}{'us a line, alone':>18}{'beside them':>14}{'times':>8}")
    for case in (case for case in CASES if options.only in case.name):
        held, reference, block = read(case.held()), read(case.alone()), read(case.lines(options.lines))
        alone, beside, total = [], [], 0
        for _ in range(options.rounds):
            alone.append(Reader(reference, before).seconds(block))
            reader = Reader(held, before)
            total = reader.held_total
            beside.append(reader.seconds(block))
        read_total = block.count(b"\n")
        ratio = min(beside) / min(alone)
        if ratio > ALLOWED:
            bad.append(case.name)
        each = f"{min(alone) / read_total * 1e6:>18.1f}{min(beside) / read_total * 1e6:>14.1f}"
        print(f"{case.name:<46}{total:>8,}{each}{ratio:>8.2f}", flush=True)
    if options.only in "ticks":
        reader = Reader(read(sessions(SESSIONS, hosts=HOSTS)), before)
        print(f"a tick beside {HOSTS:,} hosts with {reader.held_total:,} sessions: {reader.seconds_of_ticks(20) * 1e3:.1f} ms")
    if bad:
        raise SystemExit(f"these cost more beside what is held: {', '.join(bad)}")


if __name__ == "__main__":
    main()
