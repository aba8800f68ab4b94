"""
Kafka and PostgreSQL for tests.

Kafka is the mock cluster of librdkafka: a real server for the protocol, in a process of its own. It has four partitions for each
topic, and keeps about 5 MB of each: what is read too late is gone. PostgreSQL is Debian's server, on a socket in a folder.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.waiting import DEADLINE_S, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterable

PROJECT_DIR = Path(__file__).parents[2]
NOBODY = 65534
# Keeps the cluster, and ends with its standard input.
BROKER = """
import sys
from confluent_kafka import Producer
cluster = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "none", "log_level": 0})
brokers = cluster.list_topics(timeout=10).brokers.values()
print(",".join(f"{each.host}:{each.port}" for each in brokers), flush=True)
sys.stdin.read()
"""


class Kafka:
    """A mock cluster."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", BROKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._process.stdout is not None
        self.brokers = self._process.stdout.readline().decode().strip()
        assert self.brokers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        self._process.kill()
        self._process.communicate()

    def produce(self, lines: Iterable[tuple[str, bytes]], *, per_second: float = 0, topic: str = "sshbell") -> int:
        """
        Write lines to a topic, each with its host as key, as omkafka does; return how many.

        Args:
            lines: host and line.
            per_second: how fast; 0: as fast as possible.
            topic: its name.
        """
        faults: list[object] = []
        producer = Producer(
            {
                "bootstrap.servers": self.brokers, "enable.idempotence": True, "linger.ms": 5,
                "queue.buffering.max.messages": 1_000_000, "partitioner": "consistent_random", "log_level": 0,
            }
        )  # fmt: skip
        begun_s, count = time.monotonic(), 0
        for host, line in lines:
            producer.produce(topic, line, host, on_delivery=lambda error, _message: faults.append(error) if error else None)
            count += 1
            if count % 200 == 0:
                producer.poll(0)
                if per_second and (ahead_s := count / per_second - (time.monotonic() - begun_s)) > 0:
                    time.sleep(ahead_s)
        assert producer.flush(DEADLINE_S) == 0
        assert not faults
        return count


class Lag:
    """How many lines the workers of a group have read, as the tools of Kafka see it: it needs no transaction with an offset."""

    def __init__(self, brokers: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": brokers, "group.id": "sshbell", "log_level": 0})

    def read(self) -> int:
        """Return how many lines they have read."""
        found = self._consumer.committed([TopicPartition("sshbell", number) for number in range(4)], timeout=DEADLINE_S)
        return sum(max(0, each.offset) for each in found)

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()


class Postgres:
    """
    A database server in a folder.

    Args:
        folder: an empty directory, which everybody can enter.
    """

    def __init__(self, folder: Path) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not found:
            pytest.skip("initdb is not installed; apt install postgresql")
        self._bin, self._data = found[-1].parent, folder / "data"
        # A socket's path may have 107 bytes.
        assert len(str(folder)) < 80
        self._user = NOBODY if os.geteuid() == 0 else None
        if self._user is not None:
            os.chown(folder, NOBODY, NOBODY)
        self._run("initdb", "--pgdata", self._data, "--username", "sshbell", "--no-sync", "--auth", "trust", "--encoding", "UTF8")
        self.database = f"host={folder} user=sshbell dbname=postgres"
        self._process = subprocess.Popen(
            [self._bin / "postgres", "-D", self._data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=self._user, cwd=folder,
        )  # fmt: skip

    def _run(self, program: str, *arguments: object) -> None:
        subprocess.run(
            [self._bin / program, *map(str, arguments)], check=True, capture_output=True, user=self._user, cwd=self._data.parent
        )

    def __enter__(self) -> Self:
        wait_for(lambda: self._process.poll() is not None or self._answers(), "PostgreSQL answers")
        return self

    def __exit__(self, *_details: object) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(DEADLINE_S)
        finally:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.database).close()
        except psycopg.OperationalError:
            return False
        return True

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a statement; none if there are no tables yet."""
        with psycopg.connect(self.database, autocommit=True) as connection:
            connection.execute("SET search_path = sshbell")
            try:
                found = connection.execute(statement.encode())
            except psycopg.errors.UndefinedTable:
                return []
            return found.fetchall() if found.description else []

    def empty(self) -> None:
        """Delete all tables."""
        self.query("DROP SCHEMA IF EXISTS sshbell CASCADE")


class Workers:
    """
    Workers of one group.

    Args:
        folder: an empty directory.
        kafka: the cluster.
        database: as in the configuration.
        more: further lines of the configuration.
        module: what to run instead of the command.
        python: another interpreter, which has sshbell installed.
    """

    def __init__(
        self, folder: Path, kafka: Kafka, database: str, *, more: str = "", module: str = "consumer", python: str = sys.executable
    ) -> None:
        self.folder, self._module, self._python = folder, module, python
        self._processes: list[subprocess.Popen[bytes]] = []
        self.config = folder / "sshbell.toml"
        self.config.write_text(
            f'state_dir = "{folder}/state"\nuser = ""\ncatch_up = ""\ngeoip = []\nreverse_dns = false\n'
            f'[worker]\nbrokers = ["{kafka.brokers}"]\ndatabase = "{database}"\n'
            'librdkafka = { "session.timeout.ms" = 6000 }\n' + more
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[bytes]:
        """Start a worker; its log is ``log.N``."""
        log = self.folder / f"log.{len(self._processes)}"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [self._python, "-m", self._module, "worker", "--config", self.config, *arguments],
                stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=os.environ | {"TZ": "UTC"} | env,
                cwd=PROJECT_DIR if self._python == sys.executable else self.folder,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def log(self, number: int) -> str:
        """Return what a worker has logged."""
        return (self.folder / f"log.{number}").read_text()

    def stop(self, process: subprocess.Popen[bytes]) -> int:
        """End a worker as systemd does; return its exit code."""
        process.terminate()
        return process.wait(DEADLINE_S)
