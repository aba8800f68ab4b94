#!/usr/bin/env python3
"""
Measure what a forged line costs: the CPU time of ``sshbell run`` and of ``sshbell deliver``, which reports forged lines by mail.

A local user writes logins under sshd's name, each for another account::

    bench/forged.py --lines 20000
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from latency import CONFIG, mail_server, stamp, wait_for
from measure import ROOT

# A line that another user wrote, in the form of our template.
LINE = (
    '{{"v":"1","ts":"{now}","rcvd":"{now}","host":"web1","from_ip":"127.0.0.1","input":"imuxsock","tag":"sshd[{pid}]:",'
    '"prog":"sshd","procid":"{pid}","sev":6,"fac":10,"msg":" Accepted password for u{pid} from 203.0.113.7 port 4711 ssh2",'
    '"pid":{pid},"uid":1000,"gid":1000}}\n'
)
LINES_PER_BLOCK = 100
# deliver and run tend their stores once a second.
SETTLED_S = 5.0


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def settled(pids: dict[str, int]) -> dict[str, float]:
    """Wait until the processes rest; return their CPU times."""
    before = {}
    while before != (now := {name: round(cpu_s(pid), 1) for name, pid in pids.items()}):
        before = now
        time.sleep(SETTLED_S)
    return {name: cpu_s(pid) for name, pid in pids.items()}


def costs(lines: int) -> dict[str, float]:
    """Return the CPU time of a line in each process, in seconds."""
    with tempfile.TemporaryDirectory() as name, mail_server() as (reports, port):
        folder = Path(name)
        (folder / "sshbell.toml").write_text(CONFIG.format(folder=folder, port=port))
        command = [sys.executable, "-m", "consumer", "run", "--plain", "--config", str(folder / "sshbell.toml")]
        run = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT)
        assert run.stdin is not None
        locks = {name: folder / "state" / f"{name}.lock" for name in ("run", "deliver")}
        wait_for(lambda: all(lock.exists() and lock.read_text() for lock in locks.values()))
        pids = {name: int(lock.read_text()) for name, lock in locks.items()}
        before = settled(pids)
        for first in range(0, lines, LINES_PER_BLOCK):
            block = "".join(LINE.format(now=stamp(), pid=number) for number in range(first, first + LINES_PER_BLOCK))
            run.stdin.write(block.encode())
            run.stdin.flush()
            while reports.poll():
                reports.recv()
            time.sleep(0.01)  # about as fast as a flood reaches sshbell
        after = settled(pids)
        run.stdin.close()
        run.wait()
    return {name: (after[name] - before[name]) / lines for name in pids}


def main() -> None:
    """Read the command line, and print the costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=20_000)
    options = parser.parse_args()
    for name, cost_s in costs(options.lines).items():
        print(f"{name:<8} {cost_s * 1e6:6.0f} us of CPU a forged line, {options.lines:,} lines")


if __name__ == "__main__":
    main()
