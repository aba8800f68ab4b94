#!/usr/bin/env python3
"""
Measure what the detectors cost: the time of a replay with and without them, and the memory and the snapshot of a full table.

The replays run in turn in one process, without output, and count processor time. The ratio is taken within each round::

    bench/detect.py
    bench/detect.py --profile flood --rounds 9

The rest fills a pipeline with one failed login of each of a million addresses at 100,000 names. It prints the memory of that
process, and how long a snapshot into ``state.db`` takes, in processor time and in real time. Meanwhile, another process writes a
line each millisecond: the delay is the time from its write to its confirmation.
"""

import argparse
import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path

from make_log import CAPTURED, write_profile
from measure import mebibytes, spread
from profiles import PROFILES

sys.path.insert(0, str(Path(__file__).parent.parent))

from consumer.detect_settings import Detect, GuessingSettings
from consumer.events import Event
from consumer.intake.journal import Journal
from consumer.intake.omprog import Lines, Replies
from consumer.logs.replay import Replay
from consumer.matching.matcher import Matcher
from consumer.pipeline import Pipeline
from consumer.run.meanwhile import Meanwhile
from consumer.store.state import State

ADDRESSES, NAMES = 1_000_000, 100_000
# With a rule for users too, so that both tables fill.
SETTINGS = Detect(guessing=GuessingSettings(user_rule="!root:30/1d"))
_BLOCK_LINES = 2_000
_START_US = 1_795_400_000_000_000


def ignored(_event: Event) -> None:
    """Take an event, and do nothing."""


def replayed_s(log: Path, detect: Detect | None) -> float:
    """Return the processor time of a replay."""
    matcher = Matcher()
    gc.collect()
    begun_s = time.process_time()
    Replay(matcher, zone=UTC, tell=ignored, keep_text=False, detect=detect, year=2026).run([str(log)])
    return time.process_time() - begun_s


def compare(profile: str, rounds: int, lines: int) -> None:
    """Print the ratio of one profile."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "auth.log"
        write_profile(log, profile, lines)
        replayed_s(log, None)  # warms the page cache
        ratios = []
        for _ in range(rounds):
            without_s = replayed_s(log, None)
            ratios.append(without_s / replayed_s(log, Detect()))
    print(f"{profile:<12} {spread(ratios)} times the speed without detectors, {rounds} rounds")


def lines(first: int, count: int) -> bytes:
    """Return failed logins, each from another address."""
    return b"".join(
        b"2026-11-22T10:%02d:%02d.%06d+00:00 web1 sshd[%d]: Failed password for user%d from %d.%d.%d.%d port %d ssh2\n"
        % (
            number // 60_000_000 % 60, number // 1_000_000 % 60, number % 1_000_000, number % 30_000 + 1, number % NAMES,
            number >> 18 & 255 | 1, number >> 12 & 63, number >> 6 & 63, number & 63, number % 60_000 + 1,
        )
        for number in range(first, first + count)
    )  # fmt: skip


def status_bytes(field: str) -> int:
    """Return a figure of this process from the kernel."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


@contextmanager
def lines_meanwhile(folder: Path) -> Iterator[Meanwhile]:
    """Take lines, as ``run`` does during a snapshot. Each is the time at which it was written."""
    write = "import sys, time\nwhile True: sys.stdout.write(f'{time.monotonic()}\\n'); sys.stdout.flush(); time.sleep(0.001)"
    with subprocess.Popen([sys.executable, "-c", write], stdout=subprocess.PIPE) as sender:
        assert sender.stdout is not None
        sender.stdout.readline()
        replies = Replies(is_plain=True)
        try:
            with Meanwhile(Lines(sender.stdout.fileno()), replies, Journal(folder / "journal", 1)) as meanwhile:
                yield meanwhile
        finally:
            sender.kill()


def fill() -> None:
    """Fill a pipeline, and print what it takes."""
    pipeline = Pipeline([], UTC, _START_US, print, SETTINGS)
    print(f"empty pipeline: {mebibytes(status_bytes('VmRSS'))}")
    gc.freeze()
    gc.disable()
    begun_s = time.process_time()
    for first in range(0, ADDRESSES, _BLOCK_LINES):
        pipeline.feed(lines(first, _BLOCK_LINES))
    print(f"{ADDRESSES:,} addresses, {NAMES:,} names: {time.process_time() - begun_s:.1f} s of a processor")
    print(f"memory: {mebibytes(status_bytes('VmRSS'))} now, {mebibytes(status_bytes('VmHWM'))} at most")
    with tempfile.TemporaryDirectory() as folder:
        state = State(Path(folder), print)
        for name in ("everything has changed", "nothing has changed", "2,000 more failed logins"):
            if name.startswith("2"):
                pipeline.feed(lines(ADDRESSES // 2, _BLOCK_LINES))
            with lines_meanwhile(Path(folder)) as meanwhile:
                begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
                state.keep_snapshot(pipeline.changed())
                pipeline.kept()
            taken_s, taken_cpu_s = time.perf_counter() - begun_s, time.process_time() - begun_cpu_s
            size = (Path(folder) / "state.db").stat().st_size
            delay_ms = 1000 * max(block.at_s - float(block.block.partition(b"\n")[0]) for block in meanwhile.taken)
            times = f"{taken_cpu_s:.2f} s of a processor, {taken_s:.2f} s; a line waits for {delay_ms:.0f} ms at most"
            print(f"snapshot, {name}: {times}; {mebibytes(size)}")
        state.close()
    print(f"memory: {mebibytes(status_bytes('VmRSS'))} now, {mebibytes(status_bytes('VmHWM'))} at most")


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--profile", choices=(CAPTURED, *PROFILES), action="append")
    parser.add_argument("--only-memory", action="store_true")
    options = parser.parse_args()
    if not options.only_memory:
        for profile in options.profile or (CAPTURED, "flood", "old-server", "bastion"):
            compare(profile, options.rounds, options.lines)
    if not options.profile:
        fill()


if __name__ == "__main__":
    main()
