"""Run whole processes and measure their seconds and their peak memory, including children. Linux only."""

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parent.parent
# Debian's packages sshguard and fail2ban.
SSHG_PARSER = Path("/usr/libexec/sshguard/sshg-parser")
FAIL2BAN_REGEX = Path("/usr/bin/fail2ban-regex")
# Long enough not to slow down the measured process, short enough not to miss a phase of it.
SAMPLE_INTERVAL_S = 0.05


@dataclass(frozen=True)
class Memory:
    """Peaks in bytes."""

    largest_process: int  # resident set of the largest process, the kernel's own high-water mark
    sum: int  # proportional set sizes of the process and its descendants, added up at one moment


@dataclass(frozen=True)
class Seconds:
    """The time of a command by the clock, and the processor time of it and its children."""

    clock: float
    processor: float


def run_timed(command: Sequence[str], stdin: Path | None = None, folder: Path = ROOT) -> Seconds:
    """Run a command in a folder to its end, discard the output, and return its time."""
    start = time.perf_counter()
    process = _start(command, stdin, folder)
    _, status, usage = os.wait4(process.pid, 0)
    clock = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    _check(command, process.returncode)
    return Seconds(clock, usage.ru_utime + usage.ru_stime)


def run_watched(command: Sequence[str], stdin: Path | None = None, folder: Path = ROOT) -> Memory:
    """
    Run a command to its end, and return its memory peaks.

    This is separate from `run_timed`, because sampling costs time. ``ru_maxrss`` of a child starts at the size of this
    parent process, which would hide a small program. So it counts only above that size; else the last sample of ``VmHWM`` counts.
    """
    process = _start(command, stdin, folder)
    largest = total = 0
    while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
        sizes = [_sizes(pid) for pid in [process.pid, *descendants(process.pid)]]
        largest = max([largest, *[high_water for high_water, _ in sizes]])
        total = max(total, sum(proportional for _, proportional in sizes))
        time.sleep(SAMPLE_INTERVAL_S)
    _, status, usage = ended
    process.returncode = os.waitstatus_to_exitcode(status)
    _check(command, process.returncode)
    own = _sizes(os.getpid())[0]
    if usage.ru_maxrss * 1024 > own:
        largest = max(largest, usage.ru_maxrss * 1024)
    return Memory(largest, total)


def high_water(lock: Path) -> int:
    """Return the high-water mark of the resident set, in bytes, of the process whose PID is in one of sshbell's lock files."""
    return _field(f"/proc/{int(lock.read_text())}/status", "VmHWM:")


def mebibytes(size: int) -> str:
    """Return a size for people."""
    return f"{size / 2**20:.1f} MiB"


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return median and range for people."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def _start(command: Sequence[str], stdin: Path | None, folder: Path) -> subprocess.Popen[bytes]:
    with Path(stdin or os.devnull).open("rb") as file:
        return subprocess.Popen(command, stdin=file, stdout=subprocess.DEVNULL, cwd=folder)


def _check(command: Sequence[str], status: int) -> None:
    if status:
        raise SystemExit(f"{' '.join(command)}: exit status {status}")


def descendants(pid: int) -> Iterator[int]:
    """Yield the PIDs of the children of a process, and of theirs."""
    # Any thread may have started a child.
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        try:
            children = (thread / "children").read_text().split()
        except OSError:  # ended meanwhile
            continue
        for child in children:
            yield int(child)
            yield from descendants(int(child))


def _sizes(pid: int) -> tuple[int, int]:
    """Return the high-water mark of the resident set, and the current proportional set size, in bytes."""
    return _field(f"/proc/{pid}/status", "VmHWM:"), _field(f"/proc/{pid}/smaps_rollup", "Pss:")


def _field(path: str, name: str) -> int:
    try:
        for line in Path(path).read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    except OSError:  # ended meanwhile
        pass
    return 0
