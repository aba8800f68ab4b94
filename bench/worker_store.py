#!/usr/bin/env python3
"""
Measure what PostgreSQL needs as the store of ``sshbell worker``: bytes on disk, and processor time of the server.

A partition puts events into the store, and the worker that gathers takes them from there. There are no messages, and no snapshots
of the memory::

    bench/worker_store.py --rows 40000

Needs the Debian package ``postgresql``.
"""

import argparse
import resource
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from measure import ROOT, spread
from store import NOTHING, START_US, attempts, logins

sys.path.insert(0, str(ROOT))
from consumer.events import Event, Login, Logout
from consumer.store.worker import GATHERING, PartitionProgress, worker_store
from consumer.story.event_ids import derived
from tests.integration.kafka import Postgres

BATCH = 2_000


def sessions(rows: int) -> list[Event]:
    """Return logins, each with its end."""
    found: list[Event] = []
    for login in logins(rows):
        assert isinstance(login, Login)
        end = Logout(derived(login.id, "out"), login.line, login.user, login.address, login.port, login, login.time_us)
        found += [login, end]
    return found


def measured(events: Sequence[Event]) -> tuple[float, int]:
    """Store events in a new database; return the processor seconds of its server, and the bytes of the tables at the end."""
    folder = Path(tempfile.mkdtemp(prefix="sshbell-"))
    begun_s = processor_s()
    try:
        folder.chmod(0o755)
        (folder / "database").mkdir()
        with Postgres(folder / "database") as postgres:
            with closing(worker_store(postgres.database, "sshbell", print)) as store:
                for number in (0, GATHERING):
                    store.take(number)
                for begin in range(0, len(events), BATCH):
                    store.commit([PartitionProgress(0, 1, begin)], events[begin : begin + BATCH], NOTHING, START_US)
                    waiting = [seq for seq, _body in store.waiting(BATCH)]
                    store.commit([PartitionProgress(GATHERING, 1, 0)], (), NOTHING, START_US, gathered=waiting)
            ((size_bytes,),) = postgres.query("SELECT pg_total_relation_size('event') + pg_total_relation_size('session')")
        return processor_s() - begun_s, size_bytes
    finally:
        shutil.rmtree(folder)


def processor_s() -> float:
    """Return the processor seconds of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for name, events in (("failed login", attempts(options.rows)), ("login with its end", sessions(options.rows))):
        seconds, sizes = [], []
        for _ in range(options.rounds):
            # The server alone takes time, too.
            (idle_s, idle_bytes), (busy_s, busy_bytes) = measured(()), measured(events)
            seconds.append((busy_s - idle_s) / options.rows * 1e6)
            sizes.append((busy_bytes - idle_bytes) / options.rows)
        print(f"{name}: {spread(sizes, 0)} bytes; {spread(seconds, 1)} us of the server's processor time", flush=True)


if __name__ == "__main__":
    main()
