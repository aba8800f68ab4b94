#!/usr/bin/env python3
"""
Measure how long ``State.forget`` holds up a login, if the store has more events than ``EVENT_LIMIT``.

``run`` calls it once a minute, and again as long as it has not finished; between two calls, ``run`` stores logins. The oldest
events are logins, which sshbell keeps, and the latest are tries, which it deletes first::

    bench/forget.py --logins 1900000 --tries 300000
"""

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from measure import mebibytes
from store import NOTHING, START_US, attempts, logins

from consumer.events import Event
from consumer.store.state import EVENT_LIMIT, State


def fill(folder: Path, kinds: Sequence[tuple[Event, int, int]]) -> None:
    """Fill a store with copies of events, each with its number and the second of its first copy. They get other ids."""
    with closing(State(folder, print)) as state:
        for event, count, begin_s in kinds:
            state.record([event], NOTHING, START_US)
            with closing(sqlite3.connect(folder / "state.db")) as store, store:
                copied = {"id": "lower(hex(randomblob(16)))", "time_us": f"time_us + ({begin_s} + n) * 1000000"}
                columns = [copied.get(row[1], row[1]) for row in store.execute("PRAGMA table_info(event)")]
                store.execute(
                    f"WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {count - 1})"  # noqa: S608
                    f" INSERT INTO event SELECT {', '.join(columns)} FROM event, number WHERE id = ?",
                    (event.id,),
                )


def main() -> None:
    """Read the command line, fill a store, and print how long each call took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logins", type=int, default=1_900_000)
    parser.add_argument("--tries", type=int, default=300_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder, [(logins(1)[0], options.logins, 0), (attempts(1)[0], options.tries, options.logins)])
        calls = []
        with closing(State(folder, print)) as state:
            is_unfinished = True
            while is_unfinished:
                begun_s = time.perf_counter()
                is_unfinished = state.forget(START_US - 1)
                calls.append(time.perf_counter() - begun_s)
        with closing(sqlite3.connect(folder / "state.db")) as store:
            ((left,),) = store.execute("SELECT count(*) FROM event").fetchall()
        size = mebibytes((folder / "state.db").stat().st_size)
    print(f"{options.logins + options.tries:,} events, {size}; {left:,} are left of at most {EVENT_LIMIT:,}")
    print(f"{len(calls)} calls of forget, {sum(calls):.1f} s in total; the longest held up logins for {max(calls):.2f} s")


if __name__ == "__main__":
    main()
