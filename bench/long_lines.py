#!/usr/bin/env python3
"""
Send ``sshbell run`` the longest lines that it reads, each with names in bytes that are not UTF-8, and show what they cost.

First a relay's sender opens a session a line, so that as many connections are held as may be, and their snapshots are kept: the
test stands in rsyslogd's place and looks for the longest time in which nothing came back, neither an OK nor a dot. Then a user
forges lines: what one costs on the disk::

    bench/long_lines.py --lines 100000 --forged 5000
"""

import argparse
import json
import os
import select
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from measure import ROOT, high_water, mebibytes

sys.path.insert(0, str(ROOT))

from consumer.clock import local_zone
from consumer.pipeline import Pipeline
from consumer.store.delivery import Delivery
from consumer.store.delivery_rows import Routed
from consumer.store.outbox import Outbox
from consumer.store.state import State

CONFIG = 'state_dir = "{folder}/state"\nuser = ""\ncatch_up = ""\n'
NOW_US = 1_795_400_000_000_000
# A PAM line of 2,000 bytes; what is longer is not read.
NAME_BYTES = 1_900


def line(number: int, uid: int, host: str = "web1") -> bytes:
    """Return a line of our template: a session opens for somebody with a long name."""
    name = f"{number:08}" + "\xff" * (NAME_BYTES - 8)
    found = {
        "v": "1", "ts": f"2026-11-22T10:{number // 60_000 % 60:02}:{number // 1000 % 60:02}.{number % 1000:03}000+00:00",
        "rcvd": f"2026-11-22T10:00:00.{number:06}+00:00", "host": host, "from_ip": "192.0.2.1", "tag": f"sshd[{number}]:",
        "prog": "sshd", "procid": str(number),
        "msg": f" pam_unix(sshd:session): session opened for user {name}(uid=0) by (uid=0)",
        "uid": uid,
    }  # fmt: skip
    return json.dumps(found, ensure_ascii=False).encode("latin-1") + b"\n"


class Run:
    """``sshbell run``, and how long it was silent at most while somebody waited for it."""

    def __init__(self, folder: Path, limit_s: float) -> None:
        command = [sys.executable, "-m", "consumer", "run", "--config", str(folder / "sshbell.toml")]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=(folder / "err").open("ab")
        )
        self._end_s = time.monotonic() + limit_s
        self.longest_s = 0.0
        self._last_s = time.monotonic()

    def until_ok(self) -> None:
        """Wait for an OK; dots are a sign of life."""
        out = self.process.stdout
        assert out is not None
        while True:
            left_s = self._end_s - time.monotonic()
            if left_s <= 0 or not select.select([out], [], [], left_s)[0]:
                self.process.kill()
                raise SystemExit("no OK in time; what it said of itself stands in the file err")
            reply = os.read(out.fileno(), 4096)
            now_s = time.monotonic()
            self.longest_s = max(self.longest_s, now_s - self._last_s)
            self._last_s = now_s
            if not reply:
                raise SystemExit("it has ended")
            if b"\n" in reply:
                return

    def send(self, block: bytes) -> None:
        """Send a line, and wait for its OK."""
        assert self.process.stdin is not None
        self.process.stdin.write(block)
        self.process.stdin.flush()
        self._last_s = time.monotonic()
        self.until_ok()

    def end(self) -> float:
        """Close its input; return the seconds until it has ended."""
        assert self.process.stdin is not None
        begun_s = time.monotonic()
        self.process.stdin.close()
        self.process.wait()
        return time.monotonic() - begun_s


def held(folder: Path, lines: int, limit_s: float) -> None:
    """Let connections be held, and print what that costs."""
    (folder / "sshbell.toml").write_text(CONFIG.format(folder=folder))
    run = Run(folder, limit_s)
    run.until_ok()
    run.longest_s = 0.0
    begun_s = time.monotonic()
    try:
        for number in range(lines):
            run.send(line(number, 0))
    except SystemExit:
        print(f"of {lines:,} lines {number:,} were confirmed in {time.monotonic() - begun_s:.0f} s")
        print((folder / "err").read_text()[-300:])
        raise
    seconds = time.monotonic() - begun_s
    memory = high_water(folder / "state" / "run.lock")
    end_s = run.end()
    with closing(sqlite3.connect(folder / "state" / "state.db")) as store:
        size, largest, rows = store.execute("SELECT sum(length(body)), max(length(body)), count(*) FROM snapshot").fetchone()
    again = Run(folder, limit_s)
    begun_s = time.monotonic()
    again.until_ok()
    start_s = time.monotonic() - begun_s
    memory_again = high_water(folder / "state" / "run.lock")
    again.end()
    print(f"{lines:,} lines in {seconds:.0f} s; longest silence {run.longest_s:.1f} s; its end took {end_s:.1f} s")
    print(f"memory {mebibytes(memory)}; the next start {start_s:.1f} s, longest silence {again.longest_s:.1f} s,", end=" ")
    print(f"memory {mebibytes(memory_again)}")
    print(f"snapshot {size / 1e6:,.1f} MB in {rows} rows, the largest {largest / 1e6:.2f} MB")


def forged(folder: Path, lines: int) -> None:
    """Store forged lines that are told to one channel, and print what one costs."""
    pipeline = Pipeline([], local_zone(), NOW_US, print)
    with closing(State(folder, print)) as state, closing(Delivery(folder, print)) as delivery, closing(Outbox(folder)) as outbox:
        for first in range(0, lines, 100):
            # Each from another host, because sshbell counts those of one host in few events.
            lines_of = [line(number, 1000, f"web{number}") for number in range(first, first + 100)]
            events = [event for each in lines_of for event in pipeline.feed(each)]
            state.record(events, frozenset({"ssh_forged"}), NOW_US)
        seq = 0
        while found := outbox.since(seq, 200):
            delivery.route([Routed(message, ["ops"]) for message in found])
            seq = found[-1].seq
    sizes = [(folder / name).stat().st_size / lines for name in ("state.db", "delivery.db")]
    print(f"a forged line takes {sizes[0]:,.0f} bytes of state.db and {sizes[1]:,.0f} of delivery.db")


def main() -> None:
    """Read the command line, and send both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--forged", type=int, default=5_000)
    parser.add_argument("--limit", type=float, default=900.0, metavar="SECONDS", help="give up after so long")
    options = parser.parse_args()
    for action, count in ((forged, options.forged), (held, options.lines)):
        with tempfile.TemporaryDirectory() as name:
            if count:
                action(Path(name), count, *([options.limit] if action is held else []))


if __name__ == "__main__":
    main()
