#!/usr/bin/env python3
"""
Measure ``sshbell run``: confirm mode behind the real rsyslogd, compared with a child that only answers OK; plain mode, compared
with ``replay``.

Each round runs them in turn. The ratio is taken within a round; its range is printed beside the median::

    bench/run.py --rounds 5 --lines 40000

Needs the Debian package ``rsyslog``.
"""

import argparse
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from make_log import write_log
from measure import ROOT, run_timed, spread

DROP_IN = ROOT / "rsyslog.d" / "30-sshbell.conf"
MAIN = """
global(workDirectory="{folder}/work")
{main_queue}
module(load="imtcp")
input(type="imtcp" port="0" address="127.0.0.1" listenPortFileName="{folder}/port")
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="{folder}/log" Annotate="on" ParseTrusted="on" UsePIDFromSystem="on")
include(file="{folder}/30-sshbell.conf")
"""
MAIN_QUEUE = 'main_queue(queue.size="1000000")'
# The least that a child has to do, and a file that shows that it has got the last line.
MINIMAL = """#!{python} -I
import os, sys
os.write(1, b"OK\\n")
tail = b""
while chunk := os.read(0, 65536):
    if b"port 1 ssh2" in chunk and b"theend" in chunk:
        open({end!r}, "w").close()
    os.write(1, b"OK\\n")
"""
SSHBELL = """#!/bin/sh
cd {root} && exec {python} -m consumer run --config {folder}/sshbell.toml
"""
# Without channels, so sshbell sends nothing.
QUIET = 'state_dir = "{folder}/state"\nuser = ""\ncatch_up = ""\n'
END = b"2030-01-01T00:00:00+00:00 end sshd[1]: Accepted password for theend from 192.0.2.1 port 1 ssh2\n"
OPENED = b"2030-01-01T00:00:00+00:00 end sshd[1]: pam_unix(sshd:session): session opened for user theend(uid=1) by (uid=0)\n"


@contextmanager
def rsyslogd(folder: Path, child: str, config: str, *, is_shipped: bool = False) -> Iterator[socket.socket]:
    """
    Run the real rsyslogd with our drop-in, and yield a connection to it.

    Args:
        folder: for all of its files.
        child: the script that omprog starts; this fills in its placeholders in braces.
        config: sshbell's configuration.
        is_shipped: leave the queues as they are shipped. Otherwise all lines wait in memory, and rsyslogd hands them over without
            a pause, so that only the child matters.
    """
    (folder / "work").mkdir(parents=True)
    (folder / "child").write_text(child.format(python=sys.executable, folder=folder, root=ROOT, end=str(folder / "end")))
    (folder / "child").chmod(0o755)
    (folder / "sshbell.toml").write_text(config)
    drop_in = DROP_IN.read_text().replace("/usr/libexec/rsyslog/sshbell", str(folder / "child"))
    drop_in = drop_in.replace("/var/log/sshbell.err", str(folder / "err"))
    if not is_shipped:
        drop_in = drop_in.replace('queue.size="50000"', 'queue.size="1000000"')
        drop_in = drop_in.replace('queue.dequeueSlowDown="200"', 'queue.dequeueSlowDown="0"')
    (folder / "30-sshbell.conf").write_text(drop_in)
    (folder / "main.conf").write_text(MAIN.format(folder=folder, main_queue="" if is_shipped else MAIN_QUEUE))
    process = subprocess.Popen(
        [shutil.which("rsyslogd", path="/usr/sbin") or "rsyslogd", "-n", "-f", folder / "main.conf", "-i", folder / "pid"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while not (folder / "port").exists() or not (folder / "port").read_text():
            time.sleep(0.01)
        with socket.create_connection(("127.0.0.1", int((folder / "port").read_text()))) as sender:
            yield sender
    finally:
        process.terminate()
        process.wait()


def confirm(log: bytes, child: str, folder: Path) -> float:
    """Send a log through rsyslogd to a child; return the seconds until the child has handled the last line."""
    with rsyslogd(folder, child, QUIET.format(folder=folder)) as sender:
        sender.sendall(b"<38>1 2026-11-22T10:00:00+00:00 warm sshd 1 - - Server listening on 0.0.0.0 port 22.\n")
        time.sleep(2)  # until the child has started
        start = time.perf_counter()
        sender.sendall(log)
        while not is_over(folder):
            time.sleep(0.05)  # polling costs time, too
        return time.perf_counter() - start


def is_over(folder: Path) -> bool:
    """Return whether the last line has been handled: it is in the store, or the minimal child has got it."""
    if (folder / "end").exists():
        return True
    store = folder / "state" / "state.db"
    if not store.exists():
        return False
    try:
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
            return connection.execute("SELECT 1 FROM event WHERE user = 'theend'").fetchone() is not None
    except sqlite3.Error:
        return False


def plain(log: Path, folder: Path) -> float:
    """Feed a log to plain mode through a pipe, and return the seconds of the whole process."""
    folder.mkdir()
    (folder / "sshbell.toml").write_text(QUIET.format(folder=folder))
    command = [sys.executable, "-m", "consumer", "run", "--plain", "--config", str(folder / "sshbell.toml")]
    with subprocess.Popen(["cat", log], stdout=subprocess.PIPE) as source:  # noqa: S607 - from any directory
        start = time.perf_counter()
        done = subprocess.run(command, stdin=source.stdout, stderr=subprocess.DEVNULL, cwd=ROOT, check=False)
        seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"run --plain ended with {done.returncode}")
    return seconds


def main() -> None:
    """Read the command line, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lines", type=int, default=40_000)
    options = parser.parse_args()
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_log(folder / "auth.log", options.lines)
        lines = (folder / "auth.log").read_bytes() + END + OPENED
        sent = b"".join(b"<86>" + line for line in lines.splitlines(keepends=True))
        minimal, ours, piped, replayed = [], [], [], []
        for number in range(options.rounds):
            minimal.append(confirm(sent, MINIMAL, folder / f"minimal{number}"))
            ours.append(confirm(sent, SSHBELL, folder / f"ours{number}"))
            piped.append(plain(folder / "auth.log", folder / f"plain{number}"))
            command = [sys.executable, "-m", "consumer", "replay", "--format", "json", "--jobs", "1", str(folder / "auth.log")]
            replayed.append(run_timed(command).clock)
            print(
                f"round {number + 1}: OK alone {minimal[-1]:.2f} s; run {ours[-1]:.2f} s; plain {piped[-1]:.2f} s; "
                f"replay {replayed[-1]:.2f} s", file=sys.stderr,
            )  # fmt: skip
        print(f"{options.lines:,} lines, {options.rounds} rounds, median (min-max)")
        for title, seconds in (("OK alone", minimal), ("run", ours), ("run --plain", piped), ("replay --format json", replayed)):
            print(f"{title:<22}{spread(seconds)} s")
        print(f"confirm mode, relative to the minimal child: {spread([a / b for a, b in zip(minimal, ours, strict=True)])}")
        print(f"plain mode, relative to replay: {spread([a / b for a, b in zip(replayed, piped, strict=True)])}")


if __name__ == "__main__":
    main()
