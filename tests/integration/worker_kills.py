"""
Tests with a seed that ``sshbell worker`` loses no login and reports none twice, whichever worker is killed or stopped.

    python tests/integration/worker_kills.py --seed 1 --runs 20

In each run, the real rsyslogd writes lines to Kafka (the mock cluster of librdkafka), and two workers of a group read them. This
program kills one of them with signal 9 at a random time, and starts another one. Later it stops one for longer than the limit of
the group, and lets it go on. Then it compares the store, a database of PostgreSQL, with the logins that it has sent, and with the
events that one process makes of the same lines. Needs the Debian packages rsyslog-kafka and postgresql.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from consumer.actions import EventAction
from consumer.config_file import parse
from consumer.detect.detectors import no_place
from consumer.store.state import event_row
from consumer.store.worker import Taken
from consumer.worker.partitions import Partition
from tests import needs
from tests.integration.kafka import Kafka, Lag, Postgres, Workers
from tests.waiting import came_true, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT_DIR = Path(__file__).parents[2]
DROP_IN = PROJECT_DIR / "rsyslog.d" / "kafka-relay.conf"
TOPIC = "sshbell"
MAIN = """
global(workDirectory="{folder}" maxMessageSize="16k")
module(load="imtcp")
input(type="imtcp" address="127.0.0.1" port="0" listenPortFileName="{folder}/port" ruleset="sshbell_kafka")
include(file="{folder}/relay.conf")
"""
# Findings about hosts depend on the time of day, and blocks of time pass differently where a worker was stopped.
SETTINGS = '\n[detect]\nhost_silent = 0\nhost_changed_wording = 0\nclock_skew = "500w"\n'
# Seconds: how long a worker is stopped, and when it happens, from the begin of the lines on.
STOPPED_S = 8.5
KILL_S, STOP_S, END_S = (2.0, 8.0), (17.0, 20.0), 32.0
# The cluster keeps about 17,000 such lines of each of four partitions.
BEHIND_LIMIT = 26_000
# Without the row of the memory that gathers.
_TAKEN = "SELECT 1 FROM partition WHERE epoch > 0 AND number >= 0"
# Columns of an event that do not depend on its receipt.
COLUMNS = 'id, action, host, "user", address, port, method, info, origin, count, reason, login_id'


class Relay:
    """
    The real rsyslogd with the example for a relay.

    Args:
        folder: an empty directory.
        brokers: of Kafka.
    """

    def __init__(self, folder: Path, brokers: str) -> None:
        drop_in = DROP_IN.read_text(encoding="utf-8")
        for was, now in (
            ('broker=["kafka1.example.org:9092", "kafka2.example.org:9092"]', f'broker=["{brokers}"]'),
            ("/var/spool/rsyslog", str(folder)),
        ):
            assert was in drop_in
            drop_in = drop_in.replace(was, now)
        (folder / "relay.conf").write_text(drop_in)
        (folder / "main.conf").write_text(MAIN.format(folder=folder))
        self._port = folder / "port"
        self._log = (folder / "rsyslogd.log").open("wb")
        self._process = subprocess.Popen(
            [needs.program("rsyslogd", "rsyslog"), "-n", "-f", folder / "main.conf", "-i", folder / "pid"],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip

    def __enter__(self) -> Self:
        wait_for(lambda: self._port.exists() and self._port.read_text().strip(), "rsyslogd listens")
        self._socket = socket.create_connection(("127.0.0.1", int(self._port.read_text())))
        return self

    def __exit__(self, *_details: object) -> None:
        self._socket.close()
        self._process.terminate()
        try:
            self._process.wait(30)
        finally:
            self._process.kill()
            self._process.wait()
            self._log.close()

    def send(self, line: bytes) -> None:
        """Send a line in the format of RFC 3164 with a time of RFC 3339."""
        self._socket.sendall(line)


class Reader:
    """Reads all lines of the topic beside the workers, by partition."""

    def __init__(self, brokers: str) -> None:
        self.lines: dict[int, list[bytes]] = {number: [] for number in range(4)}
        self.faults: list[str] = []
        self._is_over = threading.Event()
        self._consumer = Consumer(
            {"bootstrap.servers": brokers, "group.id": "test", "auto.offset.reset": "error", "log_level": 0}
        )
        self._consumer.assign([TopicPartition(TOPIC, number, OFFSET_BEGINNING) for number in self.lines])
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._is_over.is_set():
            for message in self._consumer.consume(1000, 0.1):
                if (error := message.error()) is not None:
                    if "UNKNOWN_TOPIC" not in str(error):
                        self.faults.append(str(error))
                else:
                    self.lines[message.partition() or 0].append(message.value() or b"")

    @property
    def total(self) -> int:
        """How many lines it has."""
        return sum(map(len, self.lines.values()))

    def close(self) -> None:
        """End it."""
        self._is_over.set()
        self._thread.join()
        self._consumer.close()


class Input(NamedTuple):
    """Lines to send; the logins that they have, as host and user; and the time of the first line that only lets time pass."""

    lines: list[bytes]
    logins: Counter[tuple[str, str]]
    end_us: int


def made(dice: random.Random, hosts: int, lines: int, begin_s: int) -> Input:
    """Return lines of many hosts, woven: sessions with a login, guessed passwords, scanners."""
    found: list[tuple[float, bytes]] = []
    logins: Counter[tuple[str, str]] = Counter()
    pids = Counter[str]()
    number = 0
    while len(found) < lines:
        number += 1
        host = f"host{dice.randrange(hosts)}"
        pids[host] += 1
        # PIDs are few, so that they are soon used again.
        pid = 1000 + pids[host] % 300
        place = f"192.0.2.{dice.randrange(1, 255)} port {dice.randrange(1024, 65536)}"
        kind = dice.random()
        story = [f"Connection from {place} on 198.51.100.1 port 22"]
        if kind < 0.4:
            user = f"user{number}"
            logins[host, user] += 1
            story += [
                f"Accepted publickey for {user} from {place} ssh2: ED25519 SHA256:{dice.randbytes(32).hex()[:43]}",
                f"pam_unix(sshd:session): session opened for user {user}(uid={number}) by (uid=0)",
                f"pam_unix(sshd:session): session closed for user {user}",
            ]
        elif kind < 0.8:
            story += [f"Failed password for root from {place} ssh2"] * dice.randrange(1, 4)
            story += [f"Connection closed by authenticating user root {place} [preauth]"]
        else:
            story += [f"Connection closed by {place} [preauth]"]
        at_s = len(found) / lines * (END_S - 3)
        for text in story:
            at_s += dice.random() * 0.4
            found.append((at_s, f"{host} sshd[{pid}]: {text}".encode()))
    found.sort(key=lambda each: each[0])
    # With these lines, the time of each host passes, second by second, until all waits of sshbell for the others are over.
    found += [
        (
            END_S + second,
            f"host{host} sshd[{2000 + second}]: Connection closed by 192.0.2.1 port {1000 + second} [preauth]".encode(),
        )
        for second in range(60)
        for host in range(hosts)
    ]
    stamped = []
    for at_s, line in found:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(begin_s + at_s))
        stamped.append(f"<38>{stamp}.{int(at_s % 1 * 1e6):06}+00:00 ".encode() + line + b"\n")
    return Input(stamped, logins, int((begin_s + END_S) * 1e6))


def plain(lines: dict[int, list[bytes]]) -> Iterator[Any]:
    """Yield the events that one process makes of the lines of each partition."""
    config = parse(SETTINGS.encode(), "test")
    for number, found in lines.items():
        partition = Partition(number, Taken(1, None, []), config, lambda _text: None, no_place)
        for first in range(0, len(found), 500):
            partition.feed(list(enumerate(found[first : first + 500], first)))
        yield from partition.events


class Watch:
    """Watches how far the partitions are read, and how long each of them stands still."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._is_over = threading.Event()
        self.progress: dict[int, list[tuple[float, int, int]]] = {}
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._is_over.wait(0.1):
            for number, epoch, offset in self._postgres.query("SELECT number, epoch, next_offset FROM partition"):
                self.progress.setdefault(number, []).append((time.monotonic(), epoch, offset or 0))

    def close(self) -> None:
        """End it."""
        self._is_over.set()
        self._thread.join()

    def longest_s(self, since_s: float) -> float:
        """Return how long a partition was not read at most, of the pauses that go on within ten seconds after a moment."""
        longest = 0.0
        for seen in self.progress.values():
            moves_s = [at_s for (_, _, before), (at_s, _, offset) in pairwise(seen) if offset > before]
            pauses = [(begin_s, end_s) for begin_s, end_s in pairwise(moves_s) if begin_s < since_s + 10 and end_s > since_s]
            longest = max([longest, *[end_s - begin_s for begin_s, end_s in pauses]])
        return longest


