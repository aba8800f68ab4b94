#!/usr/bin/env python3
"""
Show how a replay in one process spends its processor time: reading, framing, matching, correlating.

Block by block, as in ``replay``, each stage takes the output of the one before; this adds up the time of each. The garbage
collector is off, as in ``replay``. For comparison, it prints the time of ``replay`` itself in the same process::

    bench/stages.py --lines 400000
    bench/stages.py --profile bastion
"""

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC
from pathlib import Path

from make_log import CAPTURED, FORMATS, write_profile
from measure import spread
from profiles import PROFILES

sys.path.insert(0, str(Path(__file__).parent.parent))  # the tree this file stands in, installed or not

from consumer.framing.timestamps import Timestamps
from consumer.intake.files import LogFile
from consumer.logs.replay import Replay
from consumer.matching.matcher import Matcher
from consumer.pipeline import LineReader
from consumer.story.correlate import Correlator
from consumer.text import text_of_bytes


def timed(work: Callable[[], object]) -> float:
    """Return the seconds of processor time that ``work`` takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def round_of(log: Path, matcher: Matcher) -> dict[str, float]:
    """Run every stage once; return the seconds by stage."""
    seconds = dict.fromkeys(("reading", "framing", "matching", "correlating"), 0.0)
    file = LogFile(str(log))
    reader = LineReader(matcher, Timestamps(file.modified, UTC, file.first_year()), keep_text=False)
    correlator = Correlator(matcher.rules, lambda name: matcher.program(name).family, lambda _event: None)
    blocks = file.blocks()
    first = 1
    while True:
        start = time.process_time()
        block = next(blocks, None)
        read = time.process_time()
        seconds["reading"] += read - start
        if block is None:
            break
        rows = reader.framer.rows(text_of_bytes(block))
        framed = time.process_time()
        lines = reader.lines_of(rows, first)
        matched = time.process_time()
        correlator.feed(lines)
        seconds["correlating"] += time.process_time() - matched
        seconds["matching"] += matched - framed
        seconds["framing"] += framed - read
        first += len(rows)
    seconds["correlating"] += timed(correlator.settle)
    return seconds


def main() -> None:
    """Read the command line, make a log, and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", choices=(CAPTURED, *PROFILES), default=CAPTURED, help="shape of the made log")
    parser.add_argument("--format", choices=FORMATS, default="rfc3339", help="format of the profile captures")
    options = parser.parse_args()
    start = time.process_time()
    matcher = Matcher()
    lowering = time.process_time() - start
    results: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "auth.log")
        write_profile(log, options.profile, options.lines, options.format)
        gc.disable()
        for _ in range(options.rounds):
            for stage, seconds in round_of(log, matcher).items():
                results.setdefault(stage, []).append(seconds)
            whole = Replay(matcher, zone=UTC, tell=lambda _event: None, keep_text=False)
            results.setdefault("replay, all of it", []).append(timed(lambda: whole.run([str(log)])))  # noqa: B023
            gc.collect()
    print(f"{options.lines:,} lines of the profile {options.profile}, {options.rounds} rounds, median (min-max)")
    print(f"{'':<20}{'seconds':>20}{'us/line':>12}")
    for stage, times in results.items():
        print(f"{stage:<20}{spread(times):>20}{min(times) / options.lines * 1e6:>12.2f}")
    print(f"Lowering all grammars once, at the start: {lowering:.3f} s")


if __name__ == "__main__":
    main()
