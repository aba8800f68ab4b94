#!/usr/bin/env python3
"""
Measure ``sshbell worker``: lines a second of one worker, and of two, with PostgreSQL.

A process writes lines to Kafka (the mock cluster of librdkafka) as fast as the workers read them, because the cluster keeps only
some megabytes. Each round measures one worker and two in turn. The ratio is taken within a round::

    bench/worker.py --rounds 3 --lines 300000
    bench/worker.py --python /path/of/a/venv/with/a/wheel/bin/python

Producer, cluster and database take processor time, too; so on a machine with two cores, two workers do not have a core each.
Needs the Debian package ``postgresql``.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from make_log import write_log
from measure import ROOT, spread

sys.path.insert(0, str(ROOT))
from tests.integration.kafka import Kafka, Lag, Postgres, Workers

HOSTS = 200
# The cluster keeps about 17,000 lines of each of four partitions.
BEHIND_LIMIT = 40_000
# Writes lines of a file; begins at a number on standard input, and writes no more than the next number of lines.
PRODUCER = """
import sys
from confluent_kafka import Producer
producer = Producer({"bootstrap.servers": sys.argv[1], "linger.ms": 5, "queue.buffering.max.messages": 200000, "log_level": 0})
with open(sys.argv[2], "rb") as file:
    for count in sys.stdin:
        for _ in range(int(count)):
            key, _, line = file.readline().partition(b"\\t")
            producer.produce("sshbell", line, key)
        producer.flush()
        print(flush=True)
"""


def as_json(path: Path) -> Iterator[bytes]:
    """Yield the lines of a log as rsyslogd writes them to Kafka, each behind its host and a tab. A connection has one host."""
    with path.open("rb") as file:
        for number, line in enumerate(file):
            stamp, _, rest = line.rstrip(b"\n").decode("latin-1").split(" ", 2)
            tag, _, text = rest.partition(": ")
            procid = tag.partition("[")[2].rstrip("]")
            host = f"host{int(procid or 0) % HOSTS}"
            fields = {
                "v": "1", "ts": stamp, "rcvd": f"2026-01-01T00:{number // 60_000_000:02}:00.{number:09}+00:00", "host": host,
                "from_ip": "192.0.2.1", "input": "imtcp", "tag": f"{tag}:", "prog": tag.partition("[")[0], "procid": procid,
                "sev": 6, "fac": 4, "msg": f" {text}",
            }  # fmt: skip
            yield f"{host}\t{json.dumps(fields, ensure_ascii=False, separators=(', ', ':'))}\n".encode("latin-1")


def measured(folder: Path, postgres: Postgres, lines: Path, count: int, workers: int, python: str) -> tuple[float, float]:
    """Return lines a second, and the workers' processor seconds for a million lines."""
    postgres.empty()
    folder.mkdir()
    with Kafka() as kafka, Workers(folder, kafka, postgres.database, python=python) as group:
        producer = subprocess.Popen(
            [sys.executable, "-c", PRODUCER, kafka.brokers, lines], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert producer.stdin is not None
        assert producer.stdout is not None

        def produce(number: int) -> None:
            producer.stdin.write(f"{number}\n".encode())
            producer.stdin.flush()
            producer.stdout.readline()

        produce(2000)
        processes = [group.start() for _ in range(workers)]
        while read(postgres) < 2000 or owners(postgres) < 4:
            time.sleep(0.05)
        lag = Lag(kafka.brokers)
        begun_s, begun = time.monotonic(), sum(map(processor_s, (each.pid for each in processes)))
        sent = 2000
        while sent < count:
            if sent - lag.read() < BEHIND_LIMIT:
                produce(min(5000, count - sent))
                sent += min(5000, count - sent)
            else:
                time.sleep(0.01)
        while read(postgres) < count:
            time.sleep(0.02)
        lag.close()
        took_s = time.monotonic() - begun_s
        used_s = sum(map(processor_s, (each.pid for each in processes))) - begun
        producer.stdin.close()
        producer.wait()
    return (count - 2000) / took_s, used_s / (count - 2000) * 1e6


def read(postgres: Postgres) -> int:
    """Return how many lines the workers have read."""
    rows = postgres.query("SELECT coalesce(sum(next_offset), 0) FROM partition")
    return int(rows[0][0]) if rows else 0


def owners(postgres: Postgres) -> int:
    """Return how many partitions a worker has."""
    rows = postgres.query("SELECT count(*) FROM partition WHERE epoch > 0")
    return int(rows[0][0]) if rows else 0


def processor_s(pid: int) -> float:
    """Return the processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="latin-1").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lines", type=int, default=300_000)
    parser.add_argument("--python", default=sys.executable)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sshbell-"))
    folder.chmod(0o755)
    try:
        write_log(folder / "log", options.lines, "rfc3339")
        with (folder / "lines").open("wb") as file:
            count = 0
            for line in as_json(folder / "log"):
                file.write(line)
                count += 1
        (folder / "database").mkdir()
        rates: dict[int, list[float]] = {1: [], 2: []}
        used: dict[int, list[float]] = {1: [], 2: []}
        with Postgres(folder / "database") as postgres:
            for number in range(options.rounds):
                for workers in (1, 2):
                    rate, seconds = measured(
                        folder / f"{number}-{workers}", postgres, folder / "lines", count, workers, options.python
                    )
                    rates[workers].append(rate)
                    used[workers].append(seconds)
                    print(f"round {number + 1}: {workers} of them: {rate:,.0f} lines/s, {seconds:.1f} us a line", flush=True)
        for workers in (1, 2):
            print(f"{workers}: {spread(rates[workers])} lines/s; processor time of a line, us: {spread(used[workers])}")
        print(f"two compared with one: {spread([two / one for one, two in zip(rates[1], rates[2], strict=True)])}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
