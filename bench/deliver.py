#!/usr/bin/env python3
"""
Measure ``sshbell deliver``: its start, its memory, and the time from a login's last line to the acceptance of its mail.

``run`` reads lines from a pipe, and starts ``deliver``. The mail server on loopback accepts everything. Each kind of channel
runs in turn, round by round, and the channel ``email`` also with the Python of each other checkout that is given. That shows
the cost of a change::

    bench/deliver.py --rounds 5 --other ../earlier/.venv/bin/python
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import quantiles

from latency import mail_server, wait_for
from measure import spread

LOGINS, PAUSE_S = 50, 0.02
CONFIG = """
state_dir = "{folder}/state"
user = ""
catch_up = ""
reverse_dns = false
geoip = []
[[channel]]
name = "ops"
type = "email"
server = "127.0.0.1"
port = {port}
security = "none"
from = "sshbell@example.org"
to = ["ops@example.org"]
max_per_hour = 100000
{more}
[[route]]
channels = ["ops"]
"""
SLACK = """
[[channel]]
name = "slack"
type = "slack"
url = {{ file = "{folder}/secret" }}
[[route]]
channels = ["slack"]
include = {{ user = ["nobody"] }}
"""
XMPP = """
[[channel]]
name = "chat"
type = "xmpp"
jid = "bell@127.0.0.1"
to = ["alice@127.0.0.1"]
password = {{ file = "{folder}/secret" }}
server = "127.0.0.1"
port = {closed}
[[route]]
channels = ["chat"]
include = {{ user = ["nobody"] }}
"""
KINDS = {"email": "", "email in German": 'language = "de"', "email and slack": SLACK, "email and xmpp": XMPP}
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--other", action="append", default=[], metavar="PYTHON", help="of another checkout; may be repeated")
    options = parser.parse_args()
    runs = [(kind, sys.executable, text) for kind, text in KINDS.items()]
    runs += [(f"email, {python}", python, "") for python in options.other]
    found: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for _ in range(options.rounds):
        for title, python, more in runs:
            found[title].append(measured(python, more))
    columns = ("CPU ms at the start", "start s", "MiB own", "MiB peak", "mail p50 ms", "mail p99 ms")
    for title, rows in found.items():
        print(title)
        for column, values in zip(columns, zip(*rows, strict=True), strict=True):
            print(f"  {column:<20} {spread(values, 1)}")


def measured(python: str, more: str) -> tuple[float, ...]:
    """
    Measure a ``deliver``.

    Returns:
        Milliseconds of processor time until it delivers; seconds until then; MiB of memory that it shares with nobody, and at
        most, after all mails; milliseconds for a mail, median and 99 of 100.
    """
    with tempfile.TemporaryDirectory() as name, mail_server() as (reports, port), closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))  # nobody listens
        folder = Path(name)
        (folder / "secret").write_text("https://hooks.example.org/services/x")
        (folder / "secret").chmod(0o600)
        (folder / "state").mkdir(mode=0o700)
        more = more.format(folder=folder, closed=bound.getsockname()[1])
        (folder / "sshbell.toml").write_text(CONFIG.format(folder=folder, port=port, more=more))
        log = folder / "log"
        lock = folder / "state" / "deliver.lock"
        started = time.monotonic()
        with log.open("wb") as file:
            command = [python, "-m", "consumer", "run", "--plain", "--config", str(folder / "sshbell.toml")]
            run = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=file, cwd=folder)
        try:
            wait_for(lambda: b"delivering" in log.read_bytes())
            start_s = time.monotonic() - started
            pid = int(lock.read_text())
            cpu_ms = 1000 * sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13])) / _TICKS
            waits = feed(run, reports)
            sizes = own(pid), peak(pid)
        finally:
            assert run.stdin is not None
            run.stdin.close()
            run.wait()
    cuts = quantiles(waits, n=100)
    return (cpu_ms, start_s, *(size / 2**20 for size in sizes), cuts[49], cuts[98])


def feed(run: "subprocess.Popen[bytes]", reports: Connection) -> list[float]:
    """Write logins one by one; return the milliseconds until the server accepts each mail."""
    assert run.stdin is not None
    waits = []
    for number in range(LOGINS + 1):
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
        tag = f"{stamp} web1 sshd[{100 + number}]:"
        lines = (
            f"{tag} Accepted password for u{number} from 192.0.2.7 port {10_000 + number} ssh2\n"
            f"{tag} pam_unix(sshd:session): session opened for user u{number}(uid=1001) by (uid=0)\n"
        )
        written = time.monotonic()
        run.stdin.write(lines.encode())
        run.stdin.flush()
        _user, accepted = reports.recv()
        if number:  # the first one connects
            waits.append(1000 * (accepted - written))
        time.sleep(PAUSE_S)
    return waits


def own(pid: int) -> int:
    """Return the memory of a process that no other one shares, in bytes."""
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(row.split()[1]) for row in rows if row.startswith(("Private_Clean:", "Private_Dirty:")))


def peak(pid: int) -> int:
    """Return the high-water mark of the resident set, in bytes."""
    (row,) = [row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith("VmHWM:")]
    return 1024 * int(row.split()[1])


if __name__ == "__main__":
    main()
