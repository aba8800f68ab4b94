"""
Sends lines of many hosts through the real rsyslogd to several shards, and looks at what arrives.

    python tests/integration/shards.py --lines 400000 --hosts 200 --shards 4
    python tests/integration/shards.py --lines 400000 --hosts 200 --shards 4 --record

One connection sends all lines as fast as rsyslogd takes them. By default, each shard is the real ``sshbell run``, and its journal
shows which lines it has received, in which order. With ``--record``, each shard only writes the lines to a file.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from consumer.intake.journal import Kind, replayed
from consumer.state_dir import shard_dir
from consumer.system.shards import with_shards
from tests import needs
from tests.integration.rsyslogd import DROP_IN, entry_point
from tests.integration.site import configuration
from tests.waiting import DEADLINE_S, came_true, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

# Confirms each line once it is in the file of its shard.
RECORDER = """#!{python} -I
import os, sys
out = os.open({folder!r} + "/received." + sys.argv[-1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
os.write(1, b"OK\\n")
for line in sys.stdin.buffer:
    os.write(out, line)
    os.write(1, b"OK\\n")
"""
MAIN = """
global(workDirectory="{folder}/work" processInternalMessages="on" maxMessageSize="8k")
module(load="imtcp")
input(type="imtcp" port="0" address="127.0.0.1" listenPortFileName="{folder}/port")
include(file="{folder}/30-sshbell.conf")
"""
# What keeps the order of the lines of a host.
MAIN_QUEUE = re.compile(r"^main_queue\(\n.*?^\)\n", re.MULTILINE | re.DOTALL)
# The lines of one session, and of the tries after it. The last number of the address is that of the session.
TEXTS = (
    "Accepted publickey for user{user} from 192.0.2.{user} port {port} ssh2: ED25519 SHA256:Ro3Bs9xTdVKz",
    "pam_unix(sshd:session): session opened for user user{user}(uid=1{user}) by (uid=0)",
    "Failed password for root from 203.0.113.{user} port {port} ssh2",
    "Failed password for invalid user admin from 203.0.113.{user} port {port} ssh2",
    "Connection closed by authenticating user root 203.0.113.{user} port {port} [preauth]",
    "Received disconnect from 192.0.2.{user} port {port}:11: disconnected by user",
    "Disconnected from user user{user} 192.0.2.{user} port {port}",
    "pam_unix(sshd:session): session closed for user user{user}",
)  # fmt: skip
_OF_TRIES = (2, 3, 4)


def lines_of(hosts: int, lines: int) -> Iterator[bytes]:
    """Yield the lines of all hosts in turn. The microseconds of a line are its number on its host."""
    for number in range(lines // hosts):
        part, session = number % len(TEXTS), number // len(TEXTS)
        # The time of a line is its place among the lines of its host.
        stamp = f"2026-11-22T{10 + number // 3_600_000_000:02}:{number // 60_000_000 % 60:02}:{number // 1_000_000 % 60:02}"
        pid = 1000 + 2 * session + (part in _OF_TRIES)
        text = TEXTS[part].format(user=session % 200 + 1, port=1024 + session % 60_000)
        for host in range(hosts):
            yield f"<86>1 {stamp}.{number % 1_000_000:06}Z host{host} sshd {pid} - - {text}\n".encode()


class Arrived(NamedTuple):
    """
    What has arrived.

    Attributes:
        sent: the number of lines.
        lost: lines that no shard has received.
        breaks: lines before which their shard received a later line of the same host.
        split: hosts with lines in several shards.
        sent_s, seconds: until the last line was sent, and had arrived.
        shards: the number of lines of each shard.
    """

    sent: int
    lost: int
    breaks: int
    split: int
    sent_s: float
    seconds: float
    shards: list[int]


class ShardedRsyslogd:
    """
    The real rsyslogd with the generated drop-in.

    Args:
        folder: an empty directory.
        shards: how many.
        is_recording: the shards only record what they receive.
        is_shipped: keep the settings of the queues.
        keys: of the configuration of sshbell.
    """

    def __init__(self, folder: Path, shards: int, *, is_recording: bool, is_shipped: bool = True, **keys: object) -> None:
        self.folder, self._shards, self._is_recording = folder, shards, is_recording
        self.socket: socket.socket | None = None
        self.state_dir, self.config = folder / "state", folder / "sshbell.toml"
        (folder / "work").mkdir()
        self.config.write_text(configuration(self.state_dir, **keys))
        if is_recording:
            child = folder / "child"
            child.write_text(RECORDER.format(python=sys.executable, folder=str(folder)))
            child.chmod(0o755)
        else:
            child = entry_point(folder, [sys.executable, "-m", "consumer", "run", "--config", str(self.config), "--confirmed"])
        drop_in = with_shards(DROP_IN.read_text(), shards)
        drop_in = drop_in.replace("/usr/libexec/rsyslog/sshbell", str(child)).replace("/var/log/sshbell.err", f"{folder}/err")
        if not is_shipped:
            drop_in, count = MAIN_QUEUE.subn("", drop_in)
            assert count == 1
        (folder / DROP_IN.name).write_text(drop_in)
        (folder / "main.conf").write_text(MAIN.format(folder=folder))

    def __enter__(self) -> Self:
        with (self.folder / "said").open("wb") as said:
            self.process = subprocess.Popen(
                [needs.program("rsyslogd", "rsyslog"), "-n", "-f", self.folder / "main.conf", "-i", self.folder / "pid"],
                stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            )  # fmt: skip
        try:
            port = self.folder / "port"
            wait_for(lambda: port.exists() and port.read_text(), "rsyslogd listens")
            self.socket = socket.create_connection(("127.0.0.1", int(port.read_text())))
            # Its own start message starts all shards.
            wait_for(self._have_started, "all shards have started")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_details: object) -> None:
        if self.socket is not None:
            self.socket.close()
        self.process.terminate()
        try:
            self.process.wait(DEADLINE_S)
        finally:
            self.process.kill()
            self.process.wait()

    def _have_started(self) -> bool:
        assert self.process.poll() is None, (self.folder / "said").read_text()
        return all(self._size(number) for number in range(self._shards))

    def _size(self, number: int) -> int:
        """Return how many bytes a shard has received, or a little more."""
        if self._is_recording:
            path = self.folder / f"received.{number}"
            return path.stat().st_size if path.exists() else 0
        return sum(path.stat().st_size for path in (shard_dir(self.state_dir, number) / "journal").glob("*.journal"))

    def received(self, number: int) -> Iterator[bytes]:
        """Yield the lines of sshd that a shard has received, in order."""
        if self._is_recording:
            blocks: Iterator[bytes] = iter([(self.folder / f"received.{number}").read_bytes()])
        else:
            folder = shard_dir(self.state_dir, number) / "journal"
            blocks = (payload for kind, payload in replayed(folder, 1, lambda _text: None) if kind is Kind.LINES)
        for block in blocks:
            yield from (line for line in block.splitlines() if b'"prog":"sshd"' in line)

    def send(self, lines: list[bytes]) -> float:
        """Send lines as fast as rsyslogd takes them; return the seconds that it took."""
        begin_s = time.monotonic()
        assert self.socket is not None
        self.socket.sendall(b"".join(lines))
        return time.monotonic() - begin_s


def arrived(rsyslogd: ShardedRsyslogd, hosts: int, lines: int, shards: int) -> Arrived:
    """Send lines of hosts, wait for them, and compare."""
    sent = list(lines_of(hosts, lines))
    size = 0

    def has_all() -> bool:
        nonlocal size
        size = sum(rsyslogd._size(number) for number in range(shards))
        return size > 250 * len(sent) and sum(1 for number in range(shards) for _ in rsyslogd.received(number)) >= len(sent)

    begin_s = time.monotonic()
    sent_s = rsyslogd.send(sent)
    before = -1
    while not came_true(has_all, 10.0) and size != before:
        before = size
    seconds = time.monotonic() - begin_s
    homes: defaultdict[str, set[int]] = defaultdict(set)
    last: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    breaks = 0
    counts = []
    for number in range(shards):
        count = 0
        for line in rsyslogd.received(number):
            found = json.loads(line)
            host, stamp = found["host"], found["ts"]
            homes[host].add(number)
            seen.add((host, stamp))
            breaks += stamp < last.get(host, "")
            last[host] = max(stamp, last.get(host, ""))
            count += 1
        counts.append(count)
    split = sum(len(numbers) > 1 for numbers in homes.values())
    return Arrived(len(sent), len(sent) - len(seen), breaks, split, sent_s, seconds, counts)


def events_in(state_dir: Path) -> dict[str, int]:
    """Return how many events of each kind the ``run`` that gathers has stored."""
    with closing(sqlite3.connect(f"file:{state_dir}/state.db?mode=ro", uri=True)) as connection:
        return dict(
            connection.execute(
                "SELECT action, sum(CASE WHEN action = 'ssh_attempt' THEN count ELSE 1 END) FROM event GROUP BY action"
            )
        )


def memory_of(pid: int) -> Iterator[tuple[str, int]]:
    """Yield the name of each process below another one, and the memory that it shares with no other process, in MiB."""
    # rsyslogd's threads start the shards.
    texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    for child in map(int, " ".join(texts).split()):
        words = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
        rollup = Path(f"/proc/{child}/smaps_rollup").read_text()
        own = sum(int(size) for size in re.findall(r"^Private_\w+: +(\d+) kB", rollup, re.MULTILINE))
        known = ("--shard", "--gather", "deliver", "consumer.keys.process")
        yield " ".join(word for word in words if word in known or word.isdigit()), own >> 10
        yield from memory_of(child)


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=400_000)
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--record", action="store_true", help="only record what the shards receive")
    parser.add_argument("--without-settings", action="store_true", help="take the settings of the main queue out")
    options = parser.parse_args()
    options.lines -= options.lines % (options.hosts * len(TEXTS))  # whole sessions
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with ShardedRsyslogd(
            folder, options.shards, is_recording=options.record, is_shipped=not options.without_settings
        ) as rsyslogd:  # fmt: skip
            found = arrived(rsyslogd, options.hosts, options.lines, options.shards)
            rate = found.sent / found.seconds
            rows = [
                f"{found.sent:,} lines of {options.hosts} hosts: sent in {found.sent_s:.1f} s",
                f"arrived within {found.seconds:.1f} s, {rate:,.0f} a second; by shard: {found.shards}",
                f"lost: {found.lost:,}; out of order within a host: {found.breaks:,}; hosts in two shards: {found.split}",
            ]
            if not options.record:
                sessions = found.sent // len(TEXTS)
                wanted = {"ssh_login": sessions, "ssh_logout": sessions, "ssh_attempt": 2 * sessions}
                wait_for(lambda: wanted.items() <= events_in(rsyslogd.state_dir).items(), f"all of {wanted} are gathered", 600)
                rows.append(f"gathered: {events_in(rsyslogd.state_dir)}")
                rows += [f"memory of {name}: {size} MiB" for name, size in memory_of(rsyslogd.process.pid)]
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        rows.append(f"processor time of rsyslogd and its children: {spent.ru_utime + spent.ru_stime:.1f} s")
    sys.stdout.write("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
