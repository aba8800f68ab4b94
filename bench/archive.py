#!/usr/bin/env python3
"""
Compare ``sshbell archive`` with ``sshbell replay --jobs 2`` on the logs of many hosts.

Each host has four rotated files without years, two of them gzipped, from the last day of a year to the first days of the next.
The files are cut at any line, so sessions go on in the next file. This times whole processes in turn, and takes the ratio within
each round. Then it compares every event of the archive with those of ``replay``. It kills an executor of a small cluster with
signal 9 in the middle of a run, and compares again. It cuts a file, and compares again. Last, it measures the memory for one host
and for ten times its lines::

    bench/archive.py --lines 12000000 --hosts 1000 --rounds 3

Needs Java 17 and the extra ``spark``.
"""

import argparse
import gzip
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import duckdb
from measure import ROOT, descendants, mebibytes, run_timed, spread
from profiles import PROFILES, Entry

# So much before New Year that each host's log goes on after it.
BEGIN = datetime(2025, 12, 31, 12, tzinfo=UTC)
# Different logs. Hosts with the same one differ in their names alone, and have equal PIDs at equal times.
LOGS = 20
FILES = ("auth.log.3.gz", "auth.log.2.gz", "auth.log.1", "auth.log")
LOCAL, CLUSTER = "local[2,4]", "local-cluster[2,1,1024]"
CONFIG = ROOT / "tests/samples/bare.toml"
SAMPLE_INTERVAL_S = 0.05

# What of an event is compared.
COLUMNS = {
    "id": "event.id", "action": "event.action", "original": "event.original", "duration": "event.duration", "host": "host.name",
    "user": '"user".name', "ip": "source.ip", "port": "source.port", "count": "ssh.count", "login": "ssh.login_id",
    "path": "log.file.path", "line": "log.file.line", "at": 'epoch_us("@timestamp"::TIMESTAMPTZ)',
    "start": "epoch_us(event.start::TIMESTAMPTZ)", "end": "epoch_us(event.end::TIMESTAMPTZ)",
}  # fmt: skip


def written(entry: Entry) -> bytes:
    """Return a line of a host in RSYSLOG_TraditionalFileFormat. The host's name comes later."""
    at = BEGIN + timedelta(seconds=entry.time_s)
    tag = f"{entry.program}[{entry.pid}]" if entry.pid else entry.program
    return f"{at:%b} {at.day:2} {at:%H:%M:%S} HOST {tag}: {entry.text}\n".encode()


