"""Several workers on one topic: what only the events of all hosts show is found once, and a dead worker loses nothing of it."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from consumer.block.exchange import shared_blocks
from consumer.clock import isoformat, local_zone, now_us
from consumer.config_file import parse
from consumer.errors import SshbellError
from consumer.events import Block
from consumer.events_as_msgpack import decoded
from consumer.pipeline import Pipeline
from consumer.store.queries import blocks_after
from consumer.store.worker import GATHERING, LostPartitionError, PartitionProgress, WorkerStore, worker_store
from tests.integration.kafka import Kafka, Postgres, Workers
from tests.integration.lines import ours
from tests.store_events import events_of, session_lines, try_line
from tests.waiting import DEADLINE_S, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EVENTS = events_of(*session_lines(1), try_line(2), try_line(3))
TOLD = frozenset({"ssh_login"})


@pytest.fixture(params=["postgresql", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WorkerStore]:
    """Return each kind of store in turn."""
    where: Path | str = tmp_path
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        where = postgres.database
    with closing(worker_store(where, "sshbell", pytest.fail)) as opened:
        yield opened


def test_events_wait(store: WorkerStore) -> None:
    """Events of partitions wait, in their order; what was taken waits no longer, and a finding never does."""
    assert store.take(0).epoch == store.take(GATHERING).epoch == 1
    store.commit([PartitionProgress(0, 1, 5, ())], EVENTS, TOLD, 1)
    first = store.waiting(2)
    assert [decoded(body) for _number, body in first] == EVENTS[:2]
    store.commit(
        [PartitionProgress(GATHERING, 1, 0, [("detect", [b"x"])])], EVENTS[:1], TOLD, 1, gathered=[number for number, _ in first]
    )
    assert [decoded(body) for _number, body in store.waiting(100)] == EVENTS[2:]
    assert store.take(GATHERING).parts == [("detect", [b"x"])]


def test_a_zombie_gathers_nothing(store: WorkerStore) -> None:
    """A worker that has lost the task without knowing it takes no event, and stores no finding."""
    store.take(0)
    store.take(GATHERING)
    store.commit([PartitionProgress(0, 1, 5, ())], EVENTS, TOLD, 1)
    waiting = store.waiting(100)
    assert store.take(GATHERING).epoch == 2
    with pytest.raises(LostPartitionError) as lost:
        store.commit([PartitionProgress(GATHERING, 1, 0, ())], (), TOLD, 1, gathered=[number for number, _ in waiting])
    assert isinstance(lost.value, SshbellError)
    assert store.waiting(100) == waiting


def test_an_address_on_hosts_of_all_partitions(postgres: Postgres, tmp_path: Path) -> None:
    """Two tries on each of many hosts make one finding and one message, although a worker dies in between."""
    channel = (
        f'[[channel]]\nname = "log"\ntype = "file"\npath = "{tmp_path}/told"\n'
        '[[route]]\nchannels = ["log"]\nevents = ["guessing"]\n'
    )
    hosts = [f"web{number}" for number in range(40)]
    tries = [
        (host, ours("Failed password for root from 203.0.113.7 port 4711 ssh2", second, number, pid=1000 + number, host=host))
        for number, (host, second) in enumerate((host, second) for host in hosts for second in (1, 2))
    ]
    with Kafka() as kafka, Workers(tmp_path, kafka, postgres.database, more=channel) as workers:
        started = [workers.start(), workers.start()]
        # Too few for the rule, in all partitions.
        kafka.produce(tries[:11])
        wait_for(lambda: counted(postgres) == (11, 0), "the first tries are gathered")
        gathering = next(number for number in (0, 1) if has_partition_0(workers.log(number)))
        started[gathering].kill()
        kafka.produce(tries[11:])
        wait_for(lambda: counted(postgres) == (80, 0), "all tries are gathered")
        assert postgres.query("SELECT count FROM event WHERE action = 'guessing'") == [(12,)]
        assert len(postgres.query("SELECT number FROM partition WHERE next_offset > 0")) == 4
        wait_for(lambda: (tmp_path / "told").exists() and (tmp_path / "told").read_text(), "the finding is reported")
        workers.stop(started[1 - gathering])
    told = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    assert [event["event"]["action"] for event in told] == ["guessing"]


GUESSER, LOGGED_IN, ALLOWED, UNVERIFIED = "203.0.113.7", "203.0.113.8", "203.0.113.9", "203.0.113.10"


def attacked(begin_us: int) -> tuple[list[tuple[str, bytes]], list[tuple[str, bytes]]]:
    """Return a login, and then tries of four addresses on many hosts, each line with its host."""

    def line(number: int, host: str, text: str, **fields: Any) -> tuple[str, bytes]:
        return host, ours(text, number=number, pid=1000 + number, host=host, ts=isoformat(begin_us + number * 1000), **fields)

    logins = [
        line(0, "web1", f"Accepted publickey for alice from {LOGGED_IN} port 4711 ssh2: ED25519 SHA256:{'x' * 43}"),
        (line(0, "web1", "pam_unix(sshd:session): session opened for user alice(uid=1001) by (uid=0)")),
    ]
    tries = []
    for number in range(160):
        address = (GUESSER, LOGGED_IN, ALLOWED, UNVERIFIED)[number % 4]
        untrusted = {"uid": None, "exe": None} if address == UNVERIFIED else {}
        text = f"Failed password for root from {address} port {5000 + number} ssh2"
        tries.append(line(100 + number, f"web{number // 4}", text, **untrusted))
    return logins, tries


def test_blocks_of_workers_are_those_of_one_process(postgres: Postgres, tmp_path: Path) -> None:
    """Guessing on many hosts becomes one block, which ``block export`` prints; who is logged in or allowed is never blocked."""
    settings = f'[block]\nmode = "on"\nallow = [{{ address = "{ALLOWED}" }}]\n'
    logins, tries = attacked(now_us() - 60_000_000)
    config = parse(settings.encode(), "test")
    one = Pipeline((), local_zone(), now_us(), pytest.fail, config.detect, config.block, has_file=False)
    events = one.feed(b"".join(line for _host, line in (*logins, *tries)))
    wanted = [(event.target, event.is_user, event.step) for event in events if isinstance(event, Block)]
    assert wanted == [(GUESSER, False, 0)]
    assert set(one.refused) >= {"live_session", "allowed", "unverified"}
    with Kafka() as kafka, Workers(tmp_path, kafka, postgres.database, more=settings) as workers:
        started = [workers.start(), workers.start()]
        kafka.produce(logins)
        gathered = "SELECT 1 FROM event WHERE action = 'ssh_login' AND NOT EXISTS (SELECT 1 FROM gathering)"
        wait_for(lambda: postgres.query(gathered) == [(1,)], "the login is gathered")
        kafka.produce(tries[:30])
        wait_for(lambda: counted(postgres) == (30, 0), "the first tries are gathered")
        gathering = next(number for number in (0, 1) if has_partition_0(workers.log(number)))
        # In the middle of the tries that decide.
        kafka.produce(tries[30:50])
        started[gathering].kill()
        kafka.produce(tries[50:])
        wait_for(lambda: counted(postgres) == (len(tries), 0), "all tries are gathered")
        blocks = blocks_after(postgres.database, 0, 100)
        assert [(block.target, block.is_user, block.step) for block in blocks] == wanted
        export = [sys.executable, "-m", "consumer", "block", "export", "--config", str(workers.config)]
        done = subprocess.run(export, check=True, capture_output=True, timeout=DEADLINE_S)
        assert [(shared.target, shared.id) for shared in shared_blocks(done.stdout)] == [(GUESSER, blocks[0].id)]
        assert not done.stderr
        workers.stop(started[1 - gathering])


def counted(postgres: Postgres) -> tuple[int, int]:
    """Return how many tries are stored, and how many events still wait."""
    rows = postgres.query("SELECT (SELECT count(*) FROM event WHERE action = 'ssh_attempt'), (SELECT count(*) FROM gathering)")
    return (rows[0][0], rows[0][1]) if rows else (0, 0)


def has_partition_0(log: str) -> bool:
    """Return whether a worker has taken partition 0."""
    return any(entry.get("partition") == 0 for entry in map(json.loads, log.splitlines()) if entry["event"] == "partition_taken")
