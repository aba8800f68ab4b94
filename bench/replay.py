#!/usr/bin/env python3
"""
Compare ``sshbell replay`` with SSHGuard's parser and fail2ban-regex on the same log.

sshg-parser is C code from flex and bison, and prints an address for each attack. ``replay`` reads the same lines, and joins them
to logins, attempts and probes. This times whole processes, including the start. It runs them in turn and takes the ratio within
each round, because a machine's speed varies; it prints the range beside the median::

    bench/replay.py --rounds 5 --lines 400000
    bench/replay.py --profile bastion

Needs the Debian package ``sshguard``, and takes fail2ban-regex along if the package ``fail2ban`` is there. Neither reads JSON, so
their figures for the profile ``relay`` mean little. The memory comes from an extra run that is not timed.
"""

import argparse
import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from make_log import CAPTURED, FORMATS, write_profile
from measure import FAIL2BAN_REGEX, SSHG_PARSER, mebibytes, run_timed, run_watched, spread
from profiles import PROFILES


@dataclass
class Contestant:
    """A command that reads the log, and its run times."""

    name: str
    command: list[str]
    stdin: Path | None = None
    seconds: list[float] = field(default_factory=list)


def replay_command(log: Path, jobs: int) -> list[str]:
    """Return the command line of a replay that prints only the summary, with this Python."""
    return [sys.executable, "-m", "consumer", "replay", "--format", "none", "--jobs", str(jobs), str(log)]


def compare(log: Path, rounds: int) -> None:
    """Run all contestants in turn and print the table."""
    with log.open("rb") as file:
        lines = sum(1 for _ in file)
    reference = Contestant("sshg-parser", [str(SSHG_PARSER)], stdin=log)
    jobs = sorted({1, os.cpu_count() or 1})
    contestants = [reference, *(Contestant(f"replay --jobs {n}", replay_command(log, n)) for n in jobs)]
    if FAIL2BAN_REGEX.exists():
        contestants.append(Contestant("fail2ban-regex", [str(FAIL2BAN_REGEX), str(log), "sshd"]))
    memory = {one.name: run_watched(one.command, one.stdin) for one in contestants}  # warms the page cache, too
    for number in range(1, rounds + 1):
        for one in contestants:
            one.seconds.append(run_timed(one.command, one.stdin))
        print(f"round {number}:", *(f"{one.name} {one.seconds[-1]:.2f} s;" for one in contestants), file=sys.stderr)

    print(f"{lines:,} lines, {log.stat().st_size / 1e6:.1f} MB, {rounds} rounds, median (min-max)")
    print(f"{'':<16}{'seconds':>20}{'lines/s':>12}{'times sshg-parser':>22}{'largest process':>18}{'total memory':>15}")
    for one in contestants:
        ratios = [theirs / ours for theirs, ours in zip(reference.seconds, one.seconds, strict=True)]
        print(
            f"{one.name:<16}{spread(one.seconds):>20}{lines / median(one.seconds):>12,.0f}{spread(ratios):>22}"
            f"{mebibytes(memory[one.name].largest_process):>18}{mebibytes(memory[one.name].sum):>15}"
        )


def main() -> None:
    """Read the command line, make the log if none is given, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lines", type=int, default=400_000)
    parser.add_argument("--profile", choices=(CAPTURED, *PROFILES), default=CAPTURED, help="shape of the made log")
    parser.add_argument("--format", choices=FORMATS, default="rfc3339", help="format of the profile captures")
    parser.add_argument("--log", type=Path, metavar="FILE", help="a log of your own instead of a made one")
    options = parser.parse_args()
    if not SSHG_PARSER.exists():
        raise SystemExit(f"{SSHG_PARSER} is missing: install the Debian package sshguard")
    if options.log:
        compare(options.log.resolve(), options.rounds)
        return
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "auth.log")
        write_profile(log, options.profile, options.lines, options.format)
        print(f"profile {options.profile}:")
        compare(log, options.rounds)


if __name__ == "__main__":
    main()
