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
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import duckdb
from measure import ROOT, descendants, mebibytes, spread
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
            for query in (
                "FROM theirs",
                "FROM theirs EXCEPT ALL FROM ours",
                "FROM ours EXCEPT ALL FROM theirs",
            )
        )
    return f"{count:,} events of replay, {missing} not in the archive, {extra} in the archive alone"


@dataclass
class Run:
    """
    A command, watched to its end.

    Attributes:
        status: its exit status.
        clock_s: its time by the clock.
        processor_s: the processor time of it and of all its descendants, up to the last look at each.
        peaks: the high-water marks of the resident sets of the largest worker of Python and of Java, in bytes.
    """

    status: int = 0
    clock_s: float = 0.0
    processor_s: float = 0.0
    peaks: dict[str, int] = field(default_factory=lambda: {"python": 0, "java": 0})


def run(command: list[str], look: Callable[[list[int]], None] = lambda _pids: None) -> Run:
    """Run a command to its end; ``look`` gets its descendants, now and then."""
    found, seconds = Run(), dict[int, float]()
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT) as process:
        while process.poll() is None:
            pids = list(descendants(process.pid))
            for pid in (process.pid, *pids):
                with suppress(OSError):  # ended meanwhile
                    seconds[pid] = processor_s(pid)
                    kind = "java" if "java" in command_line(pid).partition(" ")[0] else "python"
                    found.peaks[kind] = max(found.peaks[kind], high_water(pid))
            look(pids)
            time.sleep(SAMPLE_INTERVAL_S)
    found.status, found.clock_s, found.processor_s = process.returncode, time.perf_counter() - start, sum(seconds.values())
    return found


def command_line(pid: int) -> str:
    """Return the command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").replace("\0", " ")


def processor_s(pid: int) -> float:
    """Return the processor time of a process without its children."""
    user, system = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def high_water(pid: int) -> int:
    """Return the high-water mark of the resident set of a process, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def kill_an_executor(logs: Path, out: Path) -> str:
    """Kill an executor once it has begun to write rows."""
    killed: list[int] = []

    def look(pids: list[int]) -> None:
        if killed or next(out.rglob("part-*.parquet"), None) is None:
            return
        for pid in pids:
            with suppress(OSError):
                if not killed and "CoarseGrainedExecutorBackend" in command_line(pid):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    found = run(archive_command(logs, out, CLUSTER), look)
    return f"{len(killed)} killed, status {found.status}, {found.clock_s:.1f} s; {differences(logs, out)}"


def compare(logs: Path, out: Path, rounds: int) -> Iterator[str]:
    """Time the archive and two forms of ``replay`` in turn."""
    runs: dict[str, list[Run]] = {"archive": [], "none": [], "json": []}
    for _ in range(rounds):
        runs["archive"].append(run(archive_command(logs, out, LOCAL)))
        for form in ("none", "json"):
            runs[form].append(run(replay_command(logs, form)))
    for name, found in runs.items():
        shown = name if name == "archive" else f"replay --jobs 2 --format {name}"
        clock, processor = [one.clock_s for one in found], [one.processor_s for one in found]
        yield f"{shown}: {spread(clock)} s, processor {spread(processor)} s"
    for form in ("none", "json"):
        over = [ours.clock_s - 1.5 * theirs.clock_s for ours, theirs in zip(runs["archive"], runs[form], strict=True)]
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
        for lines in (100_000, 1_000_000):
            write_logs(logs, 1, lines)
            found = run(archive_command(logs, out, LOCAL)).peaks
            shutil.rmtree(logs)
            print(
                f"one host, {lines:,} lines: {', '.join(f'{name} {mebibytes(size)}' for name, size in found.items())}", flush=True
            )


if __name__ == "__main__":
    main()
