#!/usr/bin/env python3
"""
Compare ``sshbell replay`` with SSHGuard's parser and fail2ban-regex on the same log.

sshg-parser is C code from flex and bison, and prints an address for each attack. ``replay`` reads the same lines, and joins them
to logins, attempts and probes. This times whole processes, including the start. It runs them in turn and takes the ratio within
each round, because a machine's speed varies; it prints the range beside the median::

    bench/replay.py --rounds 5 --lines 400000
    bench/replay.py --profile bastion
    bench/replay.py --wheel dist/sshbell-*-cp*.whl --wheel plain/sshbell-*-any.whl

With wheels, it measures those instead of the source. An editable installation lowers its rules at each start, wheels do not.

On a busy machine, compare processor time; but it does not show what a second process gains. Needs the Debian package
``sshguard``, and takes fail2ban-regex along if the package ``fail2ban`` is there. Neither reads JSON, so their figures for the
profile ``relay`` mean little. The memory comes from an extra run that is not timed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from make_log import CAPTURED, FORMATS, write_profile
from measure import FAIL2BAN_REGEX, ROOT, SSHG_PARSER, Seconds, mebibytes, run_timed, run_watched, spread
from profiles import PROFILES


@dataclass
class Contestant:
    """A command that reads the log, the folder to run it in, and its run times."""

    name: str
    command: list[str]
    stdin: Path | None = None
    folder: Path = ROOT
    seconds: list[Seconds] = field(default_factory=list)


def replay_command(log: Path, jobs: int) -> list[str]:
    """Return the command line of a replay that prints only the summary, with this Python and the modules in the folder."""
    return [sys.executable, "-m", "consumer", "replay", "--format", "none", "--jobs", str(jobs), str(log)]


def compare(log: Path, rounds: int, builds: dict[str, Path]) -> None:
    """Run all contestants in turn and print the table. ``builds``: folders with sshbell by name."""
    with log.open("rb") as file:
        lines = sum(1 for _ in file)
    reference = Contestant("sshg-parser", [str(SSHG_PARSER)], stdin=log)
    contestants = [reference]
    contestants += [
        Contestant(f"{name} --jobs {jobs}", replay_command(log, jobs), folder=folder)
        for name, folder in builds.items()
        for jobs in sorted({1, os.cpu_count() or 1})
    ]
    if FAIL2BAN_REGEX.exists():
        contestants.append(Contestant("fail2ban-regex", [str(FAIL2BAN_REGEX), str(log), "sshd"]))
    # This warms the page cache, too.
    memory = {one.name: run_watched(one.command, one.stdin, one.folder) for one in contestants}
    for number in range(1, rounds + 1):
        for one in contestants:
            one.seconds.append(run_timed(one.command, one.stdin, one.folder))
        print(f"round {number}:", *(f"{one.name} {one.seconds[-1].clock:.2f} s;" for one in contestants), file=sys.stderr)

    print(f"{lines:,} lines, {log.stat().st_size / 1e6:.1f} MB, {rounds} rounds, median (min-max)")
    print(
        f"{'':<18}{'seconds':>19}{'lines/s':>11}{'times sshg-parser':>19}{'processor':>19}{'times sshg-parser':>19}"
        f"{'largest process':>17}{'all memory':>12}"
    )
    for one in contestants:
        clock, processor = [each.clock for each in one.seconds], [each.processor for each in one.seconds]
        pairs = list(zip(reference.seconds, one.seconds, strict=True))
        by_clock = spread([theirs.clock / ours.clock for theirs, ours in pairs])
        by_processor = spread([theirs.processor / ours.processor for theirs, ours in pairs])
        print(
            f"{one.name:<18}{spread(clock):>19}{lines / median(clock):>11,.0f}{by_clock:>19}{spread(processor):>19}"
            f"{by_processor:>19}{mebibytes(memory[one.name].largest_process):>17}{mebibytes(memory[one.name].sum):>12}"
        )


def installed(wheel: Path, folder: Path) -> Path:
    """Install a wheel alone into a folder, and return the folder."""
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), str(wheel)]
    subprocess.run(install, check=True)
    return folder


def main() -> None:
    """Read the command line, make the log if none is given, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lines", type=int, default=400_000)
    parser.add_argument("--profile", choices=(CAPTURED, *PROFILES), default=CAPTURED, help="shape of the made log")
    parser.add_argument("--format", choices=FORMATS, default="rfc3339", help="format of the profile captures")
    parser.add_argument("--log", type=Path, metavar="FILE", help="a log of your own instead of a made one")
    parser.add_argument("--wheel", type=Path, metavar="FILE", action="append", default=[], help="measure this build")
    options = parser.parse_args()
    if not SSHG_PARSER.exists():
        raise SystemExit(f"{SSHG_PARSER} is missing: install the Debian package sshguard")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        builds = {"replay": ROOT}
        if options.wheel:
            names = ["plain" if wheel.name.endswith("-none-any.whl") else "compiled" for wheel in options.wheel]
            builds = {name: installed(wheel, folder / name) for name, wheel in zip(names, options.wheel, strict=True)}
        log = options.log.resolve() if options.log else folder / "auth.log"
        if not options.log:
            write_profile(log, options.profile, options.lines, options.format)
            print(f"profile {options.profile}:")
        compare(log, options.rounds, builds)


if __name__ == "__main__":
    main()