class Sender(threading.Thread):
    """Sends lines, as fast as ``rate`` says, but waits before the cluster forgets lines that the workers have not read."""

    def __init__(self, relay: Relay, lines: list[bytes], rate: int, brokers: str) -> None:
        super().__init__(daemon=True)
        self._relay, self._lines, self._rate, self._lag = relay, lines, rate, Lag(brokers)
        self.waited_s = 0.0

    def run(self) -> None:
        """Send all."""
        begun_s = time.monotonic()
        for first in range(0, len(self._lines), 100):
            waits_s = time.monotonic()
            while first - self._lag.read() > BEHIND_LIMIT:
                time.sleep(0.1)
            waited_s = time.monotonic() - waits_s
            self.waited_s += waited_s
            begun_s += waited_s
            self._relay.send(b"".join(self._lines[first : first + 100]))
            time.sleep(max(0, (first + 100) / self._rate - (time.monotonic() - begun_s)))
        self._lag.close()


class Outcome(NamedTuple):
    """What a run has shown."""

    faults: list[str]
    figures: dict[str, object]


def performed(folder: Path, postgres: Postgres, dice: random.Random, rate: int) -> Outcome:
    """Run it once."""
    postgres.empty()
    data = made(dice, 40, int(rate * END_S), int(time.time()))
    with (
        Kafka() as kafka,
        Relay(folder, kafka.brokers) as relay,
        Workers(folder, kafka, postgres.database, more=SETTINGS) as workers,
    ):
        relay.send(f"<38>{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime())}.000000+00:00 first sshd[1]: begin\n".encode())
        reader = Reader(kafka.brokers)
        both = [workers.start(), workers.start()]
        wait_for(lambda: len(postgres.query(_TAKEN)) == 4, "the workers have the partitions")
        watch = Watch(postgres)
        sender = Sender(relay, data.lines, rate, kafka.brokers)
        started_s = time.monotonic()
        sender.start()
        killed_s = started_s + dice.uniform(*KILL_S)
        stopped_s = started_s + dice.uniform(*STOP_S)
        victim = dice.randrange(2)
        time.sleep(max(0, killed_s - time.monotonic()))
        both[victim].send_signal(signal.SIGKILL)
        time.sleep(1)
        both[victim] = workers.start()
        time.sleep(max(0, stopped_s - time.monotonic()))
        frozen = both[dice.randrange(2)]
        frozen.send_signal(signal.SIGSTOP)
        time.sleep(STOPPED_S)
        frozen.send_signal(signal.SIGCONT)
        sender.join()
        wanted = len(data.lines) + 1
        wait_for(lambda: reader.total >= wanted, "all lines are in the topic")
        if not came_true(lambda: _read(postgres) == reader.total, 60):
            logs = "".join(f"\n{number}:\n{workers.log(number)[-3000:]}" for number in range(3))
            raise AssertionError(f"the workers have read {_read(postgres)} of {reader.total} lines; {logs}")
        time.sleep(2)  # a tick, for what waits
        reader.close()
        watch.close()
        taken = {"kill": watch.longest_s(killed_s), "stop": watch.longest_s(stopped_s)}
        codes = [workers.stop(process) for process in both]
        logs = "".join(workers.log(number) for number in range(3))
    faults = [f"the reader beside the workers: {fault}" for fault in reader.faults]
    faults += [f"a worker ended with {code}" for code in codes if code]
    # Findings depend on the order of the events of different partitions.
    found = [
        row
        for row in postgres.query(f"SELECT {COLUMNS} FROM event WHERE time_us < {data.end_us}")  # noqa: S608
        if not EventAction(row[1]).is_finding
    ]
    logins = Counter((row[2], row[3]) for row in found if row[1] == "ssh_login")
    faults += [f"login lost: {row}" for row in (data.logins - logins).elements()]
    faults += [f"login twice or made up: {row}" for row in (logins - data.logins).elements()]
    faults += [f"breaks of order: {count}" for count in [_breaks(data.lines, reader.lines)] if count]
    theirs = {event.id: event_row(event, str(event.action)) for event in plain(reader.lines) if event.time_us < data.end_us}
    ours = {row[0]: row[1:] for row in found}
    faults += [f"only one process has {theirs[each]}" for each in theirs.keys() - ours.keys()]
    faults += [f"only the workers have {ours[each]}" for each in ours.keys() - theirs.keys()]
    figures: dict[str, object] = {
        "lines": reader.total,
        "resent by rsyslogd": reader.total - wanted,
        "logins": logins.total(),
        "events": len(ours),
        "longest pause around the kill, s": f"{taken['kill']:.1f}",
        "around the stop, s": f"{taken['stop']:.1f}",
        "sender waited, s": f"{sender.waited_s:.1f}",
        "zombie commits refused": logs.count('"partition_lost"'),
        "partitions taken": logs.count('"partition_taken"'),
    }
    return Outcome(faults, figures)