def write_host(folder: Path, host: str, entries: list[Entry], lines: list[bytes]) -> None:
    """Write the rotated files of a host, each with the time of its last line."""
    (folder / host).mkdir(parents=True)
    size = -(-len(lines) // len(FILES))
    for name, at in zip(FILES, range(0, len(lines), size), strict=True):
        content = b"".join(lines[at : at + size]).replace(b" HOST ", f" {host} ".encode())
        path = folder / host / name
        path.write_bytes(gzip.compress(content, 6) if name.endswith(".gz") else content)
        closed = (BEGIN + timedelta(seconds=entries[min(at + size, len(lines)) - 1].time_s)).timestamp()
        os.utime(path, (closed, closed))


def write_logs(folder: Path, hosts: int, lines: int) -> None:
    """Write the logs of all hosts."""
    for seed in range(min(LOGS, hosts)):
        entries = list(islice(PROFILES["old-server"].entries(seed), lines // hosts))
        texts = [written(entry) for entry in entries]
        for number in range(seed, hosts, LOGS):
            write_host(folder, f"host{number:04}", entries, texts)


def files_of(folder: Path) -> list[str]:
    """Return all files of all hosts."""
    return [str(path) for path in sorted(folder.rglob("auth.log*"))]


def archive_command(logs: Path, out: Path, master: str) -> list[str]:
    """Return the command line of an archive; its directory must not be there."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "consumer", "archive", str(logs), "--out", str(out), "--master", master]
    return [*command, "--tz", "UTC", "--config", str(CONFIG)]


def replay_command(logs: Path, form: str) -> list[str]:
    """Return the command line of a replay with two processes."""
    command = [sys.executable, "-m", "consumer", "replay", "--format", form, "--no-owners", "--jobs", "2", "--tz", "UTC"]
    return [*command, "--config", str(CONFIG), *files_of(logs)]


def differences(logs: Path, out: Path) -> str:
    """Compare the events of an archive with those of ``replay``."""
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        path = Path(folder) / "replay.json"
        with path.open("wb") as file:
            # A damaged file makes it end with 65.
            subprocess.run(replay_command(logs, "json"), stdout=file, stderr=subprocess.DEVNULL, cwd=ROOT, check=False)
        columns = ", ".join(f'{expression} AS "{name}"' for name, expression in COLUMNS.items())
        parquet = [str(found) for found in out.rglob("*.parquet") if "_temporary" not in found.parts]
        connection.execute(f"CREATE VIEW ours AS SELECT {columns} FROM read_parquet({parquet})")  # noqa: S608 - our own texts
        connection.execute(
            f"CREATE VIEW theirs AS SELECT {columns} FROM read_json('{path}', sample_size = -1)"  # noqa: S608
            " WHERE event.kind = 'event' AND event.action <> 'ssh_block'"
        )
        count, missing, extra = (
            connection.execute(f"SELECT count(*) FROM ({query})").fetchall()[0][0]  # noqa: S608
            for query in ("FROM theirs", "FROM theirs EXCEPT ALL FROM ours", "FROM ours EXCEPT ALL FROM theirs")
        )
    return f"{count:,} events of replay, {missing} of them not in the archive, {extra} in the archive alone"


def command_line(pid: int) -> str:
    """Return the command line of a process; "" if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").replace("\0", " ")
    except OSError:
        return ""


def watched(command: list[str], look: Callable[[list[int]], None]) -> int:
    """Run a command to its end, and show ``look`` its descendants now and then; return its status."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT) as process:
        while process.poll() is None:
            look(list(descendants(process.pid)))
            time.sleep(SAMPLE_INTERVAL_S)
    return process.returncode


def kill_an_executor(logs: Path, out: Path) -> str:
    """Kill an executor once it has written its first rows."""
    killed: list[int] = []

    def look(pids: list[int]) -> None:
        executors = [pid for pid in pids if "CoarseGrainedExecutorBackend" in command_line(pid)]
        if not killed and len(executors) > 1 and next(out.rglob("part-*.parquet"), None) is not None:
            os.kill(executors[0], signal.SIGKILL)
            killed.append(executors[0])

    start = time.perf_counter()
    status = watched(archive_command(logs, out, CLUSTER), look)
    return f"{len(killed)} killed, status {status}, {time.perf_counter() - start:.1f} s; {differences(logs, out)}"


def peaks(logs: Path, out: Path) -> tuple[int, int]:
    """Return the peaks of the largest worker of Python and of Java, in bytes."""
    worker = java = 0

    def look(pids: list[int]) -> None:
        nonlocal worker, java
        for pid in pids:
            line, size = command_line(pid), high_water(pid)
            if "pyspark.daemon" in line:
                worker = max(worker, size)
            elif "java" in line:
                java = max(java, size)

    watched(archive_command(logs, out, LOCAL), look)
    return worker, java


def high_water(pid: int) -> int:
    """Return the high-water mark of the resident set of a process, in bytes; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def compare(logs: Path, out: Path, rounds: int) -> Iterator[str]:
    """Time the archive and two forms of ``replay`` in turn."""
    seconds: dict[str, list[float]] = {"archive": [], "none": [], "json": []}
    for _ in range(rounds):
        seconds["archive"].append(run_timed(archive_command(logs, out, LOCAL)).clock)
        for form in ("none", "json"):
            seconds[form].append(run_timed(replay_command(logs, form)).clock)
    for name, found in seconds.items():
        yield f"{'archive' if name == 'archive' else f'replay --jobs 2 --format {name}'}: {spread(found)} s"
    for form in ("none", "json"):
        over = [ours - 1.5 * theirs for ours, theirs in zip(seconds["archive"], seconds[form], strict=True)]
        yield f"archive less 1.5 times replay --format {form}: {spread(over)} s"


def main() -> None:
    """Read the command line, write the logs, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1_200_000)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write logs and archives; by default where temporary files are")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as made:
        logs, out = Path(made) / "logs", Path(made) / "out"
        write_logs(logs, options.hosts, options.lines)
        print(f"{options.lines:,} lines of {options.hosts:,} hosts", flush=True)
        for line in compare(logs, out, options.rounds):
            print(line, flush=True)
        print(f"rows: {differences(logs, out)}", flush=True)
        print(f"executor: {kill_an_executor(logs, out)}", flush=True)
        damaged = logs / "host0000" / FILES[1]
        times = damaged.stat().st_mtime
        damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
        os.utime(damaged, (times, times))
        done = subprocess.run(archive_command(logs, out, LOCAL), capture_output=True, check=False, text=True, cwd=ROOT)
        is_named = str(damaged) in done.stderr
        print(f"damaged file: status {done.returncode}, {'' if is_named else 'not '}named; {differences(logs, out)}", flush=True)
        shutil.rmtree(logs)
        sizes = []
        for lines in (200_000, 2_000_000):
            write_logs(logs, 1, lines)
            sizes.append(peaks(logs, out))
            shutil.rmtree(logs)
        for name, few, many in zip(("Python", "Java"), *sizes, strict=True):
            print(
                f"memory of {name}, one host of 200,000 and of 2,000,000 lines: {mebibytes(few)}, {mebibytes(many)}", flush=True
            )


if __name__ == "__main__":
    main()
