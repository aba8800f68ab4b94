#!/usr/bin/env python3
"""
Measure ``State.record``: rows per second of processor time, compared with SQLite's own ``executemany`` of the same rows.

It makes the events first. Each round writes to a new file, in batches as ``run`` does::

    bench/store.py --rows 10000 --batch 1000
"""

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))  # the tree this file stands in, installed or not

from consumer.events import Attempt, Event, Login
from consumer.records import Line
from consumer.store.database import open_for_writing, transaction
from consumer.store.state import _INSERT_EVENT, State, event_row
from consumer.story.event_ids import derived

START_US = 1_795_341_600_000_000
KEY = "ED25519 SHA256:lj7ZkpHJrXEKLvBHm9iyVhHSZbIXMRVzPQZPPMTQX5Q"
NOTHING: frozenset[str] = frozenset()


def line(number: int) -> Line:
    """Return a deciding line; there are 1,000 per second."""
    return (
        0, START_US + number * 1000, number, 1, "Failed password for root from 203.0.113.7 port 4711 ssh2", None, False, "sshd",
        "web1.example.org", str(number), "root", None, "203.0.113.7", "4711", "password", None, None,
    )  # fmt: skip


def attempts(rows: int) -> list[Event]:
    """Return the failed tries of a flood."""
    return [
        Attempt(derived(str(number), "try"), line(number), f"user{number % 500}", f"203.0.{number % 250}.7", "4711", "password")
        for number in range(rows)
    ]


def logins(rows: int) -> list[Event]:
    """Return logins, which have a session and a message each."""
    return [
        Login(
            derived(str(number), "in"),
            line(number),
            f"user{number % 500}",
            f"203.0.{number % 250}.7",
            "4711",
            "publickey",
            KEY,
            1001,
        )
        for number in range(rows)
    ]


def batches(events: Sequence[Event], size: int) -> list[Sequence[Event]]:
    """Divide events into batches, one per transaction."""
    return [events[start : start + size] for start in range(0, len(events), size)]


def seconds_of(write: Callable[[Path], Callable[[], None]]) -> float:
    """Return the seconds of one round in a new file, without the time to open it."""
    with tempfile.TemporaryDirectory() as folder:
        work = write(Path(folder))
        gc.collect()
        start = time.process_time()
        work()
        return time.process_time() - start


def with_executemany(events: Sequence[Event], size: int) -> Callable[[Path], Callable[[], None]]:
    """Write rows that were made before."""

    def write(folder: Path) -> Callable[[], None]:
        parts = [[event_row(event, event.action) for event in part] for part in batches(events, size)]
        connection = open_for_writing(folder / "state.db", print)

        def work() -> None:
            with closing(connection):
                for part in parts:
                    with transaction(connection):
                        connection.executemany(_INSERT_EVENT, part)

        return work

    return write


def with_record(
    events: Sequence[Event], size: int, told: frozenset[str], *, again: bool = False
) -> Callable[[Path], Callable[[], None]]:
    """Record events; ``again``: they are in the store already."""

    def write(folder: Path) -> Callable[[], None]:
        parts = batches(events, size)
        state = State(folder, print)
        if again:
            state.record(events, told, START_US)

        def work() -> None:
            with closing(state):
                for part in parts:
                    state.record(part, told, START_US)

        return work

    return write


def main() -> None:
    """Read the command line, write in turns, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=1_000, help="events per transaction")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    tries, ins = attempts(options.rows), logins(options.rows)
    kinds = {
        "executemany of made rows": with_executemany(tries, options.batch),
        "record, tries": with_record(tries, options.batch, NOTHING),
        "record, tries known before": with_record(tries, options.batch, NOTHING, again=True),
        "record, tries to report": with_record(tries, options.batch, frozenset({"ssh_attempt"})),
        "record, logins to report": with_record(ins, options.batch, frozenset({"ssh_login"})),
        "record, logins one by one": with_record(ins, 1, frozenset({"ssh_login"})),
    }
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(options.rounds):
        for name, write in kinds.items():
            times[name].append(seconds_of(write))
    first = median(next(iter(times.values())))
    print(f"{options.rows:,} events, {options.batch:,} per transaction, {options.rounds} rounds, median (range)")
    for name, seconds in times.items():
        rates = [options.rows / second for second in seconds]
        spread = f"({min(rates):,.0f}-{max(rates):,.0f})"
        print(f"{name:<30}{median(rates):>10,.0f} rows/s {spread:<20}{median(seconds) / first:>8.2f} x the time")


if __name__ == "__main__":
    main()