def _read(postgres: Postgres) -> int:
    return int((postgres.query("SELECT coalesce(sum(next_offset), 0) FROM partition") or [(0,)])[0][0])


def _breaks(sent: list[bytes], read: dict[int, list[bytes]]) -> int:
    """Return how many lines of a host came behind a later one of the same host."""
    order = {line[5:].rstrip(b"\n"): number for number, line in enumerate(sent)}
    last: dict[bytes, int] = {}
    breaks = 0
    for lines in read.values():
        for line in lines:
            stamp, host = (line.split(name, 1)[1].split(b'"', 1)[0] for name in (b'"ts":"', b'"host":"'))
            tag, text = (line.split(name, 1)[1].split(b'"', 1)[0] for name in (b'"tag":"', b'"msg":"'))
            number = order.get(b" ".join((stamp[:26] + b"+00:00", host, tag + text.replace(b"\\/", b"/"))), -1)
            if 0 <= number < last.get(host, -1):
                breaks += 1
            last[host] = max(number, last.get(host, -1))
    return breaks


def main() -> int:
    """Run it, and print the result; return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, default in (("seed", 1), ("runs", 20), ("rate", 4000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    dice = random.Random(options.seed)  # noqa: S311 - a test
    folder = Path(tempfile.mkdtemp(prefix="sshbell-"))
    folder.chmod(0o755)
    broken = 0
    try:
        (folder / "database").mkdir()
        with Postgres(folder / "database") as postgres:
            for run in range(options.runs):
                place = folder / str(run)
                place.mkdir()
                faults, figures = performed(place, postgres, dice, options.rate)
                broken += bool(faults)
                shown = ", ".join(f"{name} {value}" for name, value in figures.items())
                sys.stdout.write(f"run {run + 1}: {'BROKEN' if faults else 'kept'}; {shown}\n")
                sys.stdout.writelines(f"    {fault}\n" for fault in faults[:20])
                sys.stdout.flush()
    finally:
        shutil.rmtree(folder)
    sys.stdout.write(f"seed {options.seed}: {broken} of {options.runs} runs broke a promise\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
