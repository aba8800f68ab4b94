#!/usr/bin/env python3
"""
Show that the memory of ``sshbell replay`` and ``run`` does not grow with the log, and how long ``sshbell`` takes to start.

Every repetition inside the made log brings new PIDs and new addresses, so tables that are never cleared would show::

    bench/memory.py --lines 100000 400000 1600000
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from make_log import write_log
from measure import mebibytes, run_timed, run_watched, spread
from replay import replay_command
from run import QUIET


def show_growth(counts: list[int]) -> None:
    """Print peak memory for each length, with one process and with all."""
    print(f"{'lines':>10}{'jobs':>6}{'largest process':>18}{'all together':>15}")
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder, "auth.log")
            write_log(log, count)
            for jobs in sorted({1, os.cpu_count() or 1}):
                memory = run_watched(replay_command(log, jobs))
                print(f"{count:>10,}{jobs:>6}{mebibytes(memory.largest_process):>18}{mebibytes(memory.sum):>15}")


def show_run(count: int) -> None:
    """Print peak memory of ``run --plain`` that is fed a log, and of ``deliver`` beside it, which has nothing to send."""
    with tempfile.TemporaryDirectory() as folder:
        log, config = Path(folder, "auth.log"), Path(folder, "sshbell.toml")
        write_log(log, count)
        config.write_text(QUIET.format(folder=folder))
        memory = run_watched([sys.executable, "-m", "consumer", "run", "--plain", "--config", str(config)], log)
        print(
            f"run --plain, {count:,} lines: {mebibytes(memory.largest_process)} the largest process, {mebibytes(memory.sum)} all"
        )


def show_start(runs: int) -> None:
    """Print the time of ``--version``, beside that of a Python that does nothing."""
    for name, command in {
        "sshbell --version": [sys.executable, "-m", "consumer", "--version"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }.items():
        run_timed(command)  # byte code gets cached
        milliseconds = [run_timed(command) * 1000 for _ in range(runs)]
        print(f"{name}: {spread(milliseconds, 0)} ms, {runs} runs, median (min-max)")


def main() -> None:
    """Read the command line and print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, nargs="+", default=[100_000, 400_000, 1_600_000])
    parser.add_argument("--runs", type=int, default=20, help="starts to measure")
    options = parser.parse_args()
    show_start(options.runs)
    show_growth(options.lines)
    show_run(1_000_000)


if __name__ == "__main__":
    main()
