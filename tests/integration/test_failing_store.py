"""A store that cannot be written for a while: what was remembered is kept, by real limits on the size of a file."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from consumer.intake.journal import Kind, replayed, segments
from tests.integration.lines import ACCEPTED, CLOSED, OPENED, ours
from tests.waiting import wait_for

if TYPE_CHECKING:
    from tests.integration.site import Run, Site

# It takes a snapshot after each 20 kB of journal, and never dies by itself.
SCRIPT = [str(Path(__file__).with_name("killed_run.py")), "1", "0"]
# Time passes in the pipeline as slowly as if thousands of logins had waited for it.
SLOW_TICKS = """
import time
from consumer.pipeline import Pipeline
tick = Pipeline.tick
def slow_tick(self, now_us):
    time.sleep(5)
    return tick(self, now_us)
Pipeline.tick = slow_tick
from consumer.cli import main
main()
"""
# Bytes of a file: room for the journal, and none for the store.
LITTLE = 65_536


def limit(run: Run, size: int) -> None:
    """Let the process write no file beyond a size; ``resource.RLIM_INFINITY`` takes the limit away."""
    resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def ticks(site: Site) -> int:
    """Return how many ticks the journal has."""
    return sum(kind is Kind.TICK for kind, _ in replayed(site.state_dir / "journal", 1, pytest.fail))


def waits_in_a_snapshot(site: Site, run: Run, number: int) -> int:
    """Send lines of no meaning until no snapshot can be stored; return the next number. The last line has no reply yet."""
    limit(run, LITTLE)
    while True:
        run.write(ours("Server listening on 0.0.0.0 port 22.", number=number, pid=1))
        number += 1
        if not run.is_waiting():
            assert run.reply() == b"K\n"
            continue
        # A snapshot begins with another segment of the journal.
        if len(segments(site.state_dir / "journal")) > 1:
            return number
        limit(run, resource.RLIM_INFINITY)  # it is another task that fails
        assert run.reply() == b"OK\n"
        limit(run, LITTLE)


def test_a_snapshot_that_fails_loses_nothing(site: Site) -> None:
    """
    A snapshot fails, is taken again, and ``run`` is killed: the next process knows who is in, and reports the logout.

    The store fails and the journal does not.
    """
    run = site.start_run(script=SCRIPT)
    assert run.send(ours(ACCEPTED)) == b"OK\n"
    assert run.send(ours(OPENED, number=1)) == b"OK\n"
    wait_for(site.events, "the login is stored")
    before = ticks(site)
    wait_for(lambda: ticks(site) > before + 1, "the host is no longer among those that were just heard")
    sent = waits_in_a_snapshot(site, run, 2)
    limit(run, resource.RLIM_INFINITY)
    assert run.reply() == b"OK\n"  # so the snapshot is over
    run.kill()
    assert site.query("SELECT count(*) FROM snapshot WHERE part LIKE 'host%'") != [(0,)]
    run = site.start_run()
    assert run.send(ours(CLOSED, 30, sent)) == b"OK\n"
    assert run.end()[0] == 0
    assert [row[:3] for row in site.events()] == [("ssh_login", "alice", "192.0.2.7"), ("ssh_logout", "alice", "192.0.2.7")]


def test_a_line_waits_for_a_long_tick(site: Site) -> None:
    """While ``run`` reports what has waited for the time, rsyslogd gets dots."""
    (site.folder / "slow_ticks.py").write_text(SLOW_TICKS)
    run = site.start_run(script=[str(site.folder / "slow_ticks.py")])
    wait_for(lambda: ticks(site) > 0, "the first tick has begun")
    run.write(ours(ACCEPTED))
    assert run.is_waiting()
    assert run.reply() == b"OK\n"
