#!/usr/bin/env python3
"""
Show that the memory of ``sshbell replay``, ``run`` and ``deliver`` does not grow with the log, and how long a start takes.

Every repetition in the made log has new PIDs and new addresses, so a table that is never cleared would show::

    bench/memory.py --lines 100000 400000 1600000 --live 100000 300000 1000000

``run`` reads from a pipe. sshbell reports every login of that log to a mail server on loopback: the first 3,600 in single mails,
then many in one mail.
"""

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from itertools import islice
from pathlib import Path

from latency import CONFIG, mail_server
from make_log import write_log
from measure import ROOT, high_water, mebibytes, run_timed, run_watched, spread
from replay import replay_command


def show_growth(counts: list[int]) -> None:
    """Print the peak memory for each length, with one process and with one per core."""
    print(f"{'lines':>10}{'jobs':>6}{'largest process':>18}{'total':>15}")
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder, "auth.log")
            write_log(log, count)
            for jobs in sorted({1, os.cpu_count() or 1}):
                memory = run_watched(replay_command(log, jobs))
                print(f"{count:>10,}{jobs:>6}{mebibytes(memory.largest_process):>18}{mebibytes(memory.sum):>15}")


def show_live(counts: list[int]) -> None:
    """Print the peak memory of ``run --plain`` and of ``deliver`` after some numbers of lines, and after the last mail."""
    print(f"{'lines':>10}{'run':>12}{'deliver':>12}{'mails':>8}")
    with tempfile.TemporaryDirectory() as name, mail_server() as (reports, port):
        folder, mails = Path(name), 0

        def row(title: str) -> None:
            run, deliver = (mebibytes(high_water(folder / "state" / f"{name}.lock")) for name in ("run", "deliver"))
            print(f"{title:>10}{run:>12}{deliver:>12}{mails:>8,}")

        write_log(folder / "auth.log", max(counts))
        (folder / "sshbell.toml").write_text(CONFIG.format(folder=folder, port=port).replace("100000", "3600"))
        command = [sys.executable, "-m", "consumer", "run", "--plain", "--config", str(folder / "sshbell.toml")]
        with (folder / "auth.log").open("rb") as log:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT)
            assert process.stdin is not None
            fed = 0
            while block := list(islice(log, 1000)):
                process.stdin.writelines(block)
                fed += len(block)
                while reports.poll():
                    reports.recv()
                    mails += 1
                if fed in counts:
                    row(f"{fed:,}")
        process.stdin.flush()
        while waits_for(folder / "state"):
            while reports.poll(0.1):
                reports.recv()
                mails += 1
        row("all sent")
        process.stdin.close()
        if process.wait():
            raise SystemExit(f"run --plain ended with {process.returncode}")


def waits_for(state_dir: Path) -> bool:
    """Return whether there is a message that ``deliver`` has not sent yet."""
    with closing(sqlite3.connect(f"file:{state_dir}/delivery.db?mode=ro", uri=True)) as connection:
        connection.execute("ATTACH ? AS run", (f"file:{state_dir}/state.db?mode=ro",))
        return bool(
            connection.execute(
                "SELECT EXISTS (SELECT 1 FROM delivery WHERE state = 'pending')"
                " OR (SELECT seq FROM cursor) < (SELECT max(seq) FROM run.outbox)"
            ).fetchone()[0]
        )


def show_start(runs: int) -> None:
    """Print the time of ``--version``, and of a Python that does nothing."""
    for name, command in {
        "sshbell --version": [sys.executable, "-m", "consumer", "--version"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }.items():
        run_timed(command)  # fills the byte code cache
        milliseconds = [run_timed(command).clock * 1000 for _ in range(runs)]
        print(f"{name}: {spread(milliseconds, 0)} ms, {runs} runs, median (min-max)")


def main() -> None:
    """Read the command line and print all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, nargs="+", default=[100_000, 400_000, 1_600_000])
    parser.add_argument("--live", type=int, nargs="+", default=[100_000, 300_000, 1_000_000], help="lines for run and deliver")
    parser.add_argument("--runs", type=int, default=20, help="starts to measure")
    options = parser.parse_args()
    show_start(options.runs)
    show_growth(options.lines)
    show_live(options.live)


if __name__ == "__main__":
    main()
