"""A line costs the same whatever stays open: what is run for it is counted, so that no machine is too slow for these tests."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from consumer.framing.timestamps import Timestamps
from consumer.matching.matcher import Matcher
from consumer.pipeline import LineReader
from consumer.story import connections
from consumer.story.correlate import Correlator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from consumer.records import Line

MATCHER = Matcher()
START = datetime(2026, 1, 5, tzinfo=UTC)
Entry = tuple[float, str, str, str]
HELD = 1500


class Work:
    """A correlator whose work is counted, in lines of our own source that run."""

    def __init__(self) -> None:
        self._reader = LineReader(MATCHER, Timestamps(START + timedelta(days=400), UTC), keep_text=True)
        self.correlator = Correlator(MATCHER.rules, lambda name: MATCHER.program(name).family, lambda _event: None)

    def read(self, entries: Iterator[Entry]) -> list[Line]:
        """Read seconds, host, tag and message."""
        text = "".join(f"{(START + timedelta(seconds=at)).isoformat()} {host} {tag}: {msg}\n" for at, host, tag, msg in entries)
        return self._reader.lines(text.encode(), 1)

    def of(self, entries: Iterator[Entry]) -> int:
        """Return how much work some lines are."""
        lines, total = self.read(entries), 0

        def count(frame: Any, event: str, _argument: object) -> Any:
            nonlocal total
            total += event == "line" and "story" in frame.f_code.co_filename
            return count

        before = sys.gettrace()
        sys.settrace(count)
        try:
            self.correlator.feed(lines)
        finally:
            sys.settrace(before)
        return total


def sessions(count: int, *, pid: bool = True, user: str = "u{}") -> Iterator[Entry]:
    """Yield logins whose sessions stay open."""
    for number in range(count):
        tag, name = f"sshd[{10_000 + number}]" if pid else "sshd", user.format(number)
        yield 0, "web1", tag, f"Accepted password for {name} from 198.51.100.1 port {number + 1} ssh2"
        yield 0, "web1", tag, f"pam_unix(sshd:session): session opened for user {name}(uid=1001) by (uid=0)"


def guesses(step_s: float) -> Iterator[Entry]:
    """Yield a hundred tries."""
    for number in range(100):
        yield 1000 + number * step_s, "web1", f"sshd[{number + 1}]", f"Failed password for root from 192.0.2.1 port {number} ssh2"


def logins(user: str) -> Iterator[Entry]:
    """Yield logins without a PID."""
    for number in range(50):
        yield 1000 + number, "web1", "sshd", f"Accepted password for {user} from 192.0.2.1 port {number + 1} ssh2"
        yield 1000 + number, "web1", "sshd", f"pam_unix(sshd:session): session opened for user {user}(uid=1001) by (uid=0)"
        yield 1000 + number, "web1", "sshd", f"pam_unix(sshd:session): session closed for user {user}"


def unknown_ends() -> Iterator[Entry]:
    """Yield ends of sessions that began before the log."""
    for number in range(50):
        yield 1000 + number, "web1", "sshd", f"pam_unix(sshd:session): session closed for user nobody{number}"


BESIDE: dict[str, tuple[Callable[[], Iterator[Entry]], Callable[[], Iterator[Entry]]]] = {
    "steadily": (lambda: guesses(20), lambda: sessions(HELD)),
    "a clock that steps": (lambda: guesses(3599), lambda: sessions(HELD)),
    "without a PID": (lambda: logins("bob"), lambda: sessions(HELD, pid=False)),
    "of one user": (lambda: logins("alice"), lambda: sessions(HELD, pid=False, user="alice")),
    "ends": (unknown_ends, lambda: sessions(HELD, pid=False)),
}


@pytest.mark.parametrize("name", BESIDE)
def test_sessions_that_stay_open(name: str) -> None:
    """The same lines are no more work beside many open sessions than beside none."""
    lines, held = BESIDE[name]
    alone, beside = Work(), Work()
    beside.correlator.feed(beside.read(held()))
    Work().of(lines())  # spellings of names are remembered
    for each in (alone, beside):
        each.of(iter([(900, "web1", "sshd[5]", "Connection from 192.0.2.1 port 1 on 192.0.2.9 port 22")]))
    assert beside.of(lines()) <= 1.1 * alone.of(lines())


def test_a_clock_that_leaps_back_and_forth() -> None:
    """Each leap of the clock is confirmed by as many lines as it needs, and costs no more than those."""
    alone, beside = Work(), Work()
    beside.correlator.feed(beside.read(sessions(HELD)))
    at = "192.0.2.1 port 1"
    lines = [
        (1000 + 40 * 86400 * (number // 50 % 2), "web1", "sshd[5]", f"Connection from {at} on 192.0.2.9 port 22")
        for number in range(2000)
    ]
    for each in (alone, beside):
        each.of(iter(lines[:200]))
    assert beside.of(iter(lines)) <= 1.1 * alone.of(iter(lines))


def test_eviction_beside_idle_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a connection has to go for a new one, hosts that hold none are not gone through."""
    monkeypatch.setattr(connections, "CONNECTION_LIMIT", 100)
    few, many = Work(), Work()
    for each, hosts in ((few, 1), (many, HELD)):
        dropped = "drop connection #11 from [192.0.2.1]:4711 on [10.0.0.1]:22 past MaxStartups"
        each.correlator.feed(each.read((0, f"idle{number}", "sshd[1]", dropped) for number in range(hosts)))
        each.correlator.feed(each.read(sessions(120)))

    def others() -> Iterator[Entry]:
        for number in range(60):
            at = f"192.0.2.1 port {number + 1}"
            yield 1, f"new{number % 9}", f"sshd[{number}]", f"Accepted password for bob from {at} ssh2"

    assert many.of(others()) <= 1.1 * few.of(others())


def test_names_of_units() -> None:
    """Systemd can name a unit for each connection: a host does not remember them all."""
    work = Work()
    for number in range(1000):
        unit = f"sshd@{number}.service"
        work.correlator.feed(work.read(iter([(0, "web1", f"{unit}[{number}]", f"Connection from 192.0.2.1 port {number}")])))
    assert len(work.correlator.held.by_program) <= 64
    assert work.correlator.held.keys() == [("web1", "sshd")]
